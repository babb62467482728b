"""Upkeep belongs to the loop: each thread keeps the tables it writes, after its own commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.lake.maintenance import upkeep

if TYPE_CHECKING:
    from penstock.lake.table import Table
    from penstock.run.context import Clock
    from penstock.run.tables import PipelineTables
    from penstock.settings import Settings


class Upkeep:
    """Calls the lake's upkeep, which mostly finds nothing due. Each method is called in another thread."""

    def __init__(self, tables: PipelineTables, settings: Settings, clock: Clock) -> None:
        self._tables = tables
        self._settings = settings
        self._clock = clock
        self._absorbed = tables.ledger.position()

    def after_bronze(self) -> None:
        """Keep bronze, after a commit."""
        self._keep([self._tables.bronze])

    def after_silver(self) -> None:
        """Keep rejects and silver, after a commit."""
        self._keep([self._tables.rejects, self._tables.silver])

    def after_batch(self, batch: int) -> None:
        """Keep the tables of steps 7 and 8, after the ledger's commit of `batch`."""
        self._absorbed = batch
        tables = self._tables
        manifest = [tables.manifest] if tables.manifest is not None else []
        self._keep([*tables.gold, tables.ledger.table, *manifest])

    def _keep(self, tables: list[Table]) -> None:
        upkeep(tables, self._tables.writer, self._absorbed, self._settings, now=self._clock.now())
