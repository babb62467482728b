"""What lies in a folder: every regular file below it, and which of them are ready to be taken in.

A name that starts with a dot, or ends in `.tmp` or `.part`, is somebody's work in progress and is not looked at. A file
that changed in the last FILE_SETTLE_SECONDS waits. Symbolic links are followed; a folder is entered once, and
the lake never.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from penstock.errors import SourceLost
from penstock.limits import FILE_SETTLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN_PROGRESS_SUFFIXES = (".tmp", ".part")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file: its path relative to the folder with `/`, its size in bytes, and when it changed."""

    path: str
    size: int
    mtime_us: int
    ctime_us: int


@dataclass(frozen=True)
class Listing:
    """Files in path order. `fresh` still may be written; `unnamed` are paths that are not UTF-8, made printable."""

    settled: tuple[FoundFile, ...]
    fresh: tuple[FoundFile, ...]
    unnamed: tuple[str, ...]


class Lister:
    """Looks into one folder again and again; remembers what it saw to tell files that are still being written.

    `lake` is not entered, wherever it lies: a pipeline that read its own tables would never come to an end.
    """

    def __init__(self, folder: Path, name: str, lake: Path | None = None) -> None:
        self._folder = folder
        self._name = name
        self._lake = lake
        self._seen: dict[str, tuple[int, int, int]] = {}

    def refuse_absent(self) -> None:
        """Find out that the folder is not there, as cheaply as that can be.

        Raises:
            SourceLost: the folder is not there or cannot be read.
        """
        next(self._walk(), None)

    def look(self, now_us: int) -> Listing:
        """The folder as it is now.

        Raises:
            SourceLost: the folder is not there or cannot be read.
        """
        settled: list[FoundFile] = []
        fresh: list[FoundFile] = []
        unnamed: list[str] = []
        seen: dict[str, tuple[int, int, int]] = {}
        settle_us = int(FILE_SETTLE_SECONDS * 1_000_000)
        for found in self._walk():
            if not _is_text(found.path):
                unnamed.append(os.fsencode(found.path).decode("utf-8", "backslashreplace"))
                continue
            if found.mtime_us <= now_us - settle_us:
                settled.append(found)
                continue
            # A time of change that lies in the future says nothing: then the file must look the same for a while.
            size, mtime_us, since = self._seen.get(found.path, (-1, -1, now_us))
            if (size, mtime_us) != (found.size, found.mtime_us):
                since = now_us
            seen[found.path] = (found.size, found.mtime_us, since)
            (settled if now_us - since >= settle_us else fresh).append(found)
        self._seen = seen
        return Listing(_in_order(settled), _in_order(fresh), tuple(sorted(unnamed)))

    def _walk(self) -> Iterator[FoundFile]:
        entered = {_identity(os.stat(self._lake))} if self._lake is not None and self._lake.exists() else set()
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                identity = _identity(os.stat(self._folder / prefix))
                if identity in entered:
                    continue
                entered.add(identity)
                with os.scandir(self._folder / prefix) as entries:
                    names = list(entries)
            except OSError as error:
                if prefix and isinstance(error, FileNotFoundError):
                    continue
                raise SourceLost(
                    f"cannot list the folder {self._name}{'/' + prefix if prefix else ''}: {error.strerror}",
                    hint="Create it, or correct `source.files.path`, or its permissions.",
                ) from error
            for entry in sorted(names, key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name.lower().endswith(IN_PROGRESS_SUFFIXES):
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    # A dangling link, or a file removed since the folder was read: there is nothing to take in.
                    continue
                if S_ISDIR(status.st_mode):
                    folders.append(f"{prefix}{entry.name}/")
                elif S_ISREG(status.st_mode):
                    yield FoundFile(
                        prefix + entry.name, status.st_size, status.st_mtime_ns // 1_000, status.st_ctime_ns // 1_000
                    )


def _identity(status: os.stat_result) -> tuple[int, int]:
    """Which folder it is, by whatever name."""
    return status.st_dev, status.st_ino


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_order(files: list[FoundFile]) -> tuple[FoundFile, ...]:
    return tuple(sorted(files, key=lambda found: found.path))
