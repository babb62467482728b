"""Checks a parsed expression and writes it again as SQL, every operation in parentheses of its own.

What a name means is a scope's business (`expressions.py`, `measures.py`); everything else is the same in all of them.
Problems are collected, not raised, so that one look tells all that is wrong.
"""

from __future__ import annotations

import re
import zoneinfo
from functools import cache
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import EXPRESSION_TEXT_MAX
from penstock.model.types import SIMPLE_KINDS
from penstock.plan import functions, sqltree
from penstock.plan.functions import ANY, BOOLEAN, LIST, NUMBER, SAME, TEXT, TIME
from penstock.plan.sqltext import literal
from penstock.plan.sqltokens import SqlProblem
from penstock.plan.sqltypes import DUCKDB_TYPES, SYNONYMS, duckdb_type, kind_of_type, type_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.plan.functions import Function
    from penstock.plan.sqltree import Node

_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM")
_DEFINITE = (NUMBER, TEXT, BOOLEAN, TIME)
_UNITS = ("date_trunc", "date_part", "date_diff", "datediff", "date_sub")
_OPTIONS_AT = {"regexp_matches": 2, "regexp_full_match": 2, "regexp_replace": 3}
_FIRST_RESULT = {"if": 1}
"""Functions of the result `same` whose first arguments are something else."""
_WITH_LAMBDA = ("list_transform", "list_filter")


class Names(Protocol):
    """What the names of an expression mean. Both `sql`s and `aggregate` raise SqlProblem."""

    def kind(self, name: sqltree.Name) -> str:
        """The kind of value a name stands for, `any` where it is not known."""

    def sql(self, name: sqltree.Name, wanted: str) -> str:
        """The SQL of a name where a value of the kind `wanted` should stand."""

    def now(self, offset: int) -> str:
        """The SQL of now(), which stands at an offset."""

    def aggregate(self, binder: Binder, call: sqltree.Call) -> str:
        """The SQL of an aggregate's result."""


