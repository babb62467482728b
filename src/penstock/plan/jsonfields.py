"""Reading many field paths of a JSON text with one parse, each number as it was written.

DuckDB's `from_json` reads numbers as doubles, which loses their text, unless a DECIMAL is among the wanted fields: then
it keeps every number of the document as written. So each structure has a decimal field that no record is asked for.
A structure cannot hold a name twice, not even in another case, nor a value both whole and in parts: such paths go into
a second structure, which costs a second parse.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from penstock.plan.sqltext import literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    Steps = tuple[str | int, ...]
    Node = str | list["Node"] | dict[str, "Node"]

_LEAF = "JSON"


class JsonFields:
    """The structures that together hold all `paths` (each starting with a name)."""

    def __init__(self, paths: Sequence[Steps]) -> None:
        self._structures: list[dict[str, Node]] = []
        self._place: dict[Steps, int] = {}
        for path in dict.fromkeys(paths):
            self._place[path] = self._add(path)

    @property
    def count(self) -> int:
        """How many structures there are: how often the text is parsed."""
        return len(self._structures)

    def parse(self, text: str) -> list[str]:
        """SQL for each structure's value; `text` is SQL for valid JSON or NULL."""
        return [f"from_json({text}, {literal(_structure_text(structure))})" for structure in self._structures]

    def read(self, path: Steps, parsed: Sequence[str], *, as_list: bool = False) -> str:
        """SQL for the value at `path` as JSON text (with `as_list`, as JSON[]), from the results of `parse`."""
        value = parsed[self._place[path]]
        for step in path:
            value = (
                f"list_extract({value}, {step + 1})"
                if isinstance(step, int)
                else f"struct_extract({value}, {literal(step)})"
            )
        return value if as_list else f"CAST({value} AS VARCHAR)"

    def add_list(self, path: Steps) -> None:
        """Make `path` one whose value is read as a list."""
        self._place[path] = self._add((*path, 0))

    def _add(self, path: Steps) -> int:
        for number, structure in enumerate(self._structures):
            if _insert(structure, path):
                return number
        self._structures.append({})
        _insert(self._structures[-1], path)
        return len(self._structures) - 1


def _fits(node: dict[str, Node], path: Steps) -> bool:
    """Whether `path` can go into the structure beside what is there."""
    here: Node = node
    for depth, step in enumerate(path):
        if isinstance(here, dict):
            if not isinstance(step, str):
                return False
            clash = [name for name in here if name.lower() == step.lower()]
            if not clash:
                return True
            if clash != [step]:
                return False
            here = here[step]
        elif isinstance(here, list):
            if not isinstance(step, int):
                return False
            here = here[0]
        else:
            return False
        if depth == len(path) - 1:
            return here == _LEAF
    return False


def _insert(structure: dict[str, Node], path: Steps) -> bool:
    if not _fits(structure, path):
        return False
    tail: Node = _LEAF
    for depth in range(len(path) - 1, -1, -1):
        here = _at(structure, path[:depth])
        if here is not None:
            step = path[depth]
            if isinstance(here, dict) and isinstance(step, str):
                here.setdefault(step, tail)
            break
        tail = [tail] if isinstance(path[depth], int) else {str(path[depth]): tail}
    return True


def _at(structure: dict[str, Node], path: Steps) -> Node | None:
    here: Node = structure
    for step in path:
        if isinstance(here, dict) and isinstance(step, str) and step in here:
            here = here[step]
        elif isinstance(here, list) and isinstance(step, int):
            here = here[0]
        else:
            return None
    return here


def _structure_text(structure: dict[str, Node]) -> str:
    keeper = "n"
    while any(name.lower() == keeper for name in structure):
        keeper += "n"
    return json.dumps({**structure, keeper: "DECIMAL(18,3)"}, ensure_ascii=False)
