"""Corrections of gold take bounded memory, however many files they reach into."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.lake.datafile import DataFile, Statistics
from penstock.model.columns import BATCH, WINDOW_START
from penstock.run import gold
from penstock.run.gold import GoldChange, GoldKeeper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILES, ROWS = 20, 1_000


class Files:
    """A gold table of which only the files are there: FILES of ROWS windows each, which follow one another."""

    def __init__(self) -> None:
        schema = rows_at([0]).schema
        self.spec = SimpleNamespace(file_schema=schema)
        self.written: list[pa.Table] = []

    def files(self) -> list[DataFile]:
        bounds = [(ROWS * number, ROWS * (number + 1) - 1) for number in range(FILES)]
        return [
            DataFile(str(number), 1, ROWS, None, 0, Statistics({WINDOW_START: bound}, {WINDOW_START: 0}))
            for number, bound in enumerate(bounds)
        ]

    def read(self, columns: Sequence[str] | None = None, *, files: Sequence[DataFile]) -> Iterator[pa.Table]:
        (file,) = files
        rows = rows_at(list(range(int(file.path) * ROWS, (int(file.path) + 1) * ROWS)))
        yield rows if columns is None else rows.select(list(columns))

    def write(self, rows: pa.Table) -> list[str]:
        self.written.append(rows)
        return ["new"]


def rows_at(starts: Sequence[int]) -> pa.Table:
    times = pa.array(np.array(starts, np.int64)).view(pa.timestamp("us", tz="UTC"))
    return pa.table({WINDOW_START: times, "name": ["x" * 100] * len(starts), BATCH: pa.array([1] * len(starts))})


@pytest.fixture
def keeper() -> GoldKeeper:
    plan: Any = SimpleNamespace(name="g", by=("name",), mergeable=True)
    nothing: Any = None
    table: Any = Files()
    return GoldKeeper(plan, table, nothing, nothing)


def test_keys_of_all_files_are_never_together(keeper: GoldKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gold, "GOLD_KEYS_BYTES_MAX", 300_000)
    looked_at = []
    matches = keeper._matches

    def matched(left: pa.Table, right: pa.Table) -> pa.Array:
        looked_at.append(left.num_rows)
        return matches(left, right)

    monkeypatch.setattr(keeper, "_matches", matched)
    touched = rows_at([7, 1_500, 1_501, 19_999, 30_000])
    existing, files = keeper._locate(touched)
    assert existing[WINDOW_START].cast(pa.int64()).to_pylist() == [7, 1_500, 1_501, 19_999]
    assert [file.path for file in files] == ["0", "1", "19"]
    everywhere = rows_at([ROWS * number for number in range(FILES)])
    looked_at.clear()
    existing, files = keeper._locate(everywhere)
    assert (existing.num_rows, len(files)) == (FILES, FILES)
    assert max(looked_at) <= 3 * ROWS
    assert sum(looked_at) == FILES * ROWS


def test_what_is_near_is_written_as_it_grows(keeper: GoldKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gold, "MERGE_BYTES_MAX", 500_000)
    table: Any = keeper.table
    corrected = rows_at([ROWS * number + 500 for number in range(FILES)]).drop_columns([BATCH])
    near, add = keeper._left_alone(GoldChange(corrected=[corrected], files=table.files()))
    held = sum(rows.nbytes for rows in near)
    assert held <= 500_000
    assert len(add) == len(table.written) > 2
    assert max(rows.nbytes for rows in table.written) < 700_000
    starts = [rows[WINDOW_START].cast(pa.int64()).to_pylist() for rows in (*near, *table.written)]
    left = sorted(start for part in starts for start in part)
    assert left == [start for start in range(FILES * ROWS) if start % ROWS != 500]
