"""The witness and the compiler were written apart from the same contract: here each is held against the other.

What they disagree on is a mistake in one of the two, or a meaning nobody has written down.
"""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.lake import layout
from penstock.model.fields import FieldPath
from penstock.model.pipeline import (
    Column,
    CsvFormat,
    Expression,
    Gold,
    JsonFormat,
    Measure,
    Pipeline,
    PushSource,
    Silver,
    Source,
    Span,
    SpanUnit,
    TextFormat,
    Window,
)
from penstock.model.types import ColumnType
from penstock.plan import compile as compile_plan
from penstock.plan.gold import compile_gold
from penstock.plan.windows import TIME as PLAN_TIME
from penstock.plan.windows import WINDOW, windowing
from penstock.proof.events import EventSql
from penstock.proof.gold import GoldCheck
from penstock.proof.report import PipelineReport
from penstock.proof.tables import check_files, take
from penstock.proof.windows import CALENDAR, END, START, TIME, WindowSql
from penstock.proof.witness import Witness
from proof.plain_lake import PlainLake

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MICRO, DAY, WEEK = SpanUnit.MICROSECOND, SpanUnit.DAY, SpanUnit.WEEK
MINUTE = 60_000_000
HOUR = 60 * MINUTE


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    with Witness(threads=1) as made:
        yield made


# -- which events a record holds, and which are selected ---------------------------------------------------------------

VALUES = [
    '{"type":"trade","p":5,"ok":true,"d":[{"p":1,"type":"trade"},{"p":"8"},3,null,{"p":null}],"e":{"x":"y"}}',
    '{"type":"quote","p":"7","ok":"false","n":1.10,"d":[]}',
    '{"type":"trade","p":NaN}',
    '{"type":"trade","p":1,}',
    '{"type":"infantry","p":-inf}',
    '{"type":"info: nan","p":1e2,"a":{"b":[{"c":"z"},{"c":5}]}}',
    '{"p":9,"ok":true,"n":1.10,"d":{"p":1}}',
    '{"p":12345678901234567890,"n":"1.10","big":0.1}',
    '{"p":true,"type":null,"ok":null,"d":[1]}',
    '{"p":[1],"type":{"a":1},"d":[{"p":3,"e":{"x":"n"}}],"e":{"x":"y"}}',
    '{"type":"tr\\u0061de","p":" 7"}',
    '{"p":1,"p":9,"type":"trade"}',
    '["a"]',
    "5",
    "null",
    "bad",
    "",
    ' {"type":"trade","p":6.5} ',
    '{"type":"trade"} x',
    '{"a":' + "[" * 600 + "]" * 600 + "}",
    '{"odd name":{"in side":3},"p":0}',
    '{"Type":"trade","P":3}',
]
CONDITIONS = [
    "type = 'trade'",
    "type <> 'trade'",
    "p > 6",
    "p = 7",
    "p between 5 and 8 or ok",
    "not ok",
    "ok = true",
    "ok is null",
    "n = '1.10'",
    "n = 1.1",
    "a.b[0].c = 'z'",
    "a.b[1].c + 1 = 6",
    "type in ('trade', 'quote') and not (p is null)",
    "p in (5, 9)",
    "abs(p) >= 7 and length(type) > 2",
    "lower(type) like 'tr%'",
    "coalesce(p, 0) > 6",
    "case when ok then p > 1 else p > 6 end",
    "p::int64 > 6",
    "p::float64 / 0 > 1",
    "type is distinct from 'trade'",
    "p = n",
    "p > '6'",
    '"odd name"."in side" = 3',
    "_key = 'k'",
    "_headers.h = '1'",
    "e.x = 'y' and p < 100",
    "type",
    "true",
    "regexp_matches(type, '^tr')",
    "substr(type, 1, 2) || 'x' = 'trx'",
    "p % 2 = 1",
    "-p < -6",
    "greatest(p, 3) = 3",
]


def bronze(values: Sequence[str | bytes | None], header: bytes | None = None) -> pa.Table:
    count = len(values)
    given_headers = [{"key": "h", "value": b"1"}] + ([] if header is None else [{"key": "csv.header", "value": header}])
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    schema = layout.bronze_spec("any").schema
    moment = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * count, layout.TIME)
    return pa.table(
        {
            "_source": pa.array([1] * count, pa.int32()),
            "_partition": pa.array([0] * count, pa.int32()),
            "_offset": pa.array(range(count), pa.int64()),
            "_timestamp": moment,
            "_ingested_at": moment,
            "key": pa.array([b"k"] * count, pa.binary()),
            "value": pa.array(raw, pa.binary()),
            "headers": pa.array([given_headers] * count, schema.field("headers").type),
        }
    )


