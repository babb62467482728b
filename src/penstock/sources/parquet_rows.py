"""Parquet rows as JSON text, one record each, built column by column.

Decimals and integers keep every digit, binary becomes base64 text, timestamps with a zone ISO text in UTC (`Z`), those
without a zone ISO text without one, dates and times ISO text, maps objects, NaN and the infinities the texts "NaN",
"Infinity" and "-Infinity", which JSON has no numbers for. A null is `null`, so that every row has every column.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.limits import FILE_BLOCK_BYTES, PARQUET_BYTES_PER_READ, PARQUET_ROWS_PER_READ
from penstock.sources.file_blocks import FileDamaged
from penstock.sources.framing import too_large_header

if TYPE_CHECKING:
    from collections.abc import Iterator

NULL = pa.scalar(b"null", pa.binary())


def open_parquet(handle: BinaryIO) -> pq.ParquetFile:
    """The file behind `handle`, with checksums verified and no column chunk read whole.

    Raises:
        FileDamaged: it is not a Parquet file that can be read.
    """
    try:
        return pq.ParquetFile(handle, page_checksum_verification=True, buffer_size=FILE_BLOCK_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise FileDamaged(f"it is not a readable Parquet file: {_first_line(error)}") from error


def row_chunks(file: pq.ParquetFile, record_bytes_max: int) -> Iterator[tuple[pa.Array, dict[int, bytes]]]:
    """JSON rows (binary, null where over the limit) and, by index, the header text of those over the limit.

    Raises:
        FileDamaged: a page is damaged, or a column has a type without a JSON form.
    """
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        row_bytes = about.total_byte_size // max(1, about.num_rows) + 1
        rows = max(1, min(PARQUET_ROWS_PER_READ, PARQUET_BYTES_PER_READ // row_bytes))
        batches = file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False)
        while True:
            try:
                batch = next(batches, None)
                values = None if batch is None else json_rows(batch)
            except (OSError, pa.ArrowException) as error:
                raise FileDamaged(f"row group {group} cannot be read: {_first_line(error)}") from error
            if values is None:
                break
            if len(values):
                yield _limited(values, record_bytes_max)


def _limited(values: pa.Array, record_bytes_max: int) -> tuple[pa.Array, dict[int, bytes]]:
    over = pc.greater(pc.binary_length(values), record_bytes_max)
    too_large = {}
    for index in np.flatnonzero(over.to_numpy(zero_copy_only=False)):
        body = values[int(index)].as_py()
        too_large[int(index)] = too_large_header(len(body), hashlib.sha256(body).hexdigest())
    return (pc.if_else(over, pa.scalar(None, pa.binary()), values) if too_large else values), too_large


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]


def json_rows(batch: pa.RecordBatch) -> pa.Array:
    """Each row as a JSON object: a binary array without nulls."""
    return _object(batch.schema.names, batch.columns, batch.num_rows)


def _object(names: list[str], columns: list[pa.Array], rows: int) -> pa.Array:
    if not columns:
        return pa.array([b"{}"] * rows, pa.binary())
    parts: list[pa.Array | pa.Scalar] = []
    for index, (name, column) in enumerate(zip(names, columns, strict=True)):
        lead = ("," if index else "{") + json.dumps(name, ensure_ascii=False) + ":"
        parts += [pa.scalar(lead.encode("utf-8", "surrogatepass")), pc.fill_null(json_text(column), NULL)]
    return _joined(*parts, pa.scalar(b"}"))


def _joined(*parts: pa.Array | pa.Scalar) -> pa.Array:
    return pc.binary_join_element_wise(*parts, pa.scalar(b""), null_handling="emit_null")


def _quoted(text: pa.Array) -> pa.Array:
    return _joined(pa.scalar(b'"'), text, pa.scalar(b'"'))


def json_text(column: pa.Array) -> pa.Array:
    """Each value as JSON text (binary); null where the value is null.

    Raises:
        FileDamaged: the type has no JSON form.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return json_text(column.storage)
    if pa.types.is_dictionary(kind):
        return json_text(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return json_text(pc.run_end_decode(column))
    for applies, convert in _CONVERTERS:
        if applies(kind):
            return convert(column)
    raise FileDamaged(f"a column of type {kind} has no JSON form")


def _null(column: pa.Array) -> pa.Array:
    return pa.nulls(len(column), pa.binary())


def _boolean(column: pa.Array) -> pa.Array:
    return pc.if_else(column, pa.scalar(b"true"), pa.scalar(b"false"))


def _integer(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()).cast(pa.binary())


def _duration(column: pa.Array) -> pa.Array:
    return _integer(column.cast(pa.int64()))


def _floating(column: pa.Array) -> pa.Array:
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    text = column.cast(pa.string()).cast(pa.binary())
    finite = pc.is_finite(column)
    if not pc.all(finite, min_count=0).as_py():
        names = pc.if_else(pc.greater(column, 0), pa.scalar(b'"Infinity"'), pa.scalar(b'"-Infinity"'))
        names = pc.if_else(pc.is_nan(column), pa.scalar(b'"NaN"'), names)
        text = pc.if_else(finite, text, names)
    return text


def _decimal(column: pa.Array) -> pa.Array:
    """All digits, never an exponent: as an integer of the same bits, with the point put in."""
    kind = column.type
    if kind.bit_width < 128:
        return _decimal(column.cast(pa.decimal128(kind.precision, kind.scale)))
    text = column.cast(pa.string())
    if not pc.any(pc.match_substring(text, "E"), min_count=0).as_py():
        return text.cast(pa.binary())
    whole = pa.decimal128(kind.precision, 0) if kind.bit_width == 128 else pa.decimal256(kind.precision, 0)
    digits = pa.Array.from_buffers(whole, len(column), column.buffers(), -1, column.offset).cast(pa.string())
    sign = pc.if_else(pc.starts_with(digits, "-"), "-", "")
    digits = pc.utf8_ltrim(digits, "-")
    if kind.scale <= 0:
        zeros = pc.if_else(pc.equal(digits, "0"), "", "0" * -kind.scale)
        return _joined(*(part.cast(pa.binary()) for part in (sign, digits, zeros)))
    digits = pc.utf8_lpad(digits, kind.scale + 1, "0")
    before, after = pc.utf8_slice_codeunits(digits, 0, -kind.scale), pc.utf8_slice_codeunits(digits, -kind.scale)
    return _joined(sign.cast(pa.binary()), before.cast(pa.binary()), pa.scalar(b"."), after.cast(pa.binary()))


def _timestamp(column: pa.Array) -> pa.Array:
    kind = column.type
    if kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    return _quoted(pc.replace_substring(column.cast(pa.string()).cast(pa.binary()), b" ", b"T"))


def _date(column: pa.Array) -> pa.Array:
    return _quoted(column.cast(pa.date32()).cast(pa.string()).cast(pa.binary()))


def _time(column: pa.Array) -> pa.Array:
    return _quoted(column.cast(pa.string()).cast(pa.binary()))


_SHORT_ESCAPES = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r"}


def _string(column: pa.Array) -> pa.Array:
    text = column.cast(pa.large_string() if pa.types.is_large_string(column.type) else pa.string())
    return _quoted(_escaped(text.cast(pa.binary())))


def _escaped(text: pa.Array) -> pa.Array:
    """Text as it stands between the quotes of a JSON string: only the characters that occur are replaced."""
    present = _bytes_present(text)
    if present[ord("\\")]:
        text = pc.replace_substring(text, b"\\", b"\\\\")
    if present[ord('"')]:
        text = pc.replace_substring(text, b'"', b'\\"')
    for code in np.flatnonzero(present[:32]):
        escape = _SHORT_ESCAPES.get(int(code), b"\\u%04x" % int(code))
        text = pc.replace_substring(text, bytes([code]), escape)
    return text


def _bytes_present(text: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of the 256 byte values occur in the array."""
    content = np.frombuffer(_contiguous(text), np.uint8)
    present = np.zeros(256, np.bool_)
    special = content[(content < 32) | (content == ord('"')) | (content == ord("\\"))]
    present[special] = True
    return present


def _contiguous(values: pa.Array) -> pa.Buffer:
    """The bytes of a binary array's values, one after the other."""
    offsets = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, values.offset * 4) if len(values) else [0]
    body = values.buffers()[2]
    return pa.py_buffer(b"") if body is None else body.slice(int(offsets[0]), int(offsets[-1]) - int(offsets[0]))


def _binary(column: pa.Array) -> pa.Array:
    """Base64 in one call: each value is padded to whole groups of three bytes, which encode on their own."""
    column = column.cast(pa.binary())
    lengths = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    compact = pc.fill_null(column, b"")
    content = np.frombuffer(_contiguous(compact), np.uint8)
    groups = (lengths + 2) // 3
    padded_starts = np.concatenate([[0], np.cumsum(groups * 3)])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    padded = np.zeros(int(padded_starts[-1]), np.uint8)
    shift = np.repeat(padded_starts[:-1] - starts[:-1], lengths)
    padded[np.arange(len(content)) + shift] = content
    encoded = np.frombuffer(bytearray(base64.b64encode(padded.tobytes())), np.uint8)
    ends = padded_starts[1:] // 3 * 4
    encoded[ends[lengths % 3 != 0] - 1] = ord("=")
    encoded[ends[lengths % 3 == 1] - 2] = ord("=")
    offsets = (padded_starts // 3 * 4).astype(np.int32)
    text = pa.Array.from_buffers(
        pa.binary(), len(column), [None, pa.py_buffer(offsets), pa.py_buffer(encoded.tobytes())]
    )
    return _quoted(pc.if_else(column.is_valid(), text, pa.scalar(None, pa.binary())))


def _list(column: pa.Array) -> pa.Array:
    items = pc.fill_null(json_text(column.flatten()), NULL)
    return _enclosed(b"[", column, items, b"]")


def _map(column: pa.Array) -> pa.Array:
    as_list = _map_as_list(column)
    pairs = as_list.flatten()
    keys = pairs.field(0)
    names = json_text(keys)
    if not (pa.types.is_string(keys.type) or pa.types.is_large_string(keys.type)):
        names = _quoted(_escaped(names))
    items = _joined(names, pa.scalar(b":"), pc.fill_null(json_text(pairs.field(1)), NULL))
    return _enclosed(b"{", as_list, items, b"}")


def _map_as_list(column: pa.Array) -> pa.Array:
    """The same buffers as a list of pairs; the kernels for lists do not take maps."""
    pairs = column.values
    kind = pa.list_(pa.field("entries", pairs.type))
    return pa.Array.from_buffers(kind, len(column), column.buffers()[:2], -1, column.offset, [pairs])


def _enclosed(left: bytes, lists: pa.Array, items: pa.Array, right: bytes) -> pa.Array:
    """The items of each list joined by commas between `left` and `right`; null for a null list."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), items), b",")
    text = _joined(pa.scalar(left), joined, pa.scalar(right))
    return pc.if_else(lists.is_valid(), text, pa.scalar(None, pa.binary())) if lists.null_count else text


def _struct(column: pa.Array) -> pa.Array:
    text = _object([child.name for child in column.type], column.flatten(), len(column))
    return pc.if_else(column.is_valid(), text, pa.scalar(None, pa.binary())) if column.null_count else text


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


_CONVERTERS = (
    (pa.types.is_null, _null),
    (pa.types.is_boolean, _boolean),
    (pa.types.is_integer, _integer),
    (pa.types.is_floating, _floating),
    (pa.types.is_decimal, _decimal),
    (_is_text, _string),
    (_is_bytes, _binary),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_date, _date),
    (pa.types.is_time, _time),
    (pa.types.is_duration, _duration),
    (pa.types.is_map, _map),
    (_is_list, _list),
    (pa.types.is_struct, _struct),
)
