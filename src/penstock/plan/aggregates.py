"""Aggregates as mergeable states: what a group of rows is reduced to, how two states become one, what comes out.

State, merge and result of one aggregate are SQL texts over the same column names; `gold.py` puts them into SELECTs.
Calls that are the same share their state, and so do those that need the same: avg(x) is sum(x) and count(x). All are
exact: integers and decimals are added without rounding, and a sum that its type cannot hold is noticed, not raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.limits import SUM_DIGITS_MAX
from penstock.model.columns import INDEX, OFFSET, PARTITION, ROWS, SOURCE
from penstock.plan.functions import BOOLEAN
from penstock.plan.numerics import DECIMAL, FLOAT, INTEGER, Numeric, cannot_fail, numeric
from penstock.plan.sqltext import identifier
from penstock.plan.sqltokens import SqlProblem
from penstock.plan.sqltree import Literal
from penstock.plan.windows import TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.plan.expressions import TypedNames
    from penstock.plan.sqlbinder import Binder
    from penstock.plan.sqltree import Call, Node

_HALF_DIGITS = 19
"""A decimal too long for its sums to be safe is added in two halves; the lower one has this many digits."""


@dataclass(frozen=True)
class State:
    """One column of a partial: reduced from rows by `partial`, from partials by `merge` (None: only from all rows)."""

    name: str
    partial: str
    merge: str | None


@dataclass(frozen=True)
class Result:
    """One aggregate's value, as SQL over states, and the condition under which it has none because it failed."""

    name: str
    value: str
    failed: str


@dataclass(frozen=True)
class _Argument:
    """An aggregate's argument: SQL over rows, the column that is NULL where it raised, and its class of numbers."""

    sql: str
    attempt: str | None
    numeric: Numeric | None


