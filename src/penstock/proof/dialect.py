"""What a user's expression means where it is not DuckDB's own: type names and now(). This is part of the contract.

`recompute.py` and `events.py` put every expression of a declaration through `spoken` before they print it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.model.columns import INGESTED_AT
from penstock.proof.syntax import Tree, column, column_names, function_name, rewrite

if TYPE_CHECKING:
    from penstock.proof.syntax import Syntax

_TYPES = {
    "string": "VARCHAR",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "datetime": "TIMESTAMP WITH TIME ZONE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "binary": "BLOB",
}
"""The declaration's names of types where DuckDB reads the name otherwise, or not at all."""

_NOW = frozenset(("now", "current_timestamp", "get_current_timestamp", "transaction_timestamp"))


def parse(syntax: Syntax, sql: str) -> Tree:
    """The tree of an expression of a declaration, in DuckDB's own terms.

    Raises:
        QueryError: it is not one expression.
    """
    return spoken(syntax.parse(sql))


def spoken(tree: Tree) -> Tree:
    """The tree with types by DuckDB's names and `_ingested_at` in place of now()."""

    def change(node: Tree) -> Tree | None:
        if function_name(node) in _NOW or _is_now(node):
            return column(INGESTED_AT)
        if node.get("class") == "TYPE":
            name = _TYPES.get(str(node.get("type_name", "")).lower())
            if name is not None:
                return _named(node, name)
        return None

    return rewrite(tree, change)


def _is_now(node: Tree) -> bool:
    names = column_names(node)
    return names is not None and len(names) == 1 and names[0].lower() == "current_timestamp"


def _named(node: Tree, name: str) -> Tree:
    renamed = {**node, "type_name": name}
    if "qualified_name" in node:
        renamed["qualified_name"] = {**node["qualified_name"], "path": [name]}
    return renamed
