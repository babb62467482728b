"""What casts are made of: the forms a raw value comes in, and the parts of a cast. `casts.py` has the casts."""

from __future__ import annotations

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
    """SQL with `{value}` for the raw value and `{probe}` for the column that holds the result of `probe`.

    `fast` gives the typed value or NULL; `slow`, for values that `fast` left NULL, the typed value or NULL.
    """

    probe: str
    fast: str
    slow: str | None = None


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
"""The Arrow function (`strict.py`) that says what keeps a text from being JSON; NULL for nothing."""

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
