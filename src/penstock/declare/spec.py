"""What a declaration may hold: fields, sections and shapes.

A shape reads one kind of value and can describe itself; a field is a name with a shape and documentation; a section is
a mapping with known fields. The sections of the files are in `source.py`, `silver.py`, `gold.py` and so on.
From this one description come parsing, findings about unknown fields, the JSON schema (`schema.py`) and the reference
pages (`pages.py`). Shapes of scalars are in `shapes.py`, of lists and mappings in `composites.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from penstock.declare.substitution import substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.declare.nodes import Node, Scalar
    from penstock.declare.report import Report
    from penstock.model.finding import Mark

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Schema = dict[str, Any]
"""A JSON schema (draft 2020-12)."""


@dataclass(frozen=True)
class Located(Generic[T_co]):
    """A value and the node it was read from."""

    value: T_co
    node: Node

    @property
    def mark(self) -> Mark:
        return self.node.mark


@dataclass(frozen=True)
class Reading:
    """What reading needs besides the node: where findings go, and the variables that `${NAME}` may name.

    `connection` is true inside a connection setting, where `${NAME}` is allowed.
    """

    report: Report
    environment: Mapping[str, str]
    connection: bool = False

    def within(self, connection: bool) -> Reading:
        return replace(self, connection=self.connection or connection)

    def scalar(self, node: Scalar) -> Scalar | None:
        """The scalar with its variables put in; None with a finding where that is not possible."""
        return substitute(node, self.environment, self.report, allowed=self.connection)

    def add(self, node: Node, code: str, message: str, repair: str = "") -> None:
        self.report.add(node.mark, code, message, repair)


class Shape(Protocol[T_co]):
    """How one kind of value is read and described."""

    @property
    def words(self) -> str:
        """What it takes, for people."""

    def read(self, node: Node, reading: Reading) -> Located[T_co] | None:
        """The value, or None with at least one finding. Never raises."""

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """The JSON schema of the values; sections are put into `definitions` and referred to."""

    def sections(self) -> tuple[Section, ...]:
        """The sections directly below, for the reference pages."""


@dataclass(frozen=True)
class Field(Generic[T]):
    """One field of a section.

    `default` is the default in words ("" for none); `later` says that the field is known but not in this version;
    `connection` that it is a connection setting, in which `${NAME}` may stand.
    """

    name: str
    shape: Shape[T]
    doc: str
    example: str = ""
    default: str = ""
    required: bool = False
    later: bool = False
    connection: bool = False


@dataclass(frozen=True)
class Section:
    """A mapping with known fields. `extensions` allows `x-...` keys, which are ignored (a place for anchors).

    `example` is for the reference; without one, the examples of the fields together are.
    """

    name: str
    title: str
    doc: str
    fields: tuple[Field[Any], ...]
    extensions: bool = False
    example: str = ""

    def field(self, name: str) -> Field[Any] | None:
        return next((known for known in self.fields if known.name == name), None)


@dataclass(frozen=True)
class Parsed:
    """A section as read: the values that could be read, and which fields were written at all."""

    node: Node
    values: Mapping[str, Located[Any]]
    written: Mapping[str, Mark]

    def get(self, wanted: Field[T]) -> Located[T] | None:
        return cast("Located[T] | None", self.values.get(wanted.name))

    def value(self, wanted: Field[T], default: T) -> T:
        found = self.get(wanted)
        return default if found is None else found.value

    def maybe(self, wanted: Field[T]) -> T | None:
        found = self.get(wanted)
        return None if found is None else found.value

    def has(self, wanted: Field[Any]) -> bool:
        """It was written, readable or not."""
        return wanted.name in self.written

    def mark(self, wanted: Field[Any]) -> Mark:
        """Where the field's name stands, or the section's beginning where it does not."""
        return self.written.get(wanted.name, self.node.mark)


@dataclass(frozen=True)
class Named(Generic[T_co]):
    """An entry of a mapping from names: `value` is None where it could not be read."""

    key: Scalar
    value: Located[T_co] | None

    @property
    def name(self) -> str:
        return self.key.text

    @property
    def mark(self) -> Mark:
        return self.key.mark
