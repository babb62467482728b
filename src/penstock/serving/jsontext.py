"""Arrow columns as JSON text, exactly: what `sql --format json` prints. The other formats are in `formats.py`.

Integers and decimals are JSON numbers with all their digits, whatever their size: a reader that holds every digit gets
every digit. Timestamps are ISO 8601 in UTC, dates ISO 8601, binary is always base64 (so that one column has one
encoding, whatever its bytes), lists are arrays, structs and maps are objects. NULL, NaN and the infinities, for which
JSON has no word, are null.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = pa.large_string()
"""All JSON text is built in this type: 64-bit offsets, since a batch of large values passes 2 GiB."""

_SPECIAL = r'[\x00-\x1f"\\]'


def json_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Each row of `batch` as one JSON object, without the line break. Of columns with one name all are printed."""
    for line in objects(batch.schema.names, batch.columns, batch.num_rows).to_pylist():
        yield line.encode()


def objects(names: list[str], columns: list[pa.Array], rows: int) -> pa.Array:
    """One JSON object per row of `columns`; a LargeStringArray without nulls."""
    if not names:
        return pa.array(["{}"] * rows, TEXT)
    parts: list[Any] = []
    for position, (name, column) in enumerate(zip(names, columns, strict=True)):
        parts.append(pa.scalar(("{" if position == 0 else ",") + orjson.dumps(name).decode() + ":", TEXT))
        parts.append(json_text(column))
    parts.append(pa.scalar("}", TEXT))
    return pc.binary_join_element_wise(*parts, pa.scalar("", TEXT))


def json_text(column: pa.Array) -> pa.Array:
    """Each value of `column` as JSON text; a LargeStringArray without nulls (NULL is the text `null`)."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return json_text(column.storage)
    if pa.types.is_null(kind):
        return pa.array(["null"] * len(column), TEXT)
    if pa.types.is_dictionary(kind):
        return json_text(column.dictionary_decode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        text = _lists(column)
    elif pa.types.is_struct(kind):
        children = [pc.struct_field(column, [position]) for position in range(kind.num_fields)]
        text = objects([field.name for field in kind], children, len(column))
    elif pa.types.is_map(kind):
        text = _maps(column)
    else:
        text = _scalars(column)
    text = pc.if_else(column.is_valid(), text, pa.scalar(None, TEXT))
    return pc.fill_null(text, pa.scalar("null", TEXT))


def plain_text(column: pa.Array) -> pa.Array:
    """Times, dates and numbers of `column` as text without quotes, NULL kept; a LargeStringArray."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        utc = column.cast(pa.timestamp(kind.unit))
        text = pc.replace_substring(utc.cast(TEXT), " ", "T")
        return pc.binary_join_element_wise(text, pa.scalar("Z", TEXT), pa.scalar("", TEXT)) if kind.tz else text
    if pa.types.is_large_string(kind):
        return column
    if pa.types.is_interval(kind):
        return pa.array([None if value is None else _interval(value) for value in column.to_pylist()], TEXT)
    if pa.types.is_duration(kind):
        return column.cast(pa.int64()).cast(TEXT)
    return column.cast(TEXT)


def _scalars(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return column.cast(TEXT)
    if pa.types.is_floating(kind):
        wide = column.cast(pa.float64()) if pa.types.is_float16(kind) else column
        return pc.if_else(pc.is_finite(wide), wide.cast(TEXT), pa.scalar(None, TEXT))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        encoded = [None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()]
        return _quoted(pa.array(encoded, TEXT))
    return _quoted(_escaped(plain_text(column)))


def _quoted(text: pa.Array) -> pa.Array:
    quote = pa.scalar('"', TEXT)
    return pc.binary_join_element_wise(quote, text, quote, pa.scalar("", TEXT))


def _escaped(text: pa.Array) -> pa.Array:
    """`text` with what JSON strings cannot hold escaped. Only the values that need it pass through Python."""
    special = pc.fill_null(pc.match_substring_regex(text, _SPECIAL), False)
    if not pc.any(special).as_py():
        return text
    escaped = [orjson.dumps(value).decode()[1:-1] for value in text.filter(special).to_pylist()]
    return pc.replace_with_mask(text, special, pa.array(escaped, TEXT))


def _lists(column: pa.Array) -> pa.Array:
    """Arrays: the values of all rows are encoded at once, then joined row by row."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
    values = json_text(pc.list_flatten(column))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, values), pa.scalar(",", TEXT))
    return pc.binary_join_element_wise(pa.scalar("[", TEXT), joined, pa.scalar("]", TEXT), pa.scalar("", TEXT))


def _maps(column: pa.Array) -> pa.Array:
    """Maps as objects. Keys that are not text are written as text, as JSON demands."""
    rows: list[str | None] = []
    for row in range(len(column)):
        value = column[row]
        if not value.is_valid:
            rows.append(None)
            continue
        entries = value.values
        keys, items = entries.field(0), json_text(entries.field(1))
        names = json_text(plain_text(keys))
        rows.append("{" + ",".join(f"{n}:{i}" for n, i in zip(names.to_pylist(), items.to_pylist(), strict=True)) + "}")
    return pa.array(rows, TEXT)


def _interval(value: Any) -> str:
    """ISO 8601 of a month-day-nanosecond interval."""
    return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
