"""What an engine supplies to the loop. Everything else (order, commits, positions, restart, proof) is shared code.

An engine runs the plan's SQL (`Engine`), and holds the rows of a batch on their way from the source to silver
(`Deriver`): the loop sees how many there are, their keys and the files they became, and decides what is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from penstock.lake.datafile import DataFile
    from penstock.lake.fence import Writer
    from penstock.lake.lake import Lake
    from penstock.lake.table import Table
    from penstock.model.batch import BatchCounts
    from penstock.model.pipeline import Pipeline
    from penstock.model.position import Range
    from penstock.plan.gold import GoldPlan
    from penstock.plan.nouns import Plan, RefinePlan
    from penstock.settings import Settings
    from penstock.sources.contract import Source

    Relation: TypeAlias = pa.Table | pa.RecordBatchReader


# -- what is decided between events and rows --------------------------------------------------------------------------


@dataclass(frozen=True)
class PlacedKeys:
    """Keys of events with their full places: arrays of one length, in (place, index) order."""

    bucket: NDArray[np.int64]
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    source: NDArray[np.int32]
    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    index: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.high)

    def take(self, rows: NDArray[np.intp]) -> PlacedKeys:
        """The keys at `rows`."""
        return PlacedKeys(
            self.bucket[rows],
            self.high[rows],
            self.low[rows],
            self.source[rows],
            self.partition[rows],
            self.offset[rows],
            self.index[rows],
        )


@dataclass(frozen=True)
class Verdict:
    """`accepted[i]` says whether event i won; the winner arrays name, for the others, who did (0 for the accepted)."""

    accepted: NDArray[np.bool_]
    winner_source: NDArray[np.int32]
    winner_partition: NDArray[np.int32]
    winner_offset: NDArray[np.int64]
    winner_index: NDArray[np.int32]

    def take(self, rows: NDArray[np.intp] | slice) -> Verdict:
        """The verdict on the events at `rows`."""
        return Verdict(
            self.accepted[rows],
            self.winner_source[rows],
            self.winner_partition[rows],
            self.winner_offset[rows],
            self.winner_index[rows],
        )


# -- one batch --------------------------------------------------------------------------------------------------------


class Settled(Protocol):
    """A batch whose events have ended somewhere. The files are written once, however often they are asked for."""

    @property
    def counts(self) -> BatchCounts: ...

    @property
    def event_time_max(self) -> int | None:
        """The latest accepted event time, in microseconds since the epoch."""

    def silver_files(self) -> list[DataFile]:
        """Files of silver with the accepted rows; durable, and not committed."""

    def reject_files(self) -> list[DataFile]:
        """Files of rejects with the quarantined and duplicate events; durable, and not committed."""

    def windows(self, plan: GoldPlan) -> pa.Table:
        """What `plan.rows_sql` makes of the accepted rows."""


class Refined(Protocol):
    """A batch's events, refined: valid, quarantined or skipped, but not compared with each other yet."""

    @property
    def records(self) -> int: ...

    @property
    def events(self) -> int: ...

    @property
    def skipped(self) -> int: ...

    def refuse_stopped(self) -> None:
        """Raise RuleStopped where an event failed a rule with the action `stop`."""

    def keys(self) -> PlacedKeys:
        """The keys of the valid events."""

    def settle(self, verdict: Verdict | None, contract: int) -> Settled:
        """Decide where each event ends. `verdict` is about `keys`; None where events have no key, so that none is a
        duplicate."""


class Work(Protocol):
    """One batch in the engine's hands. `bronze_files` and `refine` may be called from two threads. `refine` may be
    called again after a TransientError; in the end it has succeeded, or `give_up` is called."""

    @property
    def records(self) -> int:
        """How many; known once `refine` has returned."""

    def bronze_files(self) -> list[DataFile]:
        """Files of bronze with the records; durable, and not committed. Waits for `refine` where that writes them."""

    def refine(self, plan: Plan, references: Mapping[str, pa.Table]) -> Refined:
        """The events of the records: a pure function of them, the plan and the references' rows by name.

        Raises:
            SourceLost, TransientError: the records could not be read.
            StorageError: memory or disk do not do.
            EngineFailed: workers failed as often as they may.
        """

    def give_up(self, error: BaseException) -> None:
        """The batch is not refined any more: who waits for its files is told why."""


class Deriver(Protocol):
    """Takes the batches of one pipeline from the source, or from bronze, to rows of silver and rejects.

    Batches come in order; those under way at a time are few.
    """

    @property
    def shares(self) -> int:
        """In how many parts a batch is worked on at once; the loop plans that many."""

    @property
    def batch_seconds(self) -> float:
        """How long a batch may take: what it costs whatever its size should be little beside that."""

    def from_source(self, batch: int, shares: Sequence[Sequence[Range]], now: int) -> Work:
        """A new batch of these ranges, ingested at `now` (microseconds) where the source does not say when."""

    def from_bronze(self, batch: int) -> Work:
        """The batch as bronze has it."""

    def without_records(self, batch: int) -> Work:
        """A batch without ranges: a drain."""


@dataclass(frozen=True)
class Job:
    """What a deriver works on: an opened pipeline. `source` is the loop's own, and reads there as well."""

    pipeline: Pipeline
    folder: Path
    settings: Settings
    lake: Lake
    writer: Writer
    source: Source
    incarnation: int
    bronze: Table
    rejects: Table
    silver: Table
    golds: tuple[GoldPlan, ...]
    refine_version: int


# -- the engine -------------------------------------------------------------------------------------------------------


class Engine(Protocol):
    """Runs the plan's SQL over Arrow data, the same SQL with the same meaning in every engine.

    Calls come from several threads at once. An engine keeps nothing between calls that its results depend on, so any
    call may be repeated. It does not promise the order of rows unless the SQL does.
    """

    def query(self, sql: str, relations: Mapping[str, Relation]) -> pa.Table:
        """The result of one SELECT over the named relations; a reader is consumed, in bounded memory."""

    def schema(self, sql: str, relations: Mapping[str, pa.Schema]) -> pa.Schema:
        """The columns that `sql` gives over empty relations of these schemas.

        Raises:
            QueryError: the SQL does not fit the columns' types, with the engine's words.
        """

    def register(self, plan: RefinePlan) -> None:
        """Make the functions of a plan known to `query` and `schema`."""

    @property
    def reads_apart(self) -> bool:
        """Whether other processes read the source, so that the loop's own need only plan."""

    def refuse_unreachable(self, pipeline: Pipeline) -> None:
        """Raise UsageError where the engine's processes cannot read the pipeline's source. Called before anything is
        changed."""

    def deriver(self, job: Job) -> Deriver:
        """What takes the pipeline's batches through."""

    def close(self) -> None:
        """Let go of threads, memory and temporary files."""
