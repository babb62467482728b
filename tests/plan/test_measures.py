"""Gold tables in DuckDB: partials of any split, merged, give what all rows at once give, and what Python computes."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import DeclarationError
from penstock.model.pipeline import Expression, Gold, Measure, Silver, Span, SpanUnit, Window
from penstock.model.types import ColumnType
from penstock.plan.gold import compile_gold, gold_findings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000
ONE_MINUTE = Span(MINUTE, SpanUnit.MICROSECOND)
SILVER = Silver("ticks", (), event_time="at", order=("sequence",))
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
    "blob": "binary",
}
COLUMNS = tuple((name, ColumnType.parse(text)) for name, text in TYPES.items())
SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("sequence", pa.int64()),
        ("price", pa.decimal128(18, 8)),
        ("long", pa.decimal128(38, 4)),
        ("fine", pa.decimal128(38, 30)),
        ("size", pa.int64()),
        ("small", pa.int8()),
        ("level", pa.float64()),
        ("single", pa.float32()),
        ("ok", pa.bool_()),
        ("day", pa.date32()),
        ("note", pa.string()),
        ("blob", pa.binary()),
        ("_source", pa.int32()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_index", pa.int32()),
        ("_timestamp", pa.timestamp("us", "UTC")),
        ("_ingested_at", pa.timestamp("us", "UTC")),
        ("_flags", pa.list_(pa.string())),
        ("_extra", pa.string()),
    ]
)
MEASURES = {
    "rows": "count()",
    "stars": "count(*)",
    "sizes": "count(size)",
    "total_size": "sum(size)",
    "total_small": "sum(small)",
    "total_price": "sum(price)",
    "total_long": "sum(long)",
    "total_fine": "sum(fine)",
    "total_level": "sum(level)",
    "total_single": "sum(single)",
    "value": "sum(price * small)",
    "risky": "sum(size * size)",
    "mean_size": "avg(size)",
    "mean_price": "avg(price)",
    "mean_long": "avg(long)",
    "mean_level": "avg(level)",
    "spread": "stddev(level)",
    "spread_price": "stddev(price)",
    "opening": "first(price)",
    "closing": "last(price)",
    "last_note": "last(note)",
    "first_day": "first(day)",
    "last_ok": "last(ok)",
    "last_blob": "last(blob)",
    "low": "min(price)",
    "high": "max(price)",
    "low_note": "min(note)",
    "high_day": "max(day)",
    "low_blob": "min(blob)",
    "high_at": "max(at)",
    "high_long": "max(long)",
    "range_price": "high - low",
    "per_row": "total_level / rows",
    "per_size": "sum(level) / sum(size)",
    "big": "sum(size) filter (where small > 0)",
    "flagged": "count() filter (where list_contains(_flags, 'odd'))",
    "twice": "range_price * 2",
    "or_zero": "coalesce(sum(size), 0)",
}


def gold(
    measures: dict[str, str],
    *,
    size: Span = ONE_MINUTE,
    every: Span | None = None,
    timezone: str = "UTC",
    by: tuple[str, ...] = ("symbol",),
    where: str | None = None,
) -> Gold:
    return Gold(
        "bars",
        Window(size, every or size, timezone),
        by,
        tuple(Measure(name, Expression(sql)) for name, sql in measures.items()),
        None if where is None else Expression(where),
    )


@pytest.fixture(scope="module")
def database():
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    yield connection
    connection.close()


def run(database: duckdb.DuckDBPyConnection, sql: str, **relations: pa.Table) -> pa.Table:
    cursor = database.cursor()
    for name, table in relations.items():
        # A stream can be read once, as the loop hands silver over.
        cursor.register(name, pa.RecordBatchReader.from_batches(table.schema, table.to_batches()))
    return cursor.sql(sql).to_arrow_table()


def table(rows: list[dict]) -> pa.Table:
    filled = []
    for number, row in enumerate(rows):
        place = {"_source": 1, "_partition": number % 3, "_offset": number // 3, "_index": 0, "sequence": 0}
        filled.append({"at": EPOCH, "_ingested_at": EPOCH, **place, **row})
    return pa.Table.from_pylist(filled, SCHEMA)


def keyed(rows: pa.Table, by: tuple[str, ...] = ("symbol",)) -> dict:
    found = {}
    for row in rows.to_pylist():
        key = (row["window_start"], *(row[name] for name in by))
        assert key not in found, key
        found[key] = row
    return found


def final(database, plan, parts: list[pa.Table]) -> pa.Table:
    """The way over partials: one per part, merged in two steps, final."""
    partials = [run(database, plan.partial_sql, rows=part.select(plan.reads)) for part in parts]
    middle = len(partials) // 2
    halves = [pa.concat_tables(half) for half in (partials[:middle], partials[middle:]) if half]
    merged = [run(database, plan.merge_sql, partials=half).cast(half.schema) for half in halves]
    whole = run(database, plan.merge_sql, partials=pa.concat_tables(merged))
    return run(database, plan.final_sql, partials=whole.cast(merged[0].schema))


def assert_same(left: dict, right: dict, scale: float = 0.0) -> None:
    assert left.keys() == right.keys()
    for key, row in left.items():
        for name, value in row.items():
            other = right[key][name]
            if isinstance(value, float) and isinstance(other, float):
                assert math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9 * scale), (key, name, value, other)
            else:
                assert value == other, (key, name, value, other)


def decimals(digits: int, scale: int) -> st.SearchStrategy:
    bound = 10**digits - 1
    edges = st.sampled_from((bound, -bound, 0, 1))
    return st.one_of(st.integers(-1000, 1000), edges, st.integers(-bound, bound)).map(
        lambda number: Decimal(f"{number}E-{scale}")
    )


def maybe(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), values)


LEVELS = st.one_of(st.integers(-50, 50).map(float), st.floats(-1e6, 1e6))
ROW = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(("a", "b", None)),
        "at": st.integers(-5 * MINUTE, 5 * MINUTE).map(lambda micros: EPOCH + timedelta(microseconds=micros)),
        "sequence": maybe(st.integers(0, 2)),
        "price": maybe(decimals(18, 8)),
        "long": maybe(decimals(38, 4)),
        "fine": maybe(decimals(38, 30)),
        "size": maybe(st.one_of(st.integers(-100, 100), st.sampled_from((2**63 - 1, -(2**63))))),
        "small": maybe(st.integers(-128, 127)),
        "level": maybe(LEVELS),
        "single": maybe(st.integers(-1000, 1000).map(float)),
        "ok": maybe(st.booleans()),
        "day": maybe(st.integers(-1000, 1000).map(lambda days: (EPOCH + timedelta(days=days)).date())),
        "note": maybe(st.sampled_from(("", "x", "y", "ü", "inf", "nan"))),
        "blob": maybe(st.binary(max_size=3)),
        "_flags": st.sampled_from(([], ["odd"], ["odd", "even"])),
    }
)


@given(rows=st.lists(ROW, min_size=1, max_size=25), cuts=st.lists(st.integers(0, 25), max_size=3), hop=st.booleans())
@settings(max_examples=30, deadline=None)
def test_partials_of_any_split_merge_to_what_all_rows_give(database, rows, cuts, hop):
    size = Span(3 * MINUTE if hop else MINUTE, SpanUnit.MICROSECOND)
    plan = compile_gold(gold(MEASURES, size=size, every=Span(MINUTE, SpanUnit.MICROSECOND)), COLUMNS, SILVER)
    everything = table(rows)
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    parts = [everything.slice(low, high - low) for low, high in itertools.pairwise(bounds)]
    recomputed = keyed(run(database, plan.recompute_sql, rows=everything.select(plan.reads)))
    scale = sum(abs(row["level"] or 0) for row in rows) + 1
    assert_same(keyed(final(database, plan, parts)), recomputed, scale)
    windows = run(database, plan.window_sql, rows=everything.select(plan.reads)).to_pylist()
    assert {(row["window_start"], row["symbol"]) for row in windows} == recomputed.keys()
    assert len(windows) == len(recomputed)
    for (start, symbol), row in recomputed.items():
        inside = [
            (number, one)
            for number, one in enumerate(rows)
            if one["symbol"] == symbol and start <= one["at"] < row["window_end"]
        ]
        assert row["window_end"] - start == timedelta(microseconds=size.count)
        check_against_python(row, [one for _, one in inside], [number for number, _ in inside])


def check_against_python(row: dict, inside: list[dict], numbers: list[int]) -> None:
    """Every exact measure of one window, computed again with fractions."""
    assert row["rows"] == row["stars"] == row["_rows"] == len(inside)

    def values(column: str) -> list:
        return [one[column] for one in inside if one[column] is not None]

    failed = set(row["_overflows"])

    def exact(measure: str, total: Fraction, bound: Fraction, *, present: bool) -> None:
        if not present:
            assert row[measure] is None
            assert measure not in failed
        elif not (-bound < total < bound or total == -bound == -(2**63)):
            assert row[measure] is None, (measure, total)
            assert measure in failed
        else:
            assert Fraction(row[measure]) == total
            assert measure not in failed

    for measure, column, bound in (
        ("total_size", "size", 2**63),
        ("total_small", "small", 2**63),
        ("total_price", "price", 10**30),
        ("total_fine", "fine", 10**8),
    ):
        exact(measure, sum(map(Fraction, values(column)), Fraction(0)), Fraction(bound), present=bool(values(column)))
    total = sum(map(Fraction, values("long")), Fraction(0))
    # Within 10^-18 of the type's bound a sum may count as an overflow: its halves are carried apart.
    if not 10**34 - 10**18 < abs(total) < 10**34:
        exact("total_long", total, Fraction(10**34), present=bool(values("long")))
    products = [Fraction(one["price"]) * one["small"] for one in inside if None not in (one["price"], one["small"])]
    if "value" not in failed:
        assert (Fraction(row["value"]) if row["value"] is not None else None) == (sum(products) if products else None)
    squares = [one["size"] ** 2 for one in inside if one["size"] is not None]
    assert ("risky" in failed) == (any(square >= 2**63 for square in squares) or sum(squares) >= 2**63)
    assert row["or_zero"] == (None if "or_zero" in failed else sum(values("size")))
    assert row["flagged"] == sum("odd" in one["_flags"] for one in inside)
    for measure, column, pick in (("low", "price", min), ("high", "price", max), ("low_blob", "blob", min)):
        assert row[measure] == (pick(values(column)) if values(column) else None)
    assert row["low_note"] == (min(values("note"), key=str.encode) if values("note") else None)
    order = [
        (one["at"], one["sequence"] is None, one["sequence"] or 0, number % 3, number // 3, one)
        for number, one in zip(numbers, inside, strict=True)
    ]
    ordered = [entry[-1] for entry in sorted(order, key=lambda entry: entry[:-1])]
    for measure, column, end in (
        ("opening", "price", 0),
        ("closing", "price", -1),
        ("last_note", "note", -1),
        ("first_day", "day", 0),
        ("last_ok", "ok", -1),
        ("last_blob", "blob", -1),
    ):
        present = [one[column] for one in ordered if one[column] is not None]
        assert row[measure] == (present[end] if present else None), measure
    levels = values("level")
    if len(levels) > 1:
        mean = sum(map(Fraction, levels)) / len(levels)
        deviation = math.sqrt(sum((Fraction(level) - mean) ** 2 for level in levels) / (len(levels) - 1))
        assert math.isclose(row["spread"], deviation, rel_tol=1e-9, abs_tol=1e-9 * max(map(abs, levels)))
    else:
        assert row["spread"] is None
    if levels:
        assert math.isclose(row["total_level"], math.fsum(levels), rel_tol=1e-12, abs_tol=1e-12 * sum(map(abs, levels)))


def one_row(database, measures: dict[str, str], rows: list[dict], **options) -> dict:
    plan = compile_gold(gold(measures, by=(), **options), COLUMNS, SILVER)
    recomputed = run(database, plan.recompute_sql, rows=table(rows).select(plan.reads))
    if plan.mergeable:
        over_partials = final(database, plan, [table(rows)])
        assert_same(keyed(over_partials, ()), keyed(recomputed, ()), 1e6)
        assert over_partials.schema == recomputed.schema
    (row,) = recomputed.to_pylist()
    return row


def test_types_of_measures(database):
    plan = compile_gold(
        gold(MEASURES | {"kinds": "count_distinct(note)", "middle": "quantile(size, 0.5)"}), COLUMNS, SILVER
    )
    schema = run(database, plan.recompute_sql, rows=table([])).schema
    expected = {
        "rows": pa.int64(),
        "total_size": pa.int64(),
        "total_small": pa.int64(),
        "total_price": pa.decimal128(38, 8),
        "total_long": pa.decimal128(38, 4),
        "total_fine": pa.decimal128(38, 30),
        "total_level": pa.float64(),
        "total_single": pa.float64(),
        "value": pa.decimal128(38, 8),
        "risky": pa.int64(),
        "mean_price": pa.float64(),
        "spread_price": pa.float64(),
        "opening": pa.decimal128(18, 8),
        "last_note": pa.string(),
        "first_day": pa.date32(),
        "high_at": pa.timestamp("us", "UTC"),
        "low_blob": pa.binary(),
        "per_row": pa.float64(),
        "kinds": pa.int64(),
        "middle": pa.float64(),
        "_rows": pa.int64(),
        "window_start": pa.timestamp("us", "UTC"),
        "window_end": pa.timestamp("us", "UTC"),
    }
    assert {name: schema.field(name).type for name in expected} == expected


def test_a_gold_with_distinct_or_quantile_is_not_mergeable(database):
    rows = [{"note": note, "size": size} for note, size in (("x", 1), ("x", 2), ("y", 3), (None, 10))]
    found = one_row(
        database,
        {"kinds": "count_distinct(note)", "also": "count(distinct note)", "upper": "quantile(size, 0.75)"},
        rows,
    )
    assert (found["kinds"], found["also"], found["upper"]) == (2, 2, 4.75)
    assert not compile_gold(gold({"kinds": "count_distinct(note)"}), COLUMNS, SILVER).mergeable


def test_an_error_in_an_argument_empties_the_measure_and_names_it(database):
    rows = [{"size": 2**62, "note": "5"}, {"size": 2**62, "note": "five"}]
    found = one_row(
        database,
        {
            "square": "sum(size * size)",
            "parsed": "sum(note::int64)",
            "parsed_max": "max(note::int64)",
            "counted": "count(note::int64)",
            "total": "sum(size)",
            "uses": "coalesce(total, 0)",
            "fine": "count()",
            "filtered": "sum(note::int64) filter (where note = '5')",
        },
        rows,
    )
    assert found["_overflows"] == ["square", "parsed", "parsed_max", "counted", "total", "uses"]
    assert [found[name] for name in found["_overflows"]] == [None] * 6
    assert (found["fine"], found["filtered"]) == (2, 5)


def test_what_no_column_can_hold_is_null_and_named(database):
    rows = [{"level": 1.0, "size": 0}, {"level": -1.0, "size": 0}]
    found = one_row(
        database,
        {
            "infinite": "count() / sum(size)",
            "undefined": "sum(level) / sum(size)",
            "modulo": "count() % sum(size)",
            "huge": "sum(level * 1e308 * 10)",
            "text": "'inf'",
        },
        rows,
    )
    assert found["_overflows"] == ["infinite", "undefined", "modulo", "huge"]
    assert found["text"] == "inf"


def test_names_inside_an_aggregate_are_columns_and_outside_measures(database):
    rows = [{"price": Decimal(2), "size": 3}, {"price": Decimal(5), "size": 4}]
    found = one_row(database, {"price": "max(price)", "size": "price * 2", "both": "sum(size) + size"}, rows)
    assert (found["price"], found["size"], found["both"]) == (5, 10, 17)


def test_by_columns_may_stand_in_measures(database):
    plan = compile_gold(gold({"label": "symbol || '/' || count()"}), COLUMNS, SILVER)
    rows = run(database, plan.recompute_sql, rows=table([{"symbol": "a"}, {"symbol": "a"}, {"symbol": None}]))
    assert {row["symbol"]: row["label"] for row in rows.to_pylist()} == {"a": "a/2", None: None}


def test_where_keeps_what_is_true_and_survives_errors(database):
    rows = [{"size": 1, "note": "1"}, {"size": 2, "note": "x"}, {"size": 4, "note": None}]
    assert one_row(database, {"total": "sum(size)"}, rows, where="note::int64 > 0")["total"] == 1
    assert one_row(database, {"total": "sum(size)"}, rows, where="size < 3")["total"] == 3


def test_rows_without_an_event_time_are_in_no_window(database):
    rows = table([{"size": 1}, {"size": 2}])
    rows = rows.set_column(SCHEMA.get_field_index("at"), "at", pa.array([EPOCH, None], pa.timestamp("us", "UTC")))
    plan = compile_gold(gold({"total": "sum(size)"}, by=()), COLUMNS, SILVER)
    assert run(database, plan.recompute_sql, rows=rows.select(plan.reads))["total"].to_pylist() == [1]


def test_stddev_stays_accurate_far_from_zero(database):
    rows = [{"level": 1e9 + number % 2} for number in range(1000)]
    plan = compile_gold(gold({"spread": "stddev(level)"}, by=()), COLUMNS, SILVER)
    parts = [table(rows[start : start + 100]) for start in range(0, 1000, 100)]
    (found,) = final(database, plan, parts).to_pylist()
    assert math.isclose(found["spread"], float(np.std([0, 1] * 500, ddof=1)), rel_tol=1e-9)


@pytest.mark.parametrize(
    ("zone", "size", "every"),
    [
        ("Europe/Paris", Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY)),
        ("America/Vancouver", Span(2, SpanUnit.DAY), Span(1, SpanUnit.DAY)),
        ("Australia/Lord_Howe", Span(1, SpanUnit.WEEK), Span(1, SpanUnit.WEEK)),
        ("UTC", Span(1, SpanUnit.WEEK), Span(1, SpanUnit.WEEK)),
        ("UTC", Span(3, SpanUnit.DAY), Span(1, SpanUnit.DAY)),
    ],
)
def test_calendar_windows_merge_and_end_as_python_says(database, zone, size, every):
    plan = compile_gold(gold({"rows": "count()"}, size=size, every=every, timezone=zone, by=()), COLUMNS, SILVER)
    start = datetime(2026, 3, 20, tzinfo=UTC)
    rows = table([{"at": start + timedelta(hours=7 * number)} for number in range(60)])
    found = final(database, plan, [rows.slice(0, 20), rows.slice(20)])
    assert_same(keyed(found, ()), keyed(run(database, plan.recompute_sql, rows=rows.select(plan.reads)), ()))
    ends = zip(found["window_start"].cast(pa.int64()), found["window_end"].cast(pa.int64()), strict=True)
    assert all(plan.window_end(begin.as_py()) == end.as_py() for begin, end in ends)
    assert sum(found["rows"].to_pylist()) == 60 * (1 if size == every else size.count // every.count)


@pytest.mark.parametrize(
    ("sql", "code", "offset"),
    [
        ("price", "sql-aggregate", 0),
        ("max(price) + price", "sql-aggregate", 13),
        ("sum(max(price))", "sql-aggregate", 4),
        ("sum(note)", "sql-type", 0),
        ("sum(ok)", "sql-type", 0),
        ("sum()", "sql-arguments", 0),
        ("sum(*)", "sql-arguments", 0),
        ("median(price)", "unknown-function", 0),
        ("max(prise)", "unknown-column", 4),
        ("now()", "sql-refused", 0),
        ("quantile(price, 2)", "sql-arguments", 16),
        ("quantile(price, size)", "sql-arguments", 16),
        ("sum(distinct price)", "sql-arguments", 0),
        ("sum(price) over ()", "sql-refused", 11),
        ("first(price order by at)", "sql-refused", 12),
        ("one + 1", "cycle", 0),
        ("max(price", "sql-syntax", 9),
        ("count() filter (where prise > 1)", "unknown-column", 22),
    ],
)
def test_findings_of_measures(sql, code, offset):
    (found,) = gold_findings(gold({"one": sql}), COLUMNS, SILVER)
    assert (found.code, found.mark.column) == (code, 1 + offset), found
    assert found.repair
    with pytest.raises(DeclarationError):
        compile_gold(gold({"one": sql}), COLUMNS, SILVER)


def test_all_findings_of_a_gold_table_come_at_once():
    found = gold_findings(gold({"a": "b", "b": "a", "c": "sum(nothing) + more"}, where="1"), COLUMNS, SILVER)
    assert sorted(each.code for each in found) == ["cycle", "cycle", "sql-type", "unknown-column", "unknown-column"]
