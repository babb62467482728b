"""Binds the measures of a gold table: expressions over aggregates, over other measures, and over `by` columns.

Inside an aggregate a name is a silver column; outside it is a measure of the same gold table, else a column of `by`.
The aggregates themselves are in `aggregates.py`; `gold.py` makes SQL of what is bound here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.plan import functions, sqltree
from penstock.plan.aggregates import Aggregates
from penstock.plan.expressions import TypedNames, findings_of, unknown_column
from penstock.plan.numerics import FLOAT, INTEGER, numeric
from penstock.plan.order import levels
from penstock.plan.sqlbinder import Binder, check_arity
from penstock.plan.sqlparser import parse
from penstock.plan.sqltext import identifier
from penstock.plan.sqltokens import SqlProblem
from penstock.plan.sqltypes import kind_of_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.model.finding import Finding
    from penstock.model.pipeline import Gold, Measure, Silver
    from penstock.model.types import ColumnType
    from penstock.plan.sqltree import Call, Name, Node


@dataclass(frozen=True)
class BoundMeasure:
    """One measure. `sql` reads results of aggregates by name, measures through `value_name`, and `by` columns.

    `aggregates` and `measures` are those it reads, `columns` the silver columns all of it comes from directly. `type`
    is its type, or its kind (number, text, ...) where only an engine can tell the type.
    """

    name: str
    sql: str
    aggregates: tuple[str, ...]
    measures: tuple[str, ...]
    columns: tuple[str, ...]
    may_fail: bool
    may_be_float: bool
    type: str


@dataclass(frozen=True)
class BoundMeasures:
    """All measures of a gold table, in groups that each need only earlier ones, over shared aggregates."""

    groups: tuple[tuple[BoundMeasure, ...], ...]
    aggregates: Aggregates

    def __iter__(self) -> Iterator[BoundMeasure]:
        return (measure for group in self.groups for measure in group)


def value_name(measure: str) -> str:
    """The column that holds a measure's value while others are computed from it."""
    return identifier(f"_r_{measure}")


def bind_measures(gold: Gold, columns: Mapping[str, ColumnType], silver: Silver) -> BoundMeasures | tuple[Finding, ...]:
    """The measures of `gold`, or everything that is wrong with them. Never raises."""
    rows = RowNames(columns)
    aggregates = Aggregates(rows, silver.order)
    bound: dict[str, BoundMeasure] = {}
    findings: list[Finding] = []
    for measure in gold.measures:
        names = MeasureNames(gold, columns, rows, aggregates)
        problems = _bind_one(measure, names, bound)
        findings += findings_of(measure.expression, problems)
    groups, cyclic = levels({name: measure.measures for name, measure in bound.items()})
    for measure in gold.measures:
        if measure.name in cyclic:
            problem = SqlProblem(
                0,
                "cycle",
                f"measure {measure.name} needs itself, by way of {', '.join(cyclic)}",
                "Write at least one of these measures without the others.",
            )
            findings += findings_of(measure.expression, [problem])
    if findings:
        return tuple(sorted(set(findings)))
    return BoundMeasures(tuple(tuple(bound[name] for name in group) for group in groups), aggregates)


def _bind_one(measure: Measure, names: MeasureNames, bound: dict[str, BoundMeasure]) -> list[SqlProblem]:
    """Add a measure to `bound`; returns what is wrong with it."""
    try:
        node = parse(measure.expression.sql)
    except SqlProblem as problem:
        return [problem]
    binder = Binder(names)
    names.rows.used.clear()
    binder.render_whole(node, condition=False)
    bound[measure.name] = BoundMeasure(
        measure.name,
        binder.rendered,
        tuple(names.results),
        tuple(names.measures),
        (*names.rows.used, *names.by_used),
        may_fail=not _is_plain(node),
        may_be_float=binder.rendered_kind in (functions.NUMBER, functions.ANY),
        type=_type(node, names) or (binder.rendered_kind if binder.rendered_kind != functions.ANY else ""),
    )
    return binder.problems