def by_plan(source: Source, records: pa.Table) -> dict[tuple[int, int], bool]:
    silver = Silver("t", (Column("c", ColumnType("string"), path=FieldPath(("c",))),))
    plan = compile_plan(Pipeline("t", source, silver), {})
    engine = EmbeddedEngine(threads=1, memory_bytes=1 << 29)
    try:
        rows = records.append_column("_row", pa.array(range(records.num_rows), pa.int64()))
        engine.register(plan.refine)
        events = engine.refine(plan.refine, rows, {})
        return {(row["_row"], row["_index"]): row["_status"] != 2 for row in events.to_pylist()}
    finally:
        engine.close()


def by_witness(witness: Witness, source: Source, records: pa.Table) -> dict[tuple[int, int], bool]:
    reading = EventSql(source, witness)
    with witness.registered("some_records", records):
        counts = {row["_offset"]: row["events"] for row in witness.rows(reading.counts("some_records"))}
        if source.where is None:
            return {(offset, index): True for offset, count in counts.items() for index in range(count)}
        found = {
            (row["_offset"], row["_index"]): row["chosen"] for row in witness.rows(reading.selected("some_records"))
        }
    assert {offset: sum(1 for other, _ in found if other == offset) for offset in counts} == counts
    return found


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_same_events_of_json_are_selected(witness: Witness, condition: str) -> None:
    source = Source(PushSource(), JsonFormat(), where=Expression(condition))
    records = bronze([*VALUES, None, b"\xff{}"])
    assert by_witness(witness, source, records) == by_plan(source, records)


@pytest.mark.parametrize("condition", [None, "p > 2", "^.e.x = 'y'", "^.p > 4 and p is not null", "type = 'trade'"])
def test_the_same_events_of_lists_are_selected(witness: Witness, condition: str | None) -> None:
    where = None if condition is None else Expression(condition)
    source = Source(PushSource(), JsonFormat(), records=FieldPath(("d",)), where=where)
    records = bronze([*VALUES, None])
    found = by_witness(witness, source, records)
    assert found == by_plan(source, records)
    assert len(found) > len(VALUES)


@pytest.mark.parametrize("condition", ["b > 3", "a = 'x,y'", "c is null", "\"d\" = 'NA' or a = ''", "a = 'say \"hi\"'"])
@pytest.mark.parametrize("with_header", [True, False])
def test_the_same_events_of_csv_are_selected(witness: Witness, condition: str, with_header: bool) -> None:
    lines = [
        '"x,y",4,NA',
        'x,"3",',
        '"say ""hi""",9,c',
        '"broken,1,2',
        'a"b,5,c',
        "1,2",
        "1,2,3,4",
        "",
        '"a\nb",4,\r\n',
        ",,",
    ]
    form = CsvFormat(with_header, ",", '"', ("NA",), () if with_header else ("a", "b", "c"))
    source = Source(PushSource(), form, where=Expression(condition))
    records = bronze([*lines, b"\xff,1,2", None], "\ufeffa, b ,c\r\n".encode() if with_header else None)
    assert by_witness(witness, source, records) == by_plan(source, records)


@pytest.mark.parametrize("condition", ["level = 'warn'", "j.p > 3", "p > 3", "j is null", "zip = 'no'"])
def test_the_same_events_of_text_are_selected(witness: Witness, condition: str) -> None:
    form = TextFormat(r"(?P<level>[a-z(]+)\[?(\d*)\]? ?(?P<j>.*)", json="j")
    lines = [
        'warn {"p":5}',
        'info[7] {"p":1}',
        "warn ",
        "warn",
        'warn {"p":5,}',
        "warn [1]",
        "WARN {}",
        'warn {"p":"4"}',
        "warn nope",
    ]
    source = Source(PushSource(), form, where=Expression(condition))
    records = bronze([*lines, None])
    assert by_witness(witness, source, records) == by_plan(source, records)


# -- windows -----------------------------------------------------------------------------------------------------------

ZONES = [
    *("UTC", "Europe/Berlin", "America/Havana", "America/Sao_Paulo", "America/St_Johns", "Pacific/Apia"),
    *("America/Toronto", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Kiritimati"),
]
SPANS = [
    (Span(1, DAY), Span(1, DAY)),
    (Span(1, WEEK), Span(1, WEEK)),
    (Span(2, DAY), Span(2, DAY)),
    (Span(3, DAY), Span(1, DAY)),
    (Span(1, WEEK), Span(1, DAY)),
    (Span(2, WEEK), Span(1, WEEK)),
    (Span(5, DAY), Span(2, DAY)),
]


PAIRS = [(zone, SPANS[(number + step) % len(SPANS)]) for number, zone in enumerate(ZONES) for step in (0, 3)]
"""Each zone with two kinds of windows, each kind with several zones."""


@pytest.mark.parametrize(("zone", "spans"), [*PAIRS, ("Pacific/Apia", (Span(3, DAY), Span(1, DAY)))], ids=str)
def test_days_and_weeks_are_the_same_windows(witness: Witness, zone: str, spans: tuple[Span, Span]) -> None:
    window = Window(spans[0], spans[1], zone)
    seeded = random.Random(f"{zone} {spans}")
    start, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1900, 2045))
    times = [seeded.randrange(start, end) * 1_000_000 + seeded.randrange(1_000_000) for _ in range(1500)]
    # Around midnight in the zone, clocks change: look there closely.
    for year in (1919, 1942, 1987, 2006, 2011, 2018, 2023, 2024):
        base = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        times += [(base + 900 * seeded.randrange(366 * 96) + seeded.choice((-1, 0, 1))) * 1_000_000 for _ in range(700)]
    compare_windows(witness, window, times)


