"""A time zone as a table of clock changes: which local day an instant lies in, and when a local day begins.

The table comes from the tzdata package, the same on every machine, and is used twice: as Python here, and as rows that
window SQL joins (`windows.py`), so that both give the same windows. DuckDB's own zones are older and differ.

From 2100 on, rules repeat with the Gregorian calendar every 400 years (146,097 days, whole weeks); the table holds one
such cycle and later times are moved back into it.
"""

from __future__ import annotations

import importlib.resources
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

DAY_MICROS = 86_400_000_000
CYCLE_DAYS = 146_097
CYCLE_MICROS = CYCLE_DAYS * DAY_MICROS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
CYCLE_DAY = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH).days
"""The day number at which the repeating cycle begins: no zone has one-off changes planned after it."""
CYCLE_SINCE = CYCLE_DAY * DAY_MICROS
ALWAYS = -(1 << 62)
"""Before every time there is."""

_FIRST_CHANGE = (datetime(1800, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Clocks showed the sun's local time until the 1840s."""
_STEP = 4 * DAY_MICROS
"""Between two looks at a zone's offset. No zone ever changed and changed back within it."""


@dataclass(frozen=True)
class Change:
    """From the instant `since` on clocks show UTC + `offset` (microseconds), until the next change.

    `day` is the local day in which the change falls, `day_start` the instant that day began. Where clocks jump over
    midnight the day begins at the jump; where they go back over it, the day that has begun goes on.
    """

    since: int
    offset: int
    day: int
    day_start: int


@dataclass(frozen=True)
class Zone:
    """A zone's changes in order of time; the first reaches back for ever."""

    changes: tuple[Change, ...]
    skipped: tuple[int, ...]
    """Local days that never were, because clocks jumped over the date line."""

    def local_day(self, micros: int) -> int:
        """Days since 1970 of the local day in which an instant lies."""
        cycles = max(0, (micros - CYCLE_SINCE) // CYCLE_MICROS)
        within = micros - cycles * CYCLE_MICROS
        change = self.changes[bisect_right(self.changes, within, key=lambda each: each.since) - 1]
        return max(change.day, (within + change.offset) // DAY_MICROS) + cycles * CYCLE_DAYS

    def day_start(self, day: int) -> int:
        """The instant at which a local day begins, in microseconds; of a skipped day, when the next one does."""
        cycles = max(0, (day - CYCLE_DAY) // CYCLE_DAYS)
        within = day - cycles * CYCLE_DAYS
        index = bisect_right(self.changes, within, key=lambda each: each.day) - 1
        change = self.changes[index]
        start = change.day_start if change.day == within else within * DAY_MICROS - change.offset
        if index + 1 < len(self.changes):
            start = min(start, self.changes[index + 1].since)
        return start + cycles * CYCLE_MICROS


@cache
def zone(name: str) -> Zone:
    """The zone of an IANA name, e.g. `Europe/Paris`.

    Raises:
        LookupError: the tzdata package has no such zone.
    """
    changes = [Change(ALWAYS, _offsets(name)(_FIRST_CHANGE), ALWAYS // DAY_MICROS, ALWAYS)]
    skipped: list[int] = []
    for since, offset in _changes(name):
        before = changes[-1]
        last_day = max(before.day, (since - 1 + before.offset) // DAY_MICROS)
        last_start = before.day_start if last_day == before.day else last_day * DAY_MICROS - before.offset
        day = (since + offset) // DAY_MICROS
        if day > last_day:
            skipped += range(last_day + 1, day)
            changes.append(Change(since, offset, day, since))
        else:
            changes.append(Change(since, offset, last_day, last_start))
    return Zone(tuple(changes), tuple(skipped))


def _offsets(name: str):  # type: ignore[no-untyped-def]
    """A function from an instant (microseconds) to the zone's offset (microseconds)."""
    file = importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    if ".." in name or not file.is_file():
        raise LookupError(f"no time zone {name!r}")
    with file.open("rb") as stream:
        info = ZoneInfo.from_file(stream, key=name)

    def offset(micros: int) -> int:
        shown = (_EPOCH + timedelta(microseconds=micros)).astimezone(info).utcoffset() or timedelta()
        return shown // _MICROSECOND

    return offset


def _changes(name: str) -> list[tuple[int, int]]:
    """(instant, new offset) of each change, from 1800 to the end of one cycle."""
    offset_at = _offsets(name)
    found = []
    low, low_offset = _FIRST_CHANGE, offset_at(_FIRST_CHANGE)
    while low < CYCLE_SINCE + CYCLE_MICROS + 2 * DAY_MICROS:
        high = low + _STEP
        high_offset = offset_at(high)
        if high_offset != low_offset:
            for change in _between(low, high, offset_at):
                found.append((change, offset_at(change)))
        low, low_offset = high, high_offset
    return found


def _between(low: int, high: int, offset_at) -> list[int]:  # type: ignore[no-untyped-def]
    """The instants in (low, high] at which the offset changes, as far as the offsets at both ends differ."""
    before, after = low, high
    while after - before > 1:
        middle = (before + after) // 2
        if offset_at(middle) == offset_at(before):
            before = middle
        else:
            after = middle
    rest = _between(after, high, offset_at) if offset_at(after) != offset_at(high) else []
    return [after, *rest]