class Binder:
    """Renders one tree. `problems` is complete after `render_whole`."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.problems: list[SqlProblem] = []
        self.rendered = ""
        self.rendered_kind = ANY
        self._parameters: list[dict[str, str]] = []

    def render_whole(self, node: Node, *, condition: bool) -> None:
        """Render `node` into `rendered`, in parentheses."""
        self.rendered_kind = self.kind(node)
        if condition:
            self._want_condition(node)
        sql = self.sql(node, BOOLEAN if condition else ANY)
        self.rendered = sql if _is_enclosed(sql) else f"({sql})"

    def sql(self, node: Node, wanted: str = ANY) -> str:
        """The SQL of a node where a value of the kind `wanted` should stand; NULL where there is a problem."""
        try:
            return _RENDERERS[type(node)](self, node, wanted)
        except SqlProblem as problem:
            self.problems.append(problem)
            return "NULL"

    # -- kinds --------------------------------------------------------------------------------------------------------

    def kind(self, node: Node) -> str:
        """What a node gives, as far as can be known without an engine."""
        match node:
            case sqltree.Literal():
                return node.kind if node.kind != "null" else ANY
            case sqltree.TimeLiteral():
                return TIME
            case sqltree.Name():
                return ANY if self._parameter(node) else self.names.kind(node)
            case sqltree.Call():
                return self._call_kind(node)
            case sqltree.Unary():
                return BOOLEAN if node.operator == "NOT" else self._arithmetic_kind((node.operand,))
            case sqltree.Binary():
                return self._binary_kind(node)
            case sqltree.Chain() | sqltree.Between() | sqltree.In() | sqltree.Like() | sqltree.Is():
                return BOOLEAN
            case sqltree.Case():
                results = [then for _, then in node.branches]
                return self._common(results if node.otherwise is None else [*results, node.otherwise])
            case sqltree.Cast():
                column_type = type_named(node.type_name)
                return ANY if column_type is None else kind_of_type(column_type)
            case sqltree.ListLiteral():
                return LIST
            case _:
                return ANY

    def _binary_kind(self, node: sqltree.Binary) -> str:
        if node.operator in _COMPARISONS:
            return BOOLEAN
        if node.operator == "||":
            return LIST if LIST in (self.kind(node.left), self.kind(node.right)) else TEXT
        if node.operator == "->>":
            return TEXT
        return ANY if node.operator == "->" else self._arithmetic_kind(node.children)

    def _arithmetic_kind(self, operands: Iterable[Node]) -> str:
        """A number, unless a time or something unknown takes part; a raw field in arithmetic is a number."""
        kinds = {
            NUMBER if kind == ANY and isinstance(operand, sqltree.Name) else kind
            for operand, kind in ((operand, self.kind(operand)) for operand in operands)
        }
        return NUMBER if kinds == {NUMBER} else ANY

    def _call_kind(self, node: sqltree.Call) -> str:
        function = functions.FUNCTIONS.get(node.name) or functions.AGGREGATES.get(node.name)
        if function is None or function.result != SAME:
            return ANY if function is None else function.result
        return self._common(node.arguments[_FIRST_RESULT.get(node.name, 0) :])

    def _common(self, nodes: Iterable[Node]) -> str:
        """The first kind that is known among nodes of one kind."""
        return next((kind for kind in map(self.kind, nodes) if kind != ANY), ANY)

    def _want_condition(self, node: Node) -> None:
        kind = self.kind(node)
        if kind not in (BOOLEAN, ANY):
            self.problems.append(
                SqlProblem(
                    node.offset,
                    "sql-type",
                    f"a condition is wanted here, and this is a {kind}",
                    "Compare it with something, such as x > 0 or x is not null.",
                )
            )

    # -- names and literals -------------------------------------------------------------------------------------------

    def _name(self, node: sqltree.Name, wanted: str) -> str:
        return self._parameter(node) or self.names.sql(node, wanted)

    def _parameter(self, node: sqltree.Name) -> str | None:
        """The name of a lambda's parameter, where it is one."""
        for scope in reversed(self._parameters):
            if node.text in scope:
                return scope[node.text]
        return None

    def _literal(self, node: sqltree.Literal, wanted: str) -> str:
        del wanted
        return literal(node.value) if node.kind == TEXT else node.value

    def _time_literal(self, node: sqltree.TimeLiteral, wanted: str) -> str:
        del wanted
        if not re.match(r"\s*[+-]?\d", node.value):
            raise SqlProblem(
                node.offset, "sql-syntax", f"the {node.type_name} {node.value!r}", "Write it as '2026-01-31 12:00:00'."
            )
        return f"CAST({literal(node.value)} AS {DUCKDB_TYPES[node.type_name]})"

    def _interval(self, node: sqltree.Interval, wanted: str) -> str:
        del wanted
        return f"CAST({literal(node.value)} AS INTERVAL)"

    # -- operators ----------------------------------------------------------------------------------------------------

    def _unary(self, node: sqltree.Unary, wanted: str) -> str:
        del wanted
        if node.operator == "NOT":
            self._want_condition(node.operand)
            return f"(NOT {self.sql(node.operand, BOOLEAN)})"
        return f"({node.operator} {self.sql(node.operand, NUMBER)})"

    def _binary(self, node: sqltree.Binary, wanted: str) -> str:
        del wanted
        if node.operator in _COMPARISONS:
            left, right = self._compared((node.left, node.right), node.offset)
        elif node.operator in ("->", "->>", "||"):
            left, right = self.sql(node.left, TEXT), self.sql(node.right, TEXT)
            if node.operator != "||" and not isinstance(node.right, sqltree.Literal):
                raise SqlProblem(node.right.offset, "sql-refused", "a path that is computed", "Write '$.a.b'.")
        else:
            for operand in node.children:
                if self.kind(operand) in (TEXT, BOOLEAN) and not isinstance(operand, sqltree.Literal):
                    self.problems.append(
                        SqlProblem(
                            operand.offset,
                            "sql-type",
                            f"{node.operator} wants a number, and this is a {self.kind(operand)}",
                            "Cast it: x::float64; join texts with ||.",
                        )
                    )
            left, right = self.sql(node.left, NUMBER), self.sql(node.right, NUMBER)
        return f"({left} {node.operator} {right})"

    def _compared(self, nodes: tuple[Node, ...], offset: int) -> list[str]:
        """Values that are compared with each other, each rendered as what the others are."""
        kinds = {self.kind(node) for node in nodes if not (isinstance(node, sqltree.Literal) and node.kind == TEXT)}
        definite = sorted(kinds & set(_DEFINITE))
        if len(definite) > 1:
            self.problems.append(
                SqlProblem(
                    offset,
                    "sql-type",
                    f"compares a {definite[0]} with a {definite[1]}",
                    "Cast one of them, for example x::int64 or x::string.",
                )
            )
        wanted = definite[0] if definite else self._common(nodes)
        return [self.sql(node, wanted) for node in nodes]

    def _chain(self, node: sqltree.Chain, wanted: str) -> str:
        del wanted
        for operand in node.operands:
            self._want_condition(operand)
        return "(" + f" {node.operator} ".join(self.sql(operand, BOOLEAN) for operand in node.operands) + ")"

    def _between(self, node: sqltree.Between, wanted: str) -> str:
        del wanted
        value, low, high = self._compared((node.value, node.low, node.high), node.offset)
        return f"({value} {'NOT ' if node.negated else ''}BETWEEN {low} AND {high})"

    def _in(self, node: sqltree.In, wanted: str) -> str:
        del wanted
        if not node.options:
            raise SqlProblem(node.offset, "sql-syntax", "IN with nothing in it", "Write IN ('a', 'b').")
        value, *options = self._compared((node.value, *node.options), node.offset)
        return f"({value} {'NOT ' if node.negated else ''}IN ({', '.join(options)}))"

    def _like(self, node: sqltree.Like, wanted: str) -> str:
        del wanted
        escape = ""
        if node.escape is not None:
            if not (isinstance(node.escape, sqltree.Literal) and len(node.escape.value) == 1):
                raise SqlProblem(node.escape.offset, "sql-syntax", "ESCAPE wants one character", "Write ESCAPE '!'.")
            escape = f" ESCAPE {self.sql(node.escape, TEXT)}"
        value, pattern = self.sql(node.value, TEXT), self.sql(node.pattern, TEXT)
        return f"({value} {'NOT ' if node.negated else ''}{node.operator} {pattern}{escape})"

    def _is(self, node: sqltree.Is, wanted: str) -> str:
        del wanted
        value = self.sql(node.value, TEXT if node.test == "NULL" else BOOLEAN)
        return f"({value} IS {'NOT ' if node.negated else ''}{node.test})"

    def _case(self, node: sqltree.Case, wanted: str) -> str:
        results = [then for _, then in node.branches]
        if node.otherwise is not None:
            results.append(node.otherwise)
        result_kind = wanted if wanted != ANY else self._common(results)
        if node.operand is None:
            head = "CASE"
            conditions = [self.sql(condition, BOOLEAN) for condition, _ in node.branches]
        else:
            operand, *conditions = self._compared((node.operand, *(when for when, _ in node.branches)), node.offset)
            head = f"CASE {operand}"
        branches = " ".join(
            f"WHEN {condition} THEN {self.sql(then, result_kind)}"
            for condition, (_, then) in zip(conditions, node.branches, strict=True)
        )
        tail = "" if node.otherwise is None else f" ELSE {self.sql(node.otherwise, result_kind)}"
        return f"({head} {branches}{tail} END)"

    def _cast(self, node: sqltree.Cast, wanted: str) -> str:
        del wanted
        column_type = type_named(node.type_name)
        if column_type is None:
            near = functions.near(node.type_name, (*SIMPLE_KINDS, *SYNONYMS), "Did you mean {}?")
            raise SqlProblem(
                node.offset,
                "unknown-type",
                f"no type {node.type_name!r} to cast to",
                near or f"Write one of {', '.join(SIMPLE_KINDS)}, decimal(p,s).",
            )
        return f"{'TRY_CAST' if node.safe else 'CAST'}({self.sql(node.value, TEXT)} AS {duckdb_type(column_type)})"

    def _at_time_zone(self, node: sqltree.AtTimeZone, wanted: str) -> str:
        del wanted
        self._check_zone(node.zone)
        return f"timezone({self.sql(node.zone)}, {self.sql(node.value)})"

    def _subscript(self, node: sqltree.Subscript, wanted: str) -> str:
        del wanted
        value = self.sql(node.value, TEXT)
        low = "" if node.low is None else self.sql(node.low, NUMBER)
        if not node.is_slice:
            return f"({value})[{low}]"
        return f"({value})[{low}:{'' if node.high is None else self.sql(node.high, NUMBER)}]"

    def _list(self, node: sqltree.ListLiteral, wanted: str) -> str:
        del wanted
        kind = self._common(node.items)
        return f"[{', '.join(self.sql(item, kind) for item in node.items)}]"

    def _lambda(self, node: sqltree.Lambda, wanted: str) -> str:
        del wanted
        raise SqlProblem(
            node.offset,
            "sql-refused",
            "a lambda here",
            f"Only {' and '.join(_WITH_LAMBDA)} take one, as second argument.",
        )

    # -- calls --------------------------------------------------------------------------------------------------------

    def _call(self, node: sqltree.Call, wanted: str) -> str:
        if node.name in functions.AGGREGATES:
            return self.names.aggregate(self, node)
        function = functions.FUNCTIONS.get(node.name)
        if function is None:
            if node.name in functions.NOW and not node.arguments:
                return self.names.now(node.offset)
            message, repair = functions.refusal(node.name)
            code = "sql-refused" if node.name in functions.REFUSED else "unknown-function"
            raise SqlProblem(node.offset, code, message, repair)
        if node.distinct or node.star or node.condition is not None:
            raise SqlProblem(
                node.offset, "sql-arguments", f"{node.name}() is no aggregate", "Leave DISTINCT, * and FILTER away."
            )
        check_arity(function, node)
        self._check_constants(function, node)
        if node.name == "now":
            return self.names.now(node.offset)
        return f"{_spelled(node.name)}({', '.join(self._arguments(function, node, wanted))})"

    def _arguments(self, function: Function, node: sqltree.Call, wanted: str) -> list[str]:
        common = self._call_kind(node) if function.result == SAME else TEXT
        if common == ANY:
            common = wanted
        rendered = []
        if node.name in _WITH_LAMBDA and not isinstance(node.arguments[1], sqltree.Lambda):
            raise SqlProblem(
                node.arguments[1].offset, "sql-arguments", f"{node.name}() wants a lambda", "Write lambda x: x > 0."
            )
        for position, argument in enumerate(node.arguments):
            if isinstance(argument, sqltree.Lambda) and node.name in _WITH_LAMBDA and position == 1:
                rendered.append(self._lambda_sql(argument))
                continue
            kind = function.kind(position)
            rendered.append(self.sql(argument, common if kind == ANY else kind))
        return rendered

    def _lambda_sql(self, node: sqltree.Lambda) -> str:
        if len(node.parameters) > 2:
            raise SqlProblem(node.offset, "sql-arguments", "a lambda of more than two names", "Write lambda x: ... .")
        depth = len(self._parameters)
        scope = {name: f"item_{depth}_{number}" for number, name in enumerate(node.parameters)}
        self._parameters.append(scope)
        body = self.sql(node.body)
        self._parameters.pop()
        names = ", ".join(scope.values())
        return f"lambda {names}: {body}"

    def _check_constants(self, function: Function, node: sqltree.Call) -> None:
        for position in function.constants:
            if position < len(node.arguments):
                self._check_constant(function, position, node.arguments[position])
        if function.name == "timezone":
            self._check_zone(node.arguments[0])

    def _check_constant(self, function: Function, position: int, argument: Node) -> None:
        if not isinstance(argument, sqltree.Literal) or argument.kind not in (TEXT, NUMBER):
            raise SqlProblem(
                argument.offset,
                "sql-arguments",
                f"argument {position + 1} of {function.name}() is computed",
                "Write it as a literal.",
            )
        value = argument.value
        if function.text_length == position and not (value.isdigit() and int(value[:9]) <= EXPRESSION_TEXT_MAX):
            raise SqlProblem(
                argument.offset,
                "sql-arguments",
                f"{function.name}() to {value} characters",
                f"Use a whole number up to {EXPRESSION_TEXT_MAX:,}.",
            )
        if function.name in _UNITS and value.lower() not in functions.TIME_PARTS:
            near = functions.near(value, functions.TIME_PARTS, "Did you mean {}?")
            raise SqlProblem(argument.offset, "sql-arguments", f"no part of a time {value!r}", near or "Write 'hour'.")
        if function.name.startswith("regexp_") and argument.kind == TEXT:
            _check_pattern(function, position, argument)
        if function.name in ("format", "printf") and re.search(r"\d{4}|\*", value):
            raise SqlProblem(
                argument.offset, "sql-arguments", f"the template {value!r} asks for a huge width", "Use up to 999."
            )

    def _check_zone(self, node: Node) -> None:
        zone = node.value if isinstance(node, sqltree.Literal) else ""
        if zone not in time_zones():
            near = functions.near(zone, time_zones(), "Did you mean {!r}?")
            raise SqlProblem(node.offset, "sql-arguments", f"no time zone {zone!r}", near or "Write 'Europe/Paris'.")


