"""What is known of an expression without an engine: the class of number it gives, and whether computing it can fail.

A sum must know before it starts whether it adds integers, decimals or floats, because its state, its exactness and its
type depend on it. What cannot be told is None; the user then casts. Tests compare every rule with DuckDB's own types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.model.types import DECIMAL_PRECISION_MAX
from penstock.plan import functions, sqltree
from penstock.plan.sqltokens import words
from penstock.plan.sqltypes import type_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.model.types import ColumnType
    from penstock.plan.sqltree import Name, Node

    TypeOf = Callable[[Name], ColumnType | None]

INTEGER, DECIMAL, FLOAT = "integer", "decimal", "float"


@dataclass(frozen=True)
class Numeric:
    """A class of numbers. `digits` bounds how many a value has in all, `scale` is how many come after the point."""

    kind: str
    digits: int = 0
    scale: int = 0


_FLOAT = Numeric(FLOAT)
_INTEGER_DIGITS = {"int8": 3, "int16": 5, "int32": 10, "int64": 19}
_INT64 = Numeric(INTEGER, 19)
_INTEGER_FUNCTIONS = words(
    "length len strlen octet_length strpos instr ascii unicode ord levenshtein damerau_levenshtein hamming "
    "date_diff datediff date_sub year quarter month week day dayofmonth dayofweek isodow dayofyear isoyear "
    "yearweek hour minute second millisecond microsecond epoch_ms epoch_us epoch_ns sign list_position "
    "list_count bit_count json_array_length"
)
_FLOAT_FUNCTIONS = words(
    "sqrt cbrt pow power exp ln log log2 log10 pi degrees radians sin cos tan cot asin acos atan atan2 sinh "
    "cosh tanh epoch jaccard jaro_similarity jaro_winkler_similarity list_avg"
)
_CHOICES = {"coalesce": 0, "ifnull": 0, "greatest": 0, "least": 0, "try": 0, "if": 1}
"""Functions that give one of their arguments, from this position on."""


def numeric(node: Node, type_of: TypeOf) -> Numeric | None:
    """The class of numbers a node gives; None where it gives no number or that cannot be told."""
    match node:
        case sqltree.Literal():
            return _literal(node)
        case sqltree.Name():
            column_type = type_of(node)
            return None if column_type is None else _of_type(column_type)
        case sqltree.Cast():
            column_type = type_named(node.type_name)
            return None if column_type is None else _of_type(column_type)
        case sqltree.Unary():
            return numeric(node.operand, type_of) if node.operator in "+-" else None
        case sqltree.Binary():
            return _binary(node.operator, numeric(node.left, type_of), numeric(node.right, type_of))
        case sqltree.Case():
            results = [then for _, then in node.branches]
            return _one_of([*results, node.otherwise] if node.otherwise is not None else results, type_of)
        case sqltree.Call():
            return _call(node, type_of)
        case _:
            return None


def _literal(node: sqltree.Literal) -> Numeric | None:
    if node.kind != functions.NUMBER:
        return None
    if "e" in node.value.lower():
        return _FLOAT
    whole, _, fraction = node.value.partition(".")
    digits = max(1, len(whole.lstrip("0")) + len(fraction))
    if "." in node.value:
        return Numeric(DECIMAL, digits, len(fraction)) if digits <= DECIMAL_PRECISION_MAX else _FLOAT
    return Numeric(INTEGER, digits) if digits <= 18 else None


def _of_type(column_type: ColumnType) -> Numeric | None:
    if column_type.kind == "decimal":
        return Numeric(DECIMAL, column_type.precision, column_type.scale)
    if column_type.is_integer:
        return Numeric(INTEGER, _INTEGER_DIGITS[column_type.kind])
    return _FLOAT if column_type.is_float else None


def _binary(operator: str, left: Numeric | None, right: Numeric | None) -> Numeric | None:
    if left is None or right is None:
        return None
    if operator in ("/", "^"):
        return _FLOAT
    kinds = {left.kind, right.kind}
    if operator in ("+", "-", "*"):
        if FLOAT in kinds:
            return _FLOAT
        kind = DECIMAL if DECIMAL in kinds else INTEGER
        if operator == "*":
            scale, digits = left.scale + right.scale, left.digits + right.digits
        else:
            scale = max(left.scale, right.scale)
            digits = max(left.digits - left.scale, right.digits - right.scale) + scale + 1
        return Numeric(kind, min(digits, DECIMAL_PRECISION_MAX), scale) if scale <= DECIMAL_PRECISION_MAX else None
    return _INT64 if operator in ("//", "%", "&", "|", "<<", ">>") and kinds == {INTEGER} else None


def _call(node: sqltree.Call, type_of: TypeOf) -> Numeric | None:
    if node.name in _INTEGER_FUNCTIONS:
        return _INT64
    if node.name in _FLOAT_FUNCTIONS:
        return _FLOAT
    if node.name in _CHOICES:
        return _one_of(node.arguments[_CHOICES[node.name] :], type_of)
    if node.name in ("abs", "nullif") and node.arguments:
        return numeric(node.arguments[0], type_of)
    if node.name in ("round", "floor", "ceil", "ceiling", "trunc") and node.arguments:
        return _FLOAT if numeric(node.arguments[0], type_of) == _FLOAT else None
    return None


def _one_of(nodes: Sequence[Node], type_of: TypeOf) -> Numeric | None:
    """The class that holds the values of all nodes; NULL fits any."""
    found = [
        numeric(node, type_of) for node in nodes if not (isinstance(node, sqltree.Literal) and node.kind == "null")
    ]
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return None
    if any(each.kind == FLOAT for each in known):
        return _FLOAT
    scale = max(each.scale for each in known)
    digits = max(each.digits - each.scale for each in known) + scale
    kind = DECIMAL if any(each.kind == DECIMAL for each in known) else INTEGER
    return Numeric(kind, min(digits, DECIMAL_PRECISION_MAX), scale)


def cannot_fail(node: Node, type_of: TypeOf) -> bool:
    """Whether computing a node never raises, whatever the values; False where that is not certain."""
    if not all(cannot_fail(child, type_of) for child in node.children):
        return False
    match node:
        case sqltree.Literal() | sqltree.Name() | sqltree.Chain() | sqltree.Is():
            return True
        case sqltree.Unary():
            return node.operator == "NOT" or numeric(node.operand, type_of) == _FLOAT
        case sqltree.Binary():
            return _operator_cannot_fail(node, type_of)
        case sqltree.Between() | sqltree.In():
            return _comparable(node.children, type_of)
        case sqltree.Case():
            return node.operand is None
        case sqltree.Call():
            return node.name in ("coalesce", "ifnull", "list_contains", "list_has") and _comparable(
                node.arguments if node.name in ("coalesce", "ifnull") else (), type_of
            )
        case _:
            return False


def _operator_cannot_fail(node: sqltree.Binary, type_of: TypeOf) -> bool:
    if node.operator in ("+", "-", "*"):
        # Floats run into infinity where integers and decimals raise.
        return _binary(node.operator, numeric(node.left, type_of), numeric(node.right, type_of)) == _FLOAT
    if node.operator == "/":
        return numeric(node.left, type_of) is not None and numeric(node.right, type_of) is not None
    if node.operator in ("=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"):
        return _comparable(node.children, type_of)
    return False


def _comparable(nodes: Sequence[Node], type_of: TypeOf) -> bool:
    """Whether all are numbers, or all are texts, so that nothing is cast from text."""
    return all(numeric(node, type_of) is not None for node in nodes) or all(_is_text(node, type_of) for node in nodes)


def _is_text(node: Node, type_of: TypeOf) -> bool:
    if isinstance(node, sqltree.Literal):
        return node.kind in (functions.TEXT, "null")
    column_type = type_of(node) if isinstance(node, sqltree.Name) else None
    return column_type is not None and column_type.kind == "string"