class Aggregates:
    """The aggregates of one gold table. `order` are silver's order columns, which break ties of event time."""

    def __init__(self, names: TypedNames, order: Sequence[str]) -> None:
        self._names = names
        self._order = order
        self._states: dict[str, State] = {}
        self._results: dict[tuple[str, str], Result] = {}
        self.attempts: dict[str, str] = {}
        """SQL of arguments that may raise -> the column of rows that holds `{'v': value}`, NULL where they did."""
        self.means: dict[str, str] = {}
        """Column of partials -> SQL of the mean of a whole group, which merging deviations needs beforehand."""

    @property
    def states(self) -> tuple[State, ...]:
        return tuple(self._states.values())

    @property
    def results(self) -> tuple[Result, ...]:
        return tuple(self._results.values())

    @property
    def mergeable(self) -> bool:
        return all(state.merge is not None for state in self.states)

    def add(self, binder: Binder, call: Call) -> Result:
        """The result of a call; calls that are alike have one.

        Raises:
            SqlProblem: the call makes no sense.
        """
        if call.name == "count" and not call.arguments and call.condition is None:
            return self._result("count", ROWS, lambda: (ROWS, "FALSE"))
        node = call.arguments[0] if call.arguments else Literal(call.offset, "boolean", "TRUE")
        as_float = call.name in ("avg", "stddev", "quantile") and numeric(node, self._names.type_of) is None
        argument = self._argument(binder, call, node, "DOUBLE" if as_float else None)
        if binder.problems:
            # What is wrong with the argument has been said; nothing is to be built on it.
            raise SqlProblem(binder.problems[-1].offset, *_said(binder.problems[-1]))
        maker = _MAKERS[call.name]
        detail = _share(call) if call.name == "quantile" else ""
        return self._result(call.name + detail, argument.sql, lambda: maker(self, argument, call))

    def _result(self, what: str, argument: str, make: Callable[[], tuple[str, str]]) -> Result:
        key = (what, argument)
        if key not in self._results:
            value, failed = make()
            self._results[key] = Result(f"_v{len(self._results)}", value, failed)
        return self._results[key]

    def _argument(self, binder: Binder, call: Call, node: Node, cast: str | None) -> _Argument:
        sql = binder.sql(node)
        type_of = self._names.type_of
        number = numeric(node, type_of)
        safe = cannot_fail(node, type_of) and cast is None
        if cast is not None:
            sql, number = f"CAST({sql} AS {cast})", Numeric(FLOAT)
        if call.condition is not None:
            sql = f"CASE WHEN {binder.sql(call.condition, BOOLEAN)} THEN {sql} END"
            safe = safe and cannot_fail(call.condition, type_of)
        if safe:
            return _Argument(sql, None, number)
        attempt = self.attempts.setdefault(sql, f"_arg{len(self.attempts)}")
        return _Argument(f"{attempt}.v", attempt, number)

    def _state(self, partial: str, merge: str | None) -> str:
        """The name of a state; `merge` has {s} for it."""
        if partial not in self._states:
            name = f"_s{len(self._states)}"
            self._states[partial] = State(name, partial, None if merge is None else merge.replace("{s}", name))
        return self._states[partial].name

    def _raised(self, argument: _Argument) -> str:
        """The condition that the argument raised for a row of the group."""
        if argument.attempt is None:
            return "FALSE"
        return f"coalesce({self._state(f'bool_or({argument.attempt} IS NULL)', 'bool_or({s})')}, FALSE)"

    # -- states that several aggregates use ---------------------------------------------------------------------------

    def _count_state(self, argument: _Argument) -> str:
        return self._state(f"count({argument.sql})", "CAST(sum({s}) AS BIGINT)")

    def _total(self, argument: _Argument, number: Numeric) -> tuple[str, str]:
        """SQL of the exact sum in its type, and of the same as a float (which does not overflow)."""
        if number.kind == FLOAT:
            state = self._state(f"fsum(CAST({argument.sql} AS DOUBLE))", "fsum({s})")
            return state, state
        exact = f"DECIMAL(38,{number.scale})"
        if number.kind == INTEGER or number.digits <= SUM_DIGITS_MAX:
            state = self._state(f"CAST(sum({argument.sql}) AS {exact})", f"CAST(sum({{s}}) AS {exact})")
            return state, f"CAST({state} AS DOUBLE)"
        return self._halves(argument, number.scale)

    def _halves(self, argument: _Argument, scale: int) -> tuple[str, str]:
        """As `_total`, for decimals of which a few may exceed 38 digits: the lower 19 digits and the rest are added
        apart, and put together at the end, where too much becomes NULL."""
        exact = f"DECIMAL(38,{scale})"
        long = f"CAST({argument.sql} AS {exact})"
        unit = f"CAST('1e{_HALF_DIGITS - scale}' AS {exact})"
        low = f"({long} % {unit})"
        low_state = self._state(f"sum{low}", "CAST(sum({s}) AS " + exact + ")")
        if scale <= _HALF_DIGITS:
            factor = 10 ** (_HALF_DIGITS - scale)
            high = f"CAST(sum(CAST({long} - {low} AS HUGEINT) // {factor}) AS DECIMAL(38,0))"
            high_state = self._state(high, "CAST(sum({s}) AS DECIMAL(38,0))")
            high_value = f"CAST(CAST({high_state} AS HUGEINT) * {factor} AS {exact})"
            as_float = f"(CAST({high_state} AS DOUBLE) * 1e{_HALF_DIGITS - scale} + CAST({low_state} AS DOUBLE))"
        else:
            high_exact = f"DECIMAL(38,{scale - _HALF_DIGITS})"
            high = f"CAST(sum(CAST({long} - {low} AS {high_exact})) AS {high_exact})"
            high_state = self._state(high, "CAST(sum({s}) AS " + high_exact + ")")
            high_value = f"CAST({high_state} AS {exact})"
            as_float = f"(CAST({high_state} AS DOUBLE) + CAST({low_state} AS DOUBLE))"
        return f"TRY({high_value} + {low_state})", as_float

    # -- aggregates ---------------------------------------------------------------------------------------------------

    def _count(self, argument: _Argument, call: Call) -> tuple[str, str]:
        del call
        return self._count_state(argument), self._raised(argument)

    def _count_distinct(self, argument: _Argument, call: Call) -> tuple[str, str]:
        del call
        return self._state(f"count(DISTINCT {argument.sql})", None), self._raised(argument)

    def _sum(self, argument: _Argument, call: Call) -> tuple[str, str]:
        number = argument.numeric
        if number is None:
            raise SqlProblem(
                call.offset,
                "sql-type",
                "the sum of something that may be no number",
                "Cast it: sum((...)::int64), sum((...)::float64) or sum((...)::decimal(38,8)); to count rows for which "
                "a condition holds write count() filter (where ...).",
            )
        total, _ = self._total(argument, number)
        if number.kind == FLOAT:
            return total, self._raised(argument)
        if number.kind == DECIMAL and number.digits <= SUM_DIGITS_MAX:
            return total, self._raised(argument)
        value = f"TRY_CAST({total} AS BIGINT)" if number.kind == INTEGER else total
        return value, f"({self._raised(argument)} OR ({self._count_state(argument)} > 0 AND {value} IS NULL))"

    def _avg(self, argument: _Argument, call: Call) -> tuple[str, str]:
        del call
        _, total = self._total(argument, argument.numeric or Numeric(FLOAT))
        return f"({total} / {self._count_state(argument)})", self._raised(argument)

    def _extreme(self, argument: _Argument, call: Call) -> tuple[str, str]:
        return self._state(f"{call.name}({argument.sql})", f"{call.name}({{s}})"), self._raised(argument)

    def _at_an_end(self, argument: _Argument, call: Call) -> tuple[str, str]:
        """first and last: the least or greatest of (time, order, place), with the value along. NULLs count as greatest
        in DuckDB's structs, which is where they belong."""
        extreme = "min" if call.name == "first" else "max"
        order = [f"'o{number}': {identifier(column)}" for number, column in enumerate(self._order)]
        place = [f"'p{number}': {name}" for number, name in enumerate((SOURCE, PARTITION, OFFSET, INDEX))]
        entry = "{" + ", ".join((f"'t': {TIME}", *order, *place, f"'v': {argument.sql}")) + "}"
        state = self._state(f"{extreme}({entry}) FILTER (WHERE {argument.sql} IS NOT NULL)", f"{extreme}({{s}})")
        return f"{state}.v", self._raised(argument)

    def _stddev(self, argument: _Argument, call: Call) -> tuple[str, str]:
        """Count, mean and squared deviations; merged as Chan, Golub and LeVeque do (1979), which stays accurate."""
        del call
        value = f"CAST({argument.sql} AS DOUBLE)"
        count = self._count_state(argument)
        # Merging reads the old mean and deviations together, so both are functions of the group's mean.
        mean_name = f"_mean{len(self.means)}"
        mean = self._state(f"avg({value})", f"any_value({mean_name})")
        self.means[mean_name] = f"sum({count} * {mean}) OVER whole / sum({count}) OVER whole"
        deviations = self._state(
            f"var_pop({value}) * count({value})",
            f"sum({{s}}) + sum({count} * ({mean} - {mean_name}) * ({mean} - {mean_name}))",
        )
        return f"CASE WHEN {count} > 1 THEN sqrt({deviations} / ({count} - 1)) END", self._raised(argument)

    def _quantile(self, argument: _Argument, call: Call) -> tuple[str, str]:
        state = self._state(f"quantile_cont(CAST({argument.sql} AS DOUBLE), {_share(call)})", None)
        return state, self._raised(argument)


_MAKERS: dict[str, Callable[[Aggregates, _Argument, Call], tuple[str, str]]] = {
    "count": Aggregates._count,
    "count_distinct": Aggregates._count_distinct,
    "sum": Aggregates._sum,
    "avg": Aggregates._avg,
    "min": Aggregates._extreme,
    "max": Aggregates._extreme,
    "first": Aggregates._at_an_end,
    "last": Aggregates._at_an_end,
    "stddev": Aggregates._stddev,
    "quantile": Aggregates._quantile,
}


def _share(call: Call) -> str:
    """A quantile's second argument.

    Raises:
        SqlProblem: it is no literal from 0 to 1.
    """
    node = call.arguments[1]
    if not isinstance(node, Literal) or node.kind != "number" or not 0 <= float(node.value) <= 1:
        raise SqlProblem(node.offset, "sql-arguments", "a quantile outside 0 to 1", "Write quantile(x, 0.95).")
    return node.value


def _said(problem: SqlProblem) -> tuple[str, str, str]:
    return problem.code, problem.message, problem.repair
