"""The loop of one pipeline: poll, write bronze, refine and absorb, with neighbouring batches overlapping.

Three batches are under way at most: while N is aggregated (one thread), N+1 is absorbed (one thread), and N+2 is
refined (this thread and the engine's) and written to bronze (one thread). Each table commits in batch order, because
each has one thread. The steps themselves are in `protocol.py`, what a start does first in `opening.py`, `restart.py`.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import SourceLost, TransientError
from penstock.limits import IDLE_WAIT_SECONDS
from penstock.model.batch import BatchCounts
from penstock.run.context import BatchDone, PipelineContext, RunOptions, RunSummary
from penstock.run.deadletters import DeadLetters
from penstock.run.journal import Journal
from penstock.run.opening import Opened, open_pipeline
from penstock.run.patience import Patience, Stopped
from penstock.run.polling import BatchSize, Poller
from penstock.run.protocol import Batch
from penstock.run.reports import Reports
from penstock.run.restart import catch_up
from penstock.run.upkeep import Upkeep

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from penstock.engines.contract import Refined, Settled
    from penstock.model.batch import Pins
    from penstock.run.tables import PipelineTables

__all__ = ["BatchDone", "PipelineContext", "RunOptions", "RunSummary", "run_pipeline"]


def run_pipeline(
    context: PipelineContext,
    options: RunOptions,
    stop: threading.Event,
    progress: Callable[[BatchDone], None],
) -> RunSummary:
    """Run one pipeline until `stop` is set, or with `once` until everything there is has been absorbed.

    `stop` ends cleanly: what is under way is finished, open windows stay open. Raises what `open_pipeline` raises, and
    SourceLost, TransientError (with `once`), RuleStopped, StorageError, Fenced, LakeCorrupt while running; whatever is
    raised, the next start continues from the tables.
    """
    reports = Reports(context.tell, at_once=not options.once)
    started = context.clock.monotonic()
    patience = Patience(context.clock, stop, context.tell, once=options.once)
    try:
        with context.lake.lock(context.pipeline.name):
            try:
                opened = open_pipeline(context, options, reports.add, patience)
            except Stopped:
                seconds = context.clock.monotonic() - started
                return RunSummary(context.pipeline.name, 0, BatchCounts(), seconds, reports.kept())
            try:
                with opened.protocol.tables.owned():
                    return _Loop(context, options, stop, progress, opened, reports, patience).run()
            finally:
                opened.source.close()
    except BaseException:
        reports.run_failed()
        raise


@dataclass(frozen=True)
class _UnderWay:
    """A batch on its way: when silver has it, and when the ledger has it."""

    absorbed: Future[Settled]
    aggregated: Future[None]


class _Loop:
    def __init__(
        self,
        context: PipelineContext,
        options: RunOptions,
        stop: threading.Event,
        progress: Callable[[BatchDone], None],
        opened: Opened,
        reports: Reports,
        patience: Patience,
    ) -> None:
        self._context = context
        self._options = options
        self._stop = stop
        self._progress = progress
        self._opened = opened
        self._protocol = opened.protocol
        self._reports = reports
        self._patience = patience
        self._counts = BatchCounts()
        self._batches = 0
        self._step_seconds: dict[str, float] = {}
        self._waiting: int | None = None
        self._clock = context.clock
        self._started = self._clock.monotonic()
        self._last_bronze: Future[Journal] | None = None
        self._lost_from: dict[tuple[int, int], int] | None = None

    def run(self) -> RunSummary:
        try:
            self._run()
        except Stopped:  # what it had finished stays, and the next start goes on
            pass
        except TransientError:  # as does what a stop has left half done
            if not self._stop.is_set():
                raise
        return self._summary()

    def _run(self) -> None:
        silver = self._context.pipeline.silver
        engine, pins = self._context.engine, self._opened.pins
        done = catch_up(self._protocol, self._refine, pins, silver.event_time, engine, self._clock, self._recovered)
        tables = self._protocol.tables
        settings, options = self._context.settings, self._options
        self._size = BatchSize(
            options.batch_rows or settings.batch_rows_max,
            self._protocol.deriver.batch_seconds,
            fixed=options.batch_rows is not None,
        )
        self._poller = Poller(
            self._opened.source,
            self._protocol.deriver,
            tables.position(self._opened.incarnation),
            self._size,
            options.batch_bytes or settings.batch_bytes_max,
            self._clock,
        )
        with (
            Upkeep(tables, settings, self._clock) as self._upkeep,
            self._letters(tables) as self._dead_letters,
            ThreadPoolExecutor(1, "bronze") as self._bronze_thread,
            ThreadPoolExecutor(1, "absorb") as self._absorb_thread,
            ThreadPoolExecutor(1, "aggregate") as self._aggregate_thread,
        ):
            self._follow(done + 1)
        self._protocol.settle_gold()

    def _summary(self) -> RunSummary:
        seconds = self._clock.monotonic() - self._started
        return RunSummary(
            self._context.pipeline.name,
            self._batches,
            self._counts,
            seconds,
            self._reports.kept(),
            tuple(sorted(self._step_seconds.items())),
        )

    def _follow(self, number: int) -> None:
        """Batches from `number` on until there is a reason to end. At most one batch waits to be absorbed."""
        pending: _UnderWay | None = None
        while not self._stop.is_set():
            self._opened.references.load_if_changed(self._protocol.tables.writer)
            started = self._clock.monotonic()
            try:
                batch = self._poller.poll(number)
                for notice in self._opened.source.notices():
                    self._reports.add(notice)
                if batch is None and pending is None:
                    if self._options.once and self._poller.source.exhausted(self._poller.position):
                        break
                    self._idle()
                self._patience.passed()
            except TransientError as error:
                if pending is not None:  # what was read before the source went away is not held up by it
                    pending.aggregated.result()
                    pending = None
                self._protocol.settle_gold()
                self._wait_for_source(error)
                continue
            if batch is None:
                if pending is not None:
                    pending.aggregated.result()
                    pending = None
                continue
            self._waiting = self._opened.source.backlog(self._poller.position).records
            try:
                pending = self._start(batch, started, pending)
            except Stopped:  # nothing of the batch was committed
                break
            except SourceLost as error:
                self._plan_anew(batch, error)
                continue
            number += 1
            self._pace(batch, started)
        if pending is not None:
            pending.aggregated.result()
        if self._options.once and not self._options.keep_open and not self._stop.is_set() and self._has_open_windows():
            drain = Batch(number, (), self._protocol.deriver.without_records(number))
            self._start(drain, self._clock.monotonic(), None).aggregated.result()

    def _start(self, batch: Batch, started: float, before: _UnderWay | None) -> _UnderWay:
        """Write bronze and refine; hand over to the absorbing thread once the batch before has passed it."""
        journal = Journal(self._clock)
        journal.add_seconds("read", self._clock.monotonic() - started)
        position = dict(self._poller.position)
        pins = self._opened.pins()
        bronze = self._bronze_thread.submit(self._bronze, batch, position, self._last_bronze)
        try:
            refined = self._refine(batch, pins, journal)
        except BaseException as error:
            batch.work.give_up(error)
            raise
        self._last_bronze = bronze
        if before is not None:
            before.absorbed.result()
        aggregated_before = before.aggregated if before is not None else None

        def absorb() -> Settled:
            settled = self._protocol.absorb(batch, refined, pins, journal, bronze, aggregated_before)
            self._upkeep.after_silver()
            return settled

        absorbed = self._absorb_thread.submit(absorb)

        def aggregate() -> None:
            found = absorbed.result()
            counts = self._protocol.aggregate(batch, found.windows, found.counts, found.event_time_max, pins, journal)
            self._upkeep.after_batch(batch.number)
            self._dead_letters.after_batch(batch.number)
            self._finished(batch, counts, journal, self._clock.monotonic() - started)

        return _UnderWay(absorbed, self._aggregate_thread.submit(aggregate))

    def _refine(self, batch: Batch, pins: Pins, journal: Journal) -> Refined:
        """Where refining reads the source, that may be away for a while."""
        return self._patience.insist(lambda: self._protocol.refine(batch, pins, journal))

    def _bronze(self, batch: Batch, position: dict[int, int], before: Future[Journal] | None) -> Journal:
        if before is not None:
            before.result()  # had it failed, this batch's position would lie above records that are in no batch
        source = self._opened.source
        journal = self._protocol.commit_bronze(batch, Journal(self._clock), lambda: source.forget(position))
        self._upkeep.after_bronze()
        return journal

    def _finished(self, batch: Batch, counts: BatchCounts, journal: Journal, seconds: float) -> None:
        self._size.took(batch.work.records, seconds)
        for step, taken in journal.seconds.items():
            self._step_seconds[step] = self._step_seconds.get(step, 0.0) + taken
        self._count(batch.number, counts, seconds)

    def _recovered(self, number: int, counts: BatchCounts) -> None:
        self._reports.add(f"batch {number} was finished from bronze")
        self._count(number, counts, 0.0)

    def _count(self, number: int, counts: BatchCounts, seconds: float) -> None:
        self._batches += 1
        self._counts += counts
        self._progress(BatchDone(self._context.pipeline.name, number, counts, seconds, self._waiting))

    def _letters(self, tables: PipelineTables) -> DeadLetters:
        context = self._context
        pipeline = context.pipeline
        return DeadLetters(
            pipeline.rejects,
            tables,
            context.folder,
            self._opened.source.identity.name,
            self._clock,
            context.tell,
        )

    def _plan_anew(self, batch: Batch, error: SourceLost) -> None:
        """What the source lost after the batch was planned and before it was read, the next plan meets: it stops at it
        or records it. A plan that begins where the last one did would come to the same end."""
        begins = {(item.source, item.partition): item.start for item in batch.ranges}
        if begins == self._lost_from:
            raise error
        self._lost_from = begins
        self._poller.take_back()

    def _wait_for_source(self, error: TransientError) -> None:
        with contextlib.suppress(Stopped):  # the loop sees `stop` itself
            self._patience.bear(error)

    def _idle(self) -> None:
        """Nothing new: let positions catch up, then wait for the source or for a stop."""
        self._protocol.settle_gold()
        self._poller.source.wait(self._poller.position, IDLE_WAIT_SECONDS)

    def _pace(self, batch: Batch, started: float) -> None:
        """Let small batches fill: no two start within the minimal interval, unless there is enough for a full one."""
        if self._options.once or batch.work.records >= self._size.rows:
            return
        left = self._context.settings.batch_interval_min_ms / 1000 - (self._clock.monotonic() - started)
        if left > 0:
            self._stop.wait(left)

    def _has_open_windows(self) -> bool:
        ends = [keeper.end_of_all() for keeper in self._protocol.gold]
        closed = self._protocol.progress.closed_until
        return any(end is not None and (closed is None or end > closed) for end in ends)
