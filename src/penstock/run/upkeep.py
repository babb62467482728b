"""Upkeep belongs to the loop: the log of a table is kept by the thread that writes the table, after its own commits.

There the files of gold are merged too, since corrections replace them. Those of all other tables are merged by a thread
of their own that gives way to the others: it takes seconds now and then, and no batch has to wait for it. This one also
vacuums all tables: what a correction replaces meanwhile is live, or has just been, and stays.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from penstock.lake.maintenance import keep_files, keep_log, merge_due, vacuum
from penstock.limits import UPKEEP_NICENESS

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from penstock.lake.table import Table
    from penstock.run.context import Clock
    from penstock.run.tables import PipelineTables
    from penstock.settings import Settings


class Upkeep:
    """Calls the lake's upkeep, which mostly finds nothing due. Each method is called in another thread; each raises
    what the lake's upkeep raised, also earlier in its own thread. A context: at its end, nothing is under way."""

    def __init__(self, tables: PipelineTables, settings: Settings, clock: Clock) -> None:
        self._tables = tables
        self._settings = settings
        self._clock = clock
        self._absorbed = tables.ledger.position()
        self._aside = ThreadPoolExecutor(1, "upkeep", initializer=_give_way)
        self._under_way: dict[str, Future[None]] = {}

    def __enter__(self) -> Upkeep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.shutdown()
        if error is None:
            for name in list(self._under_way):
                self._is_idle(name)

    def after_bronze(self) -> None:
        """Keep bronze, after a commit."""
        self._keep_aside(self._tables.bronze)

    def after_silver(self) -> None:
        """Keep rejects and silver, after a commit."""
        self._keep_aside(self._tables.rejects)
        self._keep_aside(self._tables.silver)

    def after_batch(self, batch: int) -> None:
        """Keep the tables of steps 7 and 8, after the ledger's commit of `batch`."""
        self._absorbed = batch
        for table in self._tables.gold:
            is_idle, now = self._is_idle(table.name), self._clock.now()
            _, vacuum_due = merge_due(table, self._tables.writer, self._settings, now=now, may_vacuum=is_idle)
            if vacuum_due:
                self._under_way[table.name] = self._aside.submit(self._vacuum, table)
            self._keep_log(table)
        self._keep_aside(self._tables.ledger.table)
        if self._tables.manifest is not None:
            self._keep_aside(self._tables.manifest)

    def _keep_aside(self, table: Table) -> None:
        if self._is_idle(table.name):
            self._under_way[table.name] = self._aside.submit(self._keep_files, table)
        self._keep_log(table)

    def _is_idle(self, name: str) -> bool:
        """Whether nothing is under way for a table; raises what the last one ended with."""
        last = self._under_way.get(name)
        if last is None or not last.done():
            return last is None
        del self._under_way[name]
        last.result()
        return True

    def _keep_files(self, table: Table) -> None:
        keep_files(table, self._tables.writer, self._settings, now=self._clock.now())

    def _vacuum(self, table: Table) -> None:
        vacuum(table, self._tables.writer, kept_days=self._settings.kept_days, now=self._clock.now())

    def _keep_log(self, table: Table) -> None:
        keep_log(table, self._tables.writer.pipeline, self._absorbed, self._settings, now=self._clock.now())


def _give_way() -> None:
    """Let this thread run when the others leave processor time over, where the system knows how (Linux)."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), UPKEEP_NICENESS)
