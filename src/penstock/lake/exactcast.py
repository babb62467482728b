"""Casts a reference's values to a column type without changing any of them; a value that does not fit is an error.

Only floats round. The rules are those of silver's casts; here they work on small columns of Python or Arrow values,
once per distinct value.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.lake.layout import TIME, arrow_type
from penstock.model.types import INTEGER_BITS, ColumnType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NUMBER = re.compile(r"-?(0|[1-9][0-9]*|0[0-9]+)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(:[0-9]{2})?)(\.([0-9]{1,6})0*)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


class BadValue(Exception):
    """The value in `row` (from 0) is not one of its column's type."""

    def __init__(self, row: int, value: object) -> None:
        super().__init__(f"row {row}: {value!r}")
        self.row = row
        self.value = value


def json_text(value: Any) -> str:
    """`value` as JSON. Decimals keep all their digits as numbers; what JSON has no form for becomes text."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(name))}:{json_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(json_text(one) for one in value) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if isinstance(value, bytes):
        return json.dumps(base64.b64encode(value).decode())
    return json.dumps(value, default=str)


def cast_values(values: Sequence[Any], kind: ColumnType) -> pa.ChunkedArray:
    """`values` (None, str, bool, int, Decimal, list or dict, as JSON and CSV give them) as a column of type `kind`.

    Raises:
        BadValue: one does not fit.
    """
    parse = _PARSERS[kind.kind]
    known: dict[Any, Any] = {}
    cast: list[Any] = []
    for row, value in enumerate(values):
        if value is None:
            cast.append(None)
            continue
        token = json_text(value) if isinstance(value, list | dict) else (type(value), value)
        if token not in known:
            try:
                known[token] = parse(value, kind)
            except (ValueError, InvalidOperation, OverflowError, binascii.Error) as error:
                raise BadValue(row, value) from error
        cast.append(known[token])
    return pa.chunked_array([pa.array(cast, arrow_type(kind))])


def cast_arrow(values: pa.ChunkedArray, kind: ColumnType) -> pa.ChunkedArray:
    """A typed column as a column of type `kind`. Text is read as `cast_values` reads it.

    Raises:
        BadValue: a value does not fit.
    """
    plain = plain_type(values)
    target = arrow_type(kind)
    if plain.type == target and kind.kind != "json":
        return plain
    if pa.types.is_string(plain.type):
        return cast_values(plain.to_pylist(), kind)
    if kind.is_float and _is_number(plain.type):
        rounded = plain.cast(target, safe=False)
        lost = pc.and_(pc.is_inf(rounded), pc.is_finite(plain.cast(pa.float64(), safe=False)))
        return _refuse_where(pc.fill_null(lost, False), plain, rounded)
    if _is_number(plain.type) and (kind.is_integer or kind.kind == "decimal"):
        return cast_values([_number(value) for value in plain.to_pylist()], kind)
    if kind.kind == "string" and pa.types.is_integer(plain.type):
        return plain.cast(target)
    return _refuse_where(plain.is_valid(), plain, pa.chunked_array([pa.nulls(len(plain), target)]))


def plain_type(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in the nearest type a column can have: unsigned widened, times to microseconds UTC, nested as JSON.

    Raises:
        BadValue: a value does not fit (nanoseconds that are not zero, say), or there is no such type.
    """
    arrow = values.type
    if pa.types.is_dictionary(arrow):
        return plain_type(values.cast(arrow.value_type))
    if pa.types.is_nested(arrow):
        texts = [None if one is None else json_text(one) for one in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    target = _PLAIN.get(arrow, arrow)
    if pa.types.is_timestamp(arrow):
        target = TIME
    elif pa.types.is_decimal(arrow):
        target = pa.decimal128(arrow.precision, arrow.scale) if _storable_decimal(arrow) else None
    elif target not in _STORED:
        target = None
    if target is None:
        return _refuse_where(values.is_valid(), values, pa.chunked_array([pa.nulls(len(values), pa.string())]))
    if target == arrow:
        return values
    try:
        return values.cast(target)
    except pa.ArrowInvalid:
        row = _first_failing(values, target)
        raise BadValue(row, values[row].cast(pa.string()).as_py()) from None


_PLAIN = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}
_STORED = {arrow_type(ColumnType(kind)) for kind in ("string", "boolean", "date", "binary", "float32", "float64")}
_STORED |= {arrow_type(ColumnType(kind)) for kind in INTEGER_BITS} | {pa.decimal128(20, 0)}


