"""`explain` tells, always in the same words, what each column is made of and what each rule does."""

from __future__ import annotations

import pytest

from penstock.model.fields import FieldPath
from penstock.model.pipeline import (
    Action,
    Column,
    Expression,
    Gold,
    Lookup,
    Measure,
    Pipeline,
    PushSource,
    Reference,
    Rule,
    Silver,
    Source,
    Span,
    SpanUnit,
    Window,
)
from penstock.model.types import ColumnType
from penstock.plan.compile import compile as compile_plan
from penstock.plan.explain import Explanation, explain, one_line, span_text

DAY = 86_400_000_000


def column(name: str, kind: str | None, **options) -> Column:
    if not {"lookup", "sql"} & options.keys():
        options["path"] = FieldPath((name,))
    return Column(name, None if kind is None else ColumnType.parse(kind), **options)


PIPELINE = Pipeline(
    "ticks",
    Source(PushSource(), where=Expression("type = 'trade'")),
    Silver(
        "trades",
        (
            column("instrument", "string", required=True),
            column("at", "timestamp", unit="ms", required=True),
            column("price", "decimal(18,8)"),
            column("quantity", "float64"),
            column("currency", None, lookup=Lookup("instruments", "currency", ("instrument",))),
            column("notional", "float64", sql=Expression("price\n  * quantity")),
        ),
        key=("instrument", "at"),
        unique_within=DAY,
        event_time="at",
        late_after=10_000_000,
        future_after=300_000_000,
        rules=(
            Rule("known", Expression("currency is not null")),
            Rule("big", Expression("notional < 1e9"), Action.FLAG),
            Rule("sane", Expression("price > 0"), Action.STOP),
        ),
    ),
    references=(Reference("instruments", "instruments.csv", ("instrument",)),),
    gold=(
        Gold(
            "bars",
            Window(Span(60_000_000, SpanUnit.MICROSECOND), Span(60_000_000, SpanUnit.MICROSECOND)),
            ("instrument",),
            (
                Measure("high", Expression("max(price)")),
                Measure("volume", Expression("sum(quantity)")),
                Measure("vwap", Expression("sum(price * quantity) / volume")),
                Measure("value", Expression("sum(price)")),
            ),
            Expression("notional > 1"),
        ),
        Gold(
            "days",
            Window(Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY), "Europe/Paris"),
            (),
            (Measure("instruments", Expression("count_distinct(instrument)")),),
        ),
    ),
)


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    references = {"instruments": {"instrument": ColumnType("string"), "currency": ColumnType("string")}}
    first = explain(compile_plan(PIPELINE, references))
    assert first == explain(compile_plan(PIPELINE, references))
    return first


def test_tables_come_in_the_order_of_the_data(explanation):
    assert [table.name for table in explanation.tables] == [
        "bronze/ticks",
        "silver/trades",
        "rejects/ticks",
        "gold/bars",
        "gold/days",
    ]


def test_silver_columns_say_where_they_come_from(explanation):
    silver = explanation.tables[1]
    assert silver.meaning == (
        "Accepted events where type = 'trade', one per instrument, at within 1 day; event time is at, "
        "late 10 seconds behind the latest."
    )
    assert [(each.name, each.type, each.lineage) for each in silver.columns[:6]] == [
        ("instrument", "string", "field instrument; part of the key"),
        ("at", "timestamp", "field at, milliseconds since 1970; part of the key"),
        ("price", "decimal(18,8)", "field price"),
        ("quantity", "float64", "field quantity"),
        ("currency", "string", "instruments.currency on instrument"),
        ("notional", "float64", "price * quantity"),
    ]


def test_gold_columns_say_what_is_measured(explanation):
    bars, days = explanation.tables[3:]
    assert bars.meaning == (
        "One row per window of 1 minute and instrument, once the window has closed, over silver rows where notional > 1."
    )
    assert [(each.name, each.type, each.lineage) for each in bars.columns[2:7]] == [
        ("instrument", "string", "instrument"),
        ("high", "decimal(18,8)", "max(price)"),
        ("volume", "float64", "sum(quantity)"),
        ("vwap", "float64", "sum(price * quantity) / volume"),
        ("value", "decimal(38,8)", "sum(price)"),
    ]
    assert days.meaning.startswith("One row per window of 1 day (Europe/Paris), once the window has closed; computed")


def test_each_rule_has_a_sentence(explanation):
    rules = {name: (otherwise, meaning) for name, otherwise, meaning in explanation.rules}
    assert rules["known"] == ("quarantine", "Unless currency is not null is true, the row goes to rejects.")
    assert rules["big"][0] == "flag"
    assert "`_flags`" in rules["big"][1]
    assert rules["sane"][0] == "stop"
    assert rules["type:price"][1] == (
        "If price has a value that decimal(18,8) cannot hold exactly, the row goes to rejects."
    )
    assert rules["future"][1].startswith("If at is more than 5 minutes after")
    assert all(meaning.endswith(".") and "{" not in meaning for _, meaning in rules.values())


def test_sql_is_shown_without_long_tables_of_numbers(explanation):
    assert "SELECT" in explanation.refine_sql
    gold = dict(explanation.gold_sql)
    assert gold.keys() == {"gold/bars", "gold/days"}
    assert "more ..." in gold["gold/days"]
    assert len(gold["gold/days"]) < 6_000


def test_lengths_of_time_in_words():
    lengths = (0, 1, 1_000, 60_000_000, 90_000_000, 3_600_000_000, 2 * DAY)
    assert [span_text(length) for length in lengths] == [
        "0 seconds",
        "1 microsecond",
        "1 millisecond",
        "1 minute",
        "90 seconds",
        "1 hour",
        "2 days",
    ]


def test_sql_on_one_line():
    assert one_line("a\n   + b\n") == "a + b"
