"""Partial aggregates of one gold table in memory: open windows, and recently closed ones for late rows.

Open state beyond its bound is dropped: windows that start before `silver_floor` are then computed from silver when they
close. Gold tables whose measures have no partials live below the floor for ever. `gold.py` decides what closes when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import CLOSED_WINDOWS_CACHED_MAX, OPEN_WINDOWS_MAX
from penstock.model.columns import WINDOW_START
from penstock.run.rows import micros

if TYPE_CHECKING:
    from penstock.engines.contract import Engine
    from penstock.plan.gold import GoldPlan

ALWAYS = 1 << 62
"""A floor above every time: nothing is kept in memory."""

MERGE_ROWS_MIN = 50_000
"""Pieces are merged when they hold this many rows, or twice as many as after the last merge."""


class Partials:
    """A growing set of partial aggregates, merged lazily."""

    def __init__(self, plan: GoldPlan, engine: Engine) -> None:
        self._plan = plan
        self._engine = engine
        self._pieces: list[pa.Table] = []
        self._merged_rows = 0

    @property
    def rows(self) -> int:
        return sum(piece.num_rows for piece in self._pieces)

    def add(self, partials: pa.Table) -> None:
        if partials.num_rows:
            self._pieces.append(partials)
            if self.rows > max(2 * self._merged_rows, MERGE_ROWS_MIN):
                self.merged()

    def merged(self) -> pa.Table | None:
        """Everything, one row per window and group; None when there is nothing."""
        if not self._pieces:
            return None
        if len(self._pieces) > 1:
            self._replace(merge(self._plan, self._engine, pa.concat_tables(self._pieces)))
        return self._pieces[0] if self._pieces else None

    def unmerged(self) -> pa.Table | None:
        """Everything, perhaps several rows per window and group; None when there is nothing."""
        return pa.concat_tables(self._pieces) if self._pieces else None

    def take_before(self, start: int) -> pa.Table | None:
        """Remove and return the windows that start before `start` (microseconds), perhaps in several rows each; None
        for nothing."""
        taken, kept = [], []
        for piece in self._pieces:
            early = pc.less(piece[WINDOW_START], micros(start))
            taken.append(piece.filter(early))
            kept.append(piece.filter(pc.invert(early)))
        found = [piece for piece in taken if piece.num_rows]
        if not found:
            return None
        self._pieces = [piece for piece in kept if piece.num_rows]
        return pa.concat_tables(found)

    def last_start(self) -> int | None:
        """The latest window start, in microseconds."""
        starts = [pc.max(piece[WINDOW_START]).cast(pa.int64()).as_py() for piece in self._pieces]
        return max(starts, default=None)

    def clear(self) -> None:
        self._pieces, self._merged_rows = [], 0

    def _replace(self, merged: pa.Table) -> None:
        self._pieces = [merged] if merged.num_rows else []
        self._merged_rows = merged.num_rows


class OpenWindows:
    """The open windows of a gold table, in at most OPEN_WINDOWS_MAX partial aggregates."""

    def __init__(self, plan: GoldPlan, engine: Engine) -> None:
        self._partials = Partials(plan, engine)
        self.silver_floor = -ALWAYS if plan.mergeable else ALWAYS

    def add(self, partials: pa.Table) -> None:
        """Take partials of open windows; those below the floor are silver's business."""
        if self.silver_floor > -ALWAYS:
            partials = partials.filter(pc.greater_equal(partials[WINDOW_START], micros(self.silver_floor)))
        self._partials.add(partials)
        if self._partials.rows > OPEN_WINDOWS_MAX:
            self._partials.merged()
        if self._partials.rows > OPEN_WINDOWS_MAX:
            last = self._partials.last_start()
            self.silver_floor = self.silver_floor if last is None else last + 1
            self._partials.clear()

    def take_before(self, start: int) -> pa.Table | None:
        return self._partials.take_before(start)


class ClosedWindows:
    """A bounded cache of complete partials of closed windows; the earliest windows are evicted first."""

    def __init__(self, plan: GoldPlan, engine: Engine) -> None:
        self._partials = Partials(plan, engine)

    def add(self, partials: pa.Table) -> None:
        self._partials.add(partials)
        while self._partials.rows > CLOSED_WINDOWS_CACHED_MAX:
            table = self._partials.merged()
            if table is None or table.num_rows <= CLOSED_WINDOWS_CACHED_MAX:
                return
            starts = np.sort(table[WINDOW_START].cast(pa.int64()).to_numpy())
            keep_from = int(starts[-(CLOSED_WINDOWS_CACHED_MAX // 2)])
            kept = table.filter(pc.greater(table[WINDOW_START], micros(keep_from)))
            self._partials.clear()
            self._partials.add(kept)

    def all(self) -> pa.Table | None:
        """What is known, with several rows for a window that late rows have touched; None for nothing."""
        return self._partials.unmerged()


def merge(plan: GoldPlan, engine: Engine, partials: pa.Table) -> pa.Table:
    """One row per window and group."""
    return engine.query(plan.merge_sql, {"partials": partials}).cast(partials.schema)
