"""SQL that computes a gold table from silver again, made from `model.Gold` alone with DuckDB's own parser.

Each aggregate a measure uses becomes one column of a GROUP BY; what the measure does with them is computed outside, so
that measures can name each other. Where a result depends on the order in which floats were added, the SQL also says
how far off it may be: the effect on the measure of moving each float sum by 1e-9 of the sum of absolute values.
`gold.py` compares the result with the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.errors import QueryError
from penstock.model.columns import INDEX, PLACE, ROWS, WINDOW_END, WINDOW_START
from penstock.proof import dialect
from penstock.proof.syntax import (
    Tree,
    arguments,
    children,
    column,
    column_names,
    function_name,
    literal_text,
    quote,
    rewrite,
)
from penstock.proof.windows import END, START, TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.model.pipeline import Gold
    from penstock.proof.syntax import Syntax

AGGREGATES = frozenset(
    ("count", "count_star", "count_distinct", "sum", "min", "max", "avg", "first", "last", "stddev", "quantile")
)

_INTEGERS = frozenset(
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
)
_SUM_TOLERANCE = "1e-9"
_WIDE_DECIMAL = 28
"""Digits from which on a sum of very many values may leave 38 digits on its way to a result that fits."""


@dataclass(frozen=True)
class Aggregate:
    """A column of the GROUP BY and, where its last digits depend on the order of rows, how far off it may be."""

    name: str
    sql: str
    slack: str | None


@dataclass(frozen=True)
class MeasureSql:
    """A measure over the aggregates' columns. `tolerance` is NULL or 0 where values must be equal."""

    name: str
    sql: str
    tolerance: str | None