def check_arity(function: Function, node: sqltree.Call) -> None:
    """Refuse a call with too few or too many arguments.

    Raises:
        SqlProblem: with the function's signature.
    """
    given = len(node.arguments)
    most = function.arguments_max
    if given < function.arguments_min or (most is not None and given > most):
        raise SqlProblem(
            node.offset,
            "sql-arguments",
            f"{node.name}() with {given} argument{'' if given == 1 else 's'}",
            f"Write {function.signature}.",
        )


@cache
def time_zones() -> frozenset[str]:
    """Every zone that both Python and DuckDB know by name; abbreviations such as EST5EDT are not among them."""
    return frozenset(name for name in zoneinfo.available_timezones() if "/" in name or name == "UTC")


def _check_pattern(function: Function, position: int, argument: sqltree.Literal) -> None:
    if position == _OPTIONS_AT.get(function.name):
        if not re.fullmatch("[cgilmnps]*", argument.value):
            raise SqlProblem(argument.offset, "sql-arguments", f"the options {argument.value!r}", "Write 'i' or 'g'.")
        return
    try:
        pc.match_substring_regex(pa.array([""]), argument.value)
    except pa.ArrowException as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise SqlProblem(
            argument.offset, "sql-arguments", f"the pattern {argument.value!r}: {reason}", "Patterns are RE2's."
        ) from None


