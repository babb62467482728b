"""Runs a page as a reader would: its commands, its Python, its files, in order, in one empty folder.

What a page shows must be what happens. Numbers that depend on the moment or on the machine (times of day, durations,
sizes of files, random ids) are masked on both sides, runs of spaces count as one, and `...` stands for anything: alone
on a line for any number of lines, within a line for any text. A command that fails must be followed by `$ echo $?`.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from docs.pages import blocks
from penstock.cli.main import run
from penstock.limits import FILE_SETTLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docs.pages import Block

    Differs = Callable[[str, int, list[str], str], None]

COMMAND_SECONDS_MAX = 180
SHELL_CHARACTERS = set("|&;<>$`*?(){}~!\n")
COLUMNS = "110"

MASKS = (
    (re.compile(r"\b20(?:2[6-9]|[3-9]\d)-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?"), "<now>"),
    (re.compile(r"\b20(?:2[6-9]|[3-9]\d)-\d\d-\d\d\b"), "<today>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b(contract|refine version) (\d+ )?\(?[0-9a-f]{8,16}\)?"), r"\1 \2<hash>"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:B|kB|MB|GB)\b"), "<size>"),
    (re.compile(r"\b\d[\d,]*(?:\.\d+)? ?(?:ms|s)\b"), "<seconds>"),
    (re.compile(r"\bprocess \d+"), "process <pid>"),
    (re.compile(r"[─-]{3,}"), "---"),
    (re.compile(r"\s+"), " "),
)


class Reader:
    """Somebody who follows a page in `folder`, and calls `differs` where the page is not true.

    `differs` gets the place, the number of the line that the shown output begins at, what is shown, and what was
    printed. Without one an AssertionError is raised.
    """

    def __init__(self, folder: Path, page: str, differs: Differs | None = None) -> None:
        self._folder = folder
        self._page = page
        self._differs = differs or difference_raised
        self._names: dict[str, object] = {"__name__": "page"}
        self._printed = ""
        self._code = 0
        self._variables = self._home()

    def _home(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        tools = os.path.dirname(sys.executable)
        kept |= {"PATH": f"{tools}:{kept.get('PATH', '')}", "COLUMNS": COLUMNS, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        return kept

    def follow(self, text: str) -> None:
        """Do everything a page says."""
        previous: Block | None = None
        for block in blocks(text):
            place = f"{self._page}:{block.line}"
            if block.verb:
                change_file(self._folder / block.path, block, place)
            elif block.language == "console":
                self._commands(block)
            elif block.language == "python":
                self._python(block, place)
            elif block.language == "text" and previous is not None and previous.language == "python":
                self._compare(place, block.line, list(block.lines), self._printed)
            previous = block

    # -- shell ----------------------------------------------------------------------------------------------------

    def _commands(self, block: Block) -> None:
        for number, command, expected in commands(block):
            place = f"{self._page}:{number}: {command}"
            hidden = self._code and command != "echo $?"
            assert not hidden, f"{place}: the command before it failed with {self._code}, and the page hides it"
            printed = self._call(command)
            self._compare(place, number + 1 + command.count("\n"), expected, printed)
        assert not self._code, f"{place}: it failed with {self._code}, and the page hides it:\n{printed}"

    def _compare(self, place: str, line: int, shown: list[str], printed: str) -> None:
        if not agrees(shown, printed):
            self._differs(place, line, shown, printed)

    def _call(self, command: str) -> str:
        """Run one command; what it prints, both streams in their order. Keeps the exit code for the next one."""
        words = [] if SHELL_CHARACTERS & set(re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command)) else shlex.split(command)
        if words[:1] == ["penstock"] and "--engine" not in words:  # Java would stay, in a folder that goes
            self._code, printed = self._penstock(words[1:])
        else:
            done = subprocess.run(
                ["bash", "-c", f"(exit {self._code})\n{command}"],
                cwd=self._folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
            self._code, printed = done.returncode, done.stdout.decode()
        return "".join(line for line in printed.splitlines(keepends=True) if not is_log(line))

    def _penstock(self, words: list[str]) -> tuple[int, str]:
        """The command line in this process: a second less per command."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
        with (
            contextlib.chdir(self._folder),
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            environment(self._variables),
        ):
            code = run(words)
        stream.flush()
        return code, raw.getvalue().decode()

    # -- Python ---------------------------------------------------------------------------------------------------

    def _python(self, block: Block, place: str) -> None:
        printed = io.StringIO()
        code = compile("\n" * (block.line - 1) + block.text, self._page, "exec")
        with contextlib.chdir(self._folder), contextlib.redirect_stdout(printed), environment(self._variables):
            exec(code, self._names)
        self._printed = printed.getvalue()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """The environment a reader has, for what runs in this process."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def commands(block: Block) -> list[tuple[int, str, list[str]]]:
    """The commands of a console block: line number, command, the lines shown below it. `> ` continues a command."""
    found: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(block.lines, block.line):
        if line.startswith("$ "):
            found.append((number, line[2:], []))
        elif line.startswith("> ") and found and not found[-1][2]:
            start, command, _ = found[-1]
            found[-1] = (start, f"{command}\n{line[2:]}", [])
        else:
            assert found, f"line {number}: a console block begins with a command"
            found[-1][2].append(line)
    return found


def change_file(path: Path, block: Block, place: str) -> None:
    """Make, lengthen or edit a file as the page says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if block.verb == "file":
        path.write_text(block.text)
        written = time.time() - FILE_SETTLE_SECONDS
        os.utime(path, (written, written))  # somebody who reads has spent these seconds; the tests have not
        return
    before = path.read_text()
    if block.verb == "append":
        path.write_text(before + block.text)
        return
    old = "".join(f"{line[1:]}\n" for line in block.lines if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in block.lines if not line.startswith("-"))
    assert before.count(old) == 1, f"{place}: the lines to change are not in {block.path} once:\n{old}\nbut:\n{before}"
    path.write_text(before.replace(old, new))


def is_log(line: str) -> bool:
    """A line of the log that `run` writes where there is no terminal; on one there is a counter instead."""
    if not line.startswith("{"):
        return False
    with contextlib.suppress(ValueError):
        return bool(json.loads(line).get("level") == "info")
    return False


def masked(line: str) -> str:
    for pattern, replacement in MASKS:
        line = pattern.sub(replacement, line)
    return line.strip()


def agrees(shown: list[str], printed: str) -> bool:
    """Whether what is shown is what was printed."""
    wanted, actual = comparable(shown), comparable(printed.splitlines())
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "..." else ".*?".join(re.escape(part) for part in line.split("...")) + "\n"
        for line in wanted
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in actual)) is not None


def comparable(lines: list[str]) -> list[str]:
    """Masked lines, without empty ones at the end."""
    found = [masked(line) for line in lines]
    while found and not found[-1]:
        found.pop()
    return found


def difference_raised(place: str, line: int, shown: list[str], printed: str) -> None:
    """Raise AssertionError with the difference."""
    both = comparable(shown), comparable(printed.splitlines())
    difference = "\n".join(difflib.unified_diff(*both, "the page", "what happens", lineterm="", n=1))
    raise AssertionError(f"{place}\n{difference}\n\nas printed:\n{printed}")
