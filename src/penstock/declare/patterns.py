"""Regular expressions of the text format. RE2 reads them, so RE2 itself (inside Arrow) says whether they are sound."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.declare.nodes import shorten
from penstock.declare.shapes import Word, Wrong, parse_text

if TYPE_CHECKING:
    from penstock.declare.nodes import Scalar

GROUP = re.compile(
    r"\\Q(?:[^\\]|\\(?!E))*(?:\\E|$)"
    r"|\\."
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"
    r"|\(\?P?<(\w+)>",
    re.DOTALL,
)
"""Over escapes, quoted text and character classes to the named groups."""

BEYOND_RE2 = (
    (re.compile(r"\(\?<?[=!]"), "lookahead and lookbehind"),
    (re.compile(r"\\[1-9]|\(\?P=|\\[kg]"), "backreferences"),
    (re.compile(r"\(\?>"), "atomic groups"),
    (re.compile(r"[+*?}]\+"), "possessive repetition"),
)
"""What other dialects have and RE2, which always takes linear time, has not."""


@dataclass(frozen=True)
class Pattern:
    """A sound pattern with the names of its groups, in order."""

    text: str
    groups: tuple[str, ...]


def parse_pattern(node: Scalar) -> Pattern:
    """Raises Wrong where RE2 refuses the pattern, or no group or a group twice is named."""
    text = parse_text(node)
    try:
        pc.match_substring_regex(pa.array([""]), pattern=text)
    except (pa.ArrowInvalid, ValueError) as error:
        raise refusal(text, str(error)) from error
    groups = group_names(text)
    if not groups:
        raise Wrong("pattern-groups", "the pattern names no group", "Name the fields: `(?P<level>[A-Z]+)`.")
    again = next((name for index, name in enumerate(groups) if name in groups[:index]), None)
    if again is not None:
        raise Wrong("pattern-groups", f"the group `{again}` is named twice", "Give each group a name of its own.")
    return Pattern(text, groups)


def group_names(text: str) -> tuple[str, ...]:
    """The names of a sound pattern's groups, in order."""
    return tuple(match[1] for match in GROUP.finditer(text) if match[1])


def refusal(text: str, message: str) -> Wrong:
    """RE2's refusal in words, with the place where it can be told."""
    for construct, name in BEYOND_RE2:
        match = construct.search(text)
        if match is not None:
            repair = "Patterns are RE2's, which match in linear time; find another way to write it."
            return Wrong("bad-pattern", f"`{match[0]}`: {name} do not exist here", repair, match.start())
    detail = shorten(message.partition(": ")[2] or message, 120)
    return Wrong("bad-pattern", f"RE2 refuses the pattern: {detail}", "See https://github.com/google/re2/wiki/Syntax.")


PATTERN_SHAPE = Word("a regular expression (RE2) with named groups", parse_pattern)
