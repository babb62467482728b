"""Tells in words and SQL what a plan will do: `penstock explain`. The same plan always gives the same text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.limits import RECORD_BYTES_MAX
from penstock.model.columns import ROWS, WINDOW_END, WINDOW_START
from penstock.model.kafka import KafkaSource
from penstock.model.pipeline import (
    Action,
    CsvFormat,
    FilesSource,
    JsonFormat,
    ParquetFormat,
    SimulateSource,
    SpanUnit,
    TextFormat,
)

if TYPE_CHECKING:
    from penstock.model.pipeline import Column, Gold, Pipeline, Rule, Silver, Source, Span
    from penstock.plan.gold import GoldPlan
    from penstock.plan.nouns import Plan

_UNITS = (
    (3_600_000_000, "hour"),
    (60_000_000, "minute"),
    (1_000_000, "second"),
    (1_000, "millisecond"),
    (1, "microsecond"),
)
_TIME_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_OUTCOMES = {
    Action.QUARANTINE: "the row goes to rejects",
    Action.FLAG: "the row is kept, with the rule's name in `_flags`",
    Action.STOP: "the pipeline stops before it writes anything of the batch but bronze",
}
_LONG_LIST = re.compile(r"\[(-?\d+), (-?\d+)((?:, -?\d+){30,}), (-?\d+)\]")


@dataclass(frozen=True)
class ExplainedColumn:
    """A column, its type (of a measure as far as it is known without an engine) and where its value comes from."""

    name: str
    type: str
    lineage: str


@dataclass(frozen=True)
class ExplainedTable:
    """A table as `layer/name`, with a sentence about its rows."""

    name: str
    meaning: str
    columns: tuple[ExplainedColumn, ...]


@dataclass(frozen=True)
class Explanation:
    """What a pipeline will do. `rules` are (name, what happens to a row that fails, when it fails); `gold_sql` are
    (table, SQL that computes it from silver)."""

    tables: tuple[ExplainedTable, ...]
    rules: tuple[tuple[str, str, str], ...]
    refine_sql: str
    gold_sql: tuple[tuple[str, str], ...]


def explain(plan: Plan) -> Explanation:
    """The explanation of a plan."""
    pipeline = plan.pipeline
    golds = tuple(_gold_table(gold, gold_plan, plan) for gold, gold_plan in zip(pipeline.gold, plan.golds, strict=True))
    return Explanation(
        tables=(_bronze_table(pipeline), _silver_table(plan), _rejects_table(pipeline), *golds),
        rules=tuple(_rule(name, plan) for name in plan.refine.rules),
        refine_sql=_shortened(plan.refine.sql),
        gold_sql=tuple((f"gold/{gold.name}", _shortened(gold.recompute_sql)) for gold in plan.golds),
    )


# -- tables -----------------------------------------------------------------------------------------------------------


def _bronze_table(pipeline: Pipeline) -> ExplainedTable:
    columns = (
        *_PLACE,
        ExplainedColumn("_timestamp", "timestamp", "the source's time of the record, where it has one"),
        ExplainedColumn("_ingested_at", "timestamp", "when the record was acknowledged, or its batch began"),
        _BATCH,
        ExplainedColumn("key", "binary", "the record's key"),
        ExplainedColumn("value", "binary", f"the record's bytes, up to {RECORD_BYTES_MAX:,} of them"),
        ExplainedColumn("headers", "list", "the record's headers"),
    )
    return ExplainedTable(
        f"bronze/{pipeline.name}", f"Every record as received from {_origin(pipeline.source)}.", columns
    )


def _silver_table(plan: Plan) -> ExplainedTable:
    pipeline, silver = plan.pipeline, plan.pipeline.silver
    types = dict(plan.silver_columns)
    columns = [
        ExplainedColumn(column.name, str(types[column.name]), _lineage(column, silver)) for column in silver.columns
    ]
    columns += [
        *_PLACE,
        ExplainedColumn("_index", "int32", _index(pipeline.source)),
        ExplainedColumn("_timestamp", "timestamp", "bronze"),
        ExplainedColumn("_ingested_at", "timestamp", "bronze; what now() means"),
        _BATCH,
        ExplainedColumn("_flags", "list of string", "names of the failed rules whose action is flag"),
        ExplainedColumn("_extra", "json", "the event's fields that no column takes"),
    ]
    return ExplainedTable(f"silver/{silver.table}", _silver_meaning(pipeline), tuple(columns))


def _rejects_table(pipeline: Pipeline) -> ExplainedTable:
    columns = (
        *_PLACE,
        ExplainedColumn("_index", "int32", _index(pipeline.source)),
        ExplainedColumn("disposition", "string", "quarantined or duplicate"),
        ExplainedColumn("failed", "list of string", "all quarantine rules that failed"),
        ExplainedColumn("detail", "string", "the offending values"),
        ExplainedColumn("value", "binary", "the record's bytes"),
        ExplainedColumn("winner_offset", "int64", "of a duplicate: the place of the row that was kept"),
        ExplainedColumn("contract", "int64", "the version of the declaration"),
        _BATCH,
    )
    return ExplainedTable(f"rejects/{pipeline.name}", "Events that are not in silver, with every reason.", columns)


def _gold_table(gold: Gold, gold_plan: GoldPlan, plan: Plan) -> ExplainedTable:
    types = dict(plan.silver_columns)
    event_time = plan.pipeline.silver.event_time
    measure_types = dict(gold_plan.measure_types)
    columns = [
        ExplainedColumn(WINDOW_START, "timestamp", f"start of the window that holds {event_time}"),
        ExplainedColumn(WINDOW_END, "timestamp", "end of the window, exclusive"),
        *(ExplainedColumn(name, str(types.get(name, "")), name) for name in gold.by),
        *(
            ExplainedColumn(measure.name, measure_types[measure.name], one_line(measure.expression.sql))
            for measure in gold.measures
        ),
        ExplainedColumn(ROWS, "int64", "how many silver rows the window holds"),
        ExplainedColumn("_batch", "int64", "the last batch that touched the window"),
    ]
    keys = ", ".join(gold.by)
    meaning = f"One row per {_window(gold)}{f' and {keys}' if keys else ''}, once the window has closed"
    if gold.where is not None:
        meaning += f", over silver rows where {one_line(gold.where.sql)}"
    if not gold_plan.mergeable:
        meaning += "; computed from silver when it closes, because a measure has no partial state"
    return ExplainedTable(f"gold/{gold.name}", f"{meaning}.", tuple(columns))


_PLACE = (
    ExplainedColumn("_source", "int32", "the number of the source's incarnation"),
    ExplainedColumn("_partition", "int32", "the source's partition"),
    ExplainedColumn("_offset", "int64", "the record's number in its partition"),
)
_BATCH = ExplainedColumn("_batch", "int64", "the batch that wrote the row")


# -- sentences --------------------------------------------------------------------------------------------------------


def _origin(source: Source) -> str:
    origin = source.origin
    if isinstance(origin, FilesSource):
        return f"the files in {origin.path}"
    if isinstance(origin, KafkaSource):
        return f"the Kafka topic {origin.topic}"
    if isinstance(origin, SimulateSource):
        return f"the simulated {origin.world} (seed {origin.seed})"
    return "pushes"


def _index(source: Source) -> str:
    return "always 0: a record is one event" if source.records is None else f"the event's number in {source.records}"


def _silver_meaning(pipeline: Pipeline) -> str:
    silver, source = pipeline.silver, pipeline.source
    meaning = "Accepted events"
    if source.where is not None:
        meaning += f" where {one_line(source.where.sql)}"
    if silver.key:
        within = "" if silver.unique_within is None else f" within {span_text(silver.unique_within)}"
        meaning += f", one per {', '.join(silver.key)}{within}"
    meaning += f"; event time is {silver.event_time}"
    if silver.late_after:
        meaning += f", late {span_text(silver.late_after)} behind the latest"
    return f"{meaning}."


def _lineage(column: Column, silver: Silver) -> str:
    """Where a silver column's value comes from, and what it has to be."""
    if column.lookup is not None:
        text = f"{column.lookup.reference}.{column.lookup.column} on {', '.join(column.lookup.on)}"
    elif column.sql is not None:
        text = one_line(column.sql.sql)
    else:
        text = f"field {column.path}"
    if column.unit is not None:
        text += f", {_TIME_UNITS.get(column.unit, column.unit)} since 1970"
    if column.format is not None:
        text += f", written {column.format}"
    if column.timezone is not None:
        text += f", local to {column.timezone}" + (", the later time of an overlap" if column.fold == "later" else "")
    if column.name in silver.key:
        return f"{text}; part of the key"
    return f"{text}; required" if column.required else text