def compare_windows(witness: Witness, window: Window, times: list[int]) -> None:
    mine, theirs = WindowSql(window), windowing(window)
    table = pa.table({TIME: pa.array(times, pa.int64()), PLAN_TIME: pa.array(times, pa.int64())})
    with witness.registered("times", table):
        calendar = pa.table({"slot": pa.array([], pa.int64())})
        if mine.is_calendar:
            day = mine.local_day(f'make_timestamptz("{TIME}")')
            days = witness.arrays(f"SELECT DISTINCT CAST({day} AS BIGINT) AS day FROM times")["day"]
            calendar = mine.calendar(days.tolist())
        with witness.registered(CALENDAR, calendar):
            found = witness.rows(f'SELECT "{TIME}" AS t, "{START}" AS s, "{END}" AS e FROM ({mine.place("times")})')
        placed = f"(SELECT *, make_timestamptz({WINDOW}) AS window_start FROM ({theirs.place('times')}))"
        wanted = witness.rows(
            f"SELECT {PLAN_TIME} AS t, {WINDOW} AS s, _window_end AS e FROM {theirs.with_ends(placed)}"
        )
    key = lambda row: (row["t"], row["s"], row["e"])  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, wanted))


@settings(max_examples=40, deadline=None)
@given(
    every=st.integers(1, 5 * HOUR),
    times=st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=20),
    steps=st.integers(1, 5),
    rest=st.integers(0, 10**6),
)
def test_exact_windows_are_the_same_windows(every: int, times: list[int], steps: int, rest: int) -> None:
    size = every * steps + (rest % every if steps > 1 else 0)
    with Witness(threads=1) as witness:
        compare_windows(witness, Window(Span(size, MICRO), Span(every, MICRO)), times)


# -- gold --------------------------------------------------------------------------------------------------------------

TYPES = {
    "symbol": "string",
    "at": "timestamp",
    "sequence": "int64",
    "price": "decimal(18,8)",
    "long": "decimal(38,4)",
    "fine": "decimal(38,30)",
    "size": "int64",
    "small": "int8",
    "level": "float64",
    "single": "float32",
    "ok": "boolean",
    "day": "date",
    "note": "string",
}
MEASURES = {
    "rows": "count()",
    "notes": "count(note)",
    "different": "count_distinct(note)",
    "total": "sum(size)",
    "tiny": "sum(small)",
    "paid": "sum(price)",
    "huge": "sum(long)",
    "exact": "sum(fine)",
    "sum_level": "sum(level)",
    "least": "min(price)",
    "most": "max(note)",
    "latest_day": "max(day)",
    "opened": "first(price)",
    "closed": "last(note)",
    "mean": "avg(size)",
    "mean_long": "avg(long)",
    "mean_level": "avg(level)",
    "spread": "stddev(level)",
    "middle": "quantile(level, 0.3)",
    "vwap": "sum(price * size) / sum(size)",
    "range": "max(price) - min(price)",
    "twice": "range * 2 + rows",
    "some": "count() filter (where ok)",
    "some_total": "sum(size) filter (where size > 0 and not ok)",
    "overflowing": "sum(size * 1000000000000)",
    "after_overflow": "coalesce(overflowing, 0)",
    "failing": "sum(note::int64)",
    "filter_failing": "count() filter (where note::int64 > 0)",
    "ratio": "sum(level) / count() filter (where ok)",
    "by_nothing": "1 / (rows - rows)",
    "share": "count() filter (where ok) * 100 // count()",
    "shown": "symbol",
    "narrow": "max(size::int8)",
    "when_last": "last(at)",
    "some_ifs": "case when sum(size) > 0 then 'up' else 'down' end",
    "times": "sum(price * price)",
}

_amounts = st.one_of(st.none(), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
_levels = st.one_of(st.none(), st.floats(-1e6, 1e6), st.floats(allow_nan=False, allow_infinity=False))


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal | None]:
    """Decimals of a type; half of them are as large as it holds."""
    large = 10**precision - 1
    whole = st.one_of(st.integers(-1000, 1000), st.integers(-large, large))
    return st.one_of(st.none(), whole.map(lambda number: Decimal(f"{number}E-{scale}")))


