"""A whole declaration: YAML text -> `model.Pipeline`, or everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.declare.composites import MapOf, Record
from penstock.declare.gold import GOLD_SHAPE, build_gold
from penstock.declare.kafka import REJECTS, build_rejects
from penstock.declare.reading import read
from penstock.declare.references import REFERENCE_SHAPE, References, build_references
from penstock.declare.report import Report
from penstock.declare.shapes import NAME_SHAPE, TEXT_SHAPE
from penstock.declare.silver import SILVER, TABLE, ColumnTypes, build_silver
from penstock.declare.source import SOURCE, build_source
from penstock.declare.spec import Field, Parsed, Reading, Section
from penstock.limits import GOLD_TABLES_MAX, REFERENCES_MAX
from penstock.model.pipeline import NAME, Gold, Pipeline, Silver, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.finding import Finding, Mark

PIPELINE_NAME = Field(
    "pipeline",
    NAME_SHAPE,
    "The pipeline's name: the same in folders, metrics and URLs.",
    "pipeline: market_ticks",
    required=True,
)
DESCRIPTION = Field("description", TEXT_SHAPE, "What it is for.", "description: Venue ticks into one-minute bars.")
SOURCE_FIELD = Field("source", Record(SOURCE), "Where events come from.", "source: {push: {}}", required=True)
REFERENCES = Field(
    "references",
    MapOf(REFERENCE_SHAPE, REFERENCES_MAX, "references"),
    "Tables of facts that columns look values up in.",
    "references:\n  instruments: {file: references/instruments.csv, key: instrument_id}",
)
SILVER_FIELD = Field(
    "silver",
    Record(SILVER),
    "The table of accepted events.",
    "silver:\n  table: ticks\n  columns:\n    price: float64",
    required=True,
)
GOLD_FIELD = Field(
    "gold",
    MapOf(GOLD_SHAPE, GOLD_TABLES_MAX, "gold tables"),
    "Tables of aggregates.",
    "gold:\n  bars_1m:\n    window: 1 minute\n    measures:\n      trades: count()",
)
SERVE = Field("serve", TEXT_SHAPE, "Tables are read with `penstock sql` for now.", later=True)
REJECTS_FIELD = Field(
    "rejects",
    Record(REJECTS),
    "Where rejects go besides the lake.",
    "rejects: {kafka: {topic: rejected, brokers: a:9092}}",
)
PIPELINE = Section(
    "pipeline",
    "a pipeline",
    "One pipeline, in `pipelines/<name>.yaml`. Keys that begin with `x-` are ignored: a place for anchors.",
    (PIPELINE_NAME, DESCRIPTION, SOURCE_FIELD, REFERENCES, SILVER_FIELD, GOLD_FIELD, SERVE, REJECTS_FIELD),
    extensions=True,
)


@dataclass(frozen=True)
class Loaded:
    """What became of a declaration. `pipeline` is None exactly where there are findings.

    `table_mark` is where the silver table is named, for findings across pipelines.
    """

    pipeline: Pipeline | None
    findings: tuple[Finding, ...]
    table_mark: Mark | None = field(default=None, compare=False)


def load_pipeline(text: str, file: str, environment: Mapping[str, str]) -> Loaded:
    """The pipeline that `text` declares, with all findings at once. Never raises for anything in `text`.

    `environment` holds the variables that `${NAME}` in connection settings may name; `file` stands in the findings.
    """
    report = Report(file)
    pipeline, mark = None, None
    node = read(text, report)
    if node is not None:
        located = Record(PIPELINE).read(node, Reading(report, environment))
        if located is not None:
            pipeline, mark = build_pipeline(located.value, text, report)
    return Loaded(pipeline if report.is_clean else None, report.findings(), mark)


def build_pipeline(parsed: Parsed, text: str, report: Report) -> tuple[Pipeline | None, Mark | None]:
    """The noun, and where its silver table is named; None with findings."""
    source = parsed.get(SOURCE_FIELD)
    built_source: Source | None = None if source is None else build_source(source.value, report)
    entries = parsed.value(REFERENCES, ())
    references = build_references(entries, report)
    by_name = {entry.name: None for entry in entries} | {reference.name: reference for reference in references}
    declared = References(by_name, complete=parsed.get(REFERENCES) is not None or not parsed.has(REFERENCES))
    silver = parsed.get(SILVER_FIELD)
    built_silver: Silver | None = None
    known, table_mark = ColumnTypes({}, complete=False), None
    if silver is not None:
        built_silver, known = build_silver(silver.value, built_source, declared, report)
        table = silver.value.get(TABLE)
        table_mark = None if table is None else table.mark
    golds: list[Gold] = []
    for entry in parsed.value(GOLD_FIELD, ()):
        gold = build_gold(entry, known, report)
        if gold is not None:
            golds.append(gold)
    rejects = parsed.get(REJECTS_FIELD)
    origin = None if built_source is None else built_source.origin
    built_rejects = None if rejects is None else build_rejects(rejects.value, origin, report)
    name = parsed.get(PIPELINE_NAME)
    if name is None or built_source is None or built_silver is None or not NAME.fullmatch(name.value):
        return None, table_mark
    pipeline = Pipeline(
        name=name.value,
        source=built_source,
        silver=built_silver,
        references=references,
        gold=tuple(golds),
        description=parsed.value(DESCRIPTION, ""),
        rejects=built_rejects,
        text=text,
        file=report.file,
    )
    return pipeline, table_mark
