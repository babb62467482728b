"""YAML values as JSON text and as plain Python values, numbers exactly as written; for the events and rows of tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Generic, TypeVar

from penstock.declare.nodes import Fields, Items, Scalar, describe, shorten
from penstock.declare.shapes import Wrong
from penstock.declare.spec import Located, Reading, Schema, Section

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.declare.nodes import Node

T = TypeVar("T")

JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
NUMBER_CHARACTERS_MAX = 400
"""Characters of a number: more digits than a float64 has need no test."""

JsonValue = None | bool | int | Decimal | str | list["JsonValue"] | dict[str, "JsonValue"]
"""A value with its numbers exact: integers as int, all others as Decimal."""


def json_text(node: Node) -> str:
    """The value as JSON text; numbers keep their digits (`12.50` stays `12.50`).

    Raises:
        Wrong: JSON has no such value (`.nan`, `.inf`).
    """
    if isinstance(node, Fields):
        members = (f"{json.dumps(entry.key.text)}: {json_text(entry.value)}" for entry in node)
        return "{" + ", ".join(members) + "}"
    if isinstance(node, Items):
        return "[" + ", ".join(json_text(value) for value in node.values) + "]"
    kind = node.kind
    if kind == "string":
        return json.dumps(node.text)
    if kind in ("null", "boolean"):
        return "null" if kind == "null" else node.text.lower()
    return number_text(node)


def number_text(node: Scalar) -> str:
    """A number of YAML as one of JSON. Raises Wrong."""
    text = node.text
    if len(text) > NUMBER_CHARACTERS_MAX:
        raise Wrong("not-json", f"a number of {len(text)} characters", "Quote it.")
    if JSON_NUMBER.fullmatch(text):
        return text
    if text.startswith(("0x", "0o")):
        return str(int(text, 0))
    plain = re.fullmatch(r"([-+]?)0*([0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?", text)
    if plain is None:
        raise Wrong("not-json", f"JSON has no number `{shorten(text)}`", "Quote it, or give the record as `raw:`.")
    sign, whole, decimals, exponent = plain.groups(default="")
    decimals = "" if decimals == "." else decimals
    return f"{'-' if sign == '-' else ''}{whole or '0'}{decimals}{exponent}"


def plain_value(node: Node) -> JsonValue:
    """The value for comparisons. Raises Wrong as `json_text` does."""
    if isinstance(node, Fields):
        return {entry.key.text: plain_value(entry.value) for entry in node}
    if isinstance(node, Items):
        return [plain_value(value) for value in node.values]
    if node.kind == "string":
        return node.text
    if node.kind == "null":
        return None
    if node.kind == "boolean":
        return node.text.lower() == "true"
    text = number_text(node)
    try:
        return int(text) if re.fullmatch(r"-?[0-9]+", text) else Decimal(text)
    except ArithmeticError as error:
        raise Wrong("not-json", f"`{shorten(text)}` is beyond any number", "Quote it.") from error


@dataclass(frozen=True)
class Converted(Generic[T]):
    """A value of any depth that `convert` turns into something, or refuses with Wrong."""

    words: str
    convert: Callable[[Node], T]
    json: Schema

    def read(self, node: Node, reading: Reading) -> Located[T] | None:
        try:
            return Located(self.convert(node), node)
        except Wrong as wrong:
            reading.add(node, wrong.code, wrong.message, wrong.repair)
            return None

    def schema(self, definitions: dict[str, Schema]) -> Schema:  # noqa: ARG002  # the protocol's signature
        return self.json

    def sections(self) -> tuple[Section, ...]:
        return ()


def row(node: Node) -> dict[str, JsonValue]:
    """A mapping as plain values. Raises Wrong."""
    if not isinstance(node, Fields):
        raise Wrong("wrong-shape", f"expected a row, found {describe(node)}", "Write `{column: value, ...}`.")
    return {entry.key.text: plain_value(entry.value) for entry in node}


def json_row(node: Node) -> str:
    """A mapping as JSON text. Raises Wrong."""
    row(node)
    return json_text(node)


ROW_SHAPE = Converted("a row: columns with values", row, {"type": "object"})
JSON_ROW_SHAPE = Converted("a row: columns with values", json_row, {"type": "object"})
