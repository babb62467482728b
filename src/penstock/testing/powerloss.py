"""A power loss, simulated: which states of a folder a journaling file system may leave, given what was synced.

Use a `PowerLossStorage` in place of a `LocalStorage` while a program runs; it notes every file operation. Afterwards
each of its `moments` stands for the power failing there, and `states(moment)` are the folders that may be found then.
Build a state into an empty folder, recover, and look whether the promises hold.

The model promises as little as POSIX does:

* What `fsync` returned for is there: bytes by a sync of the file, names by one of its folder.
* Bytes that were written and not synced: each sector may hold what was there before, any version written since, or
  zeros; the file may end anywhere. So a file may be whole, empty, cut, zero-filled or torn.
* Names that were created, renamed or deleted and not synced: each may be as before or as at any time since, whatever
  became of the others. So renames and deletions are seen in any order, or in part.

What other libraries write (delta-rs, pyarrow, SQLite) is seen by looking at the folder before each operation. Only
syncs that are told count: those of the storage, and those of `sqlitedisk.watch_sqlite`.
"""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.lake.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER = b"<folder>"
SECTOR_BYTES = 512
"""The most that a disk writes all or nothing."""


@dataclass(frozen=True)
class Moment:
    """The disk as it may be when the power fails right after `operation`.

    `names` and `contents` are what the programs saw: paths to inodes, inodes to bytes. `names_possible` has, for each
    path that is not certain, the inodes it may name (None: no such name), and `contents_possible` for each inode whose
    bytes are not, the versions there were, the durable one first (None: it has none). `mark` is the last one the
    program set (`PowerLossStorage.mark`), for instance what it had acknowledged by then.
    """

    operation: str
    mark: object
    names: Mapping[str, int]
    contents: Mapping[int, bytes]
    names_possible: Mapping[str, tuple[int | None, ...]]
    contents_possible: Mapping[int, tuple[bytes | None, ...]]


@dataclass(frozen=True)
class State:
    """One folder that may be found after a power loss: paths to bytes, None for folders; `choices` says how it came."""

    moment: Moment
    files: Mapping[str, bytes | None]
    choices: str

    def build(self, target: Path) -> None:
        """Write the state into `target`, which must not exist yet."""
        target.mkdir(parents=True)
        for path in sorted(self.files):
            content, full = self.files[path], target / path
            if content is None:
                full.mkdir(exist_ok=True)
            else:
                full.write_bytes(content)

    def __str__(self) -> str:
        return f"power loss after {self.moment.operation}: {self.choices}"


@dataclass
class PowerLossStorage(LocalStorage):
    """A local storage that remembers what a power loss may do. For one thread at a time, and small lakes.

    With `ignore_syncs` the syncs are forgotten: a planted bug, to see that a test notices.
    """

    folder: Path
    ignore_syncs: bool = False
    moments: list[Moment] = field(default_factory=list)
    mark: object = None

    def __post_init__(self) -> None:
        super().__init__(self.folder)
        self._names: dict[str, int] = {}
        self._names_since: dict[str, list[int | None]] = {}  # path -> what it named, the durable one first
        self._contents: dict[int, bytes] = {}
        self._contents_since: dict[int, list[bytes | None]] = {}  # inode -> its versions, the durable one first
        self._seen: dict[int, tuple[int, int]] = {}
        self._live: dict[int, int] = {}  # the system's inode -> ours: it gives a deleted file's number to a new one
        self._next = 0

    def _before(self, operation: str, path: str) -> None:
        self.look(f"what came before {operation} {path}")
        if operation == "sync":
            self.synced(path)
        elif operation == "sync_folder":
            self.synced_folder(path)

    def synced(self, path: str) -> None:
        """The bytes of a file are durable from here on, as they were when it was last looked at."""
        if self.ignore_syncs or path not in self._names:
            return
        if self._contents_since.pop(self._names[path], None) is not None:
            self._note(f"sync {path}")

    def synced_folder(self, folder: str) -> None:
        """The names in a folder are durable from here on."""
        if self.ignore_syncs:
            return
        synced = [path for path in self._names_since if os.path.dirname(path) == folder]
        for path in synced:
            del self._names_since[path]
        if synced:
            self._note(f"sync_folder {folder}")

    def look(self, operation: str = "the end") -> None:
        """Find what changed in the folder since the last look; a moment, if anything did."""
        names: dict[str, int] = {}
        live: dict[int, int] = {}
        changed = False
        for current, folders, files in os.walk(self.root):
            base = os.path.relpath(current, self.root)
            for name in (*folders, *files):
                path = name if base == "." else f"{base}/{name}"
                try:
                    status = os.stat(os.path.join(current, name))
                except FileNotFoundError:
                    continue
                names[path] = live[status.st_ino] = self._live.get(status.st_ino) or self._new_inode()
                if name in folders:
                    self._contents[names[path]] = FOLDER
                else:
                    changed |= self._look_at(path, names[path], (status.st_size, status.st_mtime_ns))
        self._live = live
        for path in self._names.keys() | names.keys():
            if self._names.get(path) != names.get(path):
                self._names_since.setdefault(path, [self._names.get(path)]).append(names.get(path))
                changed = True
        self._names = names
        if changed:
            self._note(operation)

    def _new_inode(self) -> int:
        self._next += 1
        return self._next

    def _look_at(self, path: str, inode: int, version: tuple[int, int]) -> bool:
        """Note a file's bytes if they changed."""
        if self._seen.get(inode) == version:
            return False
        self._seen[inode] = version
        content = Path(self.root, path).read_bytes()
        before = self._contents.get(inode)
        if content == before:
            return False
        self._contents_since.setdefault(inode, [before]).append(content)
        self._contents[inode] = content
        return True

    def _note(self, operation: str) -> None:
        self.moments.append(
            Moment(
                operation,
                self.mark,
                dict(self._names),
                dict(self._contents),
                {path: tuple(dict.fromkeys(found)) for path, found in self._names_since.items()},
                {inode: tuple(dict.fromkeys(found)) for inode, found in self._contents_since.items()},
            )
        )


