"""The driver's side of a batch: shares go out, descriptions come back, in two stages."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.engines.embedded.deriving import EmbeddedWork
from penstock.engines.outcome import refuse_stopped
from penstock.engines.spark.shares import (
    Allowance,
    BronzeShare,
    PackedVerdict,
    Pinned,
    Setup,
    SourceShare,
    VerdictShare,
    together,
)
from penstock.engines.spark.worker import Stage
from penstock.errors import check
from penstock.lake.datafile import overlaps
from penstock.limits import PLANS_KEPT, SPARK_BATCH_SECONDS_TARGET, SPARK_WORKER_BYTES_MIN
from penstock.model.batch import BatchCounts
from penstock.model.columns import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pyspark.core.broadcast import Broadcast

    from penstock.engines.contract import Job, PlacedKeys, Verdict
    from penstock.engines.embedded.deriving import EmbeddedRefined
    from penstock.engines.embedded.engine import EmbeddedEngine
    from penstock.engines.spark.session import Session
    from penstock.engines.spark.shares import Part, SettledPart
    from penstock.lake.table import DataFile
    from penstock.model.position import Range
    from penstock.plan.gold import GoldPlan
    from penstock.plan.nouns import Plan


class SparkDeriver:
    """See `Deriver`."""

    batch_seconds = SPARK_BATCH_SECONDS_TARGET

    def __init__(self, session: Session, engine: EmbeddedEngine, job: Job) -> None:
        self.session = session
        self.engine = engine
        self.job = job
        self._setup = session.broadcast(_setup(job))
        self._pinned: OrderedDict[int, tuple[Plan, Broadcast[Pinned]]] = OrderedDict()

    @property
    def shares(self) -> int:
        return self.session.parallelism

    def from_source(self, batch: int, shares: Sequence[Sequence[Range]], now: int) -> SparkWork:
        return SparkWork(self, batch, [SourceShare(batch, tuple(ranges), now) for ranges in shares])

    def from_bronze(self, batch: int) -> SparkWork | EmbeddedWork:
        files = [file for file in self.job.bronze.files() if overlaps(file, BATCH, batch, batch)]
        if not files:  # its ranges held no records
            return self.without_records(batch)
        # Only statistics travel: the file's own are a row of a large table.
        files = [replace(file, _source=file.statistics, _index=0) for file in files]
        return SparkWork(self, batch, [BronzeShare(batch, share) for share in dealt(files, self.shares)])

    def without_records(self, batch: int) -> EmbeddedWork:
        return EmbeddedWork(self.engine, self.job, batch, self.job.bronze.schema.empty_table())

    def stage(self, plan: Plan, references: Mapping[str, pa.Table]) -> Stage:
        """What runs in the executors for batches that are refined with this plan and these references."""
        known = self._pinned.get(id(plan))
        if known is None:
            pinned = Pinned(uuid.uuid4().hex, plan.pipeline, dict(references))
            known = self._pinned[id(plan)] = plan, self.session.broadcast(pinned)
            while len(self._pinned) > PLANS_KEPT:
                _, (_, unused) = self._pinned.popitem(last=False)
                self.session.destroy(unused)
        self._pinned.move_to_end(id(plan))
        return Stage(self._setup, known[1], self._allowance())

    def close(self) -> None:
        """No batch is under way any more: let go of what was sent for them."""
        for sent in (self._setup, *(pinned for _, pinned in self._pinned.values())):
            self.session.destroy(sent)
        self._pinned.clear()

    def _allowance(self) -> Allowance:
        """Not shared out to pipelines: a worker has one share in hand, of whichever pipeline."""
        settings, workers = self.job.settings, self.shares
        return Allowance(
            memory_bytes=max(SPARK_WORKER_BYTES_MIN, settings.memory_bytes // workers),
            piece_bytes=2 * settings.batch_bytes_max // workers,
        )


def dealt(files: Sequence[DataFile], count: int) -> list[tuple[DataFile, ...]]:
    """The files in at most `count` shares, each in one of them."""
    return [tuple(files[start::count]) for start in range(min(count, len(files)))]


def _setup(job: Job) -> Setup:
    return Setup(
        name=uuid.uuid4().hex,
        refine_version=job.refine_version,
        lake=job.lake.storage.uri(),
        store_options=job.lake.storage.options,
        folder=job.folder.absolute(),
        state_folder=job.lake.state_folder.absolute(),
        record_bytes_max=job.settings.record_bytes_max,
        push_bytes_max=job.settings.push_bytes_max,
        pipeline=job.pipeline,
        incarnation=job.incarnation,
        unique_id=job.source.identity.unique_id,
        writer=job.writer,
        bronze=job.bronze.spec,
        rejects=job.rejects.spec,
        silver=job.silver.spec,
        windows=tuple((plan.name, plan.rows_sql) for plan in job.golds),
    )


class SparkWork:
    """See `Work`. The first stage writes bronze's files and refines; `bronze_files` waits for it."""

    def __init__(self, deriver: SparkDeriver, batch: int, shares: list[SourceShare] | list[BronzeShare]) -> None:
        self._deriver = deriver
        self._batch = batch
        self._shares = shares
        self._parts: Future[list[Part]] = Future()

    @property
    def records(self) -> int:
        return sum(part.records for part in self._parts.result())

    def bronze_files(self) -> list[DataFile]:
        return [file for part in self._parts.result() for file in part.bronze]

    def refine(self, plan: Plan, references: Mapping[str, pa.Table]) -> SparkRefined | EmbeddedRefined:
        stage = self._deriver.stage(plan, references)
        parts: list[Part] = [part for parts in self._deriver.session.run(stage, self._shares) for part in parts]
        self._parts.set_result(parts)
        self._tell(parts)
        if not parts:  # ranges may hold nothing
            return self._deriver.without_records(self._batch).refine(plan, references)
        return SparkRefined(self._deriver, self._batch, stage, parts)

    def give_up(self, error: BaseException) -> None:
        if not self._parts.done():  # what fails behind refining takes nothing back
            self._parts.set_exception(error)

    def _tell(self, parts: list[Part]) -> None:
        """Tell the source how much its ranges held."""
        offsets = sum(
            item.end - item.start for share in self._shares if isinstance(share, SourceShare) for item in share.ranges
        )
        if offsets:
            records, size = sum(part.records for part in parts), sum(part.bytes for part in parts)
            self._deriver.job.source.held(records, size, offsets)


