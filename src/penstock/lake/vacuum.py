"""Deletes what nobody needs any more: data files no kept version refers to; and moves log entries behind a checkpoint
into the table's history (`history.py`), so that the log stays short.

A file is needed while a version that was the current one within the kept period refers to it; so queries that began
then, older cuts and time travel go on working. What was never committed is left alone as long, for its writer may still
be at work (a writer does not commit files that are older than half of that).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt, UsageError
from penstock.lake import history, log
from penstock.lake.checkpoint import ASIDE_FOLDER
from penstock.lake.positions import checkpoint_txns
from penstock.lake.storage import TEMPORARY_MARK
from penstock.limits import CHECKPOINT_SPACING_VERSIONS, KEPT_DAYS, LOG_ENTRIES_MAX, LOG_KEPT_SECONDS_MIN
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
    """Log entries of a table that went into its history, and checkpoints that were deleted."""

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
        table.storage.delete(*(file.path for file in doomed))
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
    """When files stopped being live, in microseconds since the epoch, as far back as log and history tell.

    A file that neither mentions any more is needed by no version that can still be read.
    """
    # The log first: what a running pipeline moves into the history meanwhile is found there.
    times = _removal_times_in_log(table)
    return {**history.removal_times(table.storage, table.name), **times}


def _removal_times_in_log(table: Table) -> dict[str, int]:
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
            times[remove["path"]] = history.removal_time(entry, remove)
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
        with storage.open(path) as opened, pq.ParquetFile(opened) as file:
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
    kept_days: int = KEPT_DAYS,
    now: int,
    never_above: int | None = None,
    absorbed: tuple[str, int] | None = None,
) -> LogCleaned:
    """Move log entries that a durable, verified checkpoint stands for into the table's history: those older than
    `log_kept_days`, and where there are more than LOG_ENTRIES_MAX, the older half. At most so many at a time.

    Args:
        kept_days: so long versions can be read from the history.
        now: microseconds since the epoch.
        never_above: no entry above this version goes.
        absorbed: a pipeline and the batch its ledger has: no entry goes that committed a later one.

    Of old checkpoints one in CHECKPOINT_SPACING_VERSIONS stays; every version of the kept period can still be read.
    Raises:
        LakeCorrupt: a checkpoint is not what the entries say; nothing was deleted.
    """
    storage, name = table.storage, table.name
    listing = log.list_log(storage, name)
    young = now - LOG_KEPT_SECONDS_MIN * 1_000_000
    base = _new_base(
        storage, name, listing, _Limits(now - log_kept_days * DAY_MICROSECONDS, young, never_above, absorbed)
    )
    entries: list[int] = []
    checkpoints = _thinned(storage, name, listing.checkpoints, base, young)
    if base is not None:
        _keep_history(storage, name, listing, base)
        entries = [version for version in listing.entries if version < base]
        checkpoints = [version for version in listing.checkpoints if version < base] + checkpoints
    # Entries first, so that a crash in between leaves the checkpoint that what is left of them begins with. Where it
    # leaves gaps, what is below them counts as gone (`Listing.unbroken`): the history has it.
    storage.delete(*(log.entry_path(name, version) for version in entries))
    storage.delete(*(log.checkpoint_path(name, version) for version in checkpoints))
    history.expire(storage, name, now - kept_days * DAY_MICROSECONDS)
    return LogCleaned(name, len(entries), len(checkpoints))


@dataclass(frozen=True)
class _Limits:
    """What may leave the log: what is older than `old`, or too much; nothing younger than `young` (microseconds since
    the epoch), above a version, or of a batch the ledger lacks."""

    old: int
    young: int
    never_above: int | None
    absorbed: tuple[str, int] | None


def _new_base(storage: Storage, table: str, listing: log.Listing, limits: _Limits) -> int | None:
    """The checkpoint that older entries can be given up for; None when there is nothing to gain."""
    if not listing.entries:
        return None
    first = listing.unbroken[0]
    base = None
    for version in listing.checkpoints:
        # Of a log that nobody kept for long, no more goes at once than a batch can wait for.
        if base is not None and version - first > LOG_ENTRIES_MAX:
            break
        if version > first and _may_go(storage, table, listing, limits, version):
            base = version
    return base


def _may_go(storage: Storage, table: str, listing: log.Listing, limits: _Limits, version: int) -> bool:
    """Whether the entries below the checkpoint of `version` may leave the log."""
    if limits.never_above is not None and version > limits.never_above:
        return False
    entry = log.read_entry(storage, table, version)
    if entry is None or entry.problem or entry.timestamp >= limits.young:
        return False
    is_older_half = len(listing.entries) > LOG_ENTRIES_MAX and listing.last - version >= LOG_ENTRIES_MAX // 2
    if entry.timestamp >= limits.old and not is_older_half:
        return False
    if limits.absorbed is None:
        return True
    pipeline, batch = limits.absorbed
    return checkpoint_txns(storage, table, version).get(batch_txn(pipeline), 0) <= batch


def _keep_history(storage: Storage, table: str, listing: log.Listing, base: int) -> None:
    """Write the entries below `base` into the history, having compared the checkpoint of `base` with what they come to:
    afterwards nothing could make it again.

    Raises:
        LakeCorrupt: they differ.
    """
    path = log.checkpoint_path(table, base)
    storage.sync(path)
    storage.sync_folder(log.log_folder(table))
    run = listing.unbroken
    # Without a checkpoint at the first entry, a crash interrupted a cleaning up to a later one.
    start = 0 if run[0] == 0 else next(version for version in listing.checkpoints if version >= run[0])
    kept = [segment.last for segment in history.segments(storage, table)]
    first = max(start, kept[-1] + 1 if kept else 0)
    live: dict[str, Mapping[str, Any]] = {}
    if start:
        live.update((add["path"], add) for add in _checkpoint_adds(storage, table, start))
    positions = checkpoint_txns(storage, table, start) if start else {}
    gathered: list[tuple[log.Entry, bytes]] = []
    state: list[Mapping[str, Any]] = []
    for number in range(start, base + 1):
        data = storage.read(log.entry_path(table, number))
        entry = log.parse_entry(number, data)
        if entry.problem:
            raise LakeCorrupt(f"{table}: log entry {number} is {entry.problem}", hint=_HINT)
        if number > start or start == 0:
            live.update((add["path"], add) for add in entry.adds)
            for remove in entry.removes:
                live.pop(remove["path"], None)
            positions.update(entry.txns)
        if number == first:
            state = list(live.values())
        if first <= number < base:
            gathered.append((entry, data))
    found = {path: int(add["size"]) for path, add in live.items()}
    named = {add["path"]: int(add["size"]) for add in _checkpoint_adds(storage, table, base)}
    if found != named or positions != checkpoint_txns(storage, table, base):
        raise LakeCorrupt(f"{table}: checkpoint {base} is not what the log entries before it say", hint=_HINT)
    if gathered:
        history.write_segment(storage, table, gathered, state)


_HINT = "Nothing was deleted. Restore the table's _delta_log from a backup, or delete that checkpoint and run again."


def _checkpoint_adds(storage: Storage, table: str, version: int) -> list[dict[str, Any]]:
    """The live files in a checkpoint, as add actions with `path` decoded."""
    column = _checkpoint_column(storage, table, version, "add")
    actions: list[dict[str, Any]] = [] if column is None else column.to_pylist()
    names = ("path", "size", "partitionValues", "modificationTime", "dataChange", "stats")
    return [
        {
            **{name: add[name] for name in names},
            "path": unquote(add["path"]),
            "partitionValues": dict(add["partitionValues"]),
        }
        for add in actions
        if add["path"] is not None
    ]


def _thinned(storage: Storage, table: str, checkpoints: Sequence[int], base: int | None, young: int) -> list[int]:
    """Checkpoints above `base` that can go: all but the newest two, one in so many versions, and those that a reader
    may just have seen in the folder."""
    kept = [version for version in checkpoints if base is None or version >= base]
    gone, last = [], kept[0] if kept else 0
    for version, following in pairwise(kept[1:-1]):
        entry = log.read_entry(storage, table, version)
        if following - last <= CHECKPOINT_SPACING_VERSIONS and (entry is None or entry.timestamp < young):
            gone.append(version)
        else:
            last = version
    return gone