def _rule(name: str, plan: Plan) -> tuple[str, str, str]:
    silver = plan.pipeline.silver
    for rule in silver.rules:
        if rule.name == name:
            return name, rule.otherwise.value, _user_rule(rule)
    return name, Action.QUARANTINE.value, _built_in_rule(name, plan)


def _user_rule(rule: Rule) -> str:
    return f"Unless {one_line(rule.check.sql)} is true, {_OUTCOMES[rule.otherwise]}."


def _built_in_rule(name: str, plan: Plan) -> str:
    silver = plan.pipeline.silver
    kind, _, column = name.partition(":")
    column_type = dict(plan.silver_columns).get(column)
    sentences = {
        "malformed": f"If the record is not {_format(plan.pipeline.source)}, {_OUTCOMES[Action.QUARANTINE]}.",
        "too_large": f"If the record has more than {RECORD_BYTES_MAX:,} bytes, its hash and length go to rejects.",
        "required": f"If {column} is missing, null or not of its type, {_OUTCOMES[Action.QUARANTINE]}.",
        "type": f"If {column} has a value that {column_type} cannot hold exactly, {_OUTCOMES[Action.QUARANTINE]}.",
        "error": f"If computing {column} fails, {_OUTCOMES[Action.QUARANTINE]}.",
        "future": f"If {silver.event_time} is more than {span_text(silver.future_after or 0)} after `_ingested_at`, "
        f"{_OUTCOMES[Action.QUARANTINE]}.",
    }
    return sentences.get(kind, f"If {name} fails, {_OUTCOMES[Action.QUARANTINE]}.")


