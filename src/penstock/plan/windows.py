"""Windows of time, as SQL and as the same arithmetic in Python; `gold.py` groups by what this gives.

Windows of exact length are arithmetic on microseconds since the epoch. Days and weeks in UTC are too, aligned to
1970-01-01 and to Monday. In any other zone they begin at local midnight, found in the table of `zones.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import check
from penstock.model.columns import WINDOW_START
from penstock.model.pipeline import SpanUnit
from penstock.plan.zones import ALWAYS, CYCLE_DAY, CYCLE_DAYS, CYCLE_MICROS, CYCLE_SINCE, DAY_MICROS, Zone, zone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.model.pipeline import Span, Window

TIME = "_time"
"""The column of event times in microseconds that `place` reads."""

WINDOW = "_window"
"""The column of window starts in microseconds that `place` adds. User columns never begin with an underscore."""

END = "_window_end"
"""The column of window ends in microseconds that `with_ends` adds."""

_MONDAY_DAYS = -3
"""1969-12-29, the Monday that weeks are counted from, in days since 1970."""
_UTC = ("UTC", "Etc/UTC")


def windowing(window: Window) -> ExactWindows | LocalWindows:
    """The arithmetic of a declared window."""
    size, every = window.size, window.every
    exact = SpanUnit.MICROSECOND in (size.unit, every.unit)
    if exact or window.timezone in _UTC:
        check(window.timezone in _UTC, f"windows shorter than a day in {window.timezone}")
        anchor = _MONDAY_DAYS * DAY_MICROS if every.unit is SpanUnit.WEEK else 0
        return ExactWindows(_micros(size), _micros(every), anchor)
    anchor_days = _MONDAY_DAYS if every.unit is SpanUnit.WEEK else 0
    return LocalWindows(
        _micros(size) // DAY_MICROS, _micros(every) // DAY_MICROS, anchor_days, window.timezone, zone(window.timezone)
    )


@dataclass(frozen=True)
class ExactWindows:
    """Windows of `size` microseconds, one starting every `every` from `anchor` on, in both directions of time."""

    size: int
    every: int
    anchor: int

    def place(self, rows: str) -> str:
        """SQL of `rows` (a relation with TIME) with WINDOW added, each row once for every window it lies in."""
        shifted = f"({TIME} - ({self.anchor}))" if self.anchor else TIME
        # The remainder of a negative number is negative: it is put right, because windows begin before 1970 too.
        latest = f"{TIME} - (({shifted} % {self.every} + {self.every}) % {self.every})"
        if self.size == self.every:
            return f"SELECT *, {latest} AS {WINDOW} FROM {rows}"
        starts = f"range({latest}, {TIME} - {self.size}, -{self.every})"
        return f"SELECT *, unnest({starts}) AS {WINDOW} FROM {rows}"

    def with_ends(self, rows: str) -> str:
        """A relation: `rows` (with `window_start`) and WINDOW_END, the windows' ends in microseconds."""
        return f"(SELECT *, epoch_us({WINDOW_START}) + {self.size} AS {END} FROM {rows})"

    def latest_start(self, micros: int) -> int:
        """The start of the last window that begins at or before an instant."""
        return micros - (micros - self.anchor) % self.every

    def window_end(self, start: int) -> int:
        """The end of the window that starts at `start` (of any other instant: of the last window begun by then)."""
        return self.latest_start(start) + self.size

    def first_window_start(self, after: int) -> int:
        """The start of the first window that ends after an instant."""
        return self.latest_start(after - self.size) + self.every

    def last_window_end(self, micros: int) -> int:
        """The end of the last window that holds an instant."""
        return self.window_end(micros)


