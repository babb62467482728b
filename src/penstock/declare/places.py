"""Where the characters of a YAML scalar's value stand in the file, so that a finding can point inside an expression."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Runs = tuple[tuple[int, int, int], ...]
"""(offset in the value, line, column), one-based, each valid up to the next one's offset."""

BREAK = re.compile(r"\r\n|\r|\n")
BLANKS_AND_BREAK = re.compile(r"[ \t]*[\r\n]")
CONTINUATION = re.compile(r"\\[ \t]*[\r\n]")
BLOCK_STYLES = ("|", ">")
ESCAPE_LENGTHS = {"x": 4, "u": 6, "U": 10}


def scalar_runs(text: str, raw: str, style: str, line: int, column: int) -> Runs:
    """The runs of a scalar whose source `raw` starts at `line` and `column`.

    `style` is "" for plain, else `'`, `"`, `|` or `>`. Lines that YAML folds, and escapes, start runs of their own.
    """
    if not style and "\n" not in raw and "\r" not in raw:
        return ((0, line, column),)
    runs: list[tuple[int, int, int]] = []
    offset = 0
    for position, at_line, at_column in aligned(text, raw, style, line, column):
        last = runs[-1] if runs else None
        if last is None or last[1] != at_line or at_column - last[2] != offset - last[0]:
            runs.append((offset, at_line, at_column))
        offset = position + 1
    return tuple(runs) or ((0, line, column + (1 if style in ("'", '"') else 0)),)


def aligned(text: str, raw: str, style: str, line: int, column: int) -> Iterator[tuple[int, int, int]]:
    """For each offset of the value: (offset, line, column) in the file. Ends early where the two cannot be aligned."""
    cursor = Cursor(raw, line, column)
    indentation = block_indentation(raw, text) if style in BLOCK_STYLES else None
    if style in BLOCK_STYLES:
        cursor.to_next_line()
        cursor.skip_indentation(indentation)
    elif style:
        cursor.step(1)
    for offset, character in enumerate(text):
        while style == '"' and CONTINUATION.match(raw, cursor.index):
            cursor.to_next_line()
            cursor.skip_indentation(None)
        if cursor.is_done:
            return
        if character in " \n" and cursor.is_fold(style):
            yield offset, cursor.line, cursor.column
            following = text[offset + 1] if offset + 1 < len(text) else ""
            cursor.fold(indentation, following)
            continue
        yield offset, cursor.line, cursor.column
        cursor.step(cursor.character_length(style))


def block_indentation(raw: str, text: str) -> int:
    """The spaces before a block scalar's text: what its first line has in the file more than in the value."""
    in_file, in_value = (
        next((len(line) - len(line.lstrip(" ")) for line in lines if line.strip(" ")), 0)
        for lines in (BREAK.split(raw)[1:], text.split("\n"))
    )
    return max(0, in_file - in_value)


class Cursor:
    """A position in a scalar's source that counts lines and columns."""

    def __init__(self, raw: str, line: int, column: int) -> None:
        self.raw = raw
        self.index = 0
        self.line = line
        self.column = column

    @property
    def is_done(self) -> bool:
        return self.index >= len(self.raw)

    def step(self, characters: int) -> None:
        self.index += characters
        self.column += characters

    def to_next_line(self) -> None:
        match = BREAK.search(self.raw, self.index)
        self.index = match.end() if match else len(self.raw)
        self.line += 1
        self.column = 1

    def skip_indentation(self, spaces: int | None) -> None:
        """Over `spaces` spaces at the start of a line, or over all blanks where None."""
        taken = 0
        while not self.is_done and self.raw[self.index] in " \t" and (spaces is None or taken < spaces):
            self.step(1)
            taken += 1

    def is_fold(self, style: str) -> bool:
        """The value's blank or line break comes from a line break of the source."""
        if style in BLOCK_STYLES:
            return self.raw[self.index] in "\r\n"
        return BLANKS_AND_BREAK.match(self.raw, self.index) is not None

    def fold(self, indentation: int | None, following: str) -> None:
        """Over the line break; in folded text also over the blank lines that made no character of their own."""
        self.to_next_line()
        self.skip_indentation(indentation)
        while not self.is_done and following not in ("\n", "") and self.raw[self.index] in "\r\n":
            self.to_next_line()
            self.skip_indentation(indentation)

    def character_length(self, style: str) -> int:
        """How many characters of the source make the next one of the value."""
        if style == "'" and self.raw.startswith("''", self.index):
            return 2
        if style != '"' or self.raw[self.index] != "\\":
            return 1
        letter = self.raw[self.index + 1 : self.index + 2]
        return ESCAPE_LENGTHS.get(letter, 2)
