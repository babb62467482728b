"""Deletes what nobody needs any more: data files no kept version refers to, and log entries behind a checkpoint.

A file is needed while a version that was the current one within the kept period refers to it; so queries that began
then, older cuts and time travel go on working. What was never committed is left alone as long, for its writer may still
be at work (a writer does not commit files that are older than half of that).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt, UsageError
from penstock.lake import log
from penstock.lake.checkpoint import ASIDE_FOLDER
from penstock.lake.positions import checkpoint_txns
from penstock.lake.storage import TEMPORARY_MARK
from penstock.limits import CHECKPOINT_SPACING_VERSIONS
from penstock.model.columns import batch_txn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.lake.fence import Writer
    from penstock.lake.storage import Storage, StoredFile
    from penstock.lake.table import Table

DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True)
class Vacuumed:
    """Files of a table that were deleted (or would be), and their bytes."""

    table: str
    files: int
    bytes: int


@dataclass(frozen=True)
class LogCleaned:
    """Log entries and checkpoints of a table that were deleted."""

    table: str
    entries: int
    checkpoints: int


# -- data files -------------------------------------------------------------------------------------------------------


def vacuum(table: Table, writer: Writer | None, *, kept_days: int, now: int, dry_run: bool = False) -> Vacuumed:
    """Delete the table's files that no version of the last `kept_days` needs, with leftovers of writers as old as that.

    `now` is in microseconds since the epoch. `writer` owns the table; only a dry run needs none.

    Raises:
        UsageError: `kept_days` is below 1, or there is no writer.
        Fenced: another writer owns the table.
    """
    if kept_days < 1:
        raise UsageError(f"kept_days is {kept_days}", hint="Files are kept for 1 day at least: readers may need them.")
    if writer is None and not dry_run:
        raise UsageError(f"{table.name} can be vacuumed by its writer only", hint="Use --dry-run to look.")
    horizon = now - kept_days * DAY_MICROSECONDS
    # Files are listed first: one that becomes live meanwhile is younger than the horizon anyway.
    found = [file for file in table.storage.files(table.name) if file.modified * 1000 < horizon]
    table.refresh()
    live = {file.path for file in table.files()}
    removed_at = _removal_times(table)
    doomed = [file for file in found if _is_garbage(table, file, live, removed_at, horizon)]
    if not dry_run and writer is not None:
        table.check_owner(writer)
        for file in doomed:
            table.storage.delete(file.path)
    return Vacuumed(table.name, len(doomed), sum(file.size for file in doomed))


def _is_garbage(table: Table, file: StoredFile, live: set[str], removed_at: Mapping[str, int], horizon: int) -> bool:
    """Whether a file last changed before the horizon is one of ours that nobody needs. Foreign files stay."""
    path = file.path[len(table.name) + 1 :]
    folder, _, name = path.rpartition("/")
    if folder.split("/")[0] == ASIDE_FOLDER:
        return False
    if folder == log.LOG_FOLDER:
        return TEMPORARY_MARK in name or (name.startswith("_commit_") and name.endswith(".tmp"))
    if TEMPORARY_MARK in name or name.startswith(".part-"):
        return True
    return name.endswith(".parquet") and path not in live and removed_at.get(path, horizon - 1) < horizon


def _removal_times(table: Table) -> dict[str, int]:
    """When files stopped being live, in microseconds since the epoch, as far back as the log tells.

    A file that the log does not mention any more is needed by no version that can still be opened.
    """
    storage, listing = table.storage, log.list_log(table.storage, table.name)
    times: dict[str, int] = {}
    for version in listing.checkpoints[-1:]:
        times.update(_tombstones(storage, table.name, version))
    for version in listing.entries:
        try:
            data = storage.read(log.entry_path(table.name, version))
        except FileNotFoundError:
            continue
        if b'"remove"' not in data:
            continue
        entry = log.parse_entry(version, data)
        if entry.problem:
            raise LakeCorrupt(
                f"{table.name}: log entry {version} is {entry.problem}", hint="Nothing was deleted; run `penstock run`."
            )
        for remove in entry.removes:
            times[remove["path"]] = int(remove.get("deletionTimestamp") or entry.timestamp // 1000) * 1000
    return times


def _tombstones(storage: Storage, table: str, version: int) -> dict[str, int]:
    """Path and time of removal of the files a checkpoint names as removed."""
    removes = _checkpoint_column(storage, table, version, "remove")
    if removes is None:
        return {}
    paths = pc.struct_field(removes, "path").to_pylist()
    times = pc.struct_field(removes, "deletionTimestamp").to_pylist()
    return {unquote(path): (time or 0) * 1000 for path, time in zip(paths, times, strict=True) if path is not None}


def _checkpoint_column(storage: Storage, table: str, version: int, name: str) -> pa.StructArray | None:
    """One kind of action in a checkpoint; None where it has no such column.

    Raises:
        LakeCorrupt: the checkpoint cannot be read.
    """
    path = log.checkpoint_path(table, version)
    try:
        with pq.ParquetFile(storage.uri(path)) as file:
            if name not in file.schema_arrow.names:
                return None
            column = file.read(columns=[name]).column(name).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise LakeCorrupt(f"{path}: {str(error).splitlines()[0]}", hint="`penstock run` makes it again.") from error
    return column.filter(column.is_valid())


# -- the log ----------------------------------------------------------------------------------------------------------


def clean_log(
    table: Table,
    *,
    log_kept_days: int,
    now: int,
    never_above: int | None = None,
    absorbed: tuple[str, int] | None = None,
) -> LogCleaned:
    """Delete log entries older than `log_kept_days` that a durable, verified checkpoint stands for.

    Args:
        never_above: no entry above this version goes.
        absorbed: a pipeline and the batch its ledger has: no entry goes that committed a later one.

    Of old checkpoints one in CHECKPOINT_SPACING_VERSIONS stays; all that can be opened afterwards could be before.
    """
    storage, name = table.storage, table.name
    listing = log.list_log(storage, name)
    horizon = now - log_kept_days * DAY_MICROSECONDS
    base = _new_base(storage, name, listing, horizon, never_above, absorbed)
    entries: list[int] = []
    checkpoints = _thinned(listing.checkpoints, base)
    if base is not None:
        entries = [version for version in listing.entries if version < base]
        checkpoints = [version for version in listing.checkpoints if version < base] + checkpoints
    # The oldest go first, so that a crash in between leaves no hole in what is still used.
    for version in entries:
        storage.delete(log.entry_path(name, version))
    for version in checkpoints:
        storage.delete(log.checkpoint_path(name, version))
    return LogCleaned(name, len(entries), len(checkpoints))


def _new_base(
    storage: Storage,
    table: str,
    listing: log.Listing,
    horizon: int,
    never_above: int | None,
    absorbed: tuple[str, int] | None,
) -> int | None:
    """The newest checkpoint that old entries can be given up for; None when there is nothing to gain."""
    if not listing.entries:
        return None
    for version in reversed(listing.checkpoints):
        if version <= listing.entries[0] or (never_above is not None and version > never_above):
            continue
        entry = log.read_entry(storage, table, version)
        if entry is None or entry.problem or entry.timestamp >= horizon:
            continue
        txns = checkpoint_txns(storage, table, version)
        if absorbed is not None and txns.get(batch_txn(absorbed[0]), 0) > absorbed[1]:
            continue
        storage.sync(log.checkpoint_path(table, version))
        storage.sync_folder(log.log_folder(table))
        _verify(storage, table, listing, version, txns)
        return version
    return None


def _verify(storage: Storage, table: str, listing: log.Listing, version: int, txns: Mapping[str, int]) -> None:
    """Compare a checkpoint with what the log entries before it come to: afterwards nothing could make it again.

    Raises:
        LakeCorrupt: they differ.
    """
    before = [found for found in listing.checkpoints if found < version]
    files: dict[str, int] = {}
    positions: dict[str, int] = {}
    start = -1
    if before:
        start = before[0]
        files, positions = _live_files(storage, table, start), checkpoint_txns(storage, table, start)
    for number in range(start + 1, version + 1):
        entry = log.read_entry(storage, table, number)
        if entry is None or entry.problem:
            raise LakeCorrupt(f"{table}: log entry {number} is {entry.problem if entry else 'missing'}", hint=_HINT)
        for add in entry.adds:
            files[add["path"]] = int(add["size"])
        for remove in entry.removes:
            files.pop(remove["path"], None)
        positions.update(entry.txns)
    if files != _live_files(storage, table, version) or positions != dict(txns):
        raise LakeCorrupt(f"{table}: checkpoint {version} is not what the log entries before it say", hint=_HINT)


_HINT = "Nothing was deleted. Restore the table's _delta_log from a backup, or delete that checkpoint and run again."


def _live_files(storage: Storage, table: str, version: int) -> dict[str, int]:
    adds = _checkpoint_column(storage, table, version, "add")
    if adds is None:
        return {}
    paths, sizes = pc.struct_field(adds, "path").to_pylist(), pc.struct_field(adds, "size").to_pylist()
    return {unquote(path): int(size) for path, size in zip(paths, sizes, strict=True) if path is not None}


def _thinned(checkpoints: Sequence[int], base: int | None) -> list[int]:
    """Checkpoints above `base` that can go: all but the newest two and one in so many versions."""
    kept = [version for version in checkpoints if base is None or version >= base]
    gone, last = [], kept[0] if kept else 0
    for version, following in pairwise(kept[1:-1]):
        if following - last <= CHECKPOINT_SPACING_VERSIONS:
            gone.append(version)
        else:
            last = version
    return gone