def _spelled(name: str) -> str:
    """A function's name as DuckDB's parser takes it; some are keywords of its own grammar."""
    return {"overlay": '"overlay"'}.get(name, name)


def _is_enclosed(sql: str) -> bool:
    """Whether the first parenthesis closes with the last character; texts and quoted names are passed over."""
    if not sql.startswith("("):
        return False
    depth = 0
    for match in re.finditer(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]", sql):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            return match.end() == len(sql)
    return False


_RENDERERS: dict[type[Node], Callable[[Binder, Node, str], str]] = {
    sqltree.Literal: Binder._literal,  # type: ignore[dict-item]
    sqltree.TimeLiteral: Binder._time_literal,  # type: ignore[dict-item]
    sqltree.Interval: Binder._interval,  # type: ignore[dict-item]
    sqltree.Name: Binder._name,  # type: ignore[dict-item]
    sqltree.Call: Binder._call,  # type: ignore[dict-item]
    sqltree.Unary: Binder._unary,  # type: ignore[dict-item]
    sqltree.Binary: Binder._binary,  # type: ignore[dict-item]
    sqltree.Chain: Binder._chain,  # type: ignore[dict-item]
    sqltree.Between: Binder._between,  # type: ignore[dict-item]
    sqltree.In: Binder._in,  # type: ignore[dict-item]
    sqltree.Like: Binder._like,  # type: ignore[dict-item]
    sqltree.Is: Binder._is,  # type: ignore[dict-item]
    sqltree.Case: Binder._case,  # type: ignore[dict-item]
    sqltree.Cast: Binder._cast,  # type: ignore[dict-item]
    sqltree.AtTimeZone: Binder._at_time_zone,  # type: ignore[dict-item]
    sqltree.Subscript: Binder._subscript,  # type: ignore[dict-item]
    sqltree.ListLiteral: Binder._list,  # type: ignore[dict-item]
    sqltree.Lambda: Binder._lambda,  # type: ignore[dict-item]
}
"""How each node is rendered."""
