"""Findings that only an engine can make: expressions that do not fit the types of their columns.

`declare` finds what is wrong with the file, `plan` what is wrong with the SQL; what is left is whether the engine can
give each expression a type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.errors import DeclarationError, QueryError
from penstock.lake import layout
from penstock.model.finding import Finding
from penstock.plan.expressions import Bound, bind, system_types
from penstock.plan.gold import compile_gold

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from penstock.engines.contract import Engine
    from penstock.model.pipeline import Expression, Gold
    from penstock.plan.gold import GoldPlan
    from penstock.plan.nouns import Plan

REPAIR = "Cast the operands to types that fit, e.g. `cast(x as double)`; `penstock explain` shows every column's type."


def findings(plan: Plan, engine: Engine) -> tuple[Finding, ...]:
    """Everything the engine finds wrong with the types of a plan's expressions, in the file's order."""
    silver = plan.pipeline.silver
    rows = layout.silver_spec(silver.table, plan.silver_columns, silver.event_time, silver.key).schema
    columns = {**system_types(), **dict(plan.silver_columns)}
    found: list[Finding] = []
    for expression in _typed_expressions(plan):
        bound = bind(expression, columns)
        if isinstance(bound, Bound):
            message = _refusal(engine, f"SELECT {bound.sql} AS value FROM rows", rows)
            if message:
                found.append(Finding(expression.mark, "type-mismatch", message, REPAIR))
    for gold, gold_plan in zip(plan.pipeline.gold, plan.golds, strict=True):
        found += _gold_findings(plan, gold, gold_plan, engine, rows)
    return tuple(sorted(found))


def _typed_expressions(plan: Plan) -> Iterator[Expression]:
    silver = plan.pipeline.silver
    yield from (column.sql for column in silver.columns if column.sql is not None)
    yield from (rule.check for rule in silver.rules)
    yield from (gold.where for gold in plan.pipeline.gold if gold.where is not None)


def _gold_findings(plan: Plan, gold: Gold, gold_plan: GoldPlan, engine: Engine, rows: pa.Schema) -> Iterator[Finding]:
    """One finding per measure that has no type, or a type no table can hold."""
    message = _refusal(engine, gold_plan.recompute_sql, rows)
    if message:
        yield from _guilty_measures(plan, gold, engine, rows, message)
        return
    found = engine.schema(gold_plan.recompute_sql, {"rows": rows})
    for measure in gold.measures:
        try:
            layout.column_type(found.field(measure.name).type)
        except ValueError:
            text = f"measure {measure.name} is a {found.field(measure.name).type}, which a table column cannot hold"
            yield Finding(measure.expression.mark, "type-mismatch", text, REPAIR)


def _guilty_measures(plan: Plan, gold: Gold, engine: Engine, rows: pa.Schema, message: str) -> Iterator[Finding]:
    """The measures that fail alone; the whole table where each alone is fine."""
    found = False
    for measure in gold.measures:
        try:
            alone = compile_gold(replace(gold, measures=(measure,)), plan.silver_columns, plan.pipeline.silver)
        except DeclarationError:
            continue
        refusal = _refusal(engine, alone.recompute_sql, rows)
        if refusal:
            found = True
            yield Finding(measure.expression.mark, "type-mismatch", refusal, REPAIR)
    if not found:
        yield Finding(gold.mark, "type-mismatch", message, REPAIR)


def _refusal(engine: Engine, sql: str, rows: pa.Schema) -> str:
    """The engine's first line about SQL it cannot type; empty when it can."""
    try:
        engine.schema(sql, {"rows": rows})
    except QueryError as error:
        return error.message.strip().splitlines()[0]
    return ""
