"""The refine SQL: bronze records in, typed and ruled events out (DESIGN 4 step 4), as a chain of layers.

open a format's fields -> cast the plain ones -> judge the record -> cast the rest -> undeclared fields -> lookups and
sql columns, in the order of their needs -> rules -> status, failing rules, detail, key. Each layer names what the next
ones use, so that nothing is computed twice; what is rare stands behind a CASE. `verdict.py` has the last part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.model.pipeline import CsvFormat, TextFormat
from penstock.plan import derived, expressions, keys, verdict
from penstock.plan.casts import cast
from penstock.plan.csvformat import CsvStage, csv_headers
from penstock.plan.forms import Form, text_of
from penstock.plan.jsonformat import JsonStage
from penstock.plan.nouns import RefinePlan
from penstock.plan.numbers import NUMBER
from penstock.plan.sqltext import literal
from penstock.plan.strict import FUNCTIONS
from penstock.plan.textformat import TextStage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from penstock.model.fields import FieldPath
    from penstock.model.pipeline import Column, Source
    from penstock.plan.forms import Cast
    from penstock.plan.resolve import Resolved
    from penstock.plan.sqltext import Layers
    from penstock.plan.stage import Field, Stage


def compile_refine(resolved: Resolved) -> RefinePlan:
    """The plan of a pipeline without findings."""
    source, silver = resolved.pipeline.source, resolved.pipeline.silver
    stage = _stage(source)
    raw = [column for column in silver.columns if column.path is not None]
    paths = dict.fromkeys([*(column.path for column in raw if column.path is not None), *resolved.where_paths])
    layers, fields = stage.open(tuple(paths))
    _add_casts(stage, layers, fields, raw)
    whole = {column.path.root for column in raw if column.path is not None and _is_whole_root(column.path)}
    layers.add([("_extra", stage.extra(sorted(whole))), ("_selected", _selected(resolved, fields))])
    derived.add_columns(layers, resolved)
    verdict.add(layers, resolved, fields)
    return RefinePlan(
        sql=layers.sql(),
        functions=FUNCTIONS,
        rules=verdict.rule_names(resolved),
        key_sql=keys.silver_keys(silver, {**resolved.types, "_timestamp": derived.TIMESTAMP}),
        side_tables=csv_headers(source.format) if isinstance(source.format, CsvFormat) else _no_tables,
    )


def _stage(source: Source) -> Stage:
    if isinstance(source.format, CsvFormat):
        return CsvStage(source.format)
    if isinstance(source.format, TextFormat):
        return TextStage(source.format)
    return JsonStage(source.records)


def _no_tables(_records: pa.Table) -> Mapping[str, pa.Table]:
    return {}


def _is_whole_root(path: FieldPath) -> bool:
    return len(path.steps) == 1 and not path.is_meta and not path.envelope


def _add_casts(stage: Stage, layers: Layers, fields: Mapping[FieldPath, Field], columns: list[Column]) -> None:
    """From raw fields to typed columns: probes, fast casts, the record's fault, slow casts, what failed its type."""
    casts: list[tuple[Column, Field, Cast]] = []
    for column in columns:
        assert column.path is not None
        casts.append((column, fields[column.path], cast(column, fields[column.path].form)))
    probes = [
        (f"_p_{column.name}", _fill(item.probe, field, column)) for column, field, item in casts if item.probe != "NULL"
    ]
    layers.add(probes)
    layers.add([(f"_f_{column.name}", _fill(item.fast, field, column)) for column, field, item in casts])
    odd = [_odd(column, field) for column, field, _ in casts if field.form is Form.JSON]
    declared = {column.path: field for column, field, _ in casts if column.path is not None}
    stage.judge(layers, declared, odd)
    typed = []
    for column, field, item in casts:
        fast, value = f"e._f_{column.name}", f"e.{field.column}"
        if item.slow is None:
            typed.append((column.name, fast))
        else:
            slow = _fill(item.slow, field, column)
            typed.append((column.name, f"CASE WHEN {fast} IS NULL AND {value} IS NOT NULL THEN {slow} ELSE {fast} END"))
    layers.add(typed)


def _fill(sql: str, field: Field, column: Column) -> str:
    return sql.replace("{probe}", f"e._p_{column.name}").replace("{value}", f"e.{field.column}")


def _odd(column: Column, field: Field) -> str:
    """SQL condition: the field is there, but not written so plainly that nothing strange can be in it."""
    value = f"e.{field.column}"
    if column.type is not None and column.type.kind == "json":
        return f"(NOT starts_with({value}, '\"'))"
    return f"({value} IS NOT NULL AND e._f_{column.name} IS NULL)"


def _selected(resolved: Resolved, fields: Mapping[FieldPath, Field]) -> str:
    """SQL condition: `where` selects the event; an error in it does not."""
    where = resolved.pipeline.source.where
    if where is None:
        return "TRUE"

    def render(path: FieldPath, kind: expressions.FieldKind) -> str:
        field = fields[path]
        text = text_of(field.form, f"e.{field.column}")
        if kind == "number":
            return f"CASE WHEN regexp_full_match({text}, {literal(NUMBER)}) THEN TRY_CAST({text} AS DOUBLE) END"
        if kind == "boolean":
            return f"CASE {text} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"
        return text

    bound = expressions.bind_fields(where, render)
    assert not isinstance(bound, tuple)
    return f"coalesce(TRY({bound.sql}), FALSE)"
