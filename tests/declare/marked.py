"""Declarations for tests, with `«code»` in front of each character where a finding is expected."""

from __future__ import annotations

import re

MARK = re.compile(r"«([a-z0-9-]+)»")

COLUMNS = """\
    id: {type: string}
    at: {type: timestamp}
    price: {type: float64}
    amount: {type: "decimal(18,2)"}
"""


def declaration(
    *,
    pipeline: str = "pipeline: shop\n",
    source: str = "  push: {}\n",
    references: str = "",
    silver: str = "  table: orders\n",
    columns: str = COLUMNS,
    rules: str = "",
    gold: str = "",
    more: str = "",
) -> str:
    """A whole declaration, sound unless a part says otherwise."""
    text = pipeline + "source:\n" + source
    if references:
        text += "references:\n" + references
    text += "silver:\n" + silver + "  columns:\n" + columns
    if rules:
        text += "  rules:\n" + rules
    if gold:
        text += "gold:\n" + gold
    return text + more


def expected(marked: str) -> tuple[str, list[tuple[int, int, str]]]:
    """The text without its markers, and (line, column, code) of each of them."""
    places = []
    text = ""
    position = 0
    for match in MARK.finditer(marked):
        text += marked[position : match.start()]
        position = match.end()
        places.append((text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1, match[1]))
    return text + marked[position:], sorted(places)
