"""A folder source's manifest in memory: which file holds an offset, what is known of a path, what is not durable."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from penstock.errors import check
from penstock.sources.manifest import FileState, Manifest, manifest_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLDING = (FileState.READING, FileState.COMPLETE, FileState.LOST)
"""States whose rows hold offsets."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One row of the manifest; see MANIFEST_SCHEMA."""

    path: str
    size: int
    mtime_us: int
    sha256: str
    first_offset: int
    records: int
    state: FileState

    @property
    def end(self) -> int | None:
        """The offset after its last record; None while the file is being read."""
        return None if self.records < 0 else self.first_offset + self.records


class Catalogue:
    """Rows of one incarnation. `put` changes memory at once; `keep` makes all changes since durable in one append.

    Memory grows with the number of files ever taken in, by some hundred bytes each.
    """

    def __init__(self, manifest: Manifest, incarnation: int) -> None:
        self._manifest = manifest
        self._incarnation = incarnation
        self._firsts: list[int] = []
        self._held: list[FileEntry] = []
        self._latest: dict[str, FileEntry] = {}
        self._hashes: dict[str, tuple[str, ...]] = {}
        self._changes: dict[tuple[str, int], FileEntry] = {}
        table = manifest.entries()
        for row in table.filter(pc.equal(table["source"], incarnation)).drop_columns(["source"]).to_pylist():
            self._apply(FileEntry(**{**row, "state": FileState(row["state"])}))

    @property
    def next_offset(self) -> int:
        """Where the next file begins; meaningful when no file is being read."""
        if not self._held:
            return 0
        end = self._held[-1].end
        return self._held[-1].first_offset if end is None else end

    def reading(self) -> FileEntry | None:
        """The file whose end is not known yet."""
        return self._held[-1] if self._held and self._held[-1].records < 0 else None

    def latest(self, path: str) -> FileEntry | None:
        """What was learned last about a path."""
        return self._latest.get(path)

    def is_known_content(self, path: str, sha256: str) -> bool:
        """True when the path was taken in with this content before."""
        return sha256 in self._hashes.get(path, ())

    def holding(self, offset: int) -> FileEntry | None:
        """The entry that holds record `offset`, or else the next one that holds records; None beyond the last."""
        for index in range(max(0, bisect.bisect_right(self._firsts, offset) - 1), len(self._held)):
            entry = self._held[index]
            if entry.end is None or entry.end > offset:
                return entry
        return None

    def before(self, offset: int) -> FileEntry | None:
        """The entry that holds record `offset - 1`."""
        entry = self.holding(offset - 1) if offset else None
        return entry if entry is not None and entry.first_offset < offset else None

    def overlapping(self, start: int, end: int) -> Iterator[FileEntry]:
        """Entries that hold offsets of [start, end), in order."""
        for index in range(max(0, bisect.bisect_right(self._firsts, start) - 1), len(self._held)):
            entry = self._held[index]
            if entry.first_offset >= end:
                return
            if entry.end is None or entry.end > start:
                yield entry

    def put(self, entry: FileEntry) -> None:
        """Add or replace a row; durable with the next `keep`."""
        self._apply(entry)
        self._changes[entry.path, entry.first_offset] = entry

    def keep(self) -> None:
        """Make all rows put since the last call durable, in one append."""
        if self._changes:
            self._manifest.append(manifest_rows([self._row(entry) for entry in self._changes.values()]))
            self._changes.clear()

    def _row(self, entry: FileEntry) -> dict[str, object]:
        fields = {name: getattr(entry, name) for name in FileEntry.__slots__}
        return {"source": self._incarnation, **fields, "state": entry.state.value}

    def _apply(self, entry: FileEntry) -> None:
        self._latest[entry.path] = entry
        self._withdraw(entry)
        if entry.state not in HOLDING:
            return
        if entry.sha256:
            self._hashes[entry.path] = (*self._hashes.get(entry.path, ()), entry.sha256)
        if entry.records:
            index = bisect.bisect_left(self._firsts, entry.first_offset)
            self._firsts.insert(index, entry.first_offset)
            self._held.insert(index, entry)

    def _withdraw(self, entry: FileEntry) -> None:
        """Take out the row that `entry` replaces: no two rows hold records from the same offset on."""
        index = bisect.bisect_left(self._firsts, entry.first_offset)
        if index < len(self._firsts) and self._firsts[index] == entry.first_offset:
            check(
                self._held[index].path == entry.path or entry.records == 0, f"two files begin at {entry.first_offset}"
            )
            if self._held[index].path == entry.path:
                del self._firsts[index], self._held[index]
