"""Where records come from and how far they were absorbed: places, ranges, positions, incarnations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Place:
    """A record's place. `source` is the incarnation number; offsets start at 0 and need not be dense."""

    source: int
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.source}/{self.partition}/{self.offset}"


@dataclass(frozen=True, order=True)
class Range:
    """Offsets [start, end) of one partition of one incarnation.

    `hint` is the source's own shortcut to the bytes (a file and a byte offset, say). It never changes what a range
    means: `read` must return the same records without it.
    """

    source: int
    partition: int
    start: int
    end: int
    hint: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"range {self.start}..{self.end}: 0 <= start < end")

    def __str__(self) -> str:
        return f"{self.source}/{self.partition}/{self.start}..{self.end}"


Position = Mapping[int, int]
"""Partition -> next offset to read, within one incarnation. A partition that is missing starts at its beginning."""


@dataclass(frozen=True)
class SourceIdentity:
    """What makes a source this one and no other: its kind, its name, and an id that a recreated one would not have."""

    kind: str
    name: str
    unique_id: str


@dataclass(frozen=True)
class Incarnation:
    """A source identity with the small integer that stands for it in `_source`.

    `starts` is where it was told to begin, by `penstock offsets reset`; elsewhere it begins at its own beginning.
    """

    number: int
    identity: SourceIdentity
    starts: Position = field(default_factory=dict)