def states(moment: Moment, *, seed: int = 0, limit: int = 64) -> Iterator[State]:
    """The folders that may be found; all of them, or `limit` chosen by `seed` where there are more."""
    draw = random.Random(f"{seed}/{moment.operation}/{len(moment.names)}")
    doubtful = sorted(moment.names_possible)
    certain = {path: inode for path, inode in moment.names.items() if path not in moment.names_possible}
    named = {*certain.values(), *(inode for path in doubtful for inode in moment.names_possible[path])}
    inodes = sorted(inode for inode in moment.contents_possible if inode in named)
    name_choices = [moment.names_possible[path] for path in doubtful]
    content_choices = [tuple(_contents(moment, inode, draw)) for inode in inodes]
    every: Iterator[tuple[object, ...]]
    count = 1
    for choices in (*name_choices, *content_choices):
        count *= len(choices)
    if count <= limit:
        every = itertools.product(*name_choices, *content_choices)
    else:
        choices_of_all = (*name_choices, *content_choices)
        every = (tuple(draw.choice(choices) for choices in choices_of_all) for _ in range(limit))
    for chosen in every:
        names = {**certain, **dict(zip(doubtful, chosen, strict=False))}
        contents = dict(zip(inodes, chosen[len(doubtful) :], strict=True))
        yield _state(moment, names, contents)


def distinct_states(moments: Iterable[Moment], *, seed: int = 0, limit: int = 64) -> Iterator[State]:
    """The states of all moments, each folder with each mark once; at most `limit` per moment."""
    known = set()
    for moment in moments:
        for state in states(moment, seed=seed, limit=limit):
            key = hash((moment.mark, tuple(state.files.items())))
            if key not in known:
                known.add(key)
                yield state


def _contents(moment: Moment, inode: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """What a file with unsynced bytes may hold."""
    versions = moment.contents_possible[inode]
    content, durable = moment.contents[inode], versions[0]
    yield "whole", content
    if durable is None:
        yield "empty", b""
        yield "zeros", b"\0" * len(content)
        yield "cut", content[: len(content) // 2]
        first_line = content.find(b"\n") + 1
        if 0 < first_line < len(content):
            yield "cut after its first line", content[:first_line]
    else:
        yield "as before", durable
    longest = max(len(version) for version in versions if version is not None)
    if longest > SECTOR_BYTES or len(versions) > 2:
        for number in range(2):
            yield f"torn {number}", _torn(versions, longest, draw)


def _torn(versions: tuple[bytes | None, ...], longest: int, draw: random.Random) -> bytes:
    """Sector by sector one of the versions or, where the durable one has no such sector, zeros; ending anywhere."""
    durable = versions[0] or b""
    parts = [_sector(draw.choice(versions) or b"", durable, start) for start in range(0, longest, SECTOR_BYTES)]
    lengths = [len(version or b"") for version in versions]
    length = draw.choice([*lengths, draw.randint(min(lengths), max(lengths))])
    return b"".join(parts)[:length]


def _sector(version: bytes, durable: bytes, start: int) -> bytes:
    for found in (version, durable):
        sector = found[start : start + SECTOR_BYTES]
        if sector:
            return sector.ljust(SECTOR_BYTES, b"\0")
    return b"\0" * SECTOR_BYTES


def _state(moment: Moment, names: Mapping[str, object], contents: Mapping[int, object]) -> State:
    files: dict[str, bytes | None] = {}
    choices = []
    for path in sorted(names):
        inode = names[path]
        parent = os.path.dirname(path)
        if not isinstance(inode, int):
            choices.append(f"no {path}")
            continue
        if parent and parent not in files:
            continue  # its folder's name was lost, and it with it
        chosen = contents.get(inode)
        if isinstance(chosen, tuple):
            choices.append(f"{path} {chosen[0]}")
            files[path] = chosen[1]
        else:
            content = moment.contents[inode]
            files[path] = None if content == FOLDER else content
    return State(moment, files, "; ".join(choices) or "all there")
