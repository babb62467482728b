"""What declarations become: the full example of the design, the shorthands, durations, windows, paths, types."""

from __future__ import annotations

import pytest

from declare.marked import declaration
from penstock.declare import load_pipeline
from penstock.model.fields import FieldPath
from penstock.model.finding import Mark
from penstock.model.pipeline import (
    Action,
    Column,
    CsvFormat,
    Expression,
    FilesSource,
    Gold,
    JsonFormat,
    Lookup,
    Measure,
    ParquetFormat,
    Pipeline,
    PushSource,
    Reference,
    Rule,
    Silver,
    SimulateSource,
    Source,
    Span,
    SpanUnit,
    TextFormat,
    Window,
)
from penstock.model.types import ColumnType

SECOND = 1_000_000
DAY = 86_400 * SECOND

EXAMPLE = """\
pipeline: market_ticks                 # [a-z][a-z0-9_]{0,62}
description: Venue ticks, cleaned, into one-minute bars.

source:
  push: {}
  format: json
  records: data                        # each element is an event; `^.ts` reaches the envelope
  where: type = 'trade'
  on_data_loss: stop                   # stop | record

references:
  instruments: {file: references/instruments.csv, key: instrument_id, columns: {lot: int32}}

silver:
  table: market_ticks
  key: [instrument_id, venue, sequence]
  unique_within: 1 day
  event_time: event_time
  order: [sequence]
  late_after: 10 seconds
  future_after: 5 minutes
  columns:
    instrument_id: {type: string, required: true}
    venue:         {type: string}
    sequence:      {type: int64,  required: true}
    event_time:    {type: timestamp, from: ts, unit: ms}
    price:         {type: "decimal(18,8)", required: true}
    quantity:      {type: float64}
    currency:      {lookup: instruments.currency}
    lot:           {lookup: instruments.lot}
    notional:      {type: float64, sql: price * quantity}
  rules:
    known_instrument: {check: currency is not null}
    sane_price:       {check: price between -500 and 1e6}
    big_trade:        {check: notional < 1e9, otherwise: flag}

gold:
  bars_1m:
    window: 1 minute
    by: [instrument_id]
    where: not list_contains(_flags, 'big_trade')
    measures:
      open: first(price)
      vwap: sum(price * quantity) / sum(quantity)
      trades: count()
"""

MINUTE_SPAN = Span(60 * SECOND, SpanUnit.MICROSECOND)


def column(name: str, kind: str, *, required: bool = False, path: str = "", unit: str | None = None) -> Column:
    return Column(name, ColumnType.parse(kind), FieldPath((path or name,)), required=required, unit=unit)


EXPECTED = Pipeline(
    name="market_ticks",
    description="Venue ticks, cleaned, into one-minute bars.",
    source=Source(PushSource(1), JsonFormat(), FieldPath(("data",)), Expression("type = 'trade'"), "stop"),
    references=(
        Reference("instruments", "references/instruments.csv", ("instrument_id",), (("lot", ColumnType("int32")),)),
    ),
    silver=Silver(
        table="market_ticks",
        columns=(
            column("instrument_id", "string", required=True),
            column("venue", "string", required=True),
            column("sequence", "int64", required=True),
            column("event_time", "timestamp", required=True, path="ts", unit="ms"),
            column("price", "decimal(18,8)", required=True),
            column("quantity", "float64"),
            Column("currency", None, lookup=Lookup("instruments", "currency", ("instrument_id",))),
            Column("lot", ColumnType("int32"), lookup=Lookup("instruments", "lot", ("instrument_id",))),
            Column("notional", ColumnType("float64"), sql=Expression("price * quantity")),
        ),
        key=("instrument_id", "venue", "sequence"),
        unique_within=DAY,
        event_time="event_time",
        order=("sequence",),
        late_after=10 * SECOND,
        future_after=300 * SECOND,
        rules=(
            Rule("known_instrument", Expression("currency is not null")),
            Rule("sane_price", Expression("price between -500 and 1e6")),
            Rule("big_trade", Expression("notional < 1e9"), Action.FLAG),
        ),
    ),
    gold=(
        Gold(
            "bars_1m",
            Window(MINUTE_SPAN, MINUTE_SPAN),
            ("instrument_id",),
            (
                Measure("open", Expression("first(price)")),
                Measure("vwap", Expression("sum(price * quantity) / sum(quantity)")),
                Measure("trades", Expression("count()")),
            ),
            Expression("not list_contains(_flags, 'big_trade')"),
        ),
    ),
)


def load(text: str) -> Pipeline:
    loaded = load_pipeline(text, "shop.yaml", {"FOLDER": "in coming", "PARTS": "3"})
    assert loaded.findings == ()
    assert loaded.pipeline is not None
    return loaded.pipeline


