"""Shapes of scalars: names, texts, numbers, choices, SQL, paths, durations, types, characters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from penstock.declare.nodes import Scalar, describe, shorten
from penstock.declare.report import nearest, suggest
from penstock.declare.spec import Located, Reading, Schema, Section
from penstock.declare.substitution import VARIABLE
from penstock.limits import EXPRESSION_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from penstock.model.pipeline import NAME, Expression

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.declare.nodes import Node

T = TypeVar("T")


class Wrong(Exception):
    """A text that does not stand for a value: which finding it makes. `offset` is the character it begins at."""

    def __init__(self, code: str, message: str, repair: str = "", offset: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.repair = repair
        self.offset = offset


@dataclass(frozen=True)
class Word(Generic[T]):
    """A scalar that `parse` turns into a value, or refuses with Wrong."""

    words: str
    parse: Callable[[Scalar], T]
    json: Schema = field(default_factory=lambda: {"type": "string"})

    def read(self, node: Node, reading: Reading) -> Located[T] | None:
        if not isinstance(node, Scalar):
            reading.add(node, "wrong-shape", f"expected {self.words}, found {describe(node)}", "")
            return None
        scalar = reading.scalar(node)
        if scalar is None:
            return None
        if scalar.is_empty:
            reading.add(
                node, "empty-value", f"expected {self.words}, found nothing", "Give a value, or remove the field."
            )
            return None
        try:
            return Located(self.parse(scalar), node)
        except Wrong as wrong:
            mark = node.mark if wrong.offset is None or scalar is not node else node.at(wrong.offset)
            reading.report.add(mark, wrong.code, wrong.message, wrong.repair)
            return None

    def schema(self, definitions: dict[str, Schema]) -> Schema:  # noqa: ARG002  # the protocol's signature
        return self.json

    def sections(self) -> tuple[Section, ...]:
        return ()


# -- names and texts --------------------------------------------------------------------------------------------------


def parse_name(node: Scalar) -> str:
    check_name(node.text)
    return node.text


def check_name(name: str) -> None:
    """Raises Wrong where the name cannot be one in folders, metrics and URLs."""
    if NAME.fullmatch(name):
        return
    if name.startswith("_"):
        message = f"`{shorten(name)}` begins with `_`, as the columns that Penstock adds do"
        raise Wrong("reserved-name", message, "Begin the name with a letter.")
    plain = re.sub(r"[^a-z0-9_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_0123456789")[:63]
    example = f" For example `{plain}`." if NAME.fullmatch(plain) else ""
    raise Wrong(
        "bad-name",
        f"`{shorten(name)}` is not a name",
        f"A letter a-z, then letters a-z, digits and `_`, at most 63 in all.{example}",
    )


def parse_text(node: Scalar) -> str:
    if len(node.text) > TEXT_CHARACTERS_MAX:
        raise Wrong("too-long", f"the text has {len(node.text)} characters, more than {TEXT_CHARACTERS_MAX}")
    return node.text


def parse_path_text(node: Scalar) -> str:
    text = parse_text(node)
    if not text.strip():
        raise Wrong("empty-value", "the path is empty", "Name a file or a folder, relative to the project's.")
    if "\0" in text or "\n" in text:
        raise Wrong("bad-path", f"`{shorten(text)}` is not a path", "Name a file or a folder on one line.")
    return text


def parse_expression(node: Scalar) -> Expression:
    if len(node.text) > EXPRESSION_CHARACTERS_MAX:
        message = f"the expression has {len(node.text)} characters, more than {EXPRESSION_CHARACTERS_MAX}"
        raise Wrong("too-long", message, "Move parts of it into columns of their own.")
    if not node.text.strip():
        raise Wrong("empty-value", "the expression is empty", "Write SQL.")
    return node.expression()


ANY_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
"""Texts that YAML takes for something else stay texts here."""
NAME_SCHEMA: Schema = {"type": ["string", "boolean", "null"], "pattern": f"^{NAME.pattern}$"}
NAME_SHAPE = Word("a name", parse_name, NAME_SCHEMA)
WORD_SHAPE = Word("a name", parse_text, ANY_SCALAR)
"""A name that something else gives, such as a column of a file."""
TEXT_SHAPE = Word("text", parse_text, ANY_SCALAR)
FILE_PATH_SHAPE = Word("a path", parse_path_text, ANY_SCALAR)
EXPRESSION_SHAPE = Word("SQL", parse_expression, ANY_SCALAR)


@dataclass(frozen=True)
class Secret:
    """A text that is in the environment and not in the file, which lies in a repository."""

    words: str = "`${NAME}`"

    def read(self, node: Node, reading: Reading) -> Located[str] | None:
        if isinstance(node, Scalar) and not node.is_empty and not VARIABLE.fullmatch(node.text):
            message = "a secret stands in the file"
            reading.add(node, "secret-in-file", message, "Write `${NAME}`, and set that variable where Penstock runs.")
            return None
        return TEXT_SHAPE.read(node, reading)

    def schema(self, definitions: dict[str, Schema]) -> Schema:  # noqa: ARG002  # the protocol's signature
        return {"type": "string", "pattern": r"^\$\{[^{}]*\}$"}

    def sections(self) -> tuple[Section, ...]:
        return ()


SECRET_SHAPE = Secret()


# -- numbers and choices ----------------------------------------------------------------------------------------------


def whole(minimum: int, maximum: int) -> Word[int]:
    """A whole number in [minimum, maximum]."""

    def parse(node: Scalar) -> int:
        text = node.text.replace("_", "")
        if node.kind == "string" and not re.fullmatch(r"\d{1,3}(_\d{3})+", node.text, re.ASCII):
            raise Wrong(
                "not-a-number", f"`{shorten(node.text)}` is not a whole number", "Write digits, without quotes."
            )
        if not re.fullmatch(r"[-+]?\d{1,30}", text, re.ASCII):
            raise Wrong("not-a-number", f"`{shorten(node.text)}` is not a whole number", "Write digits.")
        number = int(text)
        if not minimum <= number <= maximum:
            raise Wrong("out-of-range", f"{number} is not between {minimum} and {maximum}")
        return number

    return Word(
        f"a whole number from {minimum} to {maximum}",
        parse,
        {"type": "integer", "minimum": minimum, "maximum": maximum},
    )


def fraction(minimum: float, maximum: float) -> Word[float]:
    """A number in [minimum, maximum]."""

    def parse(node: Scalar) -> float:
        if node.kind not in ("integer", "float") or not re.fullmatch(r"[-+.\deE]{1,40}", node.text, re.ASCII):
            raise Wrong("not-a-number", f"`{shorten(node.text)}` is not a number", "Write a number, without quotes.")
        number = float(node.text)
        if not minimum <= number <= maximum:
            raise Wrong("out-of-range", f"{node.text} is not between {minimum:g} and {maximum:g}")
        return number

    return Word(
        f"a number from {minimum:g} to {maximum:g}",
        parse,
        {"type": "number", "minimum": minimum, "maximum": maximum},
    )


def parse_truth(node: Scalar) -> bool:
    if node.kind != "boolean":
        message = f"expected `true` or `false`, found `{shorten(node.text)}`"
        raise Wrong("not-a-boolean", message, "Write `true` or `false`, without quotes.")
    return node.text.lower() == "true"


TRUTH_SHAPE = Word("`true` or `false`", parse_truth, {"type": "boolean"})


def choice(*names: str, later: tuple[str, ...] = ()) -> Word[str]:
    """One of `names`; those in `later` are known, and refused as not in this version."""

    def parse(node: Scalar) -> str:
        if node.text in names:
            return node.text
        if node.text in later:
            raise not_in_this_version(f"`{node.text}`", suggest_now(names))
        near = nearest(node.text, (*names, *later))
        repair = f"Did you mean `{near}`?" if near else suggest("", names, "values")
        raise Wrong("unknown-value", f"`{shorten(node.text)}` is none of {', '.join(names)}", repair)

    return Word(" or ".join(f"`{name}`" for name in names), parse, {"enum": list(names)})


def not_in_this_version(what: str, repair: str = "") -> Wrong:
    """The refusal of what a later version will bring."""
    return Wrong("not-in-this-version", f"{what} is not in this version of Penstock", repair or "Remove it for now.")


def suggest_now(names: tuple[str, ...]) -> str:
    return f"This version has {', '.join(f'`{name}`' for name in names)}."


def parse_character(node: Scalar) -> str:
    if node.text == "\\t":
        raise Wrong("bad-character", "`\\t` is two characters here", 'Write "\\t" in double quotes.')
    if len(node.text) != 1 or node.text in "\r\n\0" or not node.text.isascii() or node.text.isalnum():
        message = f"`{shorten(node.text)}` is not one ASCII character other than a letter, a digit or a line end"
        raise Wrong("bad-character", message, 'Write one character in quotes, such as ";".')
    return node.text


CHARACTER_SHAPE = Word("one character", parse_character, {"type": "string", "minLength": 1, "maxLength": 1})
