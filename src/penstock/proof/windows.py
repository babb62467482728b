"""Which windows a time lies in, as SQL, worked out from `model.Window` alone. `recompute.py` groups by what this gives.

Windows of exact length are arithmetic on microseconds. Calendar windows start at local midnight: the local day of an
event comes roughly from DuckDB's time zones; which window it is in, the instants of the midnights decide, from tzdata.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
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

_CYCLE_DAYS = 146_097
_FIRST_DAY = date(2, 1, 1).toordinal() - _EPOCH_DAY
_LAST_DAY = date(9998, 1, 1).toordinal() - _EPOCH_DAY

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
        # One slot more on both sides: DuckDB's zones are another edition, and clocks go back over midnight.
        return (
            f'SELECT r.*, c.start_micros AS "{START}", c.end_micros AS "{END}" '
            f'FROM (SELECT *, {slot} AS "$slot" FROM {rows}) r, '
            f"(SELECT unnest(range(-1, {self._steps + 1})) AS step) s, {CALENDAR} c "
            f'WHERE c.slot = r."$slot" - s.step AND c.start_micros <= r."{TIME}" AND c.end_micros > r."{TIME}"'
        )

    def local_day(self, instant: str) -> str:
        """SQL for the days since 1970 that a clock in the windows' zone shows at an instant."""
        local = f"timezone({text_literal(self.window.timezone)}, {instant})"
        return f"(CAST({local} AS DATE) - DATE '1970-01-01')"

    def calendar(self, days: Iterable[int]) -> pa.Table:
        """The relation CALENDAR for events on these local days."""
        slots: set[int] = set()
        for day in days:
            latest = (day - self._anchor) // self._every_days
            slots.update(range(latest - self._steps, latest + 2))
        zone = _zone(self.window.timezone)
        rows = []
        for slot in sorted(slots):
            first = self._anchor + slot * self._every_days
            start, end = midnight(first, zone), midnight(first + self._size_days, zone)
            # A day that a zone skipped is no window of its own: it would begin with the next one.
            if self._every_days > 1 or start < midnight(first + 1, zone):
                rows.append((slot, start, end))
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        names = ("slot", "start_micros", "end_micros")
        return pa.table({name: pa.array(values, pa.int64()) for name, values in zip(names, columns, strict=True)})

    @property
    def _steps(self) -> int:
        """How many windows a time lies in, at most."""
        return -(-self._size_days // self._every_days)

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
    """The instant at which a local day begins, in microseconds: the earlier of two midnights, and where clocks jump
    over midnight, the instant of the jump."""
    # Python's calendar ends where windows at both ends of it still go on. Zones repeat with it every 400 years.
    cycles = 1 if day < _FIRST_DAY else -1 if day > _LAST_DAY else 0
    day += cycles * _CYCLE_DAYS
    return _midnight(day, zone) - cycles * _CYCLE_DAYS * DAY_MICROS


def _midnight(day: int, zone: ZoneInfo) -> int:
    local = datetime.combine(date.fromordinal(day + _EPOCH_DAY), datetime.min.time())
    offset, other = (_offset(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    instant = day * DAY_MICROS - offset
    if other <= offset:
        return instant
    # Midnight does not exist: look for the jump between the two readings of it.
    low, high = day * DAY_MICROS - other, instant
    while high - low > 1:
        middle = (low + high) // 2
        at = _offset((_EPOCH + timedelta(microseconds=middle)).astimezone(zone))
        low, high = (middle, high) if at == offset else (low, middle)
    return high


def _offset(local: datetime) -> int:
    return (local.utcoffset() or timedelta()) // timedelta(microseconds=1)


@cache
def _zone(name: str) -> ZoneInfo:
    """The zone by the tzdata package, whatever edition the machine has."""
    file = importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    with file.open("rb") as stream:
        return ZoneInfo.from_file(stream, key=name)