def test_the_example_of_the_design_becomes_these_nouns() -> None:
    pipeline = load(EXAMPLE)
    assert pipeline == EXPECTED
    assert pipeline.text == EXAMPLE
    assert pipeline.file == "shop.yaml"
    assert pipeline.silver.columns[0].mark == Mark("shop.yaml", 23, 5)
    assert pipeline.gold[0].measures[2].expression.mark == Mark("shop.yaml", 45, 15)


def test_shorthands_say_the_same_as_the_long_forms() -> None:
    short = (
        declaration(
            source="  files: incoming\n  format: csv\n",
            silver="  table: orders\n  key: id\n  order: at\n",
            columns="    id: string\n    at: timestamp\n    sku: string\n    w: {from: items.weight, on: [sku]}\n",
            references="  items: {file: items.csv, key: sku}\n",
            rules="    paid: amount > 0\n",
            gold="  g: {window: 1 h, by: id, measures: {n: count()}}\n",
        )
        .replace("    paid: amount", "    paid: id")
        .replace("id > 0", "id <> ''")
    )
    long = declaration(
        source="  files: {path: incoming}\n  format: {csv: {}}\n",
        silver="  table: orders\n  key: [id]\n  order: [at]\n",
        columns=(
            "    id: {type: string, required: true, from: id}\n    at: {type: timestamp}\n    sku: {type: string}\n"
            "    w: {lookup: {from: items.weight, on: [sku]}}\n"
        ),
        references="  items: {file: items.csv, key: [sku]}\n",
        rules="    paid: {check: id <> '', otherwise: quarantine}\n",
        gold="  g: {window: {size: 1 hour, every: 60 minutes}, by: [id], measures: {n: count()}}\n",
    )
    assert load(short) == load(long)


def test_defaults() -> None:
    pipeline = load(declaration(columns="    id: string\n"))
    assert pipeline.source == Source(PushSource())
    assert pipeline.silver == Silver("orders", (column("id", "string"),))
    assert pipeline.gold == ()
    assert pipeline.references == ()


@pytest.mark.parametrize(
    ("source", "origin", "form"),
    [
        ("  push: {partitions: 4}\n", PushSource(4), JsonFormat()),
        ("  push:\n", PushSource(1), JsonFormat()),
        ('  files: {path: "${FOLDER}/a"}\n', FilesSource("in coming/a"), JsonFormat()),
        ('  push: {partitions: "${PARTS}"}\n', PushSource(3), JsonFormat()),
        ("  files: a\n  format: parquet\n", FilesSource("a"), ParquetFormat()),
        ("  simulate: iot\n", SimulateSource("iot"), JsonFormat()),
        (
            "  simulate: {world: market, seed: 7, rate: 50000, faults: 0, events: 1_000_000}\n",
            SimulateSource("market", 7, 50_000, 0.0, 1_000_000),
            JsonFormat(),
        ),
        (
            "  push: {}\n  format: {csv: {delimiter: ';', quote: \"'\", null: [NA, null, -], columns: [id, at, price, amount]}}\n",
            PushSource(),
            CsvFormat(False, ";", "'", ("NA", "null", "-"), ("id", "at", "price", "amount")),
        ),
        (
            "  push: {}\n  format: {text: {pattern: '(?P<ts>\\S+) (?<body>.*)', json: body}}\n",
            PushSource(),
            TextFormat(r"(?P<ts>\S+) (?<body>.*)", "body"),
        ),
    ],
)
def test_sources_and_formats(source: str, origin: object, form: object) -> None:
    pipeline = load(declaration(source=source))
    assert pipeline.source.origin == origin
    assert pipeline.source.format == form


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("0 seconds", 0),
        ("10 seconds", 10 * SECOND),
        ("1 minute", 60 * SECOND),
        ("5 minutes", 300 * SECOND),
        ("1 day", DAY),
        ("500 ms", 500_000),
        ("1h", 3_600 * SECOND),
        ("1.5 h", 5_400 * SECOND),
        ("0.000001 s", 1),
        ("250us", 250),
        ("250 µs", 250),
        ("2 Weeks", 14 * DAY),
        ("36525 days", 36_525 * DAY),
    ],
)
def test_durations(text: str, microseconds: int) -> None:
    assert load(declaration(silver=f"  table: orders\n  late_after: {text}\n")).silver.late_after == microseconds


