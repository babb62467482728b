"""From a declared pipeline to SQL: `compile`, and `findings`, which says all that keeps it from being compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import DeclarationError
from penstock.plan.gold import compile_gold
from penstock.plan.nouns import Plan
from penstock.plan.refine import compile_refine
from penstock.plan.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.finding import Finding
    from penstock.model.pipeline import Pipeline
    from penstock.model.types import ColumnType
    from penstock.plan.gold import GoldPlan
    from penstock.plan.resolve import Resolved

    References = Mapping[str, Mapping[str, ColumnType]]


def compile(pipeline: Pipeline, references: References) -> Plan:  # noqa: A001 - the word of the trade
    """The plan of a pipeline. `references` has the columns of each reference with their types as loaded.

    Raises:
        DeclarationError: with all findings.
    """
    resolved = resolve(pipeline, references)
    golds, found = _golds(resolved)
    if resolved.findings or found:
        raise DeclarationError(tuple(sorted({*resolved.findings, *found})))
    return Plan(pipeline, tuple(resolved.types.items()), compile_refine(resolved), golds)


def findings(pipeline: Pipeline, references: References) -> tuple[Finding, ...]:
    """Everything that keeps the pipeline from being compiled, in the file's order; empty when nothing does."""
    resolved = resolve(pipeline, references)
    return tuple(sorted({*resolved.findings, *_golds(resolved)[1]}))


def _golds(resolved: Resolved) -> tuple[tuple[GoldPlan, ...], tuple[Finding, ...]]:
    """The plans of the gold tables, and the findings of those that have none."""
    plans: list[GoldPlan] = []
    found: list[Finding] = []
    for gold in resolved.pipeline.gold:
        try:
            plans.append(compile_gold(gold, tuple(resolved.types.items()), resolved.pipeline.silver))
        except DeclarationError as error:
            found += error.findings
    return tuple(plans), tuple(found)
