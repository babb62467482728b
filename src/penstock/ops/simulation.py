"""`simulate`: sends a made-up world to a pipeline, keeps the truth about it, and compares the lake with that truth.

A truth file holds one row per record sent: its place in the log, what was planted in it, and where it must end. The
next simulation of a pipeline goes on where the last truth file ends, so that its events are new ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import StorageError, UsageError
from penstock.limits import VIOLATION_EXAMPLES_MAX
from penstock.ops.facts import incarnation
from penstock.ops.ingest import joined
from penstock.sources.faults import TRUTH_SCHEMA
from penstock.sources.kafka_client import Cluster
from penstock.sources.kafka_producer import TopicProducer
from penstock.sources.simulate import produce
from penstock.sources.worlds import WORLDS, open_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.lake.lake import Lake
    from penstock.model.kafka import KafkaSource
    from penstock.model.pipeline import Pipeline
    from penstock.model.position import Range
    from penstock.sources.push_log import Appended

TRUTH_FOLDER = "truth"
DEFAULT_RATE = 1_000
"""Records a second of event time where `simulate` is given no rate and sends at once."""

TRUTH_FILE_SCHEMA = pa.schema(
    [
        *TRUTH_SCHEMA,
        pa.field("_source", pa.int32()),
        pa.field("_partition", pa.int32()),
        pa.field("_offset", pa.int64()),
    ]
)
"""TRUTH_SCHEMA with the place each record got."""


@dataclass(frozen=True)
class Simulated:
    """What a simulation sent: records by fault (`none` for sound ones), their places, and its truth file."""

    pipeline: str
    world: str
    records: int
    faults: tuple[tuple[str, int], ...]
    expected: tuple[tuple[str, int], ...]
    ranges: tuple[Range, ...]
    truth: Path


@dataclass(frozen=True)
class Reconciled:
    """The truth beside the lake. `mismatches` are places whose event did not end where it must, the first few."""

    sent: int
    expected: tuple[tuple[str, int], ...]
    found: tuple[tuple[str, int], ...]
    mismatched: int
    mismatches: tuple[str, ...]


class Feeder(Protocol):
    """Where made-up records go. `source` is the incarnation that their places are of. Used with `with`."""

    @property
    def source(self) -> int: ...
    def records(self, block: pa.Table) -> Appended:
        """Send records; all are durable when this returns."""
        ...

    def __enter__(self) -> Feeder: ...
    def __exit__(self, *_: Any) -> None: ...


class TopicFeeder:
    """Sends to the topic that a pipeline reads.

    Raises:
        SourceLost: there is no such topic.
        TransientError: the brokers do not answer.
    """

    def __init__(
        self, origin: KafkaSource, pipeline: str, folder: Path, lake: Lake, *, transactional: bool = False
    ) -> None:
        cluster = Cluster(origin.cluster, folder)
        self.source = incarnation(lake, pipeline)
        self._producer = TopicProducer(cluster, origin.topic, transactional=transactional)

    def __enter__(self) -> TopicFeeder:
        return self

    def __exit__(self, *details: Any) -> None:
        self._producer.close()

    def records(self, block: pa.Table) -> Appended:
        """Send records, in one transaction where they go in transactions; all are durable when this returns.

        They get the time of now: the world's own lies in the past, where a topic's retention deletes at once.
        """
        return self._producer.send(block.drop_columns(["timestamp"]))


def guess_world(pipeline: Pipeline) -> str:
    """The world whose records have most of the fields that the pipeline reads.

    Raises:
        UsageError: no world has any of them.
    """
    roots = {column.path.root for column in pipeline.silver.columns if column.path is not None}
    shares = {}
    for name in WORLDS:
        record = open_world(name, seed=1, rate=1, faults=0.0).make(0, 1).block["value"][0].as_py()
        shares[name] = len(roots & set(orjson.loads(record)))
    best = max(sorted(shares), key=lambda name: shares[name])
    if not shares[best]:
        raise UsageError(
            f"pipeline {pipeline.name} reads no field that a simulated world has",
            hint=f"Name the world: --world {' or '.join(sorted(WORLDS))}.",
        )
    return best


def simulate(
    feeder: Feeder,
    pipeline: Pipeline,
    folder: Path,
    *,
    world: str,
    seed: int = 1,
    faults: float = 0.02,
    rate: int | None = None,
    seconds: float | None = None,
    events: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Simulated:
    """Send `events` records, or `rate` a second for `seconds`, into the pipeline's log or topic; write the truth file.

    Args:
        folder: where truth files are kept.
        rate: of the wall clock; None sends as fast as the log takes them.
        progress: called with the number of records sent so far.

    Raises:
        UsageError: the world is unknown, or a number is out of its range.
        StorageError: the truth file cannot be written.
    """
    first = next_ordinal(folder, pipeline.name)
    made = open_world(world, seed=seed, rate=rate or DEFAULT_RATE, faults=faults, first=first)
    tables: list[pa.Table] = []
    ranges: list[Range] = []
    sent = 0
    for block in produce(made, rate=rate, seconds=seconds, events=events, first=first):
        done = feeder.records(block.block)
        tables.append(_with_places(block.truth, done, feeder.source))
        ranges.extend(done.ranges(feeder.source))
        sent += block.block.num_rows
        progress(sent)
    truth = pa.concat_tables([TRUTH_FILE_SCHEMA.empty_table(), *tables])
    path = _write_truth(truth, folder / f"{pipeline.name}.{first}-{first + sent}.parquet")
    return Simulated(
        pipeline.name, world, sent, _counted(truth["fault"]), _counted(truth["expected"]), joined(ranges), path
    )


def next_ordinal(folder: Path, pipeline: str) -> int:
    """The ordinal after the last one that a truth file of the pipeline tells of."""
    name = truth_name(pipeline)
    ends = [int(match[2]) for path in folder.glob("*.parquet") if (match := name.fullmatch(path.name))]
    return max(ends, default=0)


def _with_places(truth: pa.Table, appended: Appended, source: int) -> pa.Table:
    columns = [
        *truth.columns,
        pa.repeat(pa.scalar(source, pa.int32()), truth.num_rows),
        pa.array(appended.partitions),
        pa.array(appended.offsets),
    ]
    return pa.Table.from_arrays(columns, schema=TRUTH_FILE_SCHEMA)


def read_truth(folder: Path, pipeline: str) -> pa.Table:
    """All truth about a pipeline, in TRUTH_FILE_SCHEMA.

    Raises:
        StorageError: a truth file cannot be read.
    """
    name = truth_name(pipeline)
    paths = sorted(path for path in folder.glob("*.parquet") if name.fullmatch(path.name))
    try:
        return pa.concat_tables([TRUTH_FILE_SCHEMA.empty_table(), *(pq.read_table(path) for path in paths)])
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"cannot read the truth files in {folder}: {error}", hint="Delete them and simulate again."
        ) from error


def reconcile(truth: pa.Table, accepted: pa.Table, rejected: pa.Table) -> Reconciled:
    """Compare where each record sent must end with where it ended.

    `accepted` (silver) and `rejected` hold `_source, _partition, _offset`, and `rejected` the `disposition`.
    """
    place = ["_source", "_partition", "_offset"]
    ends = pa.concat_tables(
        [
            accepted.select(place).append_column("found", pa.repeat(pa.scalar("accepted"), accepted.num_rows)),
            rejected.select([*place, "disposition"]).rename_columns([*place, "found"]),
        ]
    )
    joined_ends = truth.select([*place, "expected", "fault"]).join(ends, place, join_type="left outer")
    found = pc.fill_null(joined_ends["found"], "missing")
    wrong = joined_ends.set_column(joined_ends.column_names.index("found"), "found", found).filter(
        pc.not_equal(found, joined_ends["expected"])
    )
    extra = joined_ends.num_rows - truth.num_rows
    examples = [
        f"{row['_source']}/{row['_partition']}/{row['_offset']} ({row['fault'] or 'sound'}): "
        f"{row['found']}, not {row['expected']}"
        for row in wrong.slice(0, VIOLATION_EXAMPLES_MAX).to_pylist()
    ]
    return Reconciled(
        truth.num_rows, _counted(truth["expected"]), _counted(found), wrong.num_rows + extra, tuple(examples)
    )


def truth_name(pipeline: str) -> re.Pattern[str]:
    """Matches the names of a pipeline's truth files; the groups are the first ordinal and the one after the last."""
    return re.compile(rf"{re.escape(pipeline)}\.(\d+)-(\d+)\.parquet")


def _write_truth(truth: pa.Table, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(truth, path, compression="zstd")
    except OSError as error:
        raise StorageError(
            f"cannot write the truth file {path}: {error.strerror or error}",
            hint="The records were sent all the same. Check the permissions and the free space.",
        ) from error
    return path


def _counted(column: pa.ChunkedArray) -> tuple[tuple[str, int], ...]:
    counts = pc.value_counts(pc.fill_null(column, "none")).to_pylist()
    return tuple(sorted((row["values"], row["counts"]) for row in counts))
