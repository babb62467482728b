"""Kafka's messages as records: one pass of C-level calls per column, no loop over messages in Python.

Keys, values, headers (names may repeat, values may be null) and timestamps stay as they are; a message without a value
is a record without one. One over the size limit is a record without a value, known by its length and SHA-256.
One with a header whose name is not UTF-8 has a header that says so in the place of all of them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.sources.contract import HEADERS_TYPE, RECORD_SCHEMA, TOO_LARGE, UNREADABLE_HEADERS, UTC_MICROSECONDS
from penstock.sources.framing import too_large_header
from penstock.sources.records import record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


def records_of(messages: Sequence[Any], message: Any, record_bytes_max: int) -> tuple[pa.Table, NDArray[np.int64]]:
    """The messages (of the class `message`) in their order as RECORD_SCHEMA, and the bytes of each."""
    rows = len(messages)
    stamps = np.fromiter((stamp for _, stamp in map(message.timestamp, messages)), np.int64, rows)
    table = pa.Table.from_arrays(
        [
            pa.array(np.fromiter(map(message.partition, messages), np.int32, rows)),
            pa.array(np.fromiter(map(message.offset, messages), np.int64, rows)),
            _times(stamps),
            pa.nulls(rows, UTC_MICROSECONDS),
            pa.array(list(map(message.key, messages)), pa.binary()),
            pa.array(list(map(message.value, messages)), pa.binary()),
            _headers(_pairs(map(message.headers, messages))),
        ],
        schema=RECORD_SCHEMA,
    )
    sizes = record_bytes(table)
    if rows and int(sizes.max()) > record_bytes_max:
        return _without_large(table, sizes, record_bytes_max)
    return table, sizes


def _times(milliseconds: NDArray[np.int64]) -> pa.Array:
    """Kafka's times; where there is none it says -1. What no longer fits in microseconds is none."""
    none = (milliseconds < 0) | (milliseconds > np.iinfo(np.int64).max // 1_000)
    micros = np.where(none, 0, milliseconds) * 1_000
    return pa.array(micros, mask=none if none.any() else None).view(UTC_MICROSECONDS)


def _pairs(found: Iterator[Any]) -> list[Any]:
    """The headers of each message as the client gives them: pairs or None.

    A name may be any bytes to Kafka, but the client knows UTF-8 only, and raises. The message is not asked again: it
    would give a broken list.
    """
    pairs: list[Any] = []
    while True:
        try:
            pairs.extend(found)
        except (SystemError, UnicodeDecodeError) as error:
            if not isinstance(error.__cause__ or error, UnicodeDecodeError):
                raise
            pairs.append([(UNREADABLE_HEADERS, b"a name among them is not UTF-8")])
        else:
            return pairs


def _headers(found: list[Any]) -> pa.Array:
    rows = len(found)
    counts = np.fromiter((0 if one is None else len(one) for one in found), np.int32, rows)
    if not counts.any():
        return pa.nulls(rows, HEADERS_TYPE)
    flat = [pair for one in found if one for pair in one]
    ends = np.zeros(rows + 1, np.int32)
    np.cumsum(counts, out=ends[1:])
    pairs = pa.StructArray.from_arrays(
        [pa.array([name for name, _ in flat], pa.string()), pa.array([value for _, value in flat], pa.binary())],
        fields=list(HEADERS_TYPE.value_type),
    )
    none = counts == 0
    return pa.ListArray.from_arrays(
        pa.array(ends), pairs, type=HEADERS_TYPE, mask=pa.array(none) if none.any() else None
    )


def _without_large(
    table: pa.Table, sizes: NDArray[np.int64], record_bytes_max: int
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The table with what is too large left out, and its length and hash told in a header."""
    large = set(np.flatnonzero(sizes > record_bytes_max).tolist())
    value_at = RECORD_SCHEMA.get_field_index("value")
    rows = []
    # Without the times: Python has none after the year 9999, and producers that mistake their unit send such.
    told_of = table.select(["key", "value", "headers"])
    for number in sorted(large):
        row = told_of.slice(number, 1).to_pydict()
        value, key, headers = row["value"][0] or b"", row["key"][0], row["headers"][0] or []
        told = {"key": TOO_LARGE, "value": too_large_header(len(value), hashlib.sha256(value).hexdigest())}
        beside = len(key or b"") + sum(len(one["key"]) + len(one["value"] or b"") for one in headers)
        if beside > record_bytes_max:
            key, headers = None, []
        rows.append((number, key, [*headers, told]))
    pieces: list[pa.Table] = []
    done = 0
    for number, key, headers in rows:
        pieces.append(table.slice(done, number - done))
        one = table.slice(number, 1).set_column(value_at, RECORD_SCHEMA.field("value"), pa.nulls(1, pa.binary()))
        one = one.set_column(value_at - 1, RECORD_SCHEMA.field("key"), pa.array([key], pa.binary()))
        pieces.append(one.set_column(value_at + 1, RECORD_SCHEMA.field("headers"), pa.array([headers], HEADERS_TYPE)))
        done = number + 1
    pieces.append(table.slice(done))
    shorter = pa.concat_tables(pieces).combine_chunks()
    return shorter, record_bytes(shorter)


def runs_of(table: pa.Table) -> list[tuple[int, int, int]]:
    """(partition, first row, row after the last) of each run of one partition's records."""
    partitions = table["partition"].to_numpy()
    if not len(partitions):
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(partitions)) + 1]).tolist()
    ends = [*starts[1:], len(partitions)]
    return [(int(partitions[start]), start, end) for start, end in zip(starts, ends, strict=True)]


def oldest(table: pa.Table, arrived: int) -> int:
    """The earliest time of the records in microseconds, at most `arrived`: what one producer dates into the future must
    not wait for that future."""
    first = pc.min(table["timestamp"].cast(pa.int64())).as_py()
    return arrived if first is None else min(int(first), arrived)
