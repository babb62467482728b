"""Merges sorted streams of rows into one, in bounded memory: what compaction writes large files from.

Rows of equal sort keys keep the order of their streams, so merging files in batch order gives the same table whatever
was merged with what before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import MERGE_ROWS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def merge_sorted(streams: Sequence[Iterator[pa.Table]], sort: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of all `streams`, each of which is sorted ascending by `sort` (nulls last), as one sorted stream.

    Memory: two pieces of every stream. Every row comes out exactly once even where a stream is not sorted; only the
    order suffers then.
    """
    waiting = [schema.empty_table() for _ in streams]
    open_streams = [iter(stream) for stream in streams]
    exhausted = [False] * len(streams)
    while True:
        for index, stream in enumerate(open_streams):
            while waiting[index].num_rows == 0 and not exhausted[index]:
                piece = next(stream, None)
                if piece is None:
                    exhausted[index] = True
                else:
                    waiting[index] = piece.select(schema.names).cast(schema)
        filled = [index for index, table in enumerate(waiting) if table.num_rows]
        if not filled:
            return
        if len(filled) == 1:  # the other streams have ended
            yield waiting[filled[0]]
            waiting[filled[0]] = schema.empty_table()
            continue
        ready, waiting = _take_ready(waiting, exhausted, sort)
        yield ready


def sorted_at_once(pieces: Iterator[pa.Table], sort: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of all pieces in the same order as `merge_sorted`, all in memory: much faster where streams overlap."""
    rows = pa.concat_tables(
        [schema.empty_table(), *(piece.select(schema.names).cast(schema) for piece in pieces)]
    ).combine_chunks()
    order = sort_order(rows.select(list(sort)), sort)
    for start in range(0, rows.num_rows, MERGE_ROWS_AT_ONCE):
        yield rows.take(pa.array(order[start : start + MERGE_ROWS_AT_ONCE]))


def _take_ready(waiting: list[pa.Table], exhausted: list[bool], sort: Sequence[str]) -> tuple[pa.Table, list[pa.Table]]:
    """Split off the rows that nothing still unread can come before: up to the earliest last row of an open stream."""
    keys = pa.concat_tables([table.select(list(sort)) for table in waiting])
    order = sort_order(keys, sort)
    ends = np.cumsum([table.num_rows for table in waiting])
    last_rows = [ends[index] - 1 for index, table in enumerate(waiting) if table.num_rows and not exhausted[index]]
    count = len(order)
    if last_rows:
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        count = int(min(rank[last_rows])) + 1
    taken = order[:count]
    ready = pa.concat_tables(waiting).take(pa.array(taken))
    keep = np.ones(len(order), bool)
    keep[taken] = False
    starts = ends - [table.num_rows for table in waiting]
    left = [
        table if keep[start:end].all() else table.filter(pa.array(keep[start:end])).combine_chunks()
        for table, start, end in zip(waiting, starts, ends, strict=True)
    ]
    return ready, left


def sort_order(table: pa.Table, sort: Sequence[str]) -> np.ndarray:
    """The row numbers of `table` in order of `sort`, nulls last; equal rows keep their order."""
    if not sort:
        return np.arange(table.num_rows)
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in sort])
    return np.asarray(order)


def pieces_up_to(tables: Iterator[pa.Table], rows_max: int, bytes_max: int) -> Iterator[pa.Table]:
    """The same rows in pieces of `rows_max` rows, or fewer where those take more than about `bytes_max` bytes."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        start = 0
        row_bytes = max(1, table.nbytes // max(1, table.num_rows))
        while start < table.num_rows:
            room = min(rows_max - rows, max(0, bytes_max - size) // row_bytes)
            if room == 0 and not held:
                room = 1
            if room == 0:
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
                continue
            part = table.slice(start, room)
            held.append(part)
            rows, size, start = rows + part.num_rows, size + part.num_rows * row_bytes, start + part.num_rows
    if held:
        yield pa.concat_tables(held)


def split_stream(pieces: Iterator[pa.Table], bytes_max: int) -> Iterator[Iterator[pa.Table]]:
    """The pieces in runs of at most `bytes_max` bytes of memory, or one piece. Consume each run before the next."""
    first = next(pieces, None)
    while first is not None:
        run = _Run(first, pieces, bytes_max)
        yield run.read()
        first = run.left


class _Run:
    """The pieces from `first` on, as far as they fit; the first that did not is `left`."""

    def __init__(self, first: pa.Table, pieces: Iterator[pa.Table], bytes_max: int) -> None:
        self._first = first
        self._pieces = pieces
        self._bytes_max = bytes_max
        self.left: pa.Table | None = None

    def read(self) -> Iterator[pa.Table]:
        size = self._first.nbytes
        yield self._first
        for piece in self._pieces:
            if size + piece.nbytes > self._bytes_max:
                self.left = piece
                return
            size += piece.nbytes
            yield piece