def _format(source: Source) -> str:
    match source.format:
        case CsvFormat():
            return "a line of CSV with the fields of its header"
        case TextFormat():
            return f"text that matches {source.format.pattern}"
        case ParquetFormat() | JsonFormat():
            within = "" if source.records is None else f" with a list at {source.records}"
            return f"a JSON object{within}"


def _window(gold: Gold) -> str:
    size, every = gold.window.size, gold.window.every
    zone = f" ({gold.window.timezone})" if every.unit is not SpanUnit.MICROSECOND else ""
    starting = "" if size == every else f" starting every {_span(every)}"
    return f"window of {_span(size)}{zone}{starting}"


def _span(span: Span) -> str:
    if span.unit is SpanUnit.MICROSECOND:
        return span_text(span.count)
    return f"{span.count} {span.unit}{'' if span.count == 1 else 's'}"


def span_text(micros: int) -> str:
    """A length of time in its largest whole unit, e.g. `5 minutes`."""
    if micros and micros % 86_400_000_000 == 0:
        count, unit = micros // 86_400_000_000, "day"
    else:
        count, unit = next(((micros // size, unit) for size, unit in _UNITS if micros % size == 0), (micros, ""))
        if not micros:
            count, unit = 0, "second"
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def one_line(sql: str) -> str:
    """A user's SQL on one line, as it was written but for line breaks outside of texts."""
    return " ".join(part.strip() for part in sql.splitlines() if part.strip())


def _shortened(sql: str) -> str:
    """SQL without its longest lists of numbers (tables of clock changes), which nobody reads."""
    return _LONG_LIST.sub(lambda found: f"[{found[1]}, ... {found[3].count(',') + 1} more ..., {found[4]}]", sql)
