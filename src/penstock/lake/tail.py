"""The end of a table's log: what was written since the last checkpoint, checked against the files, and made durable.

A power loss can leave the last entry cut, zeroed or without its files; anything earlier was durable before it was built
on, so damage there is corruption. What may be moved aside is decided in `recovery.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from penstock.errors import LakeCorrupt
from penstock.lake import log
from penstock.lake.checkpoint import Examined, examine_checkpoints
from penstock.lake.positions import checkpoint_txns
from penstock.lake.reading import file_problem
from penstock.lake.storage import sync_all
from penstock.model.columns import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.lake.log import Entry
    from penstock.lake.storage import Storage

_HINT = "Restore the table from a backup or a replica of the lake."


@dataclass(frozen=True)
class Tail:
    """The whole entries since the last good checkpoint, and the positions after them. `version` is the last whole one.

    `torn` is the entry after it where that is not whole, with its `problem`; `checkpoints` what those are worth.
    """

    table: str
    version: int
    entries: tuple[Entry, ...]
    txns: Mapping[str, int]
    checkpoints: Examined
    torn: Entry | None = None

    def make_durable(self, storage: Storage) -> None:
        """Sync the entries, the files they add, and the folders."""
        paths = [log.entry_path(self.table, entry.version) for entry in self.entries]
        paths += [f"{self.table}/{add['path']}" for add in _live_adds(self.entries)]
        if self.version >= 0 and self.checkpoints.good >= 0:
            paths.append(log.checkpoint_path(self.table, self.checkpoints.good))
        sync_all(storage, paths)
        for folder in {os.path.dirname(path) for path in paths}:
            while folder:  # the folders' own names, up to the root
                folder = os.path.dirname(folder)
                storage.sync_folder(folder)


def read_tail(storage: Storage, table: str, *, after: int = -1) -> Tail:
    """Read and check the end of the log, from the last good checkpoint on, or from `after` where that is later.

    Raises:
        LakeCorrupt: damage that no power loss explains.
    """
    listing = log.list_log_end(storage, table)
    try:
        checkpoints = examine_checkpoints(storage, table, listing)
    except LakeCorrupt:  # the end alone does not do: perhaps earlier entries stand in for the checkpoint
        listing = log.list_log(storage, table)
        checkpoints = examine_checkpoints(storage, table, listing)
    base = max(checkpoints.good, min(after, listing.last))
    txns = _base_txns(storage, table, checkpoints.good, base)
    numbers = [number for number in listing.entries if number > base]
    _check_gaps(table, base, numbers)
    entries: list[Entry] = []
    torn: Entry | None = None
    for number in numbers:
        entry = log.read_entry(storage, table, number)
        assert entry is not None
        if entry.problem:
            if number != numbers[-1]:
                raise LakeCorrupt(f"{table}: log entry {number} of {numbers[-1]} is {entry.problem}", hint=_HINT)
            torn = entry
            break
        entries.append(entry)
    entries, absent = _check_files(storage, table, entries)
    if absent is not None:
        if torn is not None:
            raise LakeCorrupt(f"{table}: log entries {absent.version} and {torn.version} are damaged", hint=_HINT)
        torn = absent
    for entry in entries:
        _check_positions(table, entry, txns)
        txns.update(entry.txns)
    version = entries[-1].version if entries else base
    return Tail(table, version, tuple(entries), txns, checkpoints, torn)


def _base_txns(storage: Storage, table: str, checkpoint: int, base: int) -> dict[str, int]:
    txns = checkpoint_txns(storage, table, checkpoint) if checkpoint >= 0 else {}
    for number in range(checkpoint + 1, base + 1):
        entry = log.read_entry(storage, table, number)
        txns.update({} if entry is None else entry.txns)
    return txns


def _check_gaps(table: str, base: int, numbers: list[int]) -> None:
    if numbers and numbers != list(range(base + 1, numbers[-1] + 1)):
        missing = next(number for number in range(base + 1, numbers[-1]) if number not in set(numbers))
        raise LakeCorrupt(f"{table}: log entry {missing} of {numbers[-1]} is missing", hint=_HINT)


def _live_adds(entries: Iterable[Entry]) -> list[Mapping[str, object]]:
    """The files the entries add and do not remove again: a removed one may have been vacuumed."""
    live: dict[str, Mapping[str, object]] = {}
    for entry in entries:
        for remove in entry.removes:
            live.pop(remove["path"], None)
        for add in entry.adds:
            live[add["path"]] = add
    return list(live.values())


def _check_files(storage: Storage, table: str, entries: list[Entry]) -> tuple[list[Entry], Entry | None]:
    """The entries whose files are there; and the last one, where its own are not: then it was not durable."""
    for add in _live_adds(entries):
        path, size = str(add["path"]), int(str(add["size"]))
        rows = int(orjson.loads(str(add["stats"])).get("numRecords", -1))
        problem = file_problem(storage, table, path, size, rows)
        if not problem:
            continue
        last = entries[-1]
        if all(path != other["path"] for other in last.adds):
            raise LakeCorrupt(f"{table}: {path} {problem}", hint=_HINT)
        # Its removes never happened either, so the files of the entries before must be there too.
        whole, earlier = _check_files(storage, table, entries[:-1])
        if earlier is not None:
            raise LakeCorrupt(
                f"{table}: files of log entries {earlier.version} and {last.version} are damaged", hint=_HINT
            )
        return whole, log.Entry(last.version, problem=f"without its file: {path} {problem}")
    return entries, None


def _check_positions(table: str, entry: Entry, before: Mapping[str, int]) -> None:
    """Positions never go back, and no row lies above them."""
    batch_names = [name for name in entry.txns if name.endswith("/batch")]
    for name in (*batch_names, *(name for name in entry.txns if name.endswith("/writer"))):
        if entry.txns[name] < before.get(name, 0):
            raise LakeCorrupt(
                f"{table}: log entry {entry.version} takes {name} back from {before[name]} to {entry.txns[name]}",
                hint=_HINT,
            )
    if len(batch_names) != 1:
        return
    position = entry.txns[batch_names[0]]
    for add in entry.adds:
        highest = orjson.loads(add["stats"]).get("maxValues", {}).get(BATCH)
        if highest is not None and highest > position:
            raise LakeCorrupt(
                f"{table}: {add['path']} holds rows of batch {highest}, above the position {position} it came with",
                hint=_HINT,
            )
