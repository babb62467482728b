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
_SPREAD_FLOOR = "1e-155"
"""Below it the squares of floats vanish or keep few digits, and with them a spread's."""

_WIDE_DECIMAL = 28
"""Digits from which on a sum of very many values may leave 38 digits on its way to a result that fits."""

_SUM_DIGITS = 36
"""A sum that stays below so many digits in all is far from overflowing."""


@dataclass(frozen=True)
class Aggregate:
    """A column of the GROUP BY. `slack` says how far off it may be, where its last digits depend on the order of rows;
    `failed` is the condition under which it has no value because a row's value could not be computed or held."""

    name: str
    sql: str
    slack: str | None = None
    failed: str | None = None


@dataclass(frozen=True)
class MeasureSql:
    """A measure over the aggregates' columns. `tolerance` is None where values must be equal."""

    name: str
    sql: str
    tolerance: str | None


@dataclass(frozen=True)
class _Argument:
    """What is aggregated: `value` is NULL for rows that a filter leaves out; `raised` says that computing it failed.
    `plain` is the same over silver's columns, where it may raise."""

    value: str
    plain: str
    raised: str | None


@dataclass
class Recomputation:
    """The parts of a gold table's SQL.

    `type_of` gives DuckDB's type of an expression over silver; `sums_below` says whether all of an expression's values
    together stay below a bound, so that no sum of some of them can overflow. `order` are silver's order columns.
    """

    gold: Gold
    syntax: Syntax
    type_of: Callable[[str], str]
    sums_below: Callable[[str, float], bool]
    order: tuple[str, ...]
    aggregates: dict[str, Aggregate] = field(default_factory=dict)
    _attempts: dict[str, str] = field(default_factory=dict)
    _needs: dict[str, list[tuple[str, Tree]]] = field(default_factory=dict)

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
            if aggregate.failed is not None:
                parts.append(f"coalesce({aggregate.failed}, FALSE) AS {quote(_failed(aggregate.name))}")
        tried = "".join(f", TRY({{'v': {sql}}}) AS {quote(name)}" for sql, name in self._attempts.items())
        inner = f"SELECT {', '.join([*keys, *parts])} FROM (SELECT *{tried} FROM ({placed})) GROUP BY {', '.join(keys)}"
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
            if names is not None and len(names) == 1:
                name = names[0] if names[0] in measures else names[0].lower()
                if name in path:
                    raise QueryError(f"measure {path[0]} depends on itself", hint="Break the circle.")
                if name in measures:
                    needed = self._outer(measures[name], measures, (*path, name))
                    self._needs.setdefault(path[-1], []).append((name, needed))
                    return needed
            if function_name(node) in AGGREGATES:
                return column(self._aggregate(node).name)
            return None

        return rewrite(tree, change)

    def _measure(self, name: str, tree: Tree) -> MeasureSql:
        value = self.syntax.print(tree)
        sql = f"CASE WHEN NOT ({' OR '.join(self._failures(name, tree))}) THEN TRY({value}) END"
        moved = []
        for aggregate in self._used(tree):
            if aggregate.slack is None:
                continue
            for sign in "+-":
                shifted = self._shift(tree, aggregate.name, sign)
                moved.append(f"coalesce(abs(TRY_CAST(TRY({shifted}) AS DOUBLE) - TRY_CAST(TRY({value}) AS DOUBLE)), 0)")
        if not moved:
            return MeasureSql(name, sql, None)
        # The rounding of the arithmetic itself comes on top.
        moved.append(f"coalesce(1e-12 * abs(TRY_CAST(TRY({value}) AS DOUBLE)), 0)")
        return MeasureSql(name, sql, " + ".join(moved))

    def _failures(self, name: str, tree: Tree) -> list[str]:
        """The conditions under which a measure is NULL because it, or one it needs, could not be computed."""
        value = self.syntax.print(tree)
        infinite = f"typeof(TRY({value})) IN ('DOUBLE', 'FLOAT') AND NOT isfinite(TRY_CAST(TRY({value}) AS DOUBLE))"
        found = [f"TRY({{'v': {value}}}) IS NULL", f"coalesce({infinite}, FALSE)"]
        found += [quote(_failed(aggregate.name)) for aggregate in self._used(tree) if aggregate.failed is not None]
        for needed, inner in self._needs.get(name, ()):
            found += self._failures(needed, inner)
        return list(dict.fromkeys(found))

    def _used(self, tree: Tree) -> list[Aggregate]:
        names = _names_in(tree)
        return [aggregate for aggregate in self.aggregates.values() if aggregate.name in names]

    def _shift(self, tree: Tree, name: str, sign: str) -> str:
        replacement = self.syntax.parse(f"{quote(name)} {sign} {quote(_slack(name))}")
        return self.syntax.print(rewrite(tree, lambda node: replacement if column_names(node) == (name,) else None))

    # -- aggregates ---------------------------------------------------------------------------------------------------

    def _aggregate(self, node: Tree) -> Aggregate:
        known = self.syntax.print(node)
        if known not in self.aggregates:
            self.aggregates[known] = self._build(f"$a{len(self.aggregates)}", node)
        return self.aggregates[known]

    def _build(self, name: str, node: Tree) -> Aggregate:
        function = function_name(node)
        given = arguments(node)
        argument = self._argument(given[0] if given else None, node.get("filter"))
        value, raised = argument.value, argument.raised
        if function in ("count_star", "count") and not given:
            return Aggregate(name, f"count({value})" if node.get("filter") else "count(*)", failed=raised)
        if not given:
            raise QueryError(f"{function}() wants an argument", hint="Correct the measure.")
        if function == "count_distinct" or (function == "count" and node.get("distinct")):
            return Aggregate(name, f"count(DISTINCT {value})", failed=raised)
        if function in ("count", "min", "max"):
            return Aggregate(name, f"{function}({value})", failed=raised)
        if function in ("first", "last"):
            return Aggregate(name, self._ordered(function, value), failed=raised)
        if function == "quantile":
            fraction = literal_text(given[1]) if len(given) > 1 else None
            if fraction is None:
                raise QueryError("quantile wants a number as its second argument", hint="Write quantile(price, 0.5).")
            wide = f"CAST({value} AS DOUBLE)"
            return Aggregate(name, f"quantile_cont({wide}, {fraction})", f"1e-12 * max(abs({wide}))", raised)
        return self._sum_like(name, str(function), argument)

    def _sum_like(self, name: str, function: str, argument: _Argument) -> Aggregate:
        """sum, avg and stddev, whose results depend on the type of what is added."""
        value, raised = argument.value, argument.raised
        kind = self.type_of(argument.plain).upper()
        wide = f"CAST({value} AS DOUBLE)"
        if function == "stddev":
            return Aggregate(
                name, f"stddev_samp({wide})", f"{_SUM_TOLERANCE} * max(abs({wide})) + {_SPREAD_FLOOR}", raised
            )
        if kind in _INTEGERS:
            exact, total = f"TRY_CAST(sum({value}) AS BIGINT)", f"CAST(sum({value}) AS DOUBLE)"
        elif kind.startswith("DECIMAL"):
            precision, scale = (int(part) for part in kind[8:-1].split(","))
            is_safe = precision <= _WIDE_DECIMAL or self.sums_below(
                f"TRY({argument.plain})", 10.0 ** (_SUM_DIGITS - scale)
            )
            plainly = (f"sum({value})", f"CAST(sum({value}) AS DOUBLE)")
            exact, total = plainly if is_safe else _decimal_sum(value, scale)
        else:
            return Aggregate(name, f"{function}({wide})", f"{_SUM_TOLERANCE} * {function}(abs({wide}))", raised)
        if function == "sum":
            overflowed = f"(count({value}) > 0 AND {exact} IS NULL)"
            return Aggregate(name, exact, failed=overflowed if raised is None else f"({raised} OR {overflowed})")
        slack = f"1e-14 * avg(abs({wide}))"
        return Aggregate(name, f"{total} / nullif(count({value}), 0)", slack, raised)

    def _ordered(self, function: str, value: str) -> str:
        """first and last: by event time, the declared order, then place, among values that are not NULL."""
        order = ", ".join(quote(name) for name in (TIME, *self.order, *PLACE, INDEX))
        return f"{function}({value} ORDER BY {order}) FILTER (WHERE {value} IS NOT NULL)"

    def _argument(self, tree: Tree | None, condition: Tree | None) -> _Argument:
        plain = "TRUE" if tree is None else self.syntax.print(tree)
        if condition is None and (tree is None or column_names(tree) is not None or literal_text(tree) is not None):
            return _Argument(plain, plain, None)
        chosen = plain if condition is None else f"CASE WHEN {self.syntax.print(condition)} THEN {plain} END"
        name = quote(self._attempts.setdefault(chosen, f"$try{len(self._attempts)}"))
        return _Argument(f"{name}.v", chosen, f"coalesce(bool_or({name} IS NULL), FALSE)")


