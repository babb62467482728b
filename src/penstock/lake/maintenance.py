"""Upkeep of tables: what the loop does after each batch, which is mostly nothing, and what a person can ask for.

`compaction.py` and `optimizing.py` make few large files of many, `vacuum.py` deletes what nobody needs. None of them
changes a row, and none takes anything from a reader of a version within the kept period. Whether something is due is
read off the table (its files, its version, a txn), so that a process that runs for one batch only keeps its tables as
well as one that runs for months.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.lake.compaction import Rewritten, compact
from penstock.lake.optimizing import optimize
from penstock.lake.vacuum import LogCleaned, Vacuumed, clean_log, vacuum
from penstock.limits import UPKEEP_EVERY_VERSIONS, VACUUM_EVERY_SECONDS

if TYPE_CHECKING:
    from penstock.lake.fence import Writer
    from penstock.lake.table import Table
    from penstock.settings import Settings

__all__ = [
    "KeptFiles",
    "LogCleaned",
    "Rewritten",
    "Vacuumed",
    "clean_log",
    "compact",
    "keep_files",
    "keep_log",
    "merge_due",
    "optimize",
    "vacuum",
    "vacuum_txn",
]

_VERSIONS_SEEN_MAX = 3
"""Commits between two looks of the loop at a table: its own and a compaction's, with one to spare."""


@dataclass(frozen=True)
class KeptFiles:
    """What upkeep did to a table's files; None for what was not due."""

    rewritten: Rewritten | None = None
    vacuumed: Vacuumed | None = None


def vacuum_txn(pipeline: str) -> str:
    """The txn id of the time, in seconds since the epoch, when the loop last vacuumed the table."""
    return f"{pipeline}/vacuumed"


def keep_files(table: Table, writer: Writer, settings: Settings, *, now: int) -> KeptFiles:
    """Merge and delete files of a table as far as that is due. The table's writer may commit meanwhile, as long as it
    replaces no files: else `merge_due` is for its own thread, and the vacuum for any.

    Args:
        now: microseconds since the epoch.

    Raises:
        Fenced: another writer owns the table.
        LakeCorrupt: a file is damaged; the table was not changed.
    """
    rewritten, vacuum_due = merge_due(table, writer, settings, now=now)
    vacuumed = vacuum(table, writer, kept_days=settings.kept_days, now=now) if vacuum_due else None
    return KeptFiles(rewritten, vacuumed)


def merge_due(
    table: Table, writer: Writer, settings: Settings, *, now: int, may_vacuum: bool = True
) -> tuple[Rewritten | None, bool]:
    """Merge files of a table as far as that is due, and say whether it is to be vacuumed: the table has it then that
    it was. As `keep_files`."""
    every = settings.compact_every_batches
    seconds = now // 1_000_000
    vacuum_due = may_vacuum and seconds - (table.txn(vacuum_txn(writer.pipeline)) or 0) >= VACUUM_EVERY_SECONDS
    vacuumed_at = {vacuum_txn(writer.pipeline): seconds} if vacuum_due else None
    # The time of the vacuum goes with the compaction's commit: it costs none of its own, and an idle table needs none.
    rewritten = compact(table, writer, saved_min=every - 1, cold_batches=every, txns=vacuumed_at)
    if not vacuum_due or (rewritten is None and not _is_time_to_look(table)):
        return rewritten, False
    if rewritten is None:  # of a table whose every commit replaces its few files, nothing is ever compacted
        table.commit(writer, batch=None, txns=vacuumed_at, data_change=False)
    return rewritten, True


def keep_log(table: Table, pipeline: str, absorbed: int, settings: Settings, *, now: int) -> LogCleaned | None:
    """Move log entries into the table's history as far as that is due; None: it was not. For the table's own thread.

    Args:
        absorbed: the batch the pipeline's ledger has; log entries of later ones stay.
        now: microseconds since the epoch.

    Raises:
        LakeCorrupt: a checkpoint is damaged; the table was not changed.
    """
    if not _is_time_to_look(table):
        return None
    cleaned = clean_log(
        table,
        log_kept_days=settings.log_kept_days,
        kept_days=settings.kept_days,
        now=now,
        absorbed=(pipeline, absorbed),
    )
    return cleaned if cleaned.entries or cleaned.checkpoints else None


def _is_time_to_look(table: Table) -> bool:
    """Now and then, and not at a table that has just begun."""
    return table.version >= UPKEEP_EVERY_VERSIONS and table.version % UPKEEP_EVERY_VERSIONS < _VERSIONS_SEEN_MAX
