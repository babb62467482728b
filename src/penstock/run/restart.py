"""What a start finds half done is done again from bronze, batch by batch, with the original boundaries.

There is no other recovery. See `protocol.py` for the steps, which are the same ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.engines.outcome import recount
from penstock.model.columns import closed_until_txn
from penstock.run.journal import Journal
from penstock.run.protocol import Batch
from penstock.run.rows import latest

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from penstock.engines.contract import Deriver, Engine, Refined
    from penstock.model.batch import BatchCounts, Pins
    from penstock.plan.gold import GoldPlan
    from penstock.run.context import Clock
    from penstock.run.protocol import BatchProtocol
    from penstock.run.tables import PipelineTables


def catch_up(
    protocol: BatchProtocol,
    refine: Callable[[Batch, Pins, Journal], Refined],
    pins: Callable[[], Pins],
    event_time: str,
    engine: Engine,
    clock: Clock,
    done: Callable[[int, BatchCounts], None],
) -> int:
    """Bring every table to bronze's last batch; returns its number.

    Args:
        refine: the protocol's, tried again where that helps.
        pins: the pins a batch gets that was never derived before.
        event_time: the silver column of the event time.
        done: called after each batch.
    """
    tables = protocol.tables
    in_bronze = tables.batch_of(tables.bronze)
    in_silver = tables.batch_of(tables.silver)
    in_ledger = tables.ledger.position()
    load_gold(protocol, in_ledger)

    for number in range(in_ledger + 1, in_silver + 1):  # silver is there, gold or the ledger is not
        journal = Journal(clock, recovered=True)
        batch = batch_from_bronze(tables, protocol.deriver, number)
        silver_pins = tables.pins(tables.silver) or pins()
        refined = refine(batch, silver_pins, journal)
        silver = tables.silver.batch(number)
        rejects = tables.rejects.batch(number)
        counts = recount(refined.records, refined.events, refined.skipped, silver, rejects)

        def windows(plan: GoldPlan, silver: pa.Table = silver) -> pa.Table:
            return engine.query(plan.rows_sql, {"rows": silver})

        counts = protocol.aggregate(batch, windows, counts, latest(silver[event_time]), silver_pins, journal)
        done(number, counts)

    for number in range(in_silver + 1, in_bronze + 1):  # only bronze is there, and perhaps a provisional rejects
        journal = Journal(clock, recovered=True)
        batch = batch_from_bronze(tables, protocol.deriver, number)
        provisional = tables.pins(tables.rejects) if tables.batch_of(tables.rejects) >= number else None
        # What it was refined by is what runs now, whatever made the provisional rejects.
        batch_pins = pins() if provisional is None else replace(provisional, refine=pins().refine)
        refined = refine(batch, batch_pins, journal)
        found = protocol.absorb(batch, refined, batch_pins, journal)
        counts = protocol.aggregate(batch, found.windows, found.counts, found.event_time_max, batch_pins, journal)
        done(number, counts)
    return in_bronze


def load_gold(protocol: BatchProtocol, in_ledger: int) -> None:
    """Bring each gold table to the ledger's last batch, and load its open windows.

    A gold table without changes skips commits, so the ledger may know more of it than its own position: what the
    ledger has recorded, gold has absorbed. One that the ledger has batches without is new, and filled from silver's
    history: before the ledger gets a row that names it, or a crash in between would make it look filled.
    """
    tables, progress = protocol.tables, protocol.progress
    recorded = tables.ledger.last()
    if recorded is not None:
        progress.watermark = recorded.watermark
        progress.closed_until = recorded.closed_until
    for keeper in protocol.gold:
        absorbed = tables.batch_of(keeper.table)
        if recorded is not None and absorbed == 0 and keeper.table.name not in dict(recorded.versions):
            keeper.fill(tables.writer, in_ledger, recorded.closed_until)
        elif absorbed > in_ledger:
            keeper.load(absorbed, keeper.table.txn(closed_until_txn(keeper.plan.name)))
        else:
            keeper.load(in_ledger, recorded.closed_until if recorded else None)


def batch_from_bronze(tables: PipelineTables, deriver: Deriver, number: int) -> Batch:
    """Batch `number`, which the ledger lacks, as bronze committed it."""
    ranges = tables.ranges(number)
    return Batch(number, ranges, deriver.from_bronze(number) if ranges else deriver.without_records(number))