class SparkRefined:
    """See `Refined`."""

    def __init__(self, deriver: SparkDeriver, batch: int, stage: Stage, parts: list[Part]) -> None:
        self._deriver = deriver
        self._batch = batch
        self._stage = stage
        self._parts = parts
        self._order: NDArray[np.intp] | None = None

    @property
    def records(self) -> int:
        return sum(part.records for part in self._parts)

    @property
    def events(self) -> int:
        return sum(part.events for part in self._parts)

    @property
    def skipped(self) -> int:
        return sum(part.skipped for part in self._parts)

    def refuse_stopped(self) -> None:
        refuse_stopped([part.stopped for part in self._parts])

    def keys(self) -> PlacedKeys:
        keys, self._order = together([part.keys.unpacked() for part in self._parts if part.keys is not None])
        return keys

    def settle(self, verdict: Verdict | None, contract: int) -> SparkSettled:
        shares = [
            VerdictShare(self._batch, replace(part, keys=None), packed, contract)
            for part, packed in zip(self._parts, self._split(verdict), strict=True)
            if part.events
        ]
        settled = self._deriver.session.run(self._stage, shares) if shares else []
        return SparkSettled(self._deriver, self.records, settled)

    def _split(self, verdict: Verdict | None) -> list[PackedVerdict | None]:
        """The verdict on each part, in the order of its own keys."""
        if verdict is None:
            return [None] * len(self._parts)
        order = self._order
        check(order is not None, "a verdict on keys that were not asked for")
        assert order is not None
        back = np.empty(len(order), np.intp)
        back[order] = np.arange(len(order))
        split: list[PackedVerdict | None] = []
        start = 0
        for part in self._parts:
            end = start + (0 if part.keys is None else part.keys.count)
            split.append(PackedVerdict.of(verdict.take(back[start:end])))
            start = end
        return split


class SparkSettled:
    """See `Settled`."""

    def __init__(self, deriver: SparkDeriver, records: int, parts: list[SettledPart]) -> None:
        self._deriver = deriver
        self._parts = parts
        self.counts = replace(sum((part.counts for part in parts), BatchCounts()), records=records)

    @property
    def event_time_max(self) -> int | None:
        return max((part.event_time_max for part in self._parts if part.event_time_max is not None), default=None)

    def silver_files(self) -> list[DataFile]:
        return [file for part in self._parts for file in part.silver]

    def reject_files(self) -> list[DataFile]:
        return [file for part in self._parts for file in part.rejects]

    def windows(self, plan: GoldPlan) -> pa.Table:
        found = [part.windows[plan.name] for part in self._parts if plan.name in part.windows]
        rows = pa.concat_tables(found)
        if len(found) == 1:
            return rows
        if plan.mergeable:
            return self._deriver.engine.query(plan.merge_sql, {"partials": rows}).cast(rows.schema)
        return rows.group_by(rows.column_names).aggregate([])
