"""The refine SQL: bronze records in, typed and ruled events out (DESIGN 4 step 4), as a chain of layers.

open a format's fields -> cast the plain ones -> judge the record -> cast the rest -> undeclared fields -> lookups and
sql columns, in the order of their needs -> rules -> status, failing rules, detail, key. Each layer names what the next
ones use, so that nothing is computed twice; what is rare stands behind a CASE. `verdict.py` has the last part.

Most records have nothing strange in them. For those a second, shorter chain gives the same events: it decides only
about what is plain, and has no layer for anything else (`RefinePlan.plain_sql`).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from penstock.model.pipeline import CsvFormat, TextFormat
from penstock.plan import derived, expressions, keys, verdict
from penstock.plan.arrowfunctions import FUNCTIONS
from penstock.plan.casts import cast
from penstock.plan.csvformat import CsvStage, csv_headers
from penstock.plan.forms import text_of
from penstock.plan.jsonformat import JsonStage
from penstock.plan.nouns import RefinePlan
from penstock.plan.numbers import is_number
from penstock.plan.stage import Taken
from penstock.plan.textformat import TextStage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    return RefinePlan(
        sql=_whole(resolved),
        plain_sql=_plain(resolved),
        functions=FUNCTIONS,
        rules=verdict.rule_names(resolved),
        key_sql=keys.silver_keys(silver, {**resolved.types, "_timestamp": derived.TIMESTAMP}),
        side_tables=_side_tables(source),
    )


def _whole(resolved: Resolved) -> str:
    """The chain that has an answer for every event."""
    stage = _stage(resolved.pipeline.source)
    layers, fields = stage.open(_paths(resolved))
    _add_casts(stage, layers, fields, resolved.pipeline.silver.columns)
    layers.beside([("_extra", stage.extra(_whole_roots(resolved))), ("_selected", _selected(resolved, fields))])
    derived.add_columns(layers, resolved)
    verdict.add(layers, resolved, fields)
    return layers.sql()


def _plain(resolved: Resolved) -> str | None:
    """The chain that decides only about plain records; None where the format has none."""
    stage = _stage(resolved.pipeline.source)
    layers, fields = stage.open(_paths(resolved))
    casts = _add_fast_casts(layers, fields, resolved.pipeline.silver.columns)
    if not stage.find_plain(layers, [item for item, _ in casts], _whole_roots(resolved)):
        return None
    typed = [(item.column.name, f"e.{item.fast}") for item, _ in casts]
    layers.add([*typed, ("_selected", _selected(resolved, fields))])
    derived.add_columns(layers, resolved)
    verdict.add_plain(layers, resolved, fields)
    return layers.sql()


def _paths(resolved: Resolved) -> tuple[FieldPath, ...]:
    """The paths that columns and `where` read, each once."""
    read = [column.path for column in resolved.pipeline.silver.columns if column.path is not None]
    return tuple(dict.fromkeys([*read, *resolved.where_paths]))


def _whole_roots(resolved: Resolved) -> list[str]:
    """The names of the fields that columns take whole."""
    paths = [column.path for column in resolved.pipeline.silver.columns if column.path is not None]
    return sorted({path.root for path in paths if _is_whole_root(path)})


def _stage(source: Source) -> Stage:
    if isinstance(source.format, CsvFormat):
        return CsvStage(source.format)
    if isinstance(source.format, TextFormat):
        return TextStage(source.format)
    return JsonStage(source.records)


def _side_tables(source: Source) -> Callable[[pa.Table], Mapping[str, pa.Table]]:
    if isinstance(source.format, CsvFormat) and source.format.header:
        return partial(csv_headers, csv_format=source.format)
    return _no_tables


def _no_tables(_records: pa.Table) -> Mapping[str, pa.Table]:
    return {}


def _is_whole_root(path: FieldPath) -> bool:
    return len(path.steps) == 1 and not path.is_meta and not path.envelope


def _add_fast_casts(
    layers: Layers, fields: Mapping[FieldPath, Field], columns: Sequence[Column]
) -> list[tuple[Taken, Cast]]:
    """Probes and fast casts (`forms.Cast`) of the columns that take raw fields; the fields taken, with their casts."""
    taken = [Taken(column, fields[column.path], f"_f_{column.name}") for column in columns if column.path is not None]
    casts = [(item, cast(item.column, item.field.form)) for item in taken]
    for number in range(max((len(parts.probes) for _, parts in casts), default=0)):
        layers.add(
            [
                (f"_p{number}_{item.column.name}", _fill(parts.probes[number], item))
                for item, parts in casts
                if number < len(parts.probes)
            ]
        )
    layers.add([(item.fast, _fill(parts.fast, item)) for item, parts in casts])
    return casts


def _add_casts(stage: Stage, layers: Layers, fields: Mapping[FieldPath, Field], columns: Sequence[Column]) -> None:
    """From raw fields to typed columns: fast casts, the judgement of the record, slow casts where that is needed."""
    casts = _add_fast_casts(layers, fields, columns)
    stage.judge(layers, [item for item, _ in casts])
    hard = [(item, parts) for item, parts in casts if parts.slow]
    layers.add([(f"_x_{item.column.name}", _hard_text(item)) for item, _ in hard])
    for number in range(max((len(parts.slow) for _, parts in hard), default=0)):
        layers.add(
            [
                (f"_s{number}_{item.column.name}", _fill(parts.slow[number], item))
                for item, parts in hard
                if number < len(parts.slow)
            ]
        )
    layers.add([(item.column.name, _typed(item, parts)) for item, parts in casts])


def _fill(sql: str, item: Taken) -> str:
    name = item.column.name
    sql = re.sub(r"\{([ps][0-9]+)\}", rf"e._\1_{name}", sql)
    return sql.replace("{text}", f"e._x_{name}").replace("{value}", f"e.{item.field.column}")


def _hard_text(item: Taken) -> str:
    """The raw value as text where the fast cast did not take it, else NULL."""
    text = text_of(item.field.form, f"e.{item.field.column}")
    return f"CASE WHEN e._odd THEN CASE WHEN e.{item.fast} IS NULL THEN {text} END END"


def _typed(item: Taken, parts: Cast) -> str:
    if not parts.slow:
        return f"e.{item.fast}"
    slow = f"e._s{len(parts.slow) - 1}_{item.column.name}"
    return f"CASE WHEN e._odd THEN coalesce(e.{item.fast}, {slow}) ELSE e.{item.fast} END"


def _selected(resolved: Resolved, fields: Mapping[FieldPath, Field]) -> str:
    """SQL condition: `where` selects the event; an error in it does not."""
    where = resolved.pipeline.source.where
    if where is None:
        return "TRUE"

    def render(path: FieldPath, kind: expressions.FieldKind) -> str:
        field = fields[path]
        text = text_of(field.form, f"e.{field.column}")
        if kind == "number":
            return f"CASE WHEN {is_number(text)} THEN TRY_CAST({text} AS DOUBLE) END"
        if kind == "boolean":
            return f"CASE {text} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"
        return text

    bound = expressions.bind_fields(where, render)
    assert not isinstance(bound, tuple)
    return f"coalesce(TRY({bound.sql}), FALSE)"