@dataclass
class Recomputation:
    """The parts of a gold table's SQL. `types` are the types of the silver columns, by name."""

    gold: Gold
    syntax: Syntax
    type_of: Callable[[str], str]
    order: tuple[str, ...]
    aggregates: dict[str, Aggregate] = field(default_factory=dict)

    def measures(self) -> list[MeasureSql]:
        """Every measure; fills `aggregates`.

        Raises:
            QueryError: a measure cannot be understood.
        """
        trees = {measure.name: dialect.parse(self.syntax, measure.expression.sql) for measure in self.gold.measures}
        return [self._measure(name, self._outer(trees[name], trees, (name,))) for name in trees]

    def condition(self) -> str:
        """SQL of the gold table's `where`: TRUE selects a row; an error in it does not."""
        where = self.gold.where
        return "TRUE" if where is None else f"TRY({self.syntax.print(dialect.parse(self.syntax, where.sql))})"

    def grouped(self, placed: str) -> str:
        """SQL: one row per window and group, with `window_start`, `window_end` (micros), `by`, `_rows` and measures.

        For a measure with a tolerance there is a second column called `name$tolerance`.
        """
        measures = self.measures()
        by = [quote(name) for name in self.gold.by]
        keys = [f'"{START}"', f'"{END}"', *by]
        parts = [f'count(*) AS "{ROWS}"']
        for aggregate in self.aggregates.values():
            parts.append(f"{aggregate.sql} AS {quote(aggregate.name)}")
            if aggregate.slack is not None:
                parts.append(f"{aggregate.slack} AS {quote(_slack(aggregate.name))}")
        inner = f"SELECT {', '.join([*keys, *parts])} FROM ({placed}) GROUP BY {', '.join(keys)}"
        outer = [f'"{START}" AS "{WINDOW_START}"', f'"{END}" AS "{WINDOW_END}"', *by, f'"{ROWS}"']
        for measure in measures:
            outer.append(f"{measure.sql} AS {quote(measure.name)}")
            if measure.tolerance is not None:
                outer.append(f"{measure.tolerance} AS {quote(tolerance_name(measure.name))}")
        return f"SELECT {', '.join(outer)} FROM ({inner})"

    def columns(self) -> set[str]:
        """The silver columns the SQL reads, event time and place aside."""
        found = {*self.gold.by, *self.order}
        trees = [dialect.parse(self.syntax, measure.expression.sql) for measure in self.gold.measures]
        if self.gold.where is not None:
            trees.append(dialect.parse(self.syntax, self.gold.where.sql))
        for tree in trees:
            found |= _names_in(tree)
        return found

    # -- measures -----------------------------------------------------------------------------------------------------

    def _outer(self, tree: Tree, measures: Mapping[str, Tree], path: tuple[str, ...]) -> Tree:
        """The tree with aggregates and other measures replaced."""

        def change(node: Tree) -> Tree | None:
            names = column_names(node)
            if names is not None and names[-1] in measures and len(names) == 1:
                if names[0] in path:
                    raise QueryError(f"measure {path[0]} depends on itself", hint="Break the circle.")
                return self._outer(measures[names[0]], measures, (*path, names[0]))
            if function_name(node) in AGGREGATES:
                return column(self._aggregate(node).name)
            return None

        return rewrite(tree, change)

    def _measure(self, name: str, tree: Tree) -> MeasureSql:
        sql = f"TRY({self.syntax.print(tree)})"
        moved = []
        for aggregate in self.aggregates.values():
            if aggregate.slack is None or aggregate.name not in _names_in(tree):
                continue
            for sign in "+-":
                shifted = self._shift(tree, aggregate.name, sign)
                moved.append(f"coalesce(abs(TRY_CAST(TRY({shifted}) AS DOUBLE) - TRY_CAST({sql} AS DOUBLE)), 0)")
        if not moved:
            return MeasureSql(name, sql, None)
        # The rounding of the arithmetic itself comes on top.
        moved.append(f"coalesce(1e-12 * abs(TRY_CAST({sql} AS DOUBLE)), 0)")
        return MeasureSql(name, sql, " + ".join(moved))

    def _shift(self, tree: Tree, name: str, sign: str) -> str:
        replacement = self.syntax.parse(f"{quote(name)} {sign} {quote(_slack(name))}")
        return self.syntax.print(rewrite(tree, lambda node: replacement if column_names(node) == (name,) else None))

    # -- aggregates ---------------------------------------------------------------------------------------------------

    def _aggregate(self, node: Tree) -> Aggregate:
        name = f"$a{len(self.aggregates)}"
        known = self.syntax.print(node)
        if known in self.aggregates:
            return self.aggregates[known]
        aggregate = self._build(name, node)
        self.aggregates[known] = aggregate
        return aggregate

    def _build(self, name: str, node: Tree) -> Aggregate:
        function = function_name(node)
        kept = self._filter(node)
        given = arguments(node)
        if function in ("count_star", "count") and not given:
            return Aggregate(name, f"count(*){_filter_clause(kept)}", None)
        if not given:
            raise QueryError(f"{function}() wants an argument", hint="Correct the measure.")
        value = self._argument(given[0])
        if function == "count_distinct" or (function == "count" and node.get("distinct")):
            return Aggregate(name, f"count(DISTINCT {value}){_filter_clause(kept)}", None)
        if function in ("count", "min", "max"):
            return Aggregate(name, f"{function}({value}){_filter_clause(kept)}", None)
        if function in ("first", "last"):
            return Aggregate(name, self._ordered(function, value, kept), None)
        if function == "quantile":
            fraction = literal_text(given[1]) if len(given) > 1 else None
            if fraction is None:
                raise QueryError("quantile wants a number as its second argument", hint="Write quantile(price, 0.5).")
            wide = f"CAST({value} AS DOUBLE)"
            slack = f"1e-12 * max(abs({wide})){_filter_clause(kept)}"
            return Aggregate(name, f"quantile_cont({wide}, {fraction}){_filter_clause(kept)}", slack)
        return self._sum_like(name, str(function), value, kept)

    def _sum_like(self, name: str, function: str, value: str, kept: str | None) -> Aggregate:
        """sum, avg and stddev, whose results depend on the type of what is added."""
        clause = _filter_clause(kept)
        kind = self.type_of(value).upper()
        wide = f"CAST({value} AS DOUBLE)"
        if function == "stddev":
            slack = f"{_SUM_TOLERANCE} * max(abs({wide})){clause}"
            return Aggregate(name, f"stddev_samp({wide}){clause}", slack)
        if kind in _INTEGERS or kind == "BOOLEAN":
            total = f"sum(CAST({value} AS HUGEINT)){clause}" if kind == "BOOLEAN" else f"sum({value}){clause}"
            exact = f"TRY_CAST({total} AS BIGINT)"
        elif kind.startswith("DECIMAL"):
            precision, scale = (int(part) for part in kind[8:-1].split(","))
            total = exact = _decimal_sum(value, clause, precision, scale)
        else:
            slack = f"{_SUM_TOLERANCE} * {function}(abs({wide})){clause}"
            return Aggregate(name, f"{function}({wide}){clause}", slack)
        if function == "sum":
            return Aggregate(name, exact, None)
        slack = f"1e-14 * avg(abs({wide})){clause}"
        return Aggregate(name, f"CAST({total} AS DOUBLE) / nullif(count({value}){clause}, 0)", slack)

    def _ordered(self, function: str, value: str, kept: str | None) -> str:
        """first and last: by event time, the declared order, then place, among values that are not NULL."""
        order = ", ".join(quote(name) for name in (TIME, *self.order, *PLACE, INDEX))
        condition = f"{value} IS NOT NULL" if kept is None else f"{kept} AND {value} IS NOT NULL"
        return f"{function}({value} ORDER BY {order}) FILTER (WHERE {condition})"

    def _argument(self, tree: Tree) -> str:
        """SQL of an aggregate's argument; an error in it is NULL."""
        sql = self.syntax.print(tree)
        return sql if column_names(tree) is not None or literal_text(tree) is not None else f"TRY({sql})"

    def _filter(self, node: Tree) -> str | None:
        tree = node.get("filter")
        return f"TRY({self.syntax.print(tree)})" if tree else None


def tolerance_name(measure: str) -> str:
    """The column that says how far off a measure may be."""
    return f"{measure}$tolerance"


def _slack(name: str) -> str:
    return f"{name}$slack"


def _filter_clause(condition: str | None) -> str:
    return "" if condition is None else f" FILTER (WHERE {condition})"


def _decimal_sum(value: str, clause: str, precision: int, scale: int) -> str:
    """The exact sum as decimal(38, scale), or NULL where that does not hold it."""
    if precision <= _WIDE_DECIMAL:
        return f"sum({value}){clause}"
    # DuckDB's own sum stops the query on the way over 38 digits: add up all digits as one big integer.
    digits = f"CAST(sum(CAST(replace(CAST({value} AS VARCHAR), '.', '') AS BIGNUM)){clause} AS VARCHAR)"
    padded = f"lpad(ltrim({digits}, '-'), greatest(length(ltrim({digits}, '-')), {scale + 1}), '0')"
    point = f"'.' || right({padded}, {scale})" if scale else "''"
    whole = f"left({padded}, length({padded}) - {scale})"
    sign = f"CASE WHEN starts_with({digits}, '-') THEN '-' ELSE '' END"
    return f"TRY_CAST({sign} || {whole} || {point} AS DECIMAL(38,{scale}))"


def _names_in(tree: Tree) -> set[str]:
    """The names of all columns an expression refers to, wherever they are in it."""
    names = column_names(tree)
    found = set() if names is None else {names[0]}
    for child in children(tree):
        found |= _names_in(child)
    return found
