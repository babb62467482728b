"""SQL expressions as trees, by DuckDB's own parser and printer. `recompute.py` and `events.py` rewrite with it.

A tree is the JSON that `json_serialize_sql` gives: dictionaries with `class`, `type` and children. Only the few node
classes that are rewritten are known here; everything else passes through untouched.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from penstock.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duckdb import DuckDBPyConnection

Tree = dict[str, Any]


class Syntax:
    """Parses and prints expressions on one connection."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection
        self._names: dict[str, bool] = {}
        self._template = self._statement("SELECT 1")

    def parse(self, sql: str) -> Tree:
        """The tree of one expression.

        Raises:
            QueryError: `sql` is not exactly one expression.
        """
        # The line break ends a comment the expression may close with.
        document = self._statement(f"SELECT {sql}\n")
        statements = document.get("statements", [])
        if len(statements) == 1 and len(statements[0].get("node", {}).get("select_list", ())) == 1:
            tree: Tree = statements[0]["node"]["select_list"][0]
            # Printed alone it says all that the statement says: there was nothing but the expression.
            if tree.get("class") != "STAR" and self._printed(document) == f"SELECT {self.print(tree)}":
                return tree
        raise QueryError(f"not one expression: {sql}", hint="Give a condition like: price > 10 and venue = 'X'.")

    def is_name(self, word: str) -> bool:
        """Whether DuckDB takes a word for a column's name where a value is expected."""
        if word not in self._names:
            try:
                self._names[word] = column_names(self.parse(word)) == (word,)
            except QueryError:
                self._names[word] = False
        return self._names[word]

    def print(self, tree: Tree) -> str:
        """The expression as SQL, in parentheses where it is more than a name."""
        document = copy.deepcopy(self._template)
        document["statements"][0]["node"]["select_list"] = [{**tree, "alias": ""}]
        return self._printed(document).removeprefix("SELECT ")

    def _printed(self, document: Tree) -> str:
        rows = self._connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(document)]).fetchall()
        return str(rows[0][0])

    def _statement(self, sql: str) -> Tree:
        rows = self._connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        document: Tree = json.loads(rows[0][0])
        if document.get("error", True):
            message = document.get("error_message", "no answer")
            raise QueryError(f"not an expression: {message}", hint=f"The text was: {sql}")
        return document


def children(tree: Tree) -> Iterator[Tree]:
    """The expressions directly below a node."""
    for value in tree.values():
        yield from _expressions(value)


def _expressions(value: Any) -> Iterator[Tree]:
    if isinstance(value, dict):
        if "class" in value:
            yield value
        else:
            for inner in value.values():
                yield from _expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions(inner)


def rewrite(tree: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """A copy of the tree in which each node that `change` answers is replaced (and not looked into any further)."""
    replaced = change(tree)
    if replaced is not None:
        return {**replaced, "alias": tree.get("alias", "")}
    return {name: _rewrite_value(value, change) for name, value in tree.items()}


def _rewrite_value(value: Any, change: Callable[[Tree], Tree | None]) -> Any:
    if isinstance(value, dict):
        if "class" in value:
            return rewrite(value, change)
        return {name: _rewrite_value(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rewrite_value(inner, change) for inner in value]
    return value


def column(*names: str) -> Tree:
    """A reference to a column."""
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "query_location": 0, "column_names": list(names)}


def column_names(tree: Tree) -> tuple[str, ...] | None:
    """The names of a column reference (`a.b` has two), None for any other node."""
    return tuple(tree["column_names"]) if tree.get("class") == "COLUMN_REF" else None


def has_subquery(tree: Tree) -> bool:
    """Whether there is a SELECT inside the expression."""
    return tree.get("class") == "SUBQUERY" or any(has_subquery(child) for child in children(tree))


def function_name(tree: Tree) -> str | None:
    """The name of a function call in lower case, None for any other node."""
    return str(tree["function_name"]).lower() if tree.get("class") == "FUNCTION" else None


def arguments(tree: Tree) -> list[Tree]:
    """The arguments of a function call."""
    return [argument.get("expression", argument) for argument in tree["arguments"]]


def literal_text(tree: Tree) -> str | None:
    """The text of a constant as written, None for any other node."""
    if tree.get("class") != "CONSTANT":
        return None
    literal = tree.get("literal") or {}
    text = literal.get("text", tree.get("value", {}).get("value"))
    return None if text is None else str(text)


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