_row = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "B", None]),
        "at": st.integers(-3 * HOUR, 3 * HOUR),
        "sequence": st.one_of(st.none(), st.integers(0, 3)),
        "price": _decimals(18, 8),
        "long": _decimals(38, 4),
        "fine": _decimals(38, 30),
        "size": _amounts,
        "small": st.one_of(st.none(), st.integers(-128, 127)),
        "level": _levels,
        "single": st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)),
        "ok": st.sampled_from([True, False, None]),
        "day": st.sampled_from([None, datetime(2026, 1, 1, tzinfo=UTC).date()]),
        "note": st.sampled_from([None, "x", "y", "5", "-7", ""]),
    }
)
WINDOWS = [
    Window(Span(HOUR, MICRO), Span(HOUR, MICRO)),
    Window(Span(90 * MINUTE, MICRO), Span(HOUR, MICRO)),
    Window(Span(1, DAY), Span(1, DAY), "America/Havana"),
]


def silver_table(rows: list[dict[str, object]]) -> pa.Table:
    columns = [(name, ColumnType.parse(text)) for name, text in TYPES.items()]
    spec = layout.silver_spec("ticks", columns, "at")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    whole = [
        {
            **row,
            "at": epoch + timedelta(microseconds=row["at"]),  # type: ignore[arg-type]
            "_source": 1,
            "_partition": 0,
            "_offset": number,
            "_index": 0,
            "_batch": 1,
            "_flags": ["odd"] if number % 5 == 4 else [],
        }
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(whole, schema=spec.file_schema)


def check_gold(folder: Path, gold: Gold, rows: list[dict[str, object]], spoil: float = 0.0) -> PipelineReport:
    """Compile a gold table, compute it from the rows, and let the witness check that."""
    columns = [(name, ColumnType.parse(text)) for name, text in TYPES.items()]
    declared = Silver("ticks", (), event_time="at", order=("sequence",))
    table = silver_table(rows)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("rows", table)
    computed = connection.sql(compile_gold(gold, columns, declared).recompute_sql).to_arrow_table()
    computed = computed.drop_columns(["_overflows"]).append_column(
        "_batch", pa.array([1] * computed.num_rows, pa.int64())
    )
    if spoil:
        index = computed.column_names.index("sum_level")
        computed = computed.set_column(index, "sum_level", pa.compute.multiply(computed.column(index), 1 + spoil))
    lake = PlainLake(folder)
    lake.create(layout.silver_spec("ticks", columns, "at")).append(table)
    fields = {field.name: field for field in computed.schema}
    spec = layout.gold_spec(gold.name, [fields[name] for name in gold.by], [fields[one.name] for one in gold.measures])
    lake.create(spec).append(computed)
    report = PipelineReport()
    with Witness(threads=1) as witness:
        silver, made = (take(lake.held[name], witness) for name in ("silver/ticks", "gold/bars"))  # type: ignore[arg-type]
        check_files([silver, made], 1)
        GoldCheck(witness, gold, declared, silver, made, 1, 1 << 60, 1, None, report).run()
    return report


def bars(window: Window, where: str | None = None) -> Gold:
    measures = tuple(Measure(name, Expression(sql)) for name, sql in MEASURES.items())
    return Gold("bars", window, ("symbol",), measures, None if where is None else Expression(where))


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(_row, min_size=1, max_size=25),
    window=st.sampled_from(WINDOWS),
    where=st.sampled_from([None, "not list_contains(_flags, 'odd')", "note::int64 > 0 or size > 0"]),
)
def test_gold_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], window: Window, where: str | None
) -> None:
    report = check_gold(tmp_path_factory.mktemp("gold"), bars(window, where), rows)
    assert report.violations == [], json.dumps([one.as_json() for one in report.violations], indent=1)


def test_a_spread_whose_squares_vanish_is_no_violation(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"symbol": "A", "at": -3893, "level": 7.733927475860145e-161},
        {"symbol": "A", "at": -1, "level": 0.0},
    ]
    assert check_gold(tmp_path, bars(WINDOWS[0]), rows).violations == []


def test_a_float_sum_may_be_off_by_a_billionth_and_no_more(tmp_path: Path) -> None:
    rows = [{"symbol": "A", "at": number, "level": math.pi * number} for number in range(50)]
    assert check_gold(tmp_path / "a", bars(WINDOWS[0]), rows, spoil=1e-10).violations == []
    (violation,) = check_gold(tmp_path / "b", bars(WINDOWS[0]), rows, spoil=1e-7).violations
    assert violation.message == "has a wrong sum_level"
