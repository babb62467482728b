"""Checkpoints of a table's log: written by us, durable, with a digest, and rebuilt when they are damaged.

delta-rs writes the checkpoint; this module syncs it and then names it in `_last_checkpoint` together with its SHA-256,
because a checkpoint with flipped bits often opens without an error. Cleaning the log is in `maintenance.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt, check
from penstock.lake import log
from penstock.lake.handle import Handle
from penstock.lake.positions import checkpoint_txns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.lake.storage import Storage

ASIDE_FOLDER = "_damaged"
"""Where damaged log files of a table go, below the table's folder; readers of Delta tables do not look there."""


def write_checkpoint(storage: Storage, table: str, handle: Handle) -> int:
    """Write a durable checkpoint of the handle's version; that version.

    One that is there and good stays: it may be all that is left of the log, and must not be replaced by bytes that are
    not durable yet.
    """
    version = handle.version
    path = log.checkpoint_path(table, version)
    try:
        known = log.read_hint(storage, table)
        if known.version == version and known.digest and not _problem(storage, table, version, known.digest):
            return version
    except (FileNotFoundError, LakeCorrupt):
        pass  # there is none to keep
    handle.checkpoint()
    name_checkpoint(storage, table, version, orjson.loads(storage.read(log.hint_path(table))))
    check(storage.size(path) is not None, f"{path} was not written")
    return version


def name_checkpoint(storage: Storage, table: str, version: int, body: Mapping[str, object]) -> None:
    """Make a checkpoint durable, then name it in `_last_checkpoint` with its digest."""
    path = log.checkpoint_path(table, version)
    storage.sync(path)
    storage.sync_folder(log.log_folder(table))
    digest = hashlib.sha256(storage.read(path)).hexdigest()
    storage.write(log.hint_path(table), log.sealed_hint(body, digest))


@dataclass(frozen=True)
class Examined:
    """What the checkpoints of a table are worth. `good` is the last one to build on, -1 for none.

    `damaged` are later ones with what is wrong; `doubtful` are later ones that nobody vouches for (a crash came before
    they were named), which are made again. `hint` says what is wrong with `_last_checkpoint`.
    """

    good: int
    damaged: tuple[tuple[int, str], ...] = ()
    doubtful: tuple[int, ...] = ()
    hint: str = ""

    @property
    def is_fine(self) -> bool:
        return not (self.damaged or self.doubtful or self.hint)


def examine_checkpoints(storage: Storage, table: str, listing: log.Listing) -> Examined:
    """Compare the last checkpoint with its digest, and find the one to build on.

    Raises:
        LakeCorrupt: it is damaged, and the log entries it stands for are gone.
    """
    hint: log.Hint | None = None
    hint_problem = ""
    try:
        hint = log.read_hint(storage, table)
    except FileNotFoundError:
        hint_problem = "is missing" if listing.checkpoints else ""
    except LakeCorrupt:
        hint_problem = "is damaged"
    versions = {*listing.checkpoints, *((hint.version,) if hint is not None else ())}
    damaged: list[tuple[int, str]] = []
    doubtful: list[int] = []
    for version in sorted(versions, reverse=True):
        digest = hint.digest if hint is not None and hint.version == version else ""
        problem = _problem(storage, table, version, digest)
        rebuildable = _entries_reach(listing, version)
        # Without a digest nobody can say that no bit is wrong: a checkpoint that can be made again is not trusted.
        if not problem and (digest or not rebuildable):
            if hint is not None and not hint_problem and hint.version != version:
                hint_problem = "is behind"
            return Examined(version, tuple(damaged), tuple(doubtful), hint_problem)
        if not rebuildable:
            raise LakeCorrupt(
                f"{table}: checkpoint {version} {problem}, and the log entries it stands for were cleaned up",
                hint="Restore the table's _delta_log from a backup or a replica of the lake.",
            )
        if problem:
            damaged.append((version, problem))
        else:
            doubtful.append(version)
    return Examined(-1, tuple(damaged), tuple(doubtful), hint_problem)


def repair_checkpoints(storage: Storage, table: str, examined: Examined) -> list[str]:
    """Put what is damaged aside and write a new checkpoint from the log entries; what was done, a line each.

    Call it when the end of the log is whole.
    """
    report = []
    for version in (*examined.doubtful, *(version for version, _ in examined.damaged)):
        if storage.size(log.checkpoint_path(table, version)) is not None:
            name = f"{version:020d}.checkpoint.parquet"
            storage.move(log.checkpoint_path(table, version), f"{table}/{ASIDE_FOLDER}/{name}")
    for version, problem in examined.damaged:
        report.append(f"{table}: checkpoint {version} {problem}; made again from the log entries")
    if examined.hint == "is damaged":
        report.append(f"{table}: _last_checkpoint {examined.hint}; made again")
    if examined.damaged or examined.doubtful:
        storage.delete(log.hint_path(table))
        storage.sync_folder(log.log_folder(table))
        write_checkpoint(storage, table, Handle.open(storage, table))
    elif examined.good >= 0:
        with storage.open(log.checkpoint_path(table, examined.good)) as opened:
            actions = pq.read_metadata(opened).num_rows
        name_checkpoint(storage, table, examined.good, {"version": examined.good, "size": actions})
    else:
        storage.delete(log.hint_path(table))
        storage.sync_folder(log.log_folder(table))
    return report


def _problem(storage: Storage, table: str, version: int, digest: str) -> str:
    """Why a checkpoint is not what was written; "" when nothing speaks against it."""
    try:
        data = storage.read(log.checkpoint_path(table, version))
    except FileNotFoundError:
        return "is missing"
    if digest:
        return "" if hashlib.sha256(data).hexdigest() == digest else "is damaged"
    try:
        checkpoint_txns(storage, table, version)
    except LakeCorrupt:
        return "cannot be read"
    return ""


def _entries_reach(listing: log.Listing, version: int) -> bool:
    """Whether the state at `version` can be built without the checkpoint of `version`."""
    entries = set(listing.entries)
    base = max((found for found in listing.checkpoints if found < version), default=-1)
    return all(number in entries for number in range(base + 1, version + 1))
