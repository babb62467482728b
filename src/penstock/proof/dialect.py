"""What a user's expression means where it is not DuckDB's own: type names and now(). This is part of the contract.

`recompute.py` and `events.py` put every expression of a declaration through `spoken` before they print it.
"""

from __future__ import annotations

import re
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


_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*")|(?P<word>[A-Za-z_\u0080-\U0010ffff][\w$]*)"""
    r"|(?P<number>[0-9.][\w.]*)|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<blank>\s+)|(?P<sign>::|.)",
    re.DOTALL,
)
_GRAMMAR = frozenset(
    (
        *("and", "as", "between", "by", "case", "cast", "collate", "distinct", "else", "end", "escape", "exists"),
        *("false", "from", "glob", "ilike", "in", "is", "isnull", "lambda", "like", "not", "notnull", "null"),
        *("or", "select", "similar", "then", "true", "try_cast", "when", "where", "interval"),
    )
)
"""Words that a declaration, too, has to put in double quotes where they are names."""
_ENDINGS = ("end", "null", "true", "false", "isnull", "notnull")
"""Words of the grammar behind which comes an operator, not a value."""
_TRIMMING = ("both", "leading", "trailing")


def parse(syntax: Syntax, sql: str) -> Tree:
    """The tree of an expression of a declaration, in DuckDB's own terms.

    Raises:
        QueryError: it is not one expression.
    """
    return spoken(syntax.parse(with_names_quoted(syntax, sql)))


def with_names_quoted(syntax: Syntax, sql: str) -> str:
    """The expression with double quotes around names that only DuckDB takes for words of its grammar (`at`, `offset`,
    `order` ...). A word is a name where a value is expected: a word behind a value is an operator."""
    tokens = [(match.lastgroup or "", match[0]) for match in _TOKEN.finditer(sql)]
    solid = [number for number, (kind, _) in enumerate(tokens) if kind not in ("blank", "comment")]
    written = [text for _, text in tokens]
    expected, before = True, ""
    for place, number in enumerate(solid):
        kind, text = tokens[number]
        after = tokens[solid[place + 1]] if place + 1 < len(solid) else ("", "")
        word = text.lower() if kind == "word" else ""
        if kind == "sign":
            expected = text not in ")]"
        elif not word or before in (".", "::", "as"):
            expected = False
        elif word in _GRAMMAR:
            expected = word not in _ENDINGS
        elif word in _TRIMMING and after[0] in ("word", "text", "quoted"):
            expected = True
        elif not expected:
            expected = word in ("for", "placing")
        elif after[1] != "(":
            expected = False
            if not syntax.is_name(word):
                written[number] = f'"{text}"'
        before = word or text
    return "".join(written)


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
