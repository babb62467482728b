"""Checkpoints of a table's log: written by us, durable, with a digest, and rebuilt when they are damaged.

delta-rs writes the checkpoint; this module syncs it and then names it in `_last_checkpoint` together with its SHA-256,
because a checkpoint with flipped bits often opens without an error. Cleaning the log is in `maintenance.py`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

from penstock.errors import LakeCorrupt
from penstock.lake import log
from penstock.lake.handle import Handle
from penstock.lake.positions import checkpoint_txns

if TYPE_CHECKING:
    from penstock.lake.storage import Storage

ASIDE_FOLDER = "_damaged"
"""Where damaged log files of a table go, below the table's folder; readers of Delta tables do not look there."""


def write_checkpoint(storage: Storage, table: str, handle: Handle) -> int:
    """Write a durable checkpoint of the handle's version; that version. Repeating it does no harm."""
    version = handle.version
    path = log.checkpoint_path(table, version)
    handle.checkpoint()
    body = orjson.loads(storage.read(log.hint_path(table)))
    storage.sync(path)
    storage.sync_folder(log.log_folder(table))
    digest = hashlib.sha256(storage.read(path)).hexdigest()
    storage.write(log.hint_path(table), log.sealed_hint(body, digest))
    return version


def repair_checkpoints(storage: Storage, table: str) -> list[str]:
    """Check the last checkpoint and, where it is damaged, go back to the log entries; what was done, a line each.

    Raises:
        LakeCorrupt: it is damaged, and the entries it stands for are gone.
    """
    listing = log.list_log(storage, table)
    report: list[str] = []
    hint: log.Hint | None = None
    hint_problem = ""
    try:
        hint = log.read_hint(storage, table)
    except FileNotFoundError:
        hint_problem = "is missing" if listing.checkpoints else ""
    except LakeCorrupt:
        hint_problem = "is damaged"
    newest = listing.checkpoints[-1] if listing.checkpoints else -1
    good = -1
    for version in reversed(listing.checkpoints):
        digest = hint.digest if hint is not None and hint.version == version else ""
        problem = _problem(storage, table, version, digest)
        rebuildable = _entries_reach(listing, version)
        # Without a digest nobody can say that no bit is wrong: a checkpoint that can be made again is not trusted.
        if not problem and (digest or not rebuildable):
            good = version
            break
        if problem and not rebuildable:
            raise LakeCorrupt(
                f"{table}: checkpoint {version} {problem}, and the log entries it stands for were cleaned up",
                hint="Restore the table's _delta_log from a backup or a replica of the lake.",
            )
        _move_aside(storage, table, version)
        if problem:
            report.append(f"{table}: checkpoint {version} {problem}; made again from the log entries")
    if hint is not None and hint.version != newest and good == newest >= 0:
        hint_problem = f"names checkpoint {hint.version}"  # a crash came between the checkpoint and its naming
    if good == newest and not hint_problem:
        return report
    if hint_problem == "is damaged":
        report.append(f"{table}: _last_checkpoint {hint_problem}; made again")
    storage.delete(log.hint_path(table))
    storage.sync_folder(log.log_folder(table))
    if listing.checkpoints:
        write_checkpoint(storage, table, Handle.open(storage.uri(table), table))
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


def _move_aside(storage: Storage, table: str, version: int) -> None:
    name = f"{version:020d}.checkpoint.parquet"
    if storage.size(log.checkpoint_path(table, version)) is not None:
        storage.move(log.checkpoint_path(table, version), f"{table}/{ASIDE_FOLDER}/{name}")
