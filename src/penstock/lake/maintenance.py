"""Upkeep of tables: what the loop does after each batch, which is mostly nothing, and what a person can ask for.

`compaction.py` and `optimizing.py` make few large files of many, `vacuum.py` deletes what nobody needs. None of them
changes a row, and none takes anything from a reader of a version within the kept period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.lake.compaction import Rewritten, compact
from penstock.lake.optimizing import optimize
from penstock.lake.vacuum import LogCleaned, Vacuumed, clean_log, vacuum
from penstock.limits import UPKEEP_EVERY_VERSIONS, VACUUM_EVERY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.lake.fence import Writer
    from penstock.lake.table import Table
    from penstock.settings import Settings

__all__ = [
    "Kept",
    "LogCleaned",
    "Rewritten",
    "Vacuumed",
    "clean_log",
    "compact",
    "optimize",
    "upkeep",
    "vacuum",
    "vacuum_txn",
]

_VERSIONS_SEEN_MAX = 3
"""Commits between two looks of the loop at a table: its own and a compaction's, with one to spare."""


@dataclass(frozen=True)
class Kept:
    """What upkeep did to one table; None for what was not due."""

    rewritten: Rewritten | None = None
    vacuumed: Vacuumed | None = None
    cleaned: LogCleaned | None = None


def vacuum_txn(pipeline: str) -> str:
    """The txn id of the time, in seconds since the epoch, when the loop last vacuumed the table."""
    return f"{pipeline}/vacuumed"


def upkeep(tables: Iterable[Table], writer: Writer, absorbed: int, settings: Settings, *, now: int) -> dict[str, Kept]:
    """Do what is due for tables that this thread alone writes; by table name, what was done.

    Whether something is due is read off the table (its files, its version, a txn), so that a process that runs for one
    batch only keeps its tables as well as one that runs for months.

    Args:
        absorbed: the batch the pipeline's ledger has; log entries of later ones stay.
        now: microseconds since the epoch.

    Raises:
        Fenced: another writer owns a table.
        LakeCorrupt: a file or a checkpoint is damaged; the table was not changed.
    """
    done = {}
    for table in tables:
        kept = _keep(table, writer, absorbed, settings, now)
        if kept != Kept():
            done[table.name] = kept
    return done


def _keep(table: Table, writer: Writer, absorbed: int, settings: Settings, now: int) -> Kept:
    every = settings.compact_every_batches
    seconds = now // 1_000_000
    vacuum_due = seconds - (table.txn(vacuum_txn(writer.pipeline)) or 0) >= VACUUM_EVERY_SECONDS
    vacuumed_at = {vacuum_txn(writer.pipeline): seconds} if vacuum_due else None
    # The time of the vacuum goes with the compaction's commit: it costs none of its own, and an idle table needs none.
    rewritten = compact(table, writer, saved_min=every - 1, cold_batches=every, txns=vacuumed_at)
    log_due = table.version % UPKEEP_EVERY_VERSIONS < _VERSIONS_SEEN_MAX
    vacuumed = cleaned = None
    if vacuum_due and (rewritten is not None or (log_due and table.version >= UPKEEP_EVERY_VERSIONS)):
        if rewritten is None:  # of a table whose every commit replaces its few files, nothing is ever compacted
            table.commit(writer, batch=None, txns=vacuumed_at, data_change=False)
        vacuumed = vacuum(table, writer, kept_days=settings.kept_days, now=now)
    if log_due:
        result = clean_log(
            table,
            log_kept_days=settings.log_kept_days,
            kept_days=settings.kept_days,
            now=now,
            absorbed=(writer.pipeline, absorbed),
        )
        cleaned = result if result.entries or result.checkpoints else None
    return Kept(rewritten, vacuumed, cleaned)
