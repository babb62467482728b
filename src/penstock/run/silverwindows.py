"""Windows computed from silver's files: for what partials do not hold, in pieces of bounded size.

Reads verify page checksums (`Table.read`), because what is read here is committed to gold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import PenstockError
from penstock.lake.reading import Condition
from penstock.limits import RECOMPUTE_ROWS_MAX
from penstock.model.columns import WINDOW_START
from penstock.run.rows import micros
from penstock.run.windows import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from penstock.engines.contract import Engine
    from penstock.lake.table import DataFile, Table
    from penstock.plan.gold import GoldPlan


class _Range(NamedTuple):
    """Windows that start in [start, end), whose rows lie in [start, rows_end); in microseconds."""

    start: int
    end: int
    rows_end: int


class SilverWindows:
    """Silver rows by event time, and windows made of them: `sql` makes one row per window and group of silver rows."""

    def __init__(self, silver: Table, event_time: str, engine: Engine) -> None:
        self._silver = silver
        self._event_time = event_time
        self._engine = engine

    def rows_since(self, plan: GoldPlan, batch: int, start: int | None) -> Iterator[pa.Table]:
        """What the plan reads of batches up to `batch`, in rows with an event time from `start` (microseconds) on."""
        condition = None
        if start is not None:
            condition = Condition((self._event_time,), pc.field(self._event_time) >= micros(start))
        yield from self._silver.read(columns=plan.reads, batches=(1, batch), condition=condition)

    def between(self, plan: GoldPlan, sql: str, batch: int, start: int | None, end: int) -> Iterator[pa.Table]:
        """The windows that start in [start, end), from rows of batches up to `batch`."""
        spread = self._spread()
        if spread is None:
            return
        earliest = plan.first_window_start(spread.first)
        start = earliest if start is None else max(start, earliest)
        end = min(end, spread.last + 1)
        pending = [(start, end)] if start < end else []
        while pending:
            start, end = pending.pop()
            rows_end = plan.window_end(end - 1)
            middle = plan.first_window_start((start + end) // 2)
            if start < middle < end and spread.rows_between(start, rows_end) > RECOMPUTE_ROWS_MAX:
                pending += [(middle, end), (start, middle)]
            else:
                yield self._aggregate(plan, sql, batch, [_Range(start, end, rows_end)], spread)

    def touched(self, plan: GoldPlan, sql: str, batch: int, touched: pa.Table) -> Iterator[pa.Table]:
        """All groups of the windows that `touched` names by `window_start`.

        Windows that lie far apart are ranges of one pass over the files and of one query, as far as memory allows.
        """
        spread = self._spread()
        if spread is None:
            return
        together: list[_Range] = []
        held = 0
        for part in _runs(plan, touched):
            rows = spread.rows_between(part.start, part.rows_end)
            if rows > RECOMPUTE_ROWS_MAX:
                yield from self.between(plan, sql, batch, part.start, part.end)
                continue
            if held + rows > RECOMPUTE_ROWS_MAX:
                yield self._aggregate(plan, sql, batch, together, spread)
                together, held = [], 0
            together.append(part)
            held += rows
        if together:
            yield self._aggregate(plan, sql, batch, together, spread)

    def last_event_time(self) -> int | None:
        """The latest event time in microseconds; None without rows."""
        spread = self._spread()
        return None if spread is None else spread.last

    def _aggregate(self, plan: GoldPlan, sql: str, batch: int, ranges: list[_Range], spread: _Spread) -> pa.Table:
        """The windows that start in one of the ranges, which share no rows and are in order."""
        lows, ends, rows_ends = np.array(ranges, np.int64).T
        event_time = pc.field(self._event_time)
        condition = Condition(
            (self._event_time,),
            (event_time >= micros(ranges[0].start)) & (event_time < micros(ranges[-1].rows_end)),
            lambda rows: _lies_in(rows[self._event_time], lows, rows_ends),
        )
        files = spread.files_with(lows, rows_ends)
        pieces = self._silver.read(columns=plan.reads, batches=(1, batch), condition=condition, files=files)
        schema = pa.schema([self._silver.schema.field(name) for name in plan.reads])
        stream = _Stream(pieces)
        try:
            windows = self._engine.query(sql, {"rows": pa.RecordBatchReader.from_batches(schema, stream.batches())})
        except Exception:
            if stream.error is not None:
                raise stream.error from None
            raise
        return windows.filter(pa.array(_lies_in(windows[WINDOW_START], lows, ends)))

    def _spread(self) -> _Spread | None:
        """None without rows."""
        files = [file for file in self._silver.files() if file.rows]
        if not files:
            return None
        bounds = [file.stats.get(self._event_time, (-ALWAYS, ALWAYS)) for file in files]
        lows, highs = np.array(bounds, np.int64).T
        return _Spread(files, lows, highs, np.array([file.rows for file in files], np.int64))


class _Stream:
    """Pieces for a query to read. What reading them raises is kept: the query raises something of its own instead."""

    def __init__(self, pieces: Iterator[pa.Table]) -> None:
        self._pieces = pieces
        self.error: PenstockError | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for piece in self._pieces:
                yield from piece.to_batches()
        except PenstockError as error:
            self.error = error
            raise


class _Spread(NamedTuple):
    """How silver's rows lie in time, by the statistics of its files: event times in microseconds, and rows."""

    files: list[DataFile]
    lows: NDArray[np.int64]
    highs: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def first(self) -> int:
        return int(self.lows.min())

    @property
    def last(self) -> int:
        return int(self.highs.max())

    def rows_between(self, start: int, end: int) -> int:
        """About how many rows lie in [start, end), rather too many."""
        lies_in = (self.lows < end) & (self.highs >= start)
        lows, highs = self.lows[lies_in].astype(float), self.highs[lies_in].astype(float)
        share = (np.minimum(highs, end) - np.maximum(lows, start) + 1) / (highs - lows + 1)
        return int(np.ceil(self.rows[lies_in] * np.minimum(1.0, 2 * share)).sum())

    def files_with(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[DataFile]:
        """The files that may have rows in one of the ranges [start, end), which are in order and apart."""
        after = ends.searchsorted(self.lows, side="right")  # the first range that ends after the file's first row
        begins = np.append(starts, ALWAYS)[after]
        return [file for file, lies_in in zip(self.files, begins <= self.highs, strict=True) if lies_in]


def _lies_in(times: pa.ChunkedArray, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each time whether it is in one of the ranges [start, end), which are in order and apart. NULL is in none."""
    micros_of = pc.fill_null(times.cast(pa.int64()), -ALWAYS).to_numpy()
    at = starts.searchsorted(micros_of, side="right") - 1
    found: NDArray[np.bool_] = (at >= 0) & (micros_of < ends[at])
    return found


def _runs(plan: GoldPlan, touched: pa.Table) -> Iterator[_Range]:
    """The windows in `touched`, in order of time, as ranges that share no rows; what follows each other is one."""
    starts = np.unique(touched[WINDOW_START].cast(pa.int64()).to_numpy()).tolist()
    first = last = starts[0]
    for start in starts[1:]:
        end = plan.window_end(last)
        if start > end:
            yield _Range(first, last + 1, end)
            first = start
        last = start
    yield _Range(first, last + 1, plan.window_end(last))
