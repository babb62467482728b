"""`check`: every finding about a project, from declare, plan and the engine, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.engines.binding import findings as binding_findings
from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.errors import PenstockError
from penstock.lake.layout import column_type
from penstock.lake.referencefile import load_reference_file
from penstock.model.finding import Finding
from penstock.plan.compile import compile as compile_plan
from penstock.plan.compile import findings as plan_findings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from penstock.engines.contract import Engine
    from penstock.model.pipeline import Pipeline
    from penstock.model.types import ColumnType
    from penstock.plan.nouns import Plan
    from penstock.settings import Settings

References = dict[str, dict[str, "ColumnType"]]


def check_pipelines(pipelines: Sequence[Pipeline], folder: Path, settings: Settings) -> tuple[Finding, ...]:
    """Everything that keeps declared pipelines from running, as far as it can be known without running them."""
    engine = EmbeddedEngine(threads=1, memory_bytes=settings.memory_bytes)
    try:
        found = [one for pipeline in pipelines for one in _check_pipeline(pipeline, folder, engine)]
    finally:
        engine.close()
    return tuple(sorted(set(found)))


def _check_pipeline(pipeline: Pipeline, folder: Path, engine: EmbeddedEngine) -> tuple[Finding, ...]:
    references, broken = reference_columns(pipeline, folder)
    if broken:
        return broken
    found = plan_findings(pipeline, references)
    return found or _check_types(compile_plan(pipeline, references), engine)


def _check_types(plan: Plan, engine: EmbeddedEngine) -> tuple[Finding, ...]:
    engine.register(plan.refine)
    bound: Engine = engine
    return binding_findings(plan, bound)


def reference_columns(pipeline: Pipeline, folder: Path) -> tuple[References, tuple[Finding, ...]]:
    """The columns of the pipeline's references with their types, and a finding for each that cannot be loaded."""
    columns: References = {}
    found: list[Finding] = []
    for reference in pipeline.references:
        try:
            schema = load_reference_file(reference, folder).schema
            columns[reference.name] = {field.name: column_type(field.type) for field in schema}
        except PenstockError as error:
            found.append(Finding(reference.mark, "broken-reference", error.message, error.hint))
    return columns, tuple(found)
