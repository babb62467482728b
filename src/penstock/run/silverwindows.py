"""Windows computed from silver's files: for what partials do not hold, in pieces of bounded size.

Reads verify page checksums (`Table.read`), because what is read here is committed to gold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import RECOMPUTE_ROWS_MAX
from penstock.model.columns import WINDOW_START
from penstock.run.rows import micros
from penstock.run.windows import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.engines.contract import Engine
    from penstock.lake.table import DataFile, Table
    from penstock.plan.gold import GoldPlan

CALENDAR_SLACK = 3 * 3_600_000_000
"""Microseconds added to a calendar window's end, so that a clock change never cuts rows off; exact ends are checked."""


class _Range(NamedTuple):
    """Windows that start in [start, end), whose rows lie in [start, rows_end); in microseconds."""

    start: int
    end: int
    rows_end: int


class SilverWindows:
    """Silver rows by event time, and final gold rows made of them."""

    def __init__(self, silver: Table, event_time: str, engine: Engine) -> None:
        self._silver = silver
        self._event_time = event_time
        self._engine = engine

    def rows(self, batch: int, start: int | None, end: int | None) -> Iterator[pa.Table]:
        """Rows of batches up to `batch` with an event time in [start, end) microseconds; None is unbounded."""
        predicate = None
        if start is not None:
            predicate = pc.field(self._event_time) >= micros(start)
        if end is not None:
            before = pc.field(self._event_time) < micros(end)
            predicate = before if predicate is None else predicate & before
        yield from self._silver.read(batches=(1, batch), predicate=predicate)

    def finals(self, plan: GoldPlan, batch: int, start: int | None, end: int) -> Iterator[pa.Table]:
        """Final rows of the windows that start in [start, end), from rows of batches up to `batch`."""
        bounds = self._bounds()
        if bounds is None:
            return
        earliest = plan.first_window_start(bounds[0])
        start = earliest if start is None else max(start, earliest)
        end = min(end, bounds[1] + 1)
        pending = [(start, end)] if start < end else []
        while pending:
            start, end = pending.pop()
            rows_end = plan.window_end(end - 1) + CALENDAR_SLACK
            middle = plan.first_window_start((start + end) // 2)
            if start < middle < end and self._rows_between(start, rows_end) > RECOMPUTE_ROWS_MAX:
                pending += [(middle, end), (start, middle)]
            else:
                yield self._aggregate(plan, batch, [_Range(start, end, rows_end)])

    def finals_touched(self, plan: GoldPlan, batch: int, touched: pa.Table) -> Iterator[pa.Table]:
        """Final rows of all groups in the windows that `touched` names by `window_start`.

        Windows that lie far apart are read range by range, but computed together: a query costs more than few rows do.
        """
        together: list[_Range] = []
        held = 0
        for first, last in _runs(plan, touched):
            piece = _Range(first, last + 1, plan.window_end(last) + CALENDAR_SLACK)
            rows = self._rows_between(piece.start, piece.rows_end)
            if rows > RECOMPUTE_ROWS_MAX:
                yield from self.finals(plan, batch, piece.start, piece.end)
                continue
            if held + rows > RECOMPUTE_ROWS_MAX:
                yield self._aggregate(plan, batch, together)
                together, held = [], 0
            together.append(piece)
            held += rows
        if together:
            yield self._aggregate(plan, batch, together)

    def last_event_time(self) -> int | None:
        """The latest event time in microseconds; None without rows."""
        bounds = self._bounds()
        return None if bounds is None else bounds[1]

    def _aggregate(self, plan: GoldPlan, batch: int, ranges: list[_Range]) -> pa.Table:
        """Final rows of the windows that start in one of the ranges, which share no rows."""
        schema = self._silver.schema
        pieces = (piece for part in ranges for piece in self.rows(batch, part.start, part.rows_end))
        batches = (chunk for piece in pieces for chunk in piece.select(schema.names).to_batches())
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        rows = self._engine.query(plan.recompute_sql, {"rows": reader})
        starts = rows[WINDOW_START].cast(pa.int64()).to_numpy()
        lows, ends = np.array([[part.start, part.end] for part in ranges], np.int64).T
        at = lows.searchsorted(starts, side="right") - 1
        return rows.filter(pa.array((at >= 0) & (starts < ends[at])))

    def _bounds(self) -> tuple[int, int] | None:
        bounds = [self._file_bounds(file) for file in self._silver.files() if file.rows]
        return (min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None

    def _rows_between(self, start: int, end: int) -> int:
        """About how many rows lie in a range of event time, rather too many, from file statistics."""
        total = 0
        for file in self._silver.files():
            low, high = self._file_bounds(file)
            if low < end and high >= start:
                share = (min(high, end) - max(low, start) + 1) / (high - low + 1)
                total += int(file.rows * min(1.0, 2 * share)) + 1
        return total

    def _file_bounds(self, file: DataFile) -> tuple[int, int]:
        return file.stats.get(self._event_time, (-ALWAYS, ALWAYS))


def _runs(plan: GoldPlan, touched: pa.Table) -> Iterator[tuple[int, int]]:
    """The first and the last start of the windows in `touched` that follow each other closely; in order of time, and so
    far apart that no two share rows."""
    starts = np.unique(touched[WINDOW_START].cast(pa.int64()).to_numpy())
    first = last = int(starts[0])
    for start in starts[1:].tolist():
        if start > plan.window_end(last) + CALENDAR_SLACK:
            yield first, last
            first = start
        last = start
    yield first, last
