"""Field paths as text: `a.b`, `a[0]`, `"odd name"`, `_key`, `_headers.x`, `^.ts` -> `model.FieldPath`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.declare.nodes import shorten
from penstock.declare.shapes import Word, Wrong
from penstock.limits import PATH_INDEX_MAX, PATH_STEPS_MAX, TEXT_CHARACTERS_MAX
from penstock.model.fields import META_FIELDS, FieldPath

if TYPE_CHECKING:
    from penstock.declare.nodes import Scalar

PLAIN = re.compile(r"[\w$@-]+(?: [\w$@-]+)*")
"""A name that needs no quotes. Blanks inside are fine: `from: "odd name"` is what YAML makes of a quoted name."""

QUOTED = re.compile(r'"((?:[^"]|"")*)"')
INDEX = re.compile(r"\[\s*(\d{1,9})\s*\]", re.ASCII)

SYSTEM_FIELDS = ("_source", "_partition", "_offset", "_index", "_ingested_at", "_batch", "_flags", "_extra")
"""Columns that exist only once the event is a row: a path to one of them would always be NULL."""


def parse_path(text: str) -> FieldPath:
    """The path that `text` writes. A quoted name may hold anything, quotes doubled.

    Raises:
        Wrong: it is none; the offset says where it stops being one.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise Wrong("too-long", f"the path has {len(text)} characters, more than {TEXT_CHARACTERS_MAX}")
    position = 0
    envelope = text.startswith("^")
    if envelope:
        if not text.startswith("^."):
            raise Wrong("bad-field-path", "after `^` a `.` and a name is expected", "Write for example `^.ts`.", 1)
        position = 2
    steps: list[str | int] = []
    name, position, quoted = read_name(text, position)
    steps.append(name)
    while position < len(text):
        if len(steps) >= PATH_STEPS_MAX:
            message = f"the path has more than {PATH_STEPS_MAX} steps"
            raise Wrong("bad-field-path", message, "Read a shorter path as a `json` column.", position)
        if text[position] == ".":
            name, position, _ = read_name(text, position + 1)
            steps.append(name)
        elif text[position] == "[":
            index, position = read_index(text, position)
            steps.append(index)
        else:
            message = f"`{shorten(text[position])}` is not expected in a field path"
            repair = "Write `a.b`, `a[0]`, or quote an odd name: `'\"odd.name\"'`."
            raise Wrong("bad-field-path", message, repair, position)
    path = FieldPath(tuple(steps), envelope)
    check_meta(path, quoted)
    return path


def read_name(text: str, position: int) -> tuple[str, int, bool]:
    """A name from `position` on: (name, where it ends, whether it was quoted)."""
    quoted = QUOTED.match(text, position)
    if quoted is not None:
        name = quoted[1].replace('""', '"')
        if not name or "\0" in name:
            raise Wrong("bad-field-path", "a name in the path is empty", "Name the field.", position)
        return name, quoted.end(), True
    if text.startswith('"', position):
        raise Wrong("bad-field-path", "the quote is not closed", 'Close it; a quote inside is doubled: `""`.', position)
    plain = PLAIN.match(text, position)
    if plain is None:
        found = f"`{shorten(text[position])}`" if position < len(text) else "the end"
        raise Wrong(
            "bad-field-path", f"expected a name in the path, found {found}", "Write for example `a.b`.", position
        )
    if plain[0].isdigit():
        repair = f"Write `[{plain[0]}]` for an element of a list, or quote a name that is a number."
        raise Wrong("bad-field-path", f"`{shorten(plain[0])}` is a number", repair, position)
    return plain[0], plain.end(), False


def read_index(text: str, position: int) -> tuple[int, int]:
    match = INDEX.match(text, position)
    if match is None:
        message = "expected an index such as `[0]`"
        raise Wrong("bad-field-path", message, "Elements are counted from 0 at the front.", position)
    index = int(match[1])
    if index > PATH_INDEX_MAX:
        raise Wrong("bad-field-path", f"the index {index} is more than {PATH_INDEX_MAX}", "", position)
    return index, match.end()


def check_meta(path: FieldPath, quoted: bool) -> None:
    """Roots around the event have their own rules: `_headers.x` exactly one name, the others nothing below them."""
    root = path.root
    if path.envelope or root not in META_FIELDS:
        if root in SYSTEM_FIELDS and not quoted and not path.envelope:
            message = f"`{root}` is a column of the tables, not a field of the event"
            raise Wrong("bad-field-path", message, f"Quote it where the event has such a field: `'\"{root}\"'`.", 0)
        return
    if quoted:
        raise Wrong("bad-field-path", f"`{root}` always means the record's own {root[1:]}", "Rename the field.", 0)
    if root == "_headers" and (len(path.steps) != 2 or isinstance(path.steps[1], int)):
        raise Wrong(
            "bad-field-path", "`_headers` needs the name of one header", "Write for example `_headers.source`.", 0
        )
    if root != "_headers" and len(path.steps) != 1:
        raise Wrong("bad-field-path", f"nothing can be taken from inside `{root}`", f"Write `{root}`.", len(root))


def parse_path_node(node: Scalar) -> FieldPath:
    return parse_path(node.text)


PATH_SHAPE = Word("a field path such as `a.b`", parse_path_node)
