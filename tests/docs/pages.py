"""Reads the Markdown pages of the project for the tests: fenced blocks, what stands around them, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = "docs/reference"

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")
MARK = re.compile(r"^<!-- (?P<verb>file|edit|append): (?P<path>\S+) -->$")
HEADING = re.compile(r"^(#{1,6}) (?P<text>.+?)\s*$")
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+)(?: \"[^\"]*\")?\)")
IMAGE = re.compile(r"(?:src|srcset)=\"(?P<target>[^\"]+)\"")
ANCHOR = re.compile(r"<a id=\"(?P<name>[^\"]+)\"></a>")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, the line its text begins at, and what a comment before it says.

    `verb` and `path` come from `<!-- file: PATH -->` (the block is a whole file), `<!-- append: PATH -->` (its end) or
    `<!-- edit: PATH -->` (a change to one, as a diff without line numbers).
    """

    language: str
    lines: tuple[str, ...]
    line: int
    verb: str = ""
    path: str = ""

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def pages() -> dict[str, Path]:
    """Every page a person writes, by its path in the repository."""
    found = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path for path in found if path.is_file()}


def written_pages() -> dict[str, Path]:
    """Those that are not generated."""
    return {name: path for name, path in pages().items() if not name.startswith(GENERATED)}


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    verb = path = ""
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        mark = MARK.match(line.strip())
        fence = FENCE.match(line)
        if mark:
            verb, path = mark["verb"], mark["path"]
        elif fence:
            inside = []
            for _, inner in lines:
                if inner.strip() == fence["fence"]:
                    break
                inside.append(inner.removeprefix(fence["indent"]))
            else:
                raise AssertionError(f"line {number}: the fence is not closed")
            found.append(Block(fence["info"].strip(), tuple(inside), number + 1, verb, path))
            verb = path = ""
        elif line.strip():
            verb = path = ""
    return found


def prose(text: str) -> list[tuple[int, str]]:
    """The lines outside of fenced blocks, with their numbers; code spans are blanked."""
    found = []
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if fence is None and match:
            fence = match["fence"]
        elif fence is not None:
            if line.strip() == fence:
                fence = None
        else:
            found.append((number, re.sub(r"`[^`]*`", "``", line)))
    return found


def links(text: str) -> list[tuple[int, str]]:
    """The targets of links and images, with their line numbers."""
    return [
        (number, match["target"])
        for number, line in prose(text)
        for pattern in (LINK, IMAGE)
        for match in pattern.finditer(line)
    ]


def anchors(text: str) -> set[str]:
    """What a link into a page may name: its headings as GitHub writes them, and explicit anchors."""
    found: set[str] = set()
    fenced = {number for number, _ in prose(text)}
    for number, line in enumerate(text.splitlines(), 1):
        if number not in fenced:
            continue
        found.update(match["name"] for match in ANCHOR.finditer(line))
        heading = HEADING.match(line)
        if heading:
            slug = base = github_slug(heading["text"])
            count = 0
            while slug in found:
                count += 1
                slug = f"{base}-{count}"
            found.add(slug)
    return found


def github_slug(heading: str) -> str:
    """The anchor GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