def tolerance_name(measure: str) -> str:
    """The column that says how far off a measure may be."""
    return f"{measure}$tolerance"


def _slack(name: str) -> str:
    return f"{name}$slack"


def _failed(name: str) -> str:
    return f"{name}$failed"


def _decimal_sum(value: str, scale: int) -> tuple[str, str]:
    """The exact sum as decimal(38, scale), or NULL where that does not hold it, and the sum as a float. DuckDB's own
    sum stops the query on the way over 38 digits: this adds up all digits as one big integer, which is slow."""
    digits = f"CAST(sum(CAST(replace(CAST({value} AS VARCHAR), '.', '') AS BIGNUM)) AS VARCHAR)"
    width = f"CAST(greatest(length(ltrim({digits}, '-')), {scale + 1}) AS INTEGER)"
    padded = f"lpad(ltrim({digits}, '-'), {width}, '0')"
    point = f"'.' || right({padded}, {scale})" if scale else "''"
    whole = f"left({padded}, CAST(length({padded}) - {scale} AS BIGINT))"
    sign = f"CASE WHEN starts_with({digits}, '-') THEN '-' ELSE '' END"
    exact = f"TRY_CAST({sign} || {whole} || {point} AS DECIMAL(38,{scale}))"
    return exact, f"CAST({digits} AS DOUBLE) / 1e{scale}"


def _names_in(tree: Tree) -> set[str]:
    """The names of all columns an expression refers to, wherever they are in it."""
    names = column_names(tree)
    found = set() if names is None else {names[0]}
    for child in children(tree):
        found |= _names_in(child)
    return found
