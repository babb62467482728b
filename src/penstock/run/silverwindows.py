"""Windows computed from silver's files: for what partials do not hold, in pieces of bounded size.

Reads verify page checksums (`Table.read`), because what is read here is committed to gold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
                yield self._aggregate(plan, batch, start, end, rows_end)

    def finals_touched(self, plan: GoldPlan, batch: int, touched: pa.Table) -> Iterator[pa.Table]:
        """Final rows of all groups in the windows that `touched` names by `window_start`."""
        starts = pc.unique(touched[WINDOW_START]).cast(pa.int64()).to_numpy(zero_copy_only=False)
        run: list[int] = []
        for start in sorted(starts.tolist()):
            if run and start > plan.window_end(run[-1]):
                yield from self.finals(plan, batch, run[0], run[-1] + 1)
                run = []
            run.append(start)
        if run:
            yield from self.finals(plan, batch, run[0], run[-1] + 1)

    def last_event_time(self) -> int | None:
        """The latest event time in microseconds; None without rows."""
        bounds = self._bounds()
        return None if bounds is None else bounds[1]

    def _aggregate(self, plan: GoldPlan, batch: int, start: int, end: int, rows_end: int) -> pa.Table:
        pieces = self.rows(batch, start, rows_end)
        schema = self._silver.schema
        batches = (part for piece in pieces for part in piece.select(schema.names).to_batches())
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        rows = self._engine.query(plan.recompute_sql, {"rows": reader})
        starts = rows[WINDOW_START]
        return rows.filter(pc.and_(pc.greater_equal(starts, micros(start)), pc.less(starts, micros(end))))

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
