"""YAML as values that know their place; `reading.py` makes them, the shapes in `shapes.py` read them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from penstock.declare.places import Runs, scalar_runs
from penstock.model.pipeline import Expression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.model.finding import Mark

NULL = re.compile(r"~|null|Null|NULL|")
BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
"""What plain scalars stand for in YAML 1.2 (its core schema): `yes`, `010` and `2026-01-01` are not special."""


@dataclass(frozen=True)
class Scalar:
    """A single value as text. `raw` is its source text, quotes and all; `style` is "" (plain), `'`, `"`, `|` or `>`.

    `is_text` says that it is a string whatever it looks like (`!!str 1`).
    """

    mark: Mark
    text: str
    style: str = ""
    raw: str = field(default="", repr=False)
    size: int = 1
    is_text: bool = False

    @property
    def kind(self) -> str:
        """null, boolean, integer, float or string."""
        if self.style or self.is_text:
            return "string"
        for name, pattern in (("null", NULL), ("boolean", BOOLEAN), ("integer", INTEGER), ("float", FLOAT)):
            if pattern.fullmatch(self.text):
                return name
        return "string"

    @property
    def is_empty(self) -> bool:
        """Nothing is written here, as in `key:`."""
        return not self.style and not self.text and not self.is_text

    def expression(self) -> Expression:
        """The text as SQL that knows where each of its characters stands."""
        runs = self.runs()
        _, line, column = runs[0] if runs else (0, self.mark.line, self.mark.column)
        return Expression(self.text, replace(self.mark, line=line, column=column), runs)

    def at(self, offset: int) -> Mark:
        """The place of the character at `offset` of the text."""
        return self.expression().at(offset)

    def runs(self) -> Runs:
        return scalar_runs(self.text, self.raw, self.style, self.mark.line, self.mark.column)


@dataclass(frozen=True)
class Items:
    """A list. `size` counts all values below, aliases written out."""

    mark: Mark
    values: tuple[Node, ...]
    size: int = 1


@dataclass(frozen=True)
class Entry:
    """A key with its value. `merged` says that it came by `<<`."""

    key: Scalar
    value: Node
    merged: bool = False


@dataclass(frozen=True)
class Fields:
    """A mapping, merge keys resolved, every key once. `flow` says that it stands in braces."""

    mark: Mark
    entries: tuple[Entry, ...]
    size: int = 1
    flow: bool = False

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def get(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key.text == key), None)


Node = Scalar | Items | Fields


def describe(node: Node) -> str:
    """What a node is, in words for a finding."""
    if isinstance(node, Fields):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    if node.kind == "null":
        return "nothing"
    return f"`{shorten(node.text)}`"


def shorten(text: str, characters_max: int = 60) -> str:
    """The text on one line, cut where it is long."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= characters_max else line[: characters_max - 1] + "…"
