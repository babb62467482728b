"""`source.where` as SQL over raw bytes: what each raw field is taken for depends on where it stands.

Compared with a number, or in arithmetic, it is a number; compared with true or false, or as a condition by itself, a
boolean; anywhere else its text. `events.py` supplies the SQL of the text of a field.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.errors import QueryError
from penstock.proof import dialect
from penstock.proof.syntax import Tree, arguments, column_names, function_name, literal_text, rewrite, text_literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.proof.syntax import Syntax

    Steps = tuple[str | int, ...]
    TextOf = Callable[[Steps, bool], str]

ENVELOPE = "^"
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_OUTSIDE_TEXT = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|\^\.")

_OPERATORS = frozenset(("+", "-", "*", "/", "//", "%", "**"))
_OF_NUMBERS = frozenset(
    (
        *(
            "abs",
            "sign",
            "ceil",
            "ceiling",
            "floor",
            "round",
            "round_even",
            "trunc",
            "even",
            "mod",
            "fmod",
            "gcd",
            "lcm",
        ),
        *(
            "sqrt",
            "cbrt",
            "pow",
            "power",
            "exp",
            "ln",
            "log",
            "log2",
            "log10",
            "degrees",
            "radians",
            "sin",
            "cos",
            "tan",
        ),
        *("cot", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "xor", "bit_count", "to_timestamp"),
    )
)
"""Functions that want numbers and give one."""
_COUNTING = frozenset(("length", "len", "strlen", "octet_length", "position", "strpos", "instr", "date_part", "ascii"))
"""Functions that give a number and want something else."""
_CHOICES = frozenset(("coalesce", "nullif", "ifnull", "greatest", "least"))
"""Functions that give one of their arguments."""
_CONDITIONS = frozenset(("contains", "starts_with", "ends_with", "prefix", "suffix", "regexp_matches", "~~", "~~*"))
"""Functions that give a boolean."""
_NUMBER_TYPES = ("INT", "FLOAT", "DOUBLE", "DECIMAL", "NUMERIC", "REAL", "LONG", "SHORT")


def condition(syntax: Syntax, sql: str, text_of: TextOf) -> str:
    """The condition with every field path replaced by the SQL of its value; it may raise, wrap it in TRY.

    Raises:
        QueryError: it is not one expression.
    """
    prepared = _OUTSIDE_TEXT.sub(lambda match: match[1] or f'"{ENVELOPE}".', sql)
    tree = dialect.parse(syntax, prepared)
    return syntax.print(_Fields(syntax, text_of).placed(tree, "boolean"))


class _Fields:
    def __init__(self, syntax: Syntax, text_of: TextOf) -> None:
        self._syntax = syntax
        self._text_of = text_of

    def placed(self, tree: Tree, wanted: str) -> Tree:
        """The tree with its fields replaced, where a value of the kind `wanted` should stand."""
        path = field_path(tree)
        if path is not None:
            return self._field(path, wanted)
        expectations = self._expectations(tree, wanted)

        def change(node: Tree) -> Tree | None:
            if node is tree:
                return None
            return self.placed(node, expectations.get(id(node), "text"))

        return rewrite(tree, change)

    def _field(self, path: Steps, wanted: str) -> Tree:
        envelope = path[0] == ENVELOPE
        text = self._text_of(path[1:] if envelope else path, envelope)
        if wanted == "number":
            text = f"CASE WHEN regexp_full_match({text}, {text_literal(_NUMBER)}) THEN TRY_CAST({text} AS DOUBLE) END"
        elif wanted == "boolean":
            text = f"CASE {text} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"
        return self._syntax.parse(text)

    def _expectations(self, tree: Tree, wanted: str) -> dict[int, str]:
        """What is wanted of the nodes directly below: by the node's identity; those not named are texts."""
        kind, name = tree.get("class"), function_name(tree)
        if kind == "CONJUNCTION" or tree.get("type") == "OPERATOR_NOT":
            return {id(child): "boolean" for child in tree["children"]}
        if kind == "COMPARISON":
            return _alike([tree["left"], tree["right"]])
        if kind == "BETWEEN":
            return _alike([tree["input"], tree["lower"], tree["upper"]])
        if tree.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN"):
            return _alike(tree["children"])
        if name in _OPERATORS or name in _OF_NUMBERS:
            return {id(child): "number" for child in arguments(tree)}
        if tree.get("type") in ("OPERATOR_COALESCE", "OPERATOR_NULLIF") or name in _CHOICES:
            below = tree["children"] if "children" in tree else arguments(tree)
            common = next((found for found in map(kind_of, below) if found != "any"), wanted)
            return {id(child): common for child in below}
        if kind == "CASE":
            found = {id(check["when_expr"]): "boolean" for check in tree["case_checks"]}
            results = [*(check["then_expr"] for check in tree["case_checks"]), tree["else_expr"]]
            return {**found, **{id(result): wanted for result in results}}
        if kind == "CAST" and str((tree.get("type_expr") or {}).get("type_name", "")).upper() == "BOOLEAN":
            return {id(tree["child"]): "boolean"}
        return {}


def _alike(trees: list[Tree]) -> dict[int, str]:
    """Each is wanted as what the others are; literal texts say nothing, as they are read as anything."""
    kinds = [kind_of(tree) for tree in trees if not _is_literal_text(tree)]
    definite = [kind for kind in kinds if kind in ("number", "boolean")]
    return {id(tree): definite[0] if definite else "text" for tree in trees}


def _is_literal_text(tree: Tree) -> bool:
    return literal_text(tree) is not None and (tree.get("literal") or {}).get("kind") == "STRING"


def kind_of(tree: Tree) -> str:
    """What a node gives: number, boolean, text, or any where that is not known."""
    kind, name = tree.get("class"), function_name(tree)
    if kind == "CONSTANT":
        of_literal = str((tree.get("literal") or {}).get("kind", ""))
        return {"STRING": "text", "BOOLEAN": "boolean", "NULL_LITERAL": "any"}.get(of_literal, "number")
    if kind in ("COMPARISON", "CONJUNCTION", "BETWEEN") or name in _CONDITIONS:
        return "boolean"
    if str(tree.get("type", "")).startswith(("COMPARE_", "OPERATOR_IS_", "OPERATOR_NOT")):
        return "boolean"
    if name in _OPERATORS or name in _OF_NUMBERS or name in _COUNTING:
        return "number"
    if kind == "CAST":
        target = str((tree.get("type_expr") or {}).get("type_name", "")).upper()
        if any(part in target for part in _NUMBER_TYPES):
            return "number"
        return "boolean" if target == "BOOLEAN" else "any"
    return "any"


def field_path(tree: Tree) -> Steps | None:
    """The steps of a raw field (`a.b[0]`), or None for anything else."""
    names = column_names(tree)
    if names is not None:
        return names
    if tree.get("type") in ("ARRAY_EXTRACT", "STRUCT_EXTRACT"):
        base, step = tree["children"]
        path, text = field_path(base), literal_text(step)
        if path is not None and text is not None:
            return (*path, text if _is_literal_text(step) else int(text))
        if path is not None:
            raise QueryError("a path with a computed index", hint="Write a[0] with a number.")
    return None
