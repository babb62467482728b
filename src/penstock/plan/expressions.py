"""Binds a user's SQL expression: text in, either SQL we can vouch for or findings with their exact places.

There are two scopes. Over *typed columns* (`bind`: rules, sql columns, gold where) a name is a silver column, rendered
quoted. Over *raw fields* (`bind_fields`: source.where) a name is a field path of the event, rendered by the caller in
the kind its neighbours want. Which functions exist is `functions.py`'s table; aggregates are `measures.py`'s; the
checks of the tree are in `sqlbinder.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from penstock.model.columns import EXTRA, FLAGS, INDEX, INGESTED_AT, OFFSET, PARTITION, SOURCE, TIMESTAMP
from penstock.model.finding import Finding
from penstock.model.types import STRING, ColumnType
from penstock.model.types import TIMESTAMP as TIMESTAMP_TYPE
from penstock.plan import functions
from penstock.plan.sqlbinder import Binder
from penstock.plan.sqlparser import parse
from penstock.plan.sqltext import identifier
from penstock.plan.sqltokens import SqlProblem
from penstock.plan.sqltypes import kind_of_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from penstock.model.fields import FieldPath
    from penstock.model.pipeline import Expression
    from penstock.plan.sqltree import Call, Name

FieldKind = Literal["text", "number", "boolean"]
"""What the place where a raw field stands wants it to be."""


@dataclass(frozen=True)
class Bound:
    """An expression that was understood: DuckDB SQL in parentheses, regenerated from the validated tree.

    `columns` are the typed columns it reads (`_ingested_at` when it says now()), `paths` the raw fields, both in order
    of first use. `kind` is number, text, boolean, time, list or any, as far as can be known without an engine. The SQL
    may raise at run time (overflow, a failing cast): callers wrap it in TRY. It may give NaN and infinities (x / 0).
    """

    sql: str
    columns: tuple[str, ...] = ()
    paths: tuple[FieldPath, ...] = ()
    kind: str = functions.ANY


def bind(
    expression: Expression, columns: Mapping[str, ColumnType], *, condition: bool = False
) -> Bound | tuple[Finding, ...]:
    """Bind an expression over typed columns.

    `columns` maps every name the expression may use (user's columns and the system columns in scope) to its type; a
    column is rendered as its quoted name. With `condition`, what is plainly not true or false is a finding. Any text at
    all gives either a Bound or at least one finding; never raises.
    """
    names = TypedNames(columns)
    bound = _bind(expression, names, raw=False, condition=condition)
    if isinstance(bound, Binder):
        return Bound(bound.rendered, tuple(names.used), (), bound.rendered_kind)
    return bound


def bind_fields(expression: Expression, render: Callable[[FieldPath, FieldKind], str]) -> Bound | tuple[Finding, ...]:
    """Bind a condition over raw fields. Never raises; `render` gives the SQL of a field in the kind that is wanted.

    A raw field has no type; where it stands decides what it is taken for:
    * compared with, or in arithmetic or a function that wants, a number: a number ('number': NULL where it is none)
    * compared with or in a function that wants true or false, or as a condition by itself: a boolean ('boolean')
    * anywhere else (text, another field, `is null`, a cast): its text ('text': NULL where missing or JSON null)
    """
    names = RawNames(render)
    bound = _bind(expression, names, raw=True, condition=True)
    if isinstance(bound, Binder):
        return Bound(bound.rendered, tuple(names.used), tuple(names.paths), bound.rendered_kind)
    return bound


def system_types() -> dict[str, ColumnType]:
    """The system columns of silver an expression may read, with their types as near as ours come.

    `_flags`, a list of texts, is known to the binder by its name.
    """
    return {
        FLAGS: STRING,
        EXTRA: ColumnType("json"),
        TIMESTAMP: TIMESTAMP_TYPE,
        INGESTED_AT: TIMESTAMP_TYPE,
        SOURCE: ColumnType("int32"),
        PARTITION: ColumnType("int32"),
        OFFSET: ColumnType("int64"),
        INDEX: ColumnType("int32"),
    }


def findings_of(expression: Expression, problems: Sequence[SqlProblem]) -> tuple[Finding, ...]:
    """Problems at offsets as findings at places in the file, in order of place, each once."""
    findings = (
        Finding(expression.at(problem.offset), problem.code, problem.message, problem.repair) for problem in problems
    )
    return tuple(sorted(set(findings)))


class TypedNames:
    """The scope of typed columns; `used` collects what was read."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._columns = columns
        self.used: list[str] = []

    def type_of(self, name: Name) -> ColumnType | None:
        """The type of the column a name means; None for no column and for `_flags`."""
        column = self.column(name)
        return None if column is None or column == FLAGS else self._columns[column]

    def column(self, name: Name) -> str | None:
        """The column a name means: as written, or, unquoted, in small letters as SQL has it."""
        if name.text in self._columns:
            return name.text
        lowered = name.text.lower()
        return lowered if not name.quoted and lowered in self._columns else None

    def kind(self, name: Name) -> str:
        column = self.column(name)
        if column is None:
            return functions.TIME if _is_now(name) else functions.ANY
        return functions.LIST if column == FLAGS else kind_of_type(self._columns[column])

    def sql(self, name: Name, wanted: str) -> str:
        del wanted  # a typed column is what it is
        column = self.column(name)
        if column is None and _is_now(name):
            return self.now(name.offset)
        if column is None:
            raise unknown_column(name, self._columns)
        return self._use(column)

    def now(self, offset: int) -> str:
        del offset  # an event always has a time of ingestion
        return self._use(INGESTED_AT)

    def aggregate(self, binder: Binder, call: Call) -> str:
        del binder
        raise SqlProblem(
            call.offset,
            "sql-aggregate",
            f"the aggregate {call.name}() outside a measure",
            "Aggregate in `gold:`, under `measures:`.",
        )

    def _use(self, column: str) -> str:
        if column not in self.used:
            self.used.append(column)
        return identifier(column)


class RawNames:
    """The scope of raw fields; `paths` collects what was read."""

    def __init__(self, render: Callable[[FieldPath, FieldKind], str]) -> None:
        self._render = render
        self.paths: list[FieldPath] = []
        self.used: list[str] = []

    def kind(self, name: Name) -> str:
        return functions.TIME if _is_now(name) else functions.ANY

    def sql(self, name: Name, wanted: str) -> str:
        if _is_now(name):
            return self.now(name.offset)
        if not name.quoted and name.text.lower() in functions.BARE:
            raise unknown_column(name, {})
        if name.path is None:
            raise SqlProblem(name.offset, "sql-syntax", f"{name.text!r} is no field path", "Write a.b or a[0].")
        if name.path not in self.paths:
            self.paths.append(name.path)
        if wanted == functions.NUMBER:
            return self._render(name.path, "number")
        return self._render(name.path, "boolean" if wanted == functions.BOOLEAN else "text")

    def now(self, offset: int) -> str:
        del offset  # an event always has a time of ingestion
        if INGESTED_AT not in self.used:
            self.used.append(INGESTED_AT)
        return identifier(INGESTED_AT)

    def aggregate(self, binder: Binder, call: Call) -> str:
        del binder
        raise SqlProblem(
            call.offset,
            "sql-aggregate",
            f"the aggregate {call.name}() over raw fields",
            "`where` looks at one event at a time; aggregate in `gold:`.",
        )


def unknown_column(name: Name, columns: Iterable[str]) -> SqlProblem:
    """The problem of a name that is no column; clocks and their like are named as such."""
    lowered = name.text.lower()
    if not name.quoted and lowered in functions.BARE:
        message, repair = functions.refusal(lowered)
        return SqlProblem(name.offset, "sql-refused", message.replace("()", "", 1), repair)
    near = functions.near(name.text, columns, "Did you mean {}?")
    return SqlProblem(
        name.offset,
        "unknown-column",
        f"no column {name.text!r}",
        near or "Declare it under `columns:`; texts stand in 'single quotes'.",
    )


def _is_now(name: Name) -> bool:
    return not name.quoted and name.text.lower() == "current_timestamp"


def _bind(
    expression: Expression, names: TypedNames | RawNames, *, raw: bool, condition: bool
) -> Binder | tuple[Finding, ...]:
    """The binder after it rendered the expression, or findings."""
    try:
        node = parse(expression.sql, raw=raw)
    except SqlProblem as problem:
        return findings_of(expression, [problem])
    binder = Binder(names)
    binder.render_whole(node, condition=condition)
    return findings_of(expression, binder.problems) or binder
