"""Streaming merges and Z-order: every row once, in order, whatever the pieces."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.lake.merge import merge_sorted, pieces_up_to, sorted_at_once, split_stream
from penstock.lake.zorder import ZOrder, interleaved, ranked

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = pa.schema([("time", pa.int64()), ("by", pa.float64()), ("row", pa.int64())])
SORT = ["time", "by"]
values = st.tuples(
    st.one_of(st.none(), st.integers(0, 4)), st.one_of(st.none(), st.sampled_from([0.5, 1.5, math.nan, math.inf]))
)


def key(row: tuple[int | None, float | None]) -> tuple[object, ...]:
    time, by = row
    nan = by is not None and math.isnan(by)
    return (time is None, time or 0, by is None, nan, 0.0 if by is None or nan else by)


def pieces(table: pa.Table, size: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, size):
        yield table.slice(start, size)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(values, max_size=12), max_size=5), st.integers(1, 4))
def test_a_merge_is_the_stable_sort_of_all_rows(files: list[list[tuple[int | None, float | None]]], size: int) -> None:
    numbered, tables = [], []
    for rows in files:
        rows = sorted(rows, key=key)
        base = len(numbered)
        numbered += [(*row, base + index) for index, row in enumerate(rows)]
        data = [dict(zip(SCHEMA.names, row, strict=True)) for row in numbered[base:]]
        tables.append(pa.Table.from_pylist(data, schema=SCHEMA))
    wanted = [row[2] for row in sorted(numbered, key=lambda row: key(row[:2]))]
    streams = [pieces(table, size) for table in tables]
    assert [row["row"] for part in merge_sorted(streams, SORT, SCHEMA) for row in part.to_pylist()] == wanted
    every = (piece for table in tables for piece in pieces(table, size))
    assert [row["row"] for part in sorted_at_once(every, SORT, SCHEMA) for row in part.to_pylist()] == wanted


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=4), st.integers(1, 3))
def test_a_merge_of_unsorted_streams_loses_no_row(files: list[list[int]], size: int) -> None:
    schema = pa.schema([("time", pa.int64())])
    streams = [pieces(pa.table({"time": pa.array(rows, pa.int64())}), size) for rows in files]
    merged = [row["time"] for part in merge_sorted(streams, ["time"], schema) for row in part.to_pylist()]
    assert sorted(merged) == sorted(value for rows in files for value in rows)


def test_a_merge_reads_no_further_than_it_must() -> None:
    read = []

    def stream(name: str, start: int) -> Iterator[pa.Table]:
        for index in range(100):
            read.append(name)
            yield pa.table({"time": [start + index]})

    merged = merge_sorted([stream("a", 0), stream("b", 1000)], ["time"], pa.schema([("time", pa.int64())]))
    next(merged)
    assert read == ["a", "b"]


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 20), st.integers(8, 200))
def test_pieces_are_bounded(sizes: list[int], rows_max: int, bytes_max: int) -> None:
    tables = [pa.table({"v": pa.array(range(size), pa.int64())}) for size in sizes]
    parts = list(pieces_up_to(iter(tables), rows_max, bytes_max))
    assert [v for part in parts for v in part["v"].to_pylist()] == [v for size in sizes for v in range(size)]
    expected = max(1, min(rows_max, bytes_max // 8))
    assert all(part.num_rows == expected for part in parts[:-1])
    assert all(0 < part.num_rows <= expected for part in parts[-1:])


@given(st.lists(st.integers(1, 30), max_size=8), st.integers(8, 400))
def test_a_stream_splits_into_runs(sizes: list[int], bytes_max: int) -> None:
    tables = [pa.table({"v": pa.array(range(size), pa.int64())}) for size in sizes]
    runs = [[piece.num_rows for piece in run] for run in split_stream(iter(tables), bytes_max)]
    assert [size for run in runs for size in run] == sizes
    assert all(len(run) == 1 or sum(run) * 8 <= bytes_max for run in runs)
    for run, following in itertools.pairwise(runs):
        assert (sum(run) + following[0]) * 8 > bytes_max


def test_interleaving_takes_turns() -> None:
    ranks = [np.array([0b11, 0b00, 0b10], np.uint64), np.array([0b00, 0b11, 0b01], np.uint64)]
    assert interleaved(ranks, 2).tolist() == [0b1010, 0b0101, 0b1001]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.string(), pa.decimal128(29, 2), pa.timestamp("us", "UTC"), pa.float64()]
)
def test_ranks_follow_the_order_of_any_type(kind: pa.DataType) -> None:
    numbers = pa.array([5, 1, None, 3, 3, 9], pa.int64())
    column = pa.chunked_array([numbers.cast(kind)])
    boundaries = pa.array([1, 3, 5], pa.int64()).cast(kind)
    assert ranked(column, boundaries).tolist() == [3, 1, 3, 2, 2, 3]


@given(st.lists(st.tuples(st.integers(-5, 5), st.text("ab", max_size=2)), min_size=1, max_size=30))
def test_a_higher_value_in_every_column_has_a_higher_key(rows: list[tuple[int, str]]) -> None:
    table = pa.table({"a": [row[0] for row in rows], "b": [row[1] for row in rows]})
    keys = ZOrder.sampled(table, ["a", "b"]).keys(table).tolist()
    for left, left_key in zip(rows, keys, strict=True):
        for right, right_key in zip(rows, keys, strict=True):
            if left[0] < right[0] and left[1] < right[1]:
                assert left_key < right_key
            if left == right:
                assert left_key == right_key
