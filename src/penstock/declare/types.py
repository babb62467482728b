"""Column types as text, with a hint for what other systems call them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.declare.nodes import shorten
from penstock.declare.report import nearest
from penstock.declare.shapes import Word, Wrong
from penstock.model.types import SIMPLE_KINDS, ColumnType

if TYPE_CHECKING:
    from penstock.declare.nodes import Scalar

FOREIGN_NAMES = {
    "str": "string",
    "text": "string",
    "varchar": "string",
    "char": "string",
    "uuid": "string",
    "enum": "string",
    "tinyint": "int8",
    "smallint": "int16",
    "short": "int16",
    "int": "int64",
    "integer": "int64",
    "bigint": "int64",
    "long": "int64",
    "uint8": "int16",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "decimal(20,0)",
    "real": "float32",
    "float": "float64",
    "double": "float64",
    "number": "float64",
    "numeric": "decimal(18,8)",
    "bool": "boolean",
    "datetime": "timestamp",
    "timestamptz": "timestamp",
    "time": "string",
    "bytes": "binary",
    "blob": "binary",
    "bytea": "binary",
    "object": "json",
    "struct": "json",
    "map": "json",
    "list": "json",
    "array": "json",
    "jsonb": "json",
}


def parse_type(node: Scalar) -> ColumnType:
    text = node.text.strip()
    if re.fullmatch(r"decimal\(\s*\d+\s*", text):
        raise Wrong("bad-type", f"`{text}` ends at its comma", 'In braces quote it: `{type: "decimal(18,8)"}`.')
    try:
        return ColumnType.parse(text)
    except ValueError:
        pass
    if text.startswith(("decimal", "numeric")):
        repair = "Write total digits (at most 38) and digits after the point: `decimal(18,8)`."
        raise Wrong("bad-type", f"`{shorten(text)}` is not a decimal type", repair)
    foreign = FOREIGN_NAMES.get(re.sub(r"\W.*", "", text.lower(), flags=re.DOTALL))
    near = foreign or nearest(text, SIMPLE_KINDS)
    repair = f"Did you mean `{near}`?" if near else f"Types: {', '.join(SIMPLE_KINDS)}, decimal(18,8)."
    raise Wrong("bad-type", f"`{shorten(text)}` is not a type", repair)


TYPE_SHAPE = Word(
    "a [type](#types)",
    parse_type,
    {
        "anyOf": [
            {"enum": list(SIMPLE_KINDS)},
            {"type": "string", "pattern": r"^decimal\(\s*\d{1,2}\s*,\s*\d{1,2}\s*\)$"},
        ]
    },
)
