"""What casts are made of: the forms a raw value comes in, and the parts of a cast. `casts.py` has the casts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.model.types import ColumnType


class Form(StrEnum):
    """How a raw value looks in SQL."""

    JSON = "json"
    """VARCHAR: one JSON value, numbers as they were written; JSON null is NULL."""
    TEXT = "text"
    """VARCHAR: plain text, of CSV or of a pattern's group."""
    BYTES = "bytes"
    """BLOB: a key or a header."""
    TIME = "time"
    """TIMESTAMPTZ: the record's own timestamp."""


@dataclass(frozen=True)
class Cast:
    """How a raw value becomes a typed one: SQL expressions, each in a layer of its own, so that nothing is written
    twice (DuckDB takes as long to plan a query as to run it over many rows).

    `{value}` stands for the raw value, `{p0}`, `{p1}` for the results of `probes`; `fast` gives the typed value, or
    NULL for whatever is not written in the plain way. For those values `{text}` is the raw value as plain text, NULL
    for all others; `{s0}`, `{s1}` are the results of `slow`, the last of which is the typed value or NULL.
    """

    probes: tuple[str, ...]
    fast: str
    slow: tuple[str, ...] = ()

    def behind(self, probe: str) -> Cast:
        """The same cast of the value that `probe` makes of the raw value first."""

        def moved(sql: str) -> str:
            return re.sub(r"\{p(\d+)\}", lambda match: f"{{p{int(match[1]) + 1}}}", sql).replace("{value}", "{p0}")

        return Cast((probe, *(moved(sql) for sql in self.probes)), moved(self.fast), self.slow)


SQL_TYPES = {
    "string": "VARCHAR",
    "json": "VARCHAR",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "binary": "BLOB",
}

STRICT_JSON = "penstock_json_fault"
"""The Arrow function (`strict.py`) that says what keeps bytes from being JSON; NULL for nothing."""

FIRST_OF_KEYS = "penstock_json_first_of_keys"
"""The Arrow function (`strict.py`) that drops all but the first of duplicate keys of an object."""

LOCAL_INSTANT = "penstock_local_instant"
"""The Arrow function (`localtimes.py`) that finds the instant of a local time."""

EXACT_NUMBER = "penstock_exact_number"
"""The Arrow function (`numbers.py`) that writes a number in any notation out plainly."""

UNQUOTED = "CASE WHEN starts_with({value}, '\"') THEN {value} ->> '$' ELSE {value} END"
TEXT_OF_BYTES = "CASE WHEN strlen(decode({value}, 'ignore')) = octet_length({value}) THEN decode({value}, 'ignore') END"


def sql_type(column_type: ColumnType) -> str:
    """The DuckDB type of a column type."""
    if column_type.kind == "decimal":
        return f"DECIMAL({column_type.precision},{column_type.scale})"
    return SQL_TYPES[column_type.kind]


def text_of(form: Form, value: str) -> str:
    """SQL for a raw value as plain text: a JSON string without quotes, everything else as written."""
    if form is Form.JSON:
        return UNQUOTED.replace("{value}", value)
    if form is Form.BYTES:
        return TEXT_OF_BYTES.replace("{value}", value)
    return value if form is Form.TEXT else f"CAST({value} AS VARCHAR)"
