"""The batch protocol of DESIGN 4: numbered steps, in an order that makes a crash after any of them safe.

    0 list, 1 poll         `polling.py`, through the source
    2 bronze, 3 forget     `commit_bronze`
    4 refine               `refine`
    5 rejects, 6 silver    `absorb`
    7 gold, 8 ledger       `aggregate`, before silver takes the next batch

Each step looks at the position of its own table and does nothing when the table has absorbed the batch already; so
recovery is the same code, fed from bronze (`restart.py`), and there is no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from penstock.errors import check
from penstock.lake.datafile import overlaps
from penstock.lake.reading import Condition
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.columns import (
    BATCH,
    batch_txn,
    contract_pin,
    fingerprint_txn,
    offset_txn,
    reference_pin,
    refine_pin,
    start_txn,
)
from penstock.run.rows import same_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    import pyarrow as pa

    from penstock.engines.contract import Deriver, Refined, Settled, Work
    from penstock.lake.table import DataFile, Table
    from penstock.model.position import Range
    from penstock.plan.gold import GoldPlan
    from penstock.run.context import Clock
    from penstock.run.duplicates import Duplicates
    from penstock.run.gold import GoldKeeper
    from penstock.run.journal import Journal
    from penstock.run.plans import Plans
    from penstock.run.references import ReferenceKeeper
    from penstock.run.tables import PipelineTables


@dataclass(frozen=True)
class Batch:
    """Batch `number`: its ranges, and its records in the engine's hands.

    A batch without ranges is a *drain*: it closes every window (decisions/0002).
    """

    number: int
    ranges: tuple[Range, ...]
    work: Work
    fingerprints: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_drain(self) -> bool:
        return not self.ranges


@dataclass
class Progress:
    """How far time has come, in microseconds since the epoch; None before the first accepted event. Never goes back."""

    watermark: int | None = None
    closed_until: int | None = None


class BatchProtocol:
    """Brings batches through the tables of one pipeline.

    `commit_bronze`, `refine`, `absorb` and `aggregate` may run for different batches in four threads; each is called in
    batch order. After any exception the object is worthless: the process starts again from the tables.
    """

    def __init__(
        self,
        *,
        tables: PipelineTables,
        gold: tuple[GoldKeeper, ...],
        plans: Plans,
        references: ReferenceKeeper,
        duplicates: Duplicates | None,
        deriver: Deriver,
        clock: Clock,
        after_step: Callable[[str, int], None],
    ) -> None:
        self.tables = tables
        self.gold = gold
        self.progress = Progress()
        self._pipeline = tables.pipeline
        self._writer = tables.writer
        self._plans = plans
        self._references = references
        self._duplicates = duplicates
        self.deriver = deriver
        self._clock = clock
        self._after_step = after_step

    def commit_bronze(self, batch: Batch, journal: Journal, forget: Callable[[], None]) -> Journal:
        """Steps 2 and 3. The batch is defined by bronze's commit and by nothing else."""
        bronze, number = self.tables.bronze, batch.number
        with journal.step("bronze write"):
            add = batch.work.bronze_files()
        self._after_step("bronze-written", number)

        # 2 bronze: the rows and the next offsets in one commit, durable when it returns
        self._check_next(bronze, number)
        txns: dict[str, int] = {}
        for item in batch.ranges:
            name = offset_txn(self._pipeline, item.source, item.partition)
            if name not in txns and item.start != (bronze.txn(name) or 0):
                txns[start_txn(self._pipeline, item.source, item.partition)] = item.start
            txns[name] = item.end
        for partition, digest in batch.fingerprints.items():
            txns[fingerprint_txn(self._pipeline, batch.ranges[0].source, partition)] = digest
        with journal.step("bronze commit"):
            version = bronze.commit(self._writer, batch=number, add=add, txns=txns).version
        journal.committed(bronze, add, version)
        self._after_step("bronze", number)

        # 3 forget: only now may the source drop what is below the position
        with journal.step("forget"):
            forget()
        self._after_step("forget", number)
        return journal

    def refine(self, batch: Batch, pins: Pins, journal: Journal) -> Refined:
        """Step 4: the batch's events, a pure function of its bronze rows and the pins. Nothing is committed."""
        with journal.step("refine"):
            references = self._references.tables(pins.references)
            refined = batch.work.refine(self._plans.plan(pins), references)
        self._after_step("refine", batch.number)
        return refined

    def absorb(
        self,
        batch: Batch,
        refined: Refined,
        pins: Pins,
        journal: Journal,
        bronze: Future[Journal] | None = None,
        before: Future[None] | None = None,
    ) -> Settled:
        """Steps 5 and 6 for a batch that silver lacks. `bronze` ends when the batch is durable there, `before` when the
        batch before it is in the ledger."""
        silver, number = self.tables.silver, batch.number
        refined.refuse_stopped()
        with journal.step("duplicates"):
            verdict = None if self._duplicates is None else self._duplicates.settle(refined.keys())
            settled = refined.settle(verdict, pins.contract)
        with journal.step("silver write"):
            files = settled.silver_files()
        self._after_step("silver-written", number)
        if bronze is not None:
            journal.merge(bronze.result())

        # 5 rejects: never before silver N-1, which the call for N-1 has committed; nothing to write, no commit
        self._check_next(silver, number)
        with journal.step("rejects"):
            self._commit_rejects(number, settled.reject_files(), pins, journal)
        self._after_step("rejects", number)

        # 6 silver: every N, even without rows; from here on N is derived. Not while N-1 is on its way to the ledger: a
        # start finds at most one batch that silver has and the ledger lacks, and so knows the pins it was derived with
        if before is not None:
            before.result()
        with journal.step("silver commit"):
            version = silver.commit(self._writer, batch=number, add=files, txns=self._pin_txns(pins)).version
        journal.committed(silver, files, version)
        self._after_step("silver", number)

        return settled

    def aggregate(
        self,
        batch: Batch,
        windows: Callable[[GoldPlan], pa.Table],
        counts: BatchCounts,
        event_time_max: int | None,
        pins: Pins,
        journal: Journal,
    ) -> BatchCounts:
        """Steps 7 and 8 for the batch that silver has absorbed last; `windows` makes of its accepted rows what
        `GoldPlan.rows_sql` does."""
        number = batch.number
        self._advance(batch, event_time_max, pins)
        overflows: dict[str, int] = {}

        # 7 gold: windows that closed, and corrections of closed ones; without a change the commit is left for later
        for keeper in self.gold:
            if keeper.absorbed >= number:
                continue
            with journal.step("gold"):
                rows = windows(keeper.plan) if counts.accepted else None
                change = keeper.change(number, rows, self.progress.closed_until)
                overflows.update(change.overflows)
                if change:
                    files, version = keeper.commit(self._writer, number, change)
                    journal.committed(keeper.table, files, version)
            self._after_step("gold", number)
        counts = replace(counts, overflows=tuple(sorted(overflows.items())))

        # 8 ledger
        if self.tables.ledger.position() < number:
            self._write_ledger(batch, counts, pins, journal)
        self._after_step("ledger", number)
        return counts

    def settle_gold(self) -> None:
        """Commit the positions that gold tables without changes have run ahead of; called when idle or stopping."""
        position = self.tables.silver.txn(batch_txn(self._pipeline)) or 0
        for keeper in self.gold:
            if (keeper.table.txn(batch_txn(self._pipeline)) or 0) < position == keeper.absorbed:
                keeper.commit_position(self._writer)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _check_next(self, table: Table, number: int) -> None:
        """Bronze and silver take every batch: one that is left out would be lost."""
        at = self.tables.batch_of(table)
        check(at == number - 1, f"{table.name} is at batch {at}: batch {number} cannot follow")

    def _commit_rejects(self, number: int, files: list[DataFile], pins: Pins, journal: Journal) -> None:
        """Commit rejects N; where a crash left a provisional rejects N that differs, replace it in one commit."""
        table = self.tables.rejects
        batch: int | None = number
        remove: list[DataFile] = []
        if (table.txn(batch_txn(self._pipeline)) or 0) >= number:
            if same_rows(table.batch(number), table.batch(number, files), table.schema):
                return
            batch, remove = None, [file for file in table.files() if overlaps(file, BATCH, number, number)]
            # Upkeep may have merged the provisional file with those of earlier batches.
            for rows in table.read(files=remove, condition=Condition((BATCH,), pc.field(BATCH) < number)):
                files = files + table.write(rows)
        elif not files:
            return
        txns = self._pin_txns(pins)
        version = table.commit(self._writer, batch=batch, add=files, remove=remove, txns=txns).version
        journal.committed(table, files, version)

    def _advance(self, batch: Batch, event_time_max: int | None, pins: Pins) -> None:
        """Move the watermark, and with a drain the end of everything, forward; never back.

        How far is for the batch's own contract to say: a restart may do it under a newer one.
        """
        progress, plan = self.progress, self._plans.plan(pins)
        if event_time_max is not None:
            progress.watermark = later(progress.watermark, event_time_max - plan.pipeline.silver.late_after)
        if progress.watermark is not None:
            progress.closed_until = later(progress.closed_until, progress.watermark)
        if batch.is_drain:
            names = {gold.name for gold in plan.golds}
            for keeper in self.gold:
                if keeper.plan.name in names:
                    progress.closed_until = later(progress.closed_until, keeper.end_of_all())

    def _write_ledger(self, batch: Batch, counts: BatchCounts, pins: Pins, journal: Journal) -> None:
        progress = self.progress
        with_journal = not journal.recovered
        self.tables.ledger.append(
            self._writer,
            LedgerRow(
                batch=batch.number,
                ranges=batch.ranges,
                counts=counts,
                pins=pins,
                watermark=progress.watermark,
                closed_until=progress.closed_until,
                versions=self.tables.versions(batch.number, journal.versions),
                seconds=tuple(sorted(journal.seconds.items())) if with_journal else None,
                bytes=tuple(sorted(journal.bytes.items())) if with_journal else None,
                written_at=self._clock.now(),
            ),
        )

    def _pin_txns(self, pins: Pins) -> dict[str, int]:
        txns = {contract_pin(self._pipeline): pins.contract, refine_pin(self._pipeline): pins.refine}
        txns.update({reference_pin(self._pipeline, name): version for name, version in pins.references})
        return txns


def later(left: int | None, right: int | None) -> int | None:
    """The later of two times, where they are known."""
    return right if left is None else left if right is None else max(left, right)
