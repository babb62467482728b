"""How a raw value becomes a typed one, as SQL, never changing it silently (DESIGN 5, "Values are never changed silently").

A value arrives in one of four forms. Each cast has a fast expression, right for the plain way of writing a value and
NULL for every other, and a slow one, which decides about the rest and is evaluated for the rest only. Where both are
NULL the value does not fit the type. What is accepted:

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

from typing import TYPE_CHECKING

from penstock.plan import times
from penstock.plan.forms import STRICT_JSON, TEXT_OF_BYTES, UNQUOTED, Cast, Form, sql_type
from penstock.plan.numbers import NUMBER, exact_text
from penstock.plan.sqltext import literal

if TYPE_CHECKING:
    from penstock.model.pipeline import Column
    from penstock.model.types import ColumnType


def cast(column: Column, form: Form) -> Cast:
    """The cast of a raw value of this form to the column's type."""
    assert column.type is not None
    kind = column.type.kind
    if form is Form.TIME:
        return Cast("{value}", "{value}")
    if kind == "binary":
        return _binary(form)
    if form is Form.BYTES:
        return _of_bytes(_of_text(column, column.type))
    if form is Form.TEXT:
        return _of_text(column, column.type)
    return _of_json(column, column.type)


def _of_json(column: Column, column_type: ColumnType) -> Cast:
    kind = column_type.kind
    if kind == "string":
        integer = (
            "CASE WHEN regexp_full_match({value}, '-?[0-9]{1,20}') AND TRY_CAST({value} AS HUGEINT) "
            "BETWEEN -9223372036854775808 AND 18446744073709551615 THEN {value} END"
        )
        return Cast("NULL", "CASE WHEN starts_with({value}, '\"') THEN {value} ->> '$' END", integer)
    if kind == "json":
        return Cast("NULL", "{value}")
    if kind == "boolean":
        return Cast("NULL", _boolean(quote='"'))
    if kind in ("date", "timestamp"):
        return times.cast(column, UNQUOTED)
    slow = _number(column_type).replace("{text}", UNQUOTED)
    probe = f"TRY_CAST({{value}} AS {sql_type(column_type)})"
    if column_type.is_float:
        # A JSON number is never written in a way that a cast would misread; a quoted one does not cast.
        return Cast(probe, "CASE WHEN isfinite({probe}) THEN {probe} END", slow)
    return Cast(probe, _plain(column_type), slow)


def _of_text(column: Column, column_type: ColumnType) -> Cast:
    kind = column_type.kind
    if kind == "string":
        return Cast("NULL", "{value}")
    if kind == "json":
        fault = f"CASE WHEN json_valid({{value}}) THEN {STRICT_JSON}(encode({{value}})) ELSE 'not JSON' END"
        wrapped = 'from_json(\'{"v":\' || {value} || \'}\', \'{"v":"JSON","n":"DECIMAL(18,3)"}\').v'
        return Cast("NULL", f"CASE WHEN {fault} IS NULL THEN CAST({wrapped} AS VARCHAR) END")
    if kind == "boolean":
        return Cast("NULL", _boolean(quote=""))
    if kind in ("date", "timestamp"):
        return times.cast(column, "{value}")
    slow = _number(column_type).replace("{text}", "{value}")
    probe = f"TRY_CAST({{value}} AS {sql_type(column_type)})"
    if column_type.is_float:
        return Cast(
            probe,
            f"CASE WHEN isfinite({{probe}}) AND regexp_full_match({{value}}, {literal(NUMBER)}) THEN {{probe}} END",
        )
    return Cast(probe, _plain(column_type), slow)


def _of_bytes(text: Cast) -> Cast:
    """The same cast behind the decoding of bytes; keys and headers are short, so nothing is shared."""
    value = "(" + TEXT_OF_BYTES + ")"

    def decoded(sql: str) -> str:
        return sql.replace("{probe}", f"({text.probe})").replace("{value}", value)

    whole = decoded(text.fast)
    return Cast("NULL", whole if text.slow is None else f"coalesce({whole}, {decoded(text.slow)})")


def _plain(column_type: ColumnType) -> str:
    """The probe, where writing it out again gives the text that it was read from (but for zeros at the end)."""
    if column_type.is_integer:
        return "CASE WHEN CAST({probe} AS VARCHAR) = {value} THEN {probe} END"
    return "CASE WHEN starts_with(CAST({probe} AS VARCHAR), {value}) THEN {probe} END"


def _number(column_type: ColumnType) -> str:
    """The typed value of the number written as `{text}`, whatever the notation; NULL when the type does not hold it."""
    if column_type.is_float:
        typed = f"TRY_CAST({{text}} AS {sql_type(column_type)})"
        return f"CASE WHEN regexp_full_match({{text}}, {literal(NUMBER)}) AND isfinite({typed}) THEN {typed} END"
    return f"TRY_CAST({exact_text('{text}', scale=column_type.scale)} AS {sql_type(column_type)})"


def _boolean(quote: str) -> str:
    cases = " ".join(f"WHEN '{mark}{word}{mark}' THEN {word}" for mark in {"", quote} for word in ("true", "false"))
    return f"CASE {{value}} {cases} END"


def _binary(form: Form) -> Cast:
    if form is Form.BYTES:
        return Cast("NULL", "{value}")
    if form is Form.TEXT:
        return Cast("NULL", "encode({value})")
    text = "CASE WHEN starts_with({value}, '\"') THEN {value} ->> '$' END"
    # Writing the bytes out again refuses the spellings of base64 that are not the canonical one.
    return Cast(f"TRY(from_base64({text}))", f"CASE WHEN to_base64({{probe}}) = {text} THEN {{probe}} END")
