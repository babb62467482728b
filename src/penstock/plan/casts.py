"""How a raw value becomes a typed one, as SQL, never changing it silently (DESIGN 5).

A value arrives in one of four forms (`forms.py`). What is accepted:

| type | text accepted |
|---|---|
| integers | `12`, `+7`, `12.0`, `1e3`, as a number or in quotes; no blanks, underscores, hex, true |
| decimal | the same with as many fraction digits as the scale, not counting zeros at the end |
| floats | the same, rounded; what is not finite fails |
| boolean | `true` and `false`, as literals or in quotes |
| string | a string; a JSON integer between -2^63 and 2^64 - 1 as its text |
| date | `yyyy-mm-dd`, or `format` where that names midnight |
| timestamp | `yyyy-mm-ddThh:mm[:ss[.f]][Z or offset]` (T or one blank), `format`, or with `unit` a number |
| binary | base64 in JSON, else the bytes |
| json | anything in JSON; in text, JSON by RFC 8259 |

Years are 0001 to 9999 and times exact to the microsecond. `times.py` has the casts of date and timestamp.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.plan import times
from penstock.plan.forms import STRICT_JSON, TEXT_OF_BYTES, UNQUOTED, Cast, Form, sql_type
from penstock.plan.numbers import exact_number, is_number, trimmed

if TYPE_CHECKING:
    from penstock.model.pipeline import Column
    from penstock.model.types import ColumnType


def cast(column: Column, form: Form) -> Cast:
    """The cast of a raw value of this form to the column's type."""
    assert column.type is not None
    if form is Form.TIME:
        return Cast((), "{value}")
    if form is Form.JSON:
        return _of_json(column, column.type)
    if form is Form.TEXT:
        return _of_text(column, column.type)
    if column.type.kind == "binary":
        return Cast((), "{value}")
    return _of_text(column, column.type).behind(TEXT_OF_BYTES)


def _of_json(column: Column, column_type: ColumnType) -> Cast:
    kind = column_type.kind
    if kind == "string":
        # What is not in quotes: an integer that JSON parsers agree about keeps its text, nothing else does.
        integer = (
            "CASE WHEN CAST({s0} AS VARCHAR) = {text} AND {s0} BETWEEN -9223372036854775808 AND 18446744073709551615 "
            "THEN {text} END"
        )
        quoted = "CASE WHEN starts_with({value}, '\"') THEN {value} ->> '$' END"
        return Cast((), quoted, ("TRY_CAST({text} AS HUGEINT)", integer))
    if kind == "json":
        return Cast((), "{value}")
    if kind == "boolean":
        return Cast((), _boolean("", '"'))
    if kind == "binary":
        return _base64()
    if kind in ("date", "timestamp"):
        return times.cast(column, UNQUOTED)
    if column_type.is_float:
        # A JSON number is never written in a way that a cast would misread; a quoted one does not cast.
        probe = f"TRY_CAST({{value}} AS {sql_type(column_type)})"
        return Cast((probe,), "CASE WHEN isfinite({p0}) THEN {p0} END", _float_slow(column_type))
    if column_type.is_integer:
        # What casts and is no fraction and no power can only be digits: JSON has no blanks, underscores or hex.
        digits = " AND ".join(f"NOT contains({{value}}, '{mark}')" for mark in ".eE")
        return replace(_number(column_type), fast=f"CASE WHEN {digits} THEN {{p0}} END")
    return _number(column_type)


def _of_text(column: Column, column_type: ColumnType) -> Cast:
    kind = column_type.kind
    if kind == "string":
        return Cast((), "{value}")
    if kind == "json":
        fault = f"CASE WHEN json_valid({{value}}) THEN {STRICT_JSON}(encode({{value}})) ELSE 'not JSON' END"
        kept = "CASE WHEN {p0} IS NULL THEN '{\"v\":' || {value} || '}' END"
        written = 'CAST(from_json({p1}, \'{"v":"JSON","n":"DECIMAL(18,3)"}\').v AS VARCHAR)'
        return Cast((fault, kept), written)
    if kind == "boolean":
        return Cast((), _boolean(""))
    if kind == "binary":
        return Cast((), "encode({value})")
    if kind in ("date", "timestamp"):
        return times.cast(column, "{value}")
    if column_type.is_float:
        probe = f"TRY_CAST({{value}} AS {sql_type(column_type)})"
        return Cast((probe,), f"CASE WHEN isfinite({{p0}}) AND {is_number('{value}')} THEN {{p0}} END")
    return _number(column_type)


def _number(column_type: ColumnType) -> Cast:
    """Integers and decimals: fast where writing the number out again gives the text it was read from."""
    name = sql_type(column_type)
    exotic = f"TRY_CAST({exact_number('{text}', scale=column_type.scale)} AS {name})"
    slow = (
        trimmed("{text}"),
        f"TRY_CAST({{s0}} AS {name})",
        f"CASE WHEN {_is_plain(column_type, '{s1}', '{s0}')} THEN {{s1}} WHEN {{text}} IS NOT NULL THEN {exotic} END",
    )
    plain = f"CASE WHEN {_is_plain(column_type, '{p0}', '{value}')} THEN {{p0}} END"
    return Cast((f"TRY_CAST({{value}} AS {name})",), plain, slow)


def _is_plain(column_type: ColumnType, number: str, text: str) -> str:
    """SQL condition: the number is written as `text`, but for zeros at the end of its fraction."""
    written = f"CAST({number} AS VARCHAR)"
    return f"{written} = {text}" if column_type.is_integer else f"starts_with({written}, {text})"


def _float_slow(column_type: ColumnType) -> tuple[str, ...]:
    return (
        f"CASE WHEN {is_number('{text}')} THEN TRY_CAST({{text}} AS {sql_type(column_type)}) END",
        "CASE WHEN isfinite({s0}) THEN {s0} END",
    )


def _boolean(*quotes: str) -> str:
    cases = " ".join(f"WHEN '{mark}{word}{mark}' THEN {word}" for mark in quotes for word in ("true", "false"))
    return f"CASE {{value}} {cases} END"


def _base64() -> Cast:
    text = "CASE WHEN starts_with({value}, '\"') THEN {value} ->> '$' END"
    # Writing the bytes out again refuses the spellings of base64 that are not the canonical one.
    return Cast((text, "TRY(from_base64({p0}))"), "CASE WHEN to_base64({p1}) = {p0} THEN {p1} END")