def _storable_decimal(arrow: pa.DataType) -> bool:
    return bool(arrow.precision <= 38 and 0 <= arrow.scale <= arrow.precision)


def _is_number(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow))


def _number(value: Any) -> Any:
    """A float as the decimal it is exactly; NaN and infinity as text, which no number type takes."""
    if not isinstance(value, float):
        return value
    return Decimal(value) if value - value == 0 else str(value)


def _refuse_where(bad: pa.ChunkedArray, values: pa.ChunkedArray, cast: pa.ChunkedArray) -> pa.ChunkedArray:
    row = pc.index(bad, pa.scalar(True)).as_py()
    if row >= 0:
        raise BadValue(row, values[row].as_py())
    return cast


def _first_failing(values: pa.ChunkedArray, target: pa.DataType) -> int:
    """The first row whose cast fails, by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values.slice(low, middle - low).cast(target)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


# -- one parser per kind ----------------------------------------------------------------------------------------------


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return Decimal(value)
    raise ValueError(value)


def _integer(value: Any, kind: ColumnType) -> int:
    number = _decimal(value)
    bits = INTEGER_BITS[kind.kind]
    if abs(number) >= 1 << 64 or number != number.to_integral_value():
        raise ValueError(value)
    whole = int(number)
    if not -(1 << bits - 1) <= whole < 1 << bits - 1:
        raise ValueError(value)
    return whole


def _float(value: Any, kind: ColumnType) -> float:
    number = float(_decimal(value))
    limit = 3.4028235677973366e38 if kind.kind == "float32" else 1.7976931348623157e308
    if abs(number) > limit:
        raise ValueError(value)
    return number


def _exact_decimal(value: Any, kind: ColumnType) -> Decimal:
    number = _decimal(value)
    if number.adjusted() > 100 or (number and number.adjusted() < -100):
        raise ValueError(value)
    scaled = number.quantize(Decimal(1).scaleb(-kind.scale), context=Context(prec=200))
    if scaled != number or abs(scaled) >= Decimal(10) ** (kind.precision - kind.scale):
        raise ValueError(value)
    return scaled


def _boolean(value: Any, _kind: ColumnType) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(value)


def _string(value: Any, _kind: ColumnType) -> str:
    """A JSON number is taken only where its text survives."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 64:
        return str(value)
    raise ValueError(value)


def _date(value: Any, _kind: ColumnType) -> date:
    if isinstance(value, str) and DATE.fullmatch(value):
        return date.fromisoformat(value)
    raise ValueError(value)


def _timestamp(value: Any, _kind: ColumnType) -> datetime:
    """ISO 8601; without an offset it is UTC. More than microseconds are refused unless they are zero."""
    match = DATETIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return datetime.combine(_date(value, _kind), datetime.min.time(), UTC)
    day, clock, _, _, fraction, offset = match.groups()
    text = f"{day}T{clock}" + (f".{fraction}" if fraction else "") + (offset or "Z").upper()
    return datetime.fromisoformat(text).astimezone(UTC)


def _binary(value: Any, _kind: ColumnType) -> bytes:
    if isinstance(value, str):
        return base64.b64decode(value, validate=True)
    raise ValueError(value)


def _json(value: Any, _kind: ColumnType) -> str:
    if isinstance(value, str):
        json.loads(value)
        return value
    return json_text(value)


_PARSERS: dict[str, Callable[[Any, ColumnType], Any]] = {
    "string": _string,
    **dict.fromkeys(INTEGER_BITS, _integer),
    "float32": _float,
    "float64": _float,
    "decimal": _exact_decimal,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "binary": _binary,
    "json": _json,
}
