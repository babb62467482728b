"""Which changes of an applied declaration are refused, where, and with which repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from declare.marked import MARK, expected
from penstock.declare import compare, load_pipeline
from penstock.declare.codes import CODES

if TYPE_CHECKING:
    from penstock.model.pipeline import Pipeline

APPLIED = """\
pipeline: shop
source:
  files: incoming
  format: {csv: {delimiter: ";"}}
  where: country = 'DE'
references:
  items: {file: items.csv, key: sku, columns: {weight: int32, colour: string}}
silver:
  table: orders
  key: [id]
  unique_within: 1 day
  event_time: at
  order: [number]
  late_after: 1 minute
  columns:
    id: string
    at: {type: timestamp, timezone: Europe/Berlin}
    number: int64
    sku: string
    price: "decimal(18,2)"
    weight: {lookup: items.weight}
    size: {lookup: items.size}
    total: {type: float64, sql: price * number}
  rules:
    paid: price > 0
    cheap: {check: price < 100, otherwise: flag}
gold:
  daily:
    window: {size: 1 day, timezone: Europe/Berlin}
    by: [sku]
    where: price > 1
    measures:
      total: sum(price)
      n: count()
"""

ALLOWED = {
    "nothing": ("", ""),
    "comments": ("pipeline: shop\n", "# a comment\npipeline: shop\n"),
    "description": ("source:\n", "description: x\nsource:\n"),
    "a column at the end": ("  rules:\n", "    note: {type: string, required: true}\n  rules:\n"),
    "a rule": ("  rules:\n", "  rules:\n    dear: price < 1000\n"),
    "a changed rule": ("paid: price > 0", "paid: {check: price > 1, otherwise: stop}"),
    "no rules": ("    paid: price > 0\n", ""),
    "required": ("    sku: string\n", "    sku: {type: string, required: true}\n"),
    "late_after": ("late_after: 1 minute", "late_after: 1 hour"),
    "future_after": ("  late_after", "  future_after: 1 day\n  late_after"),
    "a gold table": ("gold:\n", "gold:\n  hourly: {window: 1 h, measures: {n: count()}}\n"),
    "on_data_loss": ("  where", "  on_data_loss: record\n  where"),
    "a reference": ("references:\n", "references:\n  more: {file: more.csv, key: sku}\n"),
    "a reference's file": ("items.csv", "items.parquet"),
    "a reference's column": ("colour: string", "colour: string, brand: string"),
    "spaces in SQL": ("price * number", "price  *   number "),
    "the same key in another form": ("key: [id]", "key: id"),
    "the same duration": ("unique_within: 1 day", "unique_within: 24 h"),
    "the same path": ("    sku: string\n", "    sku: {type: string, from: sku}\n"),
}

REFUSED: dict[str, tuple[tuple[str, str], ...]] = {
    "the name": (("pipeline: shop", "«changed-pipeline»pipeline: store"),),
    "the kind of source": (("files: incoming", "«changed-source»push: {}"),),
    "the path": (("files: incoming", "files: {«changed-source»path: other}"),),
    "the format": (('format: {csv: {delimiter: ";"}}', "«changed-source»format: json"),),
    "an option of the format": (('delimiter: ";"', '«changed-source»delimiter: "|"'),),
    "another option of the format": (('delimiter: ";"', 'delimiter: ";", «changed-source»null: NA'),),
    "where": (("where: country = 'DE'", "«changed-source»where: country = 'D E'"),),
    "no where": (("source:", "«changed-source»source:"), ("  where: country = 'DE'\n", "")),
    "the silver table": (("table: orders", "«changed-table»table: sales"),),
    "the key": (("key: [id]", "«changed-key»key: [id, number]"),),
    "unique_within": (("unique_within: 1 day", "«changed-key»unique_within: 2 days"),),
    "the event time": (("event_time: at", "«changed-time»event_time: _timestamp"),),
    "order": (("order: [number]", "«changed-time»order: [sku]"),),
    "a type": (("    number: int64", "    «changed-column»number: int32"),),
    "a type written long": (("number: int64", "number: {«changed-column»type: int32}"),),
    "a path": (("sku: string", "sku: {type: string, «changed-column»from: a}"),),
    "a timezone": (("timestamp, timezone: Europe/Berlin", "timestamp, «changed-column»timezone: Europe/Paris"),),
    "an expression": (("sql: price * number", "«changed-column»sql: price * number * 2"),),
    "a comment in an expression": (("sql: price * number", "«changed-column»sql: price * number -- x"),),
    "a lookup": (("lookup: items.size", "«changed-column»lookup: items.sise"),),
    "what a lookup goes by": (("lookup: items.size", "«changed-column»lookup: {from: items.size, on: id}"),),
    "a lookup's type": (
        ("colour: string", "colour: string, size: int8"),
        ("    size: {lookup", "    «changed-column»size: {lookup"),
    ),
    "a dropped column": (
        ("  columns:\n", "  «dropped-column»columns:\n"),
        ("    total: {type: float64, sql: price * number}\n", ""),
    ),
    "a renamed column": (
        ("  columns:\n", "  «dropped-column»columns:\n"),
        ("    total: {type", "    sum: {type"),
    ),
    "a column before others": (("    number: int64", "    «moved-column»note: string\n    number: int64"),),
    "columns in another order": (
        ("    number: int64\n    sku: string\n", "    «moved-column»sku: string\n    number: int64\n"),
    ),
    "the key of a reference": (
        ("key: sku", "«changed-reference»key: colour"),
        ("lookup: items.weight", "lookup: {from: items.weight, on: sku}"),
        ("lookup: items.size", "lookup: {from: items.size, on: sku}"),
    ),
    "a type of a reference": (
        ("colour: string", "«changed-reference»colour: binary"),
    ),
    "a type that a lookup takes": (
        ("{weight: int32", "{«changed-reference»weight: int64"),
        ("    weight: {lookup", "    «changed-column»weight: {lookup"),
    ),
    "no type of a reference": (("columns: {weight: int32, colour: string}", "«changed-reference»columns: {weight: int32}"),),
    "a window": (("window: {size: 1 day", "«changed-gold»window: {size: 2 days"),),
    "a zone": (("window: {size: 1 day, timezone: Europe/Berlin}", "«changed-gold»window: 1 day"),),
    "exact hours": (("window: {size: 1 day, timezone: Europe/Berlin}", "«changed-gold»window: 24 hours"),),
    "by": (("by: [sku]", "«changed-gold»by: [sku, id]"),),
    "where of gold": (("where: price > 1", "«changed-gold»where: price > 2"),),
    "a measure": (("total: sum(price)", "«changed-gold»total: max(price)"),),
    "an added measure": (("    measures:", "    «changed-gold»measures:\n      m: max(price)"),),
    "a dropped gold table": (("gold:\n  daily:", "«dropped-gold»gold:\n  weekly:"),),
    "no gold": (("pipeline: shop", "«dropped-gold»pipeline: shop"), (APPLIED[APPLIED.index("gold:") :], "")),
}  # fmt: skip


def load(text: str) -> Pipeline:
    loaded = load_pipeline(text, "pipelines/shop.yaml", {})
    assert loaded.findings == ()
    assert loaded.pipeline is not None
    return loaded.pipeline


def changed(*changes: tuple[str, str]) -> str:
    text = APPLIED
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


@pytest.mark.parametrize("name", ALLOWED)
def test_additions_are_allowed(name: str) -> None:
    text = changed(ALLOWED[name]) if name != "nothing" else APPLIED
    assert compare(load(APPLIED), load(text)) == ()


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_written_rows_is_refused_at_its_place(name: str) -> None:
    text, places = expected(changed(*REFUSED[name]))
    findings = compare(load(APPLIED), load(text))
    assert [(finding.mark.line, finding.mark.column, finding.code) for finding in findings] == places
    assert all(
        finding.repair.endswith("or declare a pipeline beside this one, with other names for it and its tables.")
        for finding in findings
    )


def test_every_code_of_a_change_is_tested() -> None:
    here = {code for changes in REFUSED.values() for _, new in changes for code in MARK.findall(new)}
    assert here == {code for code in CODES if code.startswith(("changed-", "dropped-", "moved-"))}


def test_the_repair_says_what_to_keep() -> None:
    (finding,) = compare(load(APPLIED), load(changed(("key: [id]", "key: [id, number]"))))
    assert finding.message == "the key was `[id]` and would be `[id, number]`"
    assert (
        finding.repair == "Keep `[id]`, or declare a pipeline beside this one, with other names for it and its tables."
    )


def simulated(options: str) -> Pipeline:
    return load(f"pipeline: a\nsource: {{simulate: {{{options}}}}}\nsilver: {{table: a, columns: {{x: string}}}}\n")


def test_a_simulated_source_may_only_grow() -> None:
    hundred = simulated("world: iot, events: 100")
    assert compare(hundred, simulated("world: iot, events: 200")) == ()
    assert compare(hundred, simulated("world: iot")) == ()
    for other in ("world: iot, events: 50", "world: iot, events: 100, seed: 2", "world: market, events: 100"):
        assert [finding.code for finding in compare(hundred, simulated(other))] == ["changed-source"]


def test_variables_are_compared_as_they_are_now() -> None:
    text = changed(("files: incoming", "files: ${FOLDER}"))
    here = load_pipeline(text, "a.yaml", {"FOLDER": "incoming"}).pipeline
    there = load_pipeline(text, "a.yaml", {"FOLDER": "elsewhere"}).pipeline
    assert here is not None
    assert there is not None
    assert compare(load(APPLIED), here) == ()
    assert [finding.code for finding in compare(here, there)] == ["changed-source"]
