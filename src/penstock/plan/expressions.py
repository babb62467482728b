"""Binds a user's SQL expression: text in, either SQL we can vouch for or findings with their exact places.

There are two scopes. Over *typed columns* (`bind`: rules, sql columns, gold where) a name is a silver column, rendered
quoted. Over *raw fields* (`bind_fields`: source.where) a name is a field path of the event, rendered by the caller in
the kind its neighbours want. Which functions exist is `functions.py`'s table; aggregates are `measures.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.model.fields import FieldPath
    from penstock.model.finding import Finding
    from penstock.model.pipeline import Expression
    from penstock.model.types import ColumnType

FieldKind = Literal["text", "number", "boolean"]
"""What the place where a raw field stands wants it to be."""


@dataclass(frozen=True)
class Bound:
    """An expression that was understood: DuckDB SQL in parentheses, regenerated from the validated tree.

    `columns` are the typed columns it reads (`_ingested_at` when it says now()), `paths` the raw fields, both in order
    of first use. The SQL may raise at run time (overflow, a failing cast): callers wrap it in TRY.
    """

    sql: str
    columns: tuple[str, ...] = ()
    paths: tuple[FieldPath, ...] = ()


def bind(expression: Expression, columns: Mapping[str, ColumnType]) -> Bound | tuple[Finding, ...]:
    """Bind an expression over typed columns.

    `columns` maps every name the expression may use (user's columns and the system columns in scope) to its type; a
    column is rendered as its quoted name. Any text at all gives either a Bound or at least one finding; never raises.
    """
    raise RuntimeError(expression, columns)


def bind_fields(
    expression: Expression, render: Callable[[FieldPath, FieldKind], str]
) -> Bound | tuple[Finding, ...]:
    """Bind an expression over raw fields. Never raises; `render` gives the SQL of a field in the kind that is wanted.

    A raw field has no type; where it stands decides what it is taken for:
    * compared with, or in arithmetic or a function that wants, a number: a number ('number': NULL where it is none)
    * compared with or in a function that wants true or false, or as a condition by itself: a boolean ('boolean')
    * anywhere else (text, another field, `is null`, a cast): its text ('text': NULL where missing or JSON null)
    """
    raise RuntimeError(expression, render)


def system_types() -> dict[str, ColumnType]:
    """The system columns of silver an expression may read, with their types as near as ours come."""
    raise RuntimeError