@dataclass(frozen=True)
class LocalWindows:
    """Windows of `size_days` local days, one beginning every `every_days` from day `anchor_days` on."""

    size_days: int
    every_days: int
    anchor_days: int
    timezone: str
    zone: Zone

    def place(self, rows: str) -> str:
        """As `ExactWindows.place`. A row's local day comes from the last clock change before it, a window's start from
        the last one before its first day."""
        days = self._with_day(rows, TIME)
        if self.size_days == self.every_days:
            first = f"SELECT *, {self._latest('_zone_local')} AS _zone_first FROM ({days})"
        else:
            steps = f"range({self._latest('_zone_local')}, _zone_local - {self.size_days}, -{self.every_days})"
            first = f"SELECT *, unnest({steps}) AS _zone_first FROM ({days})"
            if self.every_days == 1 and self.zone.skipped:
                # A day that never was begins when the next one does: as a window of its own it would be that one twice.
                first = f"SELECT * FROM ({first}) WHERE _zone_first NOT IN ({_numbers(self.zone.skipped)})"
        return self._with_instant(first, "_zone_first", WINDOW, "_zone_local, _zone_first")

    def with_ends(self, rows: str) -> str:
        """As `ExactWindows.with_ends`."""
        days = self._with_day(rows, f"epoch_us({WINDOW_START})")
        last = f"SELECT *, {self._latest('_zone_local')} + {self.size_days} AS _zone_after FROM ({days})"
        return f"({self._with_instant(last, '_zone_after', END, '_zone_local, _zone_after')})"

    def _with_day(self, rows: str, micros: str) -> str:
        """SQL of `rows` with `_zone_local`, the local day of `micros`."""
        cycles = f"greatest(0, ({micros} - {CYCLE_SINCE}) // {CYCLE_MICROS})"
        within = f"({micros} - {cycles} * {CYCLE_MICROS})"
        day = f"greatest(z._zone_day, {_floor(f'({within} + z._zone_offset)', DAY_MICROS)}) + {cycles} * {CYCLE_DAYS}"
        return (
            f"SELECT r.*, {day} AS _zone_local\n"
            f"FROM {rows} AS r ASOF JOIN {self._changes_by_time()} AS z ON {within} >= z._zone_since"
        )

    def _with_instant(self, rows: str, day: str, name: str, without: str) -> str:
        """SQL of the query `rows` with the start of the local day `day` as `name`, and `without` some columns."""
        cycles = f"greatest(0, ({day} - {CYCLE_DAY}) // {CYCLE_DAYS})"
        within = f"({day} - {cycles} * {CYCLE_DAYS})"
        start = f"CASE WHEN z._zone_day = {within} THEN z._zone_start ELSE {within} * {DAY_MICROS} - z._zone_offset END"
        return (
            f"SELECT r.* EXCLUDE ({without}), least({start}, z._zone_until) + {cycles} * {CYCLE_MICROS} AS {name}\n"
            f"FROM ({rows}) AS r ASOF JOIN {self._changes_by_day()} AS z ON {within} >= z._zone_day"
        )

    def _latest(self, day: str) -> str:
        """SQL of the first day of the last window begun by a local day."""
        return (
            f"({_floor(f'({day} - ({self.anchor_days}))', self.every_days)} * {self.every_days} + ({self.anchor_days}))"
        )

    def latest_start(self, micros: int) -> int:
        return self.zone.day_start(self._latest_day(micros))

    def window_end(self, start: int) -> int:
        return self.zone.day_start(self._latest_day(start) + self.size_days)

    def first_window_start(self, after: int) -> int:
        first = self._aligned(self.zone.local_day(after) - self.size_days) - self.every_days
        while self.zone.day_start(first + self.size_days) <= after:
            first += self.every_days
        return self.zone.day_start(first)

    def last_window_end(self, micros: int) -> int:
        return self.window_end(micros)

    def _latest_day(self, micros: int) -> int:
        return self._aligned(self.zone.local_day(micros))

    def _aligned(self, day: int) -> int:
        return day - (day - self.anchor_days) % self.every_days

    def _changes_by_time(self) -> str:
        """The table of changes, one row each."""
        changes = self.zone.changes
        return _unnested(
            _zone_since=(change.since for change in changes),
            _zone_offset=(change.offset for change in changes),
            _zone_day=(change.day for change in changes),
        )

    def _changes_by_day(self) -> str:
        """The last change of each day, and when the next one comes."""
        changes = self.zone.changes
        ends = [change.since for change in changes[1:]] + [-ALWAYS]
        last = [
            (change, end)
            for index, (change, end) in enumerate(zip(changes, ends, strict=True))
            if index + 1 == len(changes) or changes[index + 1].day != change.day
        ]
        return _unnested(
            _zone_day=(change.day for change, _ in last),
            _zone_offset=(change.offset for change, _ in last),
            _zone_start=(change.day_start for change, _ in last),
            _zone_until=(end for _, end in last),
        )


def _micros(span: Span) -> int:
    """The length of a span, days taken as 24 hours."""
    factor = {SpanUnit.MICROSECOND: 1, SpanUnit.DAY: DAY_MICROS, SpanUnit.WEEK: 7 * DAY_MICROS}[span.unit]
    return span.count * factor


def _floor(number: str, divisor: int) -> str:
    """SQL of the floored quotient; DuckDB's // rounds towards zero."""
    return f"(({number} - (({number} % {divisor} + {divisor}) % {divisor})) // {divisor})"


def _unnested(**columns: Iterable[int]) -> str:
    """A relation of number columns, each given whole."""
    items = ", ".join(f"unnest([{_numbers(values)}]::BIGINT[]) AS {name}" for name, values in columns.items())
    return f"(SELECT {items})"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
