"""Times: formats, zones, folds and gaps, against zoneinfo and strptime."""

from __future__ import annotations

import datetime as dt
import json
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from penstock.plan.localtimes import instants
from plan import oracle
from plan.refining import column, pipeline, refine

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "UTC")
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - local


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(["earlier", "later"]),
    st.lists(
        st.one_of(
            st.datetimes(dt.datetime(1975, 1, 1), dt.datetime(2090, 1, 1)),  # noqa: DTZ001
            st.builds(
                lambda day, minutes: day + dt.timedelta(minutes=minutes),
                st.sampled_from(
                    [dt.datetime(2026, *day) for day in ((3, 29), (10, 25), (3, 8), (11, 1), (4, 5), (10, 4))]  # noqa: DTZ001
                ),
                st.integers(0, 300),
            ),
        ),
        min_size=1,
        max_size=30,
    ),
)
def test_local_times_are_instants_as_zoneinfo_has_them(zone: str, fold: str, moments: list[dt.datetime]) -> None:
    declared = column("t", "timestamp", timezone=zone, fold=fold)
    size = len(moments)
    found = instants(
        pa.array([(moment - EPOCH) // dt.timedelta(microseconds=1) for moment in moments]).cast(pa.timestamp("us")),
        pa.array([zone] * size),
        pa.array([fold == "later"] * size),
    )
    for moment, micros in zip(moments, found.cast(pa.int64()).to_pylist(), strict=True):
        try:
            assert micros == oracle.zoned(moment, declared), moment
        except oracle.Misfit:
            assert micros is None, moment


def test_no_rows_and_no_times() -> None:
    nothing = instants(pa.array([], pa.timestamp("us")), pa.array([], pa.string()), pa.array([], pa.bool_()))
    assert nothing.to_pylist() == []
    absent = instants(pa.array([None], pa.timestamp("us")), pa.array(["Europe/Berlin"]), pa.array([False]))
    assert absent.to_pylist() == [None]


def test_gaps_fail_and_overlaps_follow_fold() -> None:
    declared = pipeline(
        column("first", "timestamp", "t", timezone="Europe/Berlin"),
        column("last", "timestamp", "t", timezone="Europe/Berlin", fold="later"),
        column("read", "timestamp", "f", timezone="Europe/Berlin", format="%d.%m.%Y %H:%M"),
    )
    rows = refine(
        declared,
        b'{"t":"2026-10-25 02:30:00","f":"25.10.2026 02:30"}',
        b'{"t":"2026-03-29 02:30:00","f":"29.3.2026 02:30"}',
        b'{"t":"2026-10-25T02:30:00Z","f":"25.10.2026 02:30 "}',
        b'{"t":"2400-07-01 12:00","f":"epoch"}',
    )
    utc = dt.UTC
    assert [rows[0][name] for name in ("first", "last", "read")] == [
        dt.datetime(2026, 10, 25, 0, 30, tzinfo=utc),
        dt.datetime(2026, 10, 25, 1, 30, tzinfo=utc),
        dt.datetime(2026, 10, 25, 0, 30, tzinfo=utc),
    ]
    assert [row["_failed"] for row in rows] == [
        [], ["type:first", "type:last", "type:read"], ["type:read"], ["type:read"],
    ]  # fmt: skip
    assert rows[2]["first"] == dt.datetime(2026, 10, 25, 2, 30, tzinfo=utc)
    assert rows[3]["first"] == dt.datetime(2400, 7, 1, 10, tzinfo=utc)


@pytest.mark.parametrize(
    ("kind", "text_format", "good", "wanted", "bad"),
    [
        ("date", "%d/%m/%Y", ["03/02/2026", "3/2/2026"], "2026-02-03", ["2026-02-03", "31/02/2026", " 03/02/2026", "epoch"]),
        ("date", "%Y-%m-%d %H", ["2026-02-03 00"], "2026-02-03", ["2026-02-03 01", "2026-02-03"]),
        ("date", "%Y%m%d", [20260203, "20260203"], "2026-02-03", [20260232, True]),
        ("timestamp", "%Y-%m-%d %H:%M:%S.%f", ["2026-02-03 04:05:06.7"], "2026-02-03T04:05:06.700000+00:00",
         ["2026-02-03 04:05:06.1234567", "infinity"]),
        ("timestamp", "%Y-%m-%d %H:%M:%S.%n", ["2026-02-03 04:05:06.700000000"], "2026-02-03T04:05:06.700000+00:00",
         ["2026-02-03 04:05:06.700000001"]),
        ("timestamp", "%d/%b/%Y:%H:%M:%S %z", ["03/Feb/2026:04:05:06 -0130"], "2026-02-03T05:35:06+00:00", ["03/Feb/2026:04:05:06"]),
        ("timestamp", "%%%Y 'x' %j", ["%2026 'x' 034"], "2026-02-03T00:00:00+00:00", ["2026 'x' 034"]),
    ],
)  # fmt: skip
def test_formats(kind: str, text_format: str, good: list[object], wanted: str, bad: list[object]) -> None:
    declared = pipeline(column("t", kind, format=text_format))
    rows = refine(declared, *[json.dumps({"t": text}).encode() for text in (*good, *bad)])
    assert [row["t"].isoformat() for row in rows[: len(good)]] == [wanted] * len(good)
    assert [row["_failed"] for row in rows[len(good) :]] == [["type:t"]] * len(bad)


def test_zones_have_changed_and_the_table_knows() -> None:
    # Lebanon, Morocco and others decide late; what matters is that both sides read the same table.
    moment = dt.datetime(2022, 10, 2, 12, tzinfo=ZoneInfo("America/Asuncion"))
    row = refine(pipeline(column("t", "timestamp", timezone="America/Asuncion")), b'{"t":"2022-10-02 12:00:00"}')[0]
    assert row["t"] == moment
