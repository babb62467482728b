"""Gold's files stay apart when late rows correct the newest windows again and again."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.limits import GOLD_RUNS_MAX
from penstock.model.columns import WINDOW_START
from penstock.run.goldfiles import parted


def rows_at(starts: list[int]) -> pa.Table:
    times = pa.array(np.array(starts, np.int64)).view(pa.timestamp("us", tz="UTC"))
    return pa.table({WINDOW_START: times, "row": pa.array(range(len(starts)), pa.int64())})


def starts_of(tables: list[pa.Table]) -> list[list[int]]:
    return [table[WINDOW_START].cast(pa.int64()).to_pylist() for table in tables]


@pytest.mark.parametrize(
    ("touched", "runs", "others"),
    [
        ([6], [[1, 2, 3, 4, 5]], [6, 7, 8]),
        ([9], [[1, 2, 3, 4, 5, 6, 7, 8]], []),
        ([0], [[1, 2, 3, 4, 5, 6, 7, 8]], []),
        ([2, 3, 7], [[4, 5, 6]], [1, 2, 3, 7, 8]),
        ([], [[1, 2, 3, 4, 5, 6, 7, 8]], []),
    ],
)
def test_long_runs_are_apart_from_what_is_near(touched: list[int], runs: list[int], others: list[int]) -> None:
    found = parted(rows_at([8, 2, 1, 3, 4, 6, 5, 7]), np.array(touched, np.int64), 3)
    assert (starts_of(found[0]), starts_of([found[1]])) == (runs, [others])


def test_what_is_near_does_not_hold_the_whole_file_in_memory() -> None:
    runs, others = parted(rows_at(list(range(10_000))), np.array([5_000], np.int64), 100)
    assert [run.num_rows for run in runs] == [5_000, 4_999]
    assert others.get_total_buffer_size() < 1_000


@pytest.mark.parametrize("every", [2, 5, 100, 1_000])
def test_a_file_falls_into_few_runs(every: int) -> None:
    rows = rows_at(list(range(20_000)))
    runs, others = parted(rows, np.arange(0, 20_000, every), 4)
    assert len(runs) <= GOLD_RUNS_MAX
    assert sum(run.num_rows for run in runs) + others.num_rows == 20_000
    assert len(parted(rows, np.arange(0, 20_000, 4_000), 4)[0]) == 5


@given(st.lists(st.integers(0, 30), max_size=60), st.sets(st.integers(-2, 32)), st.integers(1, 20))
def test_every_row_is_in_one_piece(starts: list[int], touched: set[int], run_rows: int) -> None:
    runs, others = parted(rows_at(starts), np.array(sorted(touched), np.int64), run_rows)
    rows = [row for table in (*runs, others) for row in table["row"].to_pylist()]
    assert sorted(rows) == list(range(len(starts)))
    assert all(run.num_rows >= run_rows for run in runs)
    assert touched.isdisjoint(itertools.chain.from_iterable(starts_of(runs)))
