"""A field path says where in a raw event a value is found: `a.b`, `a[0]`, `"odd name"`, `^.ts`, `_headers.x`."""

from __future__ import annotations

from dataclasses import dataclass

META_FIELDS = ("_key", "_timestamp", "_headers", "_file")
"""Roots that lie in the record around the event, not in its value."""


@dataclass(frozen=True)
class FieldPath:
    """Steps from a root to a value. A string step is a member's name, an integer step a list index.

    `envelope` is true for `^.`: the path starts at the record instead of at the element of its `records` list.
    A path whose first step is one of META_FIELDS leaves the value: `_headers.x` has the steps ("_headers", "x").
    """

    steps: tuple[str | int, ...]
    envelope: bool = False

    def __post_init__(self) -> None:
        if not self.steps or not isinstance(self.steps[0], str):
            raise ValueError("a field path starts with a name")

    @property
    def is_meta(self) -> bool:
        return self.steps[0] in META_FIELDS and not self.envelope

    @property
    def root(self) -> str:
        return str(self.steps[0])

    def __str__(self) -> str:
        text = "^" if self.envelope else ""
        for step in self.steps:
            if isinstance(step, int):
                text += f"[{step}]"
            else:
                plain = step.replace("_", "a").isalnum() and step.isascii() and not step[0].isdigit()
                name = step if plain else '"' + step.replace('"', '""') + '"'
                text += f".{name}" if text else name
        return text
