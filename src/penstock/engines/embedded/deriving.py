"""A batch in this process: its rows are Arrow tables in memory, from the source to the files of silver and rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.engines.outcome import Events, as_bronze, numbered, refuse_stopped, widened
from penstock.lake.schema import align
from penstock.limits import BATCH_SECONDS_TARGET
from penstock.model.columns import BATCH, PLACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from penstock.engines.contract import Job, PlacedKeys, Verdict
    from penstock.engines.embedded.engine import EmbeddedEngine
    from penstock.engines.outcome import Outcome
    from penstock.lake.table import DataFile, Table
    from penstock.model.batch import BatchCounts
    from penstock.model.position import Range
    from penstock.plan.gold import GoldPlan
    from penstock.plan.nouns import Plan


class EmbeddedDeriver:
    """See `Deriver`. Records are read by the caller's thread, from the loop's own source."""

    shares = 1
    batch_seconds = BATCH_SECONDS_TARGET

    def __init__(self, engine: EmbeddedEngine, job: Job) -> None:
        self._engine = engine
        self._job = job

    def from_source(self, batch: int, shares: Sequence[Sequence[Range]], now: int) -> EmbeddedWork:
        records = self._job.source.read([item for share in shares for item in share])
        return self._work(batch, as_bronze(records, self._job.incarnation, now))

    def from_bronze(self, batch: int) -> EmbeddedWork:
        rows = self._job.bronze.batch(batch).sort_by([(name, "ascending") for name in PLACE])
        return self._work(batch, rows.drop_columns([BATCH]))

    def without_records(self, batch: int) -> EmbeddedWork:
        return self._work(batch, self._job.bronze.schema.empty_table())

    def _work(self, batch: int, records: pa.Table) -> EmbeddedWork:
        return EmbeddedWork(self._engine, self._job, batch, records)


class EmbeddedWork:
    """See `Work`. `rows` are bronze's, in order of place, without `_batch` and the partition column."""

    def __init__(self, engine: EmbeddedEngine, job: Job, batch: int, rows: pa.Table) -> None:
        self._engine = engine
        self._job = job
        self._batch = batch
        self._rows = rows

    @property
    def records(self) -> int:
        rows: int = self._rows.num_rows
        return rows

    def bronze_files(self) -> list[DataFile]:
        return write(self._job.bronze, numbered(self._rows, self._batch))

    def give_up(self, error: BaseException) -> None:
        """Nothing waits for refining here."""

    def refine(self, plan: Plan, references: Mapping[str, pa.Table]) -> EmbeddedRefined:
        events = Events(self._rows, self._engine.refine(plan.refine, self._rows, references))
        return EmbeddedRefined(self._engine, self._job, self._batch, plan, events)


class EmbeddedRefined:
    """See `Refined`."""

    def __init__(self, engine: EmbeddedEngine, job: Job, batch: int, plan: Plan, events: Events) -> None:
        self._engine = engine
        self._job = job
        self._batch = batch
        self._plan = plan
        self._events = events

    @property
    def records(self) -> int:
        rows: int = self._events.records.num_rows
        return rows

    @property
    def events(self) -> int:
        return self._events.count

    @property
    def skipped(self) -> int:
        return self._events.skipped

    def refuse_stopped(self) -> None:
        refuse_stopped([self._events.stopped()])

    def keys(self) -> PlacedKeys:
        return self._events.keys()

    def settle(self, verdict: Verdict | None, contract: int) -> EmbeddedSettled:
        columns = tuple(name for name, _ in self._plan.silver_columns)
        outcome = self._events.settle(self._batch, verdict, contract=contract, silver_columns=columns)
        return EmbeddedSettled(self._engine, self._job, outcome)


class EmbeddedSettled:
    """See `Settled`."""

    def __init__(self, engine: EmbeddedEngine, job: Job, outcome: Outcome) -> None:
        self._engine = engine
        self._job = job
        self._outcome = outcome

    @property
    def counts(self) -> BatchCounts:
        return self._outcome.counts

    @property
    def event_time_max(self) -> int | None:
        return self._outcome.event_time_max

    def silver_files(self) -> list[DataFile]:
        return write(self._job.silver, self._outcome.silver)

    def reject_files(self) -> list[DataFile]:
        return write(self._job.rejects, self._outcome.rejects)

    def windows(self, plan: GoldPlan) -> pa.Table:
        return self._engine.query(plan.rows_sql, {"rows": widened(self._outcome.silver, self._job.silver.schema)})


def write(table: Table, rows: pa.Table) -> list[DataFile]:
    """Rows as files of a table, durable and not committed; none for no rows."""
    return table.write(align(rows, table.schema)) if rows.num_rows else []
