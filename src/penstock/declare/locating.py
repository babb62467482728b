"""Where a part of a declaration stands, by its keys; for findings about nouns that carry no place themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.declare.nodes import Fields
from penstock.declare.reading import read
from penstock.declare.report import Report

if TYPE_CHECKING:
    from penstock.model.finding import Mark

Locator = Callable[[tuple[str, ...]], "Mark"]
"""Keys from the outside in -> the place of the last one that is written."""


def locate(text: str, file: str) -> Locator:
    """A locator for the declaration in `text`; what cannot be found is at the beginning of the file."""
    report = Report(file)
    root = read(text, report)

    def find(path: tuple[str, ...]) -> Mark:
        mark, node = report.start(), root
        for key in path:
            entry = node.get(key) if isinstance(node, Fields) else None
            if entry is None:
                break
            mark, node = entry.key.mark, entry.value
        return mark

    return find
