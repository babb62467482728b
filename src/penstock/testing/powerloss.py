"""A power loss, simulated: which states of a folder a journaling file system may leave, given what was synced.

Use a `PowerLossStorage` in place of a `LocalStorage` while a program runs; it notes every file operation. Afterwards
each of its `moments` stands for the power failing there, and `states(moment)` are the folders that may be found then:
what was synced is there, and of the rest each file may be whole, cut, zero-filled or empty, and each name there or not.
Build a state into an empty folder, recover, and look whether the promises hold.

What other libraries write (delta-rs, pyarrow) is seen by looking at the folder before each operation. Only the syncs
that go through the storage count.
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
    from collections.abc import Callable, Iterable, Iterator, Mapping

FOLDER = b"<folder>"


@dataclass(frozen=True)
class Moment:
    """The disk as it may be when the power fails right after `operation`.

    `names` and `durable_names` map paths to inodes, `contents` and `durable_contents` inodes to bytes; `mark` is the
    last one the program set (`PowerLossStorage.mark`), for instance what it had acknowledged by then.
    """

    operation: str
    mark: object
    names: Mapping[str, int]
    durable_names: Mapping[str, int]
    contents: Mapping[int, bytes]
    durable_contents: Mapping[int, bytes | None]


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


def _nothing(path: str) -> bool:
    return path == ""


@dataclass
class PowerLossStorage(LocalStorage):
    """A local storage that remembers what a power loss may do. For one thread and small lakes.

    `trusted` names files that their own library keeps durable (an SQLite database, say). With `ignore_syncs` the syncs
    are forgotten: a planted bug, to see that a test notices.
    """

    folder: Path
    trusted: Callable[[str], bool] = _nothing
    ignore_syncs: bool = False
    moments: list[Moment] = field(default_factory=list)
    mark: object = None

    def __post_init__(self) -> None:
        super().__init__(self.folder)
        self._names: dict[str, int] = {}
        self._durable_names: dict[str, int] = {}
        self._contents: dict[int, bytes] = {}
        self._durable_contents: dict[int, bytes | None] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._live: dict[int, int] = {}  # the system's inode -> ours: it gives a deleted file's number to a new one
        self._next = 0

    def _before(self, operation: str, path: str) -> None:
        self.look(f"what came before {operation} {path}")
        if self.ignore_syncs:
            return
        if operation == "sync" and path in self._names:
            inode = self._names[path]
            self._durable_contents[inode] = self._contents[inode]
        elif operation == "sync_folder":
            self._sync_names(path)
        else:
            return
        self._note(f"{operation} {path}")

    def _sync_names(self, folder: str) -> None:
        for path in [path for path in self._durable_names if os.path.dirname(path) == folder]:
            del self._durable_names[path]
        self._durable_names.update((path, at) for path, at in self._names.items() if os.path.dirname(path) == folder)

    def look(self, operation: str = "the end") -> None:
        """Find what changed in the folder since the last look; a moment, if anything did."""
        names: dict[str, int] = {}
        live: dict[int, int] = {}
        changed = False
        for current, folders, files in os.walk(self.root):
            base = os.path.relpath(current, self.root)
            for name in (*folders, *files):
                path = name if base == "." else f"{base}/{name}"
                status = os.stat(os.path.join(current, name))
                names[path] = live[status.st_ino] = self._live.get(status.st_ino) or self._new_inode()
                if name in folders:
                    self._contents[names[path]] = self._durable_contents[names[path]] = FOLDER
                else:
                    changed |= self._look_at(path, names[path], (status.st_size, status.st_mtime_ns))
        self._live = live
        if changed or names != self._names:
            self._names = names
            self._note(operation)

    def _new_inode(self) -> int:
        self._next += 1
        return self._next

    def _look_at(self, path: str, inode: int, version: tuple[int, int]) -> bool:
        """Note a file's bytes if they changed."""
        if self._seen.get(inode) == version:
            return False
        self._seen[inode] = version
        self._contents[inode] = Path(self.root, path).read_bytes()
        self._durable_contents.setdefault(inode, None)
        if self.trusted(path):
            self._durable_contents[inode] = self._contents[inode]
            self._durable_names[path] = inode
        return True

    def _note(self, operation: str) -> None:
        self.moments.append(
            Moment(
                operation,
                self.mark,
                dict(self._names),
                dict(self._durable_names),
                dict(self._contents),
                dict(self._durable_contents),
            )
        )


def states(moment: Moment, *, seed: int = 0, limit: int = 64) -> Iterator[State]:
    """The folders that may be found; all of them, or `limit` chosen by `seed` where there are more."""
    paths = sorted({*moment.names, *moment.durable_names})
    doubtful = [path for path in paths if moment.names.get(path) != moment.durable_names.get(path)]
    certain = {path: inode for path, inode in moment.durable_names.items() if path not in doubtful}
    inodes = sorted(
        {
            inode
            for path in paths
            for inode in (moment.names.get(path), moment.durable_names.get(path))
            if inode is not None and moment.contents[inode] != moment.durable_contents[inode]
        }
    )
    name_choices = [(moment.names.get(path), moment.durable_names.get(path)) for path in doubtful]
    content_choices = [tuple(_contents(moment, inode)) for inode in inodes]
    every: Iterator[tuple[object, ...]]
    count = 1
    for choices in (*name_choices, *content_choices):
        count *= len(choices)
    if count <= limit:
        every = itertools.product(*name_choices, *content_choices)
    else:
        draw = random.Random(f"{seed}/{moment.operation}/{count}")
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


def _contents(moment: Moment, inode: int) -> Iterator[tuple[str, bytes]]:
    """What a file with unsynced bytes may hold."""
    content, durable = moment.contents[inode], moment.durable_contents[inode]
    yield "whole", content
    yield "empty", b""
    yield "zeros", b"\0" * len(content)
    yield "cut", content[: len(content) // 2]
    first_line = content.find(b"\n") + 1
    if 0 < first_line < len(content):
        yield "cut after its first line", content[:first_line]
    if durable is not None:
        yield "as before", durable


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
