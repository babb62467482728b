"""Which windows a time lies in, as SQL, worked out from `model.Window` alone. `recompute.py` groups by what this gives.

Windows of exact length are arithmetic on microseconds. Calendar windows start at local midnight: the local day of an
event comes from DuckDB's time zones, the instants of the midnights from Python's, so that each checks the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa

from penstock.model.pipeline import SpanUnit
from penstock.proof.syntax import text_literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.model.pipeline import Span, Window

DAY_MICROS = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MONDAY = -3
"""The day number of the Monday of the epoch's week: 1969-12-29."""

START, END = "$start", "$end"
TIME = "$time"
"""Columns in microseconds since the epoch; a dollar sign keeps them apart from any column a user can declare."""

CALENDAR = "calendar"
"""The relation of calendar windows: `slot`, `start_micros`, `end_micros`."""


@dataclass(frozen=True)
class WindowSql:
    """SQL of the windows of a gold table."""

    window: Window

    @property
    def is_calendar(self) -> bool:
        return self.window.every.unit is not SpanUnit.MICROSECOND

    @property
    def reach_micros(self) -> int:
        """No window is longer than this; a calendar day may be a day longer where a zone skips one."""
        return span_micros(self.window.size) + (2 * DAY_MICROS if self._has_days else 0)

    @property
    def _has_days(self) -> bool:
        return SpanUnit.MICROSECOND not in (self.window.size.unit, self.window.every.unit)

    def place(self, rows: str) -> str:
        """SQL that adds START and END to the rows of `rows` (which has TIME), once for every window a row lies in."""
        if self.is_calendar:
            return self._place_by_calendar(rows)
        every, size = span_micros(self.window.every), span_micros(self.window.size)
        latest = f'("{TIME}" - ((("{TIME}" % {every}) + {every}) % {every}))'
        if size == every:
            return f'SELECT *, {latest} AS "{START}", {latest} + {size} AS "{END}" FROM {rows}'
        steps = -(-size // every)
        return (
            f'SELECT *, {latest} - step * {every} AS "{START}", {latest} - step * {every} + {size} AS "{END}" '
            f'FROM {rows}, (SELECT unnest(range({steps})) AS step) WHERE {latest} - step * {every} + {size} > "{TIME}"'
        )

    def _place_by_calendar(self, rows: str) -> str:
        every, anchor = self._every_days, self._anchor
        day = self.local_day(f'make_timestamptz("{TIME}")')
        slot = f"CAST(floor(({day} - ({anchor})) / {every}.0) AS BIGINT)"
        steps = -(-self._size_days // every)
        return (
            f'SELECT r.*, c.start_micros AS "{START}", c.end_micros AS "{END}" '
            f'FROM (SELECT *, {slot} AS "$slot" FROM {rows}) r, '
            f"(SELECT unnest(range({steps})) AS step) s, {CALENDAR} c "
            f'WHERE c.slot = r."$slot" - s.step AND c.start_micros <= r."{TIME}" AND c.end_micros > r."{TIME}"'
        )

    def local_day(self, instant: str) -> str:
        """SQL for the days since 1970 that a clock in the windows' zone shows at an instant."""
        local = f"timezone({text_literal(self.window.timezone)}, {instant})"
        return f"(CAST({local} AS DATE) - DATE '1970-01-01')"

    def calendar(self, days: Iterable[int]) -> pa.Table:
        """The relation CALENDAR for events on these local days."""
        slots: set[int] = set()
        steps = -(-self._size_days // self._every_days)
        for day in days:
            latest = (day - self._anchor) // self._every_days
            slots.update(range(latest - steps, latest + 2))
        ordered = sorted(slots)
        first_days = [self._anchor + slot * self._every_days for slot in ordered]
        zone = ZoneInfo(self.window.timezone)
        return pa.table(
            {
                "slot": pa.array(ordered, pa.int64()),
                "start_micros": pa.array([midnight(day, zone) for day in first_days], pa.int64()),
                "end_micros": pa.array([midnight(day + self._size_days, zone) for day in first_days], pa.int64()),
            }
        )

    @property
    def _every_days(self) -> int:
        return span_micros(self.window.every) // DAY_MICROS

    @property
    def _size_days(self) -> int:
        return span_micros(self.window.size) // DAY_MICROS

    @property
    def _anchor(self) -> int:
        return _MONDAY if self.window.every.unit is SpanUnit.WEEK else 0


def span_micros(span: Span) -> int:
    """The length of a span in microseconds, days taken as 24 hours."""
    factor = {SpanUnit.MICROSECOND: 1, SpanUnit.DAY: DAY_MICROS, SpanUnit.WEEK: 7 * DAY_MICROS}[span.unit]
    return span.count * factor


def midnight(day: int, zone: ZoneInfo) -> int:
    """The instant at which a local day begins, in microseconds: the earlier of two midnights, and where a change of the
    clock skips midnight, the instant of the change."""
    try:
        local = datetime.combine(date.fromordinal(day + _EPOCH_DAY), datetime.min.time())
    except (ValueError, OverflowError):
        return day * DAY_MICROS  # before the year 1 or after 9999, where no event is
    offset = local.replace(tzinfo=zone).utcoffset() or timedelta()
    return day * DAY_MICROS - offset // timedelta(microseconds=1)
