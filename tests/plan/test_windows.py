"""Windows as SQL and as Python are the same, and calendar windows are what zoneinfo says a local day is."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.model.pipeline import Span, SpanUnit, Window
from penstock.plan.windows import ExactWindows, LocalWindows, windowing
from penstock.plan.zones import zone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
FIRST = (datetime(1, 2, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST = (datetime(9999, 11, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
ZONES = (
    "Europe/Paris",
    "America/Vancouver",
    "Africa/Casablanca",
    "Pacific/Apia",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
)
CALENDAR = (
    (Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY)),
    (Span(2, SpanUnit.DAY), Span(2, SpanUnit.DAY)),
    (Span(3, SpanUnit.DAY), Span(1, SpanUnit.DAY)),
    (Span(1, SpanUnit.WEEK), Span(1, SpanUnit.WEEK)),
    (Span(2, SpanUnit.WEEK), Span(1, SpanUnit.WEEK)),
)
EXACT = (
    (60_000_000, 60_000_000),
    (300_000_000, 60_000_000),
    (7, 1),
    (DAY * 3, 3_600_000_000),
)


@pytest.fixture(scope="module")
def database():
    connection = duckdb.connect(config={"threads": 1})
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def packaged_zones():
    """zoneinfo prefers the machine's zones, which may be of another year than the package we use."""
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


def placed(database, windows: ExactWindows | LocalWindows, times: list[int]) -> set[tuple[int, int]]:
    """(time, window start) as the SQL says."""
    cursor = database.cursor()
    cursor.register("times", pa.table({"_time": pa.array(sorted(set(times)), pa.int64())}))
    rows = cursor.sql(windows.place("times")).fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


def ends(database, windows: ExactWindows | LocalWindows, starts: list[int]) -> dict[int, int]:
    """Window start -> window end as the SQL says."""
    cursor = database.cursor()
    column = pa.array(starts, pa.int64()).cast(pa.timestamp("us", "UTC"))
    cursor.register("starts", pa.table({"window_start": column}))
    relation = windows.with_ends("starts")
    return dict(cursor.sql(f"SELECT epoch_us(window_start), _window_end FROM {relation}").fetchall())


def starts_around(windows: ExactWindows | LocalWindows, time: int) -> list[int]:
    """The starts of all windows that hold a time, walking backwards."""
    found = []
    start = windows.latest_start(time)
    while windows.window_end(start) > time:
        found.append(start)
        start = windows.latest_start(start - 1)
    return found


def check(database, windows: ExactWindows | LocalWindows, times: list[int]) -> None:
    pairs = {(time, start) for time in times for start in starts_around(windows, time)}
    assert placed(database, windows, times) == pairs
    starts = sorted({start for _, start in pairs})
    assert ends(database, windows, starts) == {start: windows.window_end(start) for start in starts}
    for time in times:
        inside = starts_around(windows, time)
        assert windows.first_window_start(time) == min(inside)
        assert windows.last_window_end(time) == max(map(windows.window_end, inside))
        assert windows.window_end(windows.latest_start(windows.first_window_start(time) - 1)) <= time


@given(times=st.lists(st.integers(FIRST, LAST), min_size=1, max_size=20), near=st.lists(st.integers(-9, 9), max_size=9))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize(("size", "every"), EXACT)
def test_exact_windows(database, size, every, times, near):
    windows = windowing(Window(Span(size, SpanUnit.MICROSECOND), Span(every, SpanUnit.MICROSECOND)))
    assert isinstance(windows, ExactWindows)
    check(database, windows, times[: 3 if size > DAY else None] + [every * number for number in near])
    assert all(start % every == 0 for start in starts_around(windows, times[0]))


@pytest.mark.parametrize(("size", "every"), CALENDAR)
def test_calendar_windows_in_utc_are_exact(database, size, every):
    windows = windowing(Window(size, every, "UTC"))
    assert isinstance(windows, ExactWindows)
    times = [FIRST, -1, 0, 1, -4 * DAY, -3 * DAY - 1, -3 * DAY, 4 * DAY, LAST]
    check(database, windows, times)
    if every.unit is SpanUnit.WEEK:
        starts = {start for time in times for start in starts_around(windows, time)}
        assert {(EPOCH + timedelta(microseconds=start)).weekday() for start in starts} == {0}


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(("size", "every"), CALENDAR)
def test_calendar_windows_over_every_kind_of_change(database, name, size, every):
    windows = windowing(Window(size, every, name))
    assert isinstance(windows, LocalWindows)
    changes = [change.since for change in windows.zone.changes[1:]]
    sample = changes[:: max(1, len(changes) // 40)]
    times = [since + shift for since in sample for shift in (-DAY, -1, 0, 1, 3_600_000_000, DAY)]
    check(database, windows, [*times, FIRST, -1, 0, LAST, LAST - 200 * DAY])


@given(times=st.lists(st.one_of(st.integers(FIRST, LAST), st.integers(-2 * 10**15, 5 * 10**15)), min_size=1))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", ["Europe/Paris", "America/Vancouver", "Africa/Casablanca", "Asia/Kolkata"])
def test_local_days_are_those_of_zoneinfo(name, times):
    info = zoneinfo.ZoneInfo(name)
    for time in times:
        local = (EPOCH + timedelta(microseconds=time)).astimezone(info)
        assert zone(name).local_day(time) == local.date().toordinal() - EPOCH.toordinal()


def test_days_of_23_and_25_hours():
    windows = windowing(Window(Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY), "Europe/Paris"))
    for month, day, hours in ((3, 29, 23), (10, 25, 25), (6, 1, 24)):
        start = windows.latest_start((datetime(2026, month, day, 12, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1))
        assert windows.window_end(start) - start == hours * 3_600_000_000


def test_a_day_whose_midnight_is_skipped_begins_at_the_change():
    # Havana goes from 00:00 to 01:00 on 2026-03-08, which is 05:00 UTC.
    windows = windowing(Window(Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY), "America/Havana"))
    change = (datetime(2026, 3, 8, 5, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert windows.latest_start(change + 1) == change
    assert windows.window_end(change) - change == 23 * 3_600_000_000


def test_a_day_that_never_was_has_no_window(database):
    # Samoa had no 30 December 2011.
    for size, every in CALENDAR[:3]:
        windows = windowing(Window(size, every, "Pacific/Apia"))
        change = (datetime(2011, 12, 30, 10, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
        check(database, windows, [change - 1, change, change + DAY // 2, change + DAY, change - DAY])


def test_a_zone_that_is_none():
    with pytest.raises(LookupError):
        zone("Europe/Nowhere")
    with pytest.raises(LookupError):
        zone("../tzdata")
