"""What refine needs to know before it writes SQL: types of all columns, bound expressions, the order of computing, and
findings about everything that does not add up. `compile.py` asks first for the findings, then for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.model.finding import Finding
from penstock.model.pipeline import NOWHERE, CsvFormat, TextFormat
from penstock.model.types import ColumnType
from penstock.plan import expressions, times
from penstock.plan.order import levels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.fields import FieldPath
    from penstock.model.pipeline import Column, Lookup, Pipeline
    from penstock.plan.expressions import Bound

    References = Mapping[str, Mapping[str, ColumnType]]

SYSTEM_TYPES = {
    "_source": ColumnType("int32"),
    "_partition": ColumnType("int32"),
    "_offset": ColumnType("int64"),
    "_index": ColumnType("int32"),
    "_timestamp": ColumnType("timestamp"),
    "_ingested_at": ColumnType("timestamp"),
    "_extra": ColumnType("json"),
}
"""What rules and sql columns may read besides the columns themselves."""


@dataclass(frozen=True)
class Resolved:
    """A pipeline's columns and expressions, understood. `types` has the columns in table order; `groups` are the names
    of lookup and sql columns, each group needing only what comes before it; `where_paths` are the fields of `where`."""

    pipeline: Pipeline
    types: Mapping[str, ColumnType]
    sql: Mapping[str, Bound]
    rules: Mapping[str, Bound]
    groups: tuple[tuple[str, ...], ...]
    where_paths: tuple[FieldPath, ...]
    findings: tuple[Finding, ...]


def resolve(pipeline: Pipeline, references: References) -> Resolved:
    """Understand the refine half of a pipeline. Never raises; where there are findings the rest may be incomplete."""
    findings: list[Finding] = []
    silver = pipeline.silver
    types: dict[str, ColumnType] = {}
    for column in silver.columns:
        found = _column_type(column, references)
        if isinstance(found, Finding):
            findings.append(found)
        else:
            types[column.name] = found
    for column in silver.columns:
        findings += _path_findings(column, pipeline)
        findings += _column_findings(column, types, references, {item.name: item.key for item in pipeline.references})
    # A lookup whose type is unknown has its finding already; text keeps the expressions that use it from another.
    scope = SYSTEM_TYPES | {column.name: types.get(column.name, ColumnType("string")) for column in silver.columns}
    sql: dict[str, Bound] = {}
    rules: dict[str, Bound] = {}
    wanted = [(column.name, column.sql, sql) for column in silver.columns if column.sql is not None]
    wanted += [(rule.name, rule.check, rules) for rule in silver.rules]
    for name, expression, target in wanted:
        bound = expressions.bind(expression, scope, condition=target is rules)
        if isinstance(bound, tuple):
            findings += bound
        else:
            target[name] = bound
    groups, cyclic = _groups(pipeline, sql)
    findings += [_cycle(column, cyclic) for column in silver.columns if column.name in cyclic]
    where_paths, where_findings = _where(pipeline)
    findings += where_findings + _format_findings(pipeline)
    return Resolved(pipeline, types, sql, rules, groups, where_paths, tuple(findings))


def _groups(pipeline: Pipeline, sql: Mapping[str, Bound]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    needs: dict[str, tuple[str, ...]] = {}
    for column in pipeline.silver.columns:
        if column.lookup is not None:
            needs[column.name] = column.lookup.on
        elif column.name in sql:
            needs[column.name] = sql[column.name].columns
    return levels(needs)


def _cycle(column: Column, cyclic: tuple[str, ...]) -> Finding:
    mark = column.sql.mark if column.sql is not None else column.mark
    return Finding(
        mark,
        "cycle",
        f"column {column.name} needs itself, by way of {', '.join(cyclic)}",
        "Write at least one of these columns without the others.",
    )


def _where(pipeline: Pipeline) -> tuple[tuple[FieldPath, ...], list[Finding]]:
    """The fields that `where` reads, in the order of first use."""
    if pipeline.source.where is None:
        return (), []

    def unknown(_path: FieldPath, _kind: expressions.FieldKind) -> str:
        return "NULL"

    bound = expressions.bind_fields(pipeline.source.where, unknown)
    return ((), list(bound)) if isinstance(bound, tuple) else (bound.paths, [])


def _column_type(column: Column, references: References) -> ColumnType | Finding:
    if column.lookup is None:
        assert column.type is not None
        return column.type
    columns = references.get(column.lookup.reference)
    if columns is None:
        known = ", ".join(references) or "none"
        message = f"column {column.name}: there is no reference {column.lookup.reference!r} (known: {known})"
        return Finding(column.mark, "unknown-reference", message, "Declare it under `references`, or correct the name.")
    if column.lookup.column not in columns:
        message = (
            f"column {column.name}: reference {column.lookup.reference} has no column {column.lookup.column!r} "
            f"(it has {', '.join(columns)})"
        )
        return Finding(column.mark, "unknown-column", message, "Correct the name, or add the column to the file.")
    found = columns[column.lookup.column]
    if column.type is not None and column.type != found:
        message = (
            f"column {column.name}: {column.type}, but {column.lookup.reference}.{column.lookup.column} is {found}"
        )
        return Finding(
            column.mark, "lookup-type", message, f"Leave the type out, or declare the reference's as {column.type}."
        )
    return found


def _column_findings(
    column: Column, types: Mapping[str, ColumnType], references: References, keys: Mapping[str, tuple[str, ...]]
) -> list[Finding]:
    if column.lookup is not None:
        if column.name not in types:
            return []
        return _lookup_findings(column, column.lookup, types, references, keys.get(column.lookup.reference, ()))
    found = []
    if column.path is not None and column.path.is_meta:
        if column.path.root == "_timestamp" and column.type is not None and column.type.kind != "timestamp":
            message = f"column {column.name}: _timestamp is a timestamp, not {column.type}"
            found.append(Finding(column.mark, "path-type", message, "Declare the column's type as timestamp."))
        if column.path.root == "_headers" and len(column.path.steps) < 2:
            message = f"column {column.name}: _headers needs the name of a header"
            found.append(Finding(column.mark, "path", message, "Write _headers.name."))
    if column.format is not None:
        for part in times.unknown_specifiers(column.format):
            message = f"column {column.name}: {part!r} in the format {column.format!r} is not known"
            found.append(
                Finding(column.mark, "format", message, "Use the specifiers of strptime, e.g. %Y-%m-%d %H:%M:%S.")
            )
    return found


def _path_findings(column: Column, pipeline: Pipeline) -> list[Finding]:
    """Whether the records' format can have a value at the column's path."""
    path, record_format = column.path, pipeline.source.format
    if path is None or path.is_meta:
        return []
    is_flat = isinstance(record_format, CsvFormat) or (isinstance(record_format, TextFormat) and not record_format.json)
    if is_flat and len(path.steps) > 1:
        message = f"column {column.name}: a field of {record_format.kind} has no members, so there is no {path}"
        repair = "Put a name with a dot in it in quotes: from: '\"a.b\"'."
        return [Finding(column.mark, "path", message, repair)]
    return []


def _lookup_findings(
    column: Column, lookup: Lookup, types: Mapping[str, ColumnType], references: References, key: tuple[str, ...]
) -> list[Finding]:
    """Whether the columns `on` can be compared with the reference's key at all."""
    columns = references.get(lookup.reference, {})
    if columns and len(key) != len(lookup.on):
        message = (
            f"column {column.name}: {len(lookup.on)} columns to look up {lookup.reference} by its key {', '.join(key)}"
        )
        return [Finding(column.mark, "lookup-key", message, "Name as many columns in `on` as the key has.")]
    found = []
    for own, other in zip(lookup.on, key, strict=False):
        if own in types and other in columns and not _comparable(types[own], columns[other]):
            message = f"column {column.name}: {own} is {types[own]}, but {lookup.reference}.{other} is {columns[other]}"
            repair = f"Declare `columns: {{{other}: {types[own]}}}` in the reference."
            found.append(Finding(column.mark, "lookup-type", message, repair))
    return found


def _comparable(left: ColumnType, right: ColumnType) -> bool:
    exact = left.is_integer or left.kind == "decimal"
    return left == right or (exact and (right.is_integer or right.kind == "decimal"))


def _format_findings(pipeline: Pipeline) -> list[Finding]:
    if not isinstance(pipeline.source.format, TextFormat):
        return []
    try:
        pc.match_substring_regex(pa.array([""]), pipeline.source.format.pattern)
    except pa.ArrowInvalid as error:
        message = f"the pattern {pipeline.source.format.pattern!r} is not a regular expression: {error}"
        return [Finding(NOWHERE, "pattern", message, "Write it in the syntax of RE2, with named groups (?P<name>...).")]
    return []