def exact(seconds: int) -> Span:
    return Span(seconds * SECOND, SpanUnit.MICROSECOND)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("1 minute", Window(exact(60), exact(60))),
        ("7 minutes", Window(exact(420), exact(420))),
        ("{size: 5 minutes, every: 1 minute}", Window(exact(300), exact(60))),
        ("{size: 1 day, every: 1 minute}", Window(exact(86_400), exact(60))),
        ("24 hours", Window(exact(86_400), exact(86_400))),
        ("1 day", Window(Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY))),
        (
            "{size: 1 day, timezone: Europe/Berlin}",
            Window(Span(1, SpanUnit.DAY), Span(1, SpanUnit.DAY), "Europe/Berlin"),
        ),
        ("{size: 1 hour, timezone: UTC}", Window(exact(3_600), exact(3_600))),
        ("2 weeks", Window(Span(2, SpanUnit.WEEK), Span(2, SpanUnit.WEEK))),
        ("{size: 1 week, every: 1 day}", Window(Span(7, SpanUnit.DAY), Span(1, SpanUnit.DAY))),
        ("{size: 14 days, every: 1 week}", Window(Span(2, SpanUnit.WEEK), Span(1, SpanUnit.WEEK))),
        ("{size: 48 hours, every: 1 day}", Window(exact(172_800), exact(86_400))),
    ],
)
def test_windows(text: str, window: Window) -> None:
    pipeline = load(declaration(gold=f"  g: {{window: {text}, measures: {{n: count()}}}}\n"))
    assert pipeline.gold[0].window == window


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.b", FieldPath(("a", "b"))),
        ("'a[0]'", FieldPath(("a", 0))),
        ("'a[0][12].b'", FieldPath(("a", 0, 12, "b"))),
        ("'\"odd.name\".b'", FieldPath(("odd.name", "b"))),
        ('\'"a""b"\'', FieldPath(('a"b',))),
        ('"odd name"', FieldPath(("odd name",))),
        ("trade-id", FieldPath(("trade-id",))),
        ("Größe", FieldPath(("Größe",))),
        ("_key", FieldPath(("_key",))),
        ("_timestamp", FieldPath(("_timestamp",))),
        ("_file", FieldPath(("_file",))),
        ("_headers.x", FieldPath(("_headers", "x"))),
        ("_id", FieldPath(("_id",))),
        ("'\"_batch\"'", FieldPath(("_batch",))),
        ("^.ts", FieldPath(("ts",), envelope=True)),
        ("^._key", FieldPath(("_key",), envelope=True)),
    ],
)
def test_field_paths(text: str, path: FieldPath) -> None:
    source = "  push: {}\n  records: data\n"
    pipeline = load(declaration(source=source, columns=f"    x: {{type: string, from: {text}}}\n"))
    assert pipeline.silver.columns[0].path == path


def test_key_and_event_time_are_required_without_saying_so() -> None:
    silver = load(
        declaration(
            silver="  table: orders\n  key: id\n  event_time: at\n",
            columns="    id: string\n    at: timestamp\n    x: json\n",
        )
    ).silver
    assert [column.required for column in silver.columns] == [True, True, False]


def test_every_type() -> None:
    kinds = ["string", "int8", "int16", "int32", "int64", "float32", "float64", "boolean", "date", "timestamp"]
    kinds += ["binary", "json", "decimal(38,38)"]
    text = "".join(f'    c{number}: "{kind}"\n' for number, kind in enumerate(kinds))
    assert [str(column.type) for column in load(declaration(columns=text)).silver.columns] == kinds


def test_values_that_yaml_takes_for_something_else_stay_as_written() -> None:
    pipeline = load(declaration(columns="    id: {type: string, sql: 0010}\n    yes: boolean\n", rules="    r: true\n"))
    assert pipeline.silver.columns[0].sql == Expression("0010")
    assert pipeline.silver.columns[1].name == "yes"
    assert pipeline.silver.rules[0].check == Expression("true")


def test_anchors_and_merge_keys() -> None:
    pipeline = load(
        declaration(
            more="x-defaults:\n  number: &number {type: float64, required: true}\n",
            columns="    a: &a {type: int64, from: raw.a}\n    b: {<<: *a, from: raw.b}\n    c: *a\n",
        )
    )
    a, b, c = pipeline.silver.columns
    assert (a.path, b.path, c.path) == (FieldPath(("raw", "a")), FieldPath(("raw", "b")), FieldPath(("raw", "a")))
    assert b.type == ColumnType("int64")


def test_merged_columns_stand_where_the_merge_does() -> None:
    pipeline = load(
        "x-common: &common\n  id: string\n  at: timestamp\n"
        + declaration(columns="    first: string\n    <<: *common\n    at: date\n    last: string\n")
    )
    assert [column.name for column in pipeline.silver.columns] == ["first", "id", "at", "last"]
    assert pipeline.silver.columns[2].type == ColumnType("date")


def test_text_keeps_variables_as_written() -> None:
    text = declaration(source="  files: ${FOLDER}\n")
    assert "${FOLDER}" in load(text).text
