"""Columns of records: built for many rows at once, measured and put together. Used by every source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.sources.contract import HEADERS_TYPE, RECORD_SCHEMA, UTC_MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BLOCK_SCHEMA = pa.schema([RECORD_SCHEMA.field(name) for name in ("timestamp", "key", "value", "headers")])
"""What a producer gives: a record without its place and its time of acknowledgement."""


FEW_ROWS = 8
"""Up to here Arrow's own conversion is faster than laying buffers out; a folder of tiny files is made of these."""


def as_block(records: pa.Table) -> pa.Table:
    """`records` in BLOCK_SCHEMA; columns that are missing are null, text becomes its UTF-8 bytes."""
    columns = [
        records[field.name].cast(field.type)
        if field.name in records.column_names
        else pa.chunked_array([pa.nulls(records.num_rows, field.type)])
        for field in BLOCK_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=BLOCK_SCHEMA)


def record_table(partition: int, first_offset: int, block: pa.Table, ingested_at: int | None) -> pa.Table:
    """`block` (BLOCK_SCHEMA) as records with consecutive offsets, all acknowledged at `ingested_at` microseconds."""
    rows = block.num_rows
    return pa.Table.from_arrays(
        [
            pa.array(np.full(rows, partition, np.int32)),
            pa.array(np.arange(first_offset, first_offset + rows, dtype=np.int64)),
            block["timestamp"],
            times(rows, ingested_at),
            block["key"],
            block["value"],
            block["headers"],
        ],
        schema=RECORD_SCHEMA,
    )


def times(rows: int, microseconds: int | None) -> pa.Array:
    """One time for all rows; null for None."""
    if microseconds is None:
        return pa.nulls(rows, UTC_MICROSECONDS)
    return pa.array(np.full(rows, microseconds, np.int64)).view(UTC_MICROSECONDS)


def headers(rows: int, same: Mapping[str, bytes]) -> pa.Array:
    """The same headers for all rows, as Arrow buffers written once each."""
    if not same:
        return pa.nulls(rows, HEADERS_TYPE)
    if rows <= FEW_ROWS:
        return pa.array([[{"key": name, "value": value} for name, value in same.items()]] * rows, HEADERS_TYPE)
    names = [name.encode() for name in same]
    keys = _tiled(pa.string(), names, rows)
    values = _tiled(pa.binary(), list(same.values()), rows)
    pairs = pa.StructArray.from_arrays([keys, values], fields=list(HEADERS_TYPE.value_type))
    ends = np.arange(0, (rows + 1) * len(names), len(names), dtype=np.int32)[: rows + 1]
    return pa.ListArray.from_arrays(pa.array(ends), pairs, type=HEADERS_TYPE)


def _tiled(kind: pa.DataType, items: list[bytes], rows: int) -> pa.Array:
    once = b"".join(items)
    ends = np.cumsum([len(item) for item in items])
    offsets = np.zeros(rows * len(items) + 1, np.int32)
    offsets[1:] = (np.arange(rows, dtype=np.int64)[:, None] * len(once) + ends[None, :]).ravel()
    return pa.Array.from_buffers(kind, rows * len(items), [None, pa.py_buffer(offsets), pa.py_buffer(once * rows)])


def with_headers_at(
    column: pa.Array, rows: int, same: Mapping[str, bytes], extra: Mapping[int, Mapping[str, bytes]]
) -> pa.Array:
    """`column` (made by `headers` with `same`) where the few rows in `extra` get further headers."""
    if not extra:
        return column
    pieces: list[pa.Array] = []
    done = 0
    for row in sorted(extra):
        if row > done:
            pieces.append(column.slice(done, row - done))
        pieces.append(headers(1, {**same, **extra[row]}))
        done = row + 1
    if done < rows:
        pieces.append(column.slice(done))
    return pa.concat_arrays(pieces)


def record_bytes(block: pa.Table) -> NDArray[np.int64]:
    """Bytes of each record: key, value and headers."""
    total = np.zeros(block.num_rows, np.int64)
    for name in ("key", "value"):
        total += _lengths(block[name].combine_chunks())
    lists = block["headers"].combine_chunks()
    if len(lists) and lists.null_count < len(lists):
        pairs = lists.flatten()
        each = _lengths(pairs.field("key")) + _lengths(pairs.field("value"))
        running = np.concatenate([[0], np.cumsum(each)])
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(counts)
        total += running[ends] - running[ends - counts]
    return total


def _lengths(values: pa.Array) -> NDArray[np.int64]:
    if values.null_count == len(values):
        return np.zeros(len(values), np.int64)
    lengths = pc.fill_null(pc.binary_length(values), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)