def _is_plain(node: Node) -> bool:
    """Whether a measure is one aggregate, or a quotient of them, none of which can raise."""
    if isinstance(node, sqltree.Binary) and node.operator == "/":
        return all(_is_plain(child) and _is_number(child) for child in node.children)
    return isinstance(node, sqltree.Call) and node.name in functions.AGGREGATES


def _is_number(node: Node) -> bool:
    name = node.name if isinstance(node, sqltree.Call) else ""
    return name in ("count", "count_distinct", "sum", "avg", "stddev", "quantile")


def _type(node: Node, names: MeasureNames) -> str:
    """The type of a measure that is one aggregate, or a quotient; empty of others."""
    if isinstance(node, sqltree.Binary) and node.operator == "/":
        return "float64"
    if not isinstance(node, sqltree.Call) or node.name not in functions.AGGREGATES:
        return ""
    if node.name in ("count", "count_distinct"):
        return "int64"
    if node.name in ("avg", "stddev", "quantile") or not node.arguments:
        return "float64"
    argument = node.arguments[0]
    if node.name == "sum":
        found = numeric(argument, names.rows.type_of)
        if found is None:
            return ""
        return {INTEGER: "int64", FLOAT: "float64"}.get(found.kind, f"decimal(38,{found.scale})")
    column_type = names.rows.type_of(argument) if isinstance(argument, sqltree.Name) else None
    return "" if column_type is None else str(column_type)


class RowNames(TypedNames):
    """The scope inside an aggregate: one silver row."""

    def aggregate(self, binder: Binder, call: Call) -> str:
        del binder
        raise SqlProblem(
            call.offset, "sql-aggregate", f"the aggregate {call.name}() inside another", "Aggregate values of one row."
        )


class MeasureNames:
    """The scope outside aggregates; collects what a measure reads."""

    def __init__(self, gold: Gold, columns: Mapping[str, ColumnType], rows: RowNames, aggregates: Aggregates) -> None:
        self._gold = gold
        self._columns = columns
        self._aggregates = aggregates
        self._known = {measure.name for measure in gold.measures}
        self.rows = rows
        self.results: list[str] = []
        self.measures: list[str] = []
        self.by_used: list[str] = []

    def kind(self, name: Name) -> str:
        found = self._found(name)
        is_column = found in self._gold.by and found not in self._known
        return kind_of_type(self._columns[found]) if is_column and found in self._columns else functions.ANY

    def sql(self, name: Name, wanted: str) -> str:
        del wanted
        found = self._found(name)
        if found in self._known:
            _add(self.measures, found)
            return value_name(found)
        if found in self._gold.by:
            _add(self.by_used, found)
            return identifier(found)
        if found in self._columns:
            raise SqlProblem(
                name.offset,
                "sql-aggregate",
                f"the column {found} outside an aggregate: which of the window's values?",
                f"Write last({found}) or another aggregate, or add it to `by`.",
            )
        raise unknown_column(name, [*self._known, *self._columns])

    def now(self, offset: int) -> str:
        raise SqlProblem(
            offset, "sql-refused", "now() outside an aggregate: each row has its own", "Write max(now()) or leave it."
        )

    def aggregate(self, binder: Binder, call: Call) -> str:
        function = functions.AGGREGATES[call.name]
        if call.distinct:
            if call.name != "count" or not call.arguments:
                raise SqlProblem(call.offset, "sql-arguments", f"DISTINCT in {call.name}()", "Write count_distinct(x).")
            call = sqltree.Call(call.offset, "count_distinct", call.arguments, condition=call.condition)
        if call.star and call.name != "count":
            raise SqlProblem(call.offset, "sql-arguments", f"{call.name}(*)", f"Write {function.signature}.")
        check_arity(function, call)
        inner = Binder(self.rows)
        try:
            result = self._aggregates.add(inner, call)
        finally:
            binder.problems += inner.problems
        _add(self.results, result.name)
        return result.name

    def _found(self, name: Name) -> str:
        """The name as the gold table or silver has it; unquoted names are in small letters there."""
        known = {*self._known, *self._gold.by, *self._columns}
        return name.text if name.quoted or name.text in known else name.text.lower()


def _add(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)
