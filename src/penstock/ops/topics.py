"""Topics of the pipelines that read from Kafka: made as declared, and how far they and the lake are."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from penstock.errors import PenstockError, UsageError
from penstock.lake.contracts import Contracts
from penstock.lake.layout import Kind, table_name
from penstock.model.columns import offset_txn
from penstock.model.kafka import KafkaSource
from penstock.sources.kafka_client import Cluster
from penstock.sources.kafka_topics import make_topic, reach, settings_of, times_at, topic_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Pipeline
    from penstock.model.position import Incarnation
    from penstock.ops.facts import PipelineStatus


@dataclass(frozen=True)
class TopicState:
    """A declared topic. `partitions` is None where there is no such topic; `created` says that it was made just now."""

    pipeline: str
    topic: str
    brokers: str
    partitions: int | None
    created: bool = False
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartitionLag:
    """A partition beside the lake: the topic holds [earliest, latest), the lake has what lies below `position`.

    `position` is None before anything of the topic was read. `records` counts offsets above it, some of which may hold
    no record; `seconds` is the age of the first record there, None where there is none or it did not come in time.
    """

    partition: int
    earliest: int
    latest: int
    position: int | None
    records: int
    seconds: float | None


@dataclass(frozen=True)
class TopicDescription:
    """A topic as it is, with what the lake has of it."""

    pipeline: str
    topic: str
    unique_id: str
    replication: int
    settings: tuple[tuple[str, str], ...]
    partitions: tuple[PartitionLag, ...]


def of_kafka(pipelines: Sequence[Pipeline]) -> Iterator[tuple[Pipeline, KafkaSource]]:
    """The pipelines that read topics.

    Raises:
        UsageError: none of them does.
    """
    found = [(one, one.source.origin) for one in pipelines if isinstance(one.source.origin, KafkaSource)]
    if not found:
        names = ", ".join(one.name for one in pipelines) or "none of this project"
        raise UsageError(f"no pipeline of {names} reads from Kafka", hint="Declare one with `source: {kafka: ...}`.")
    yield from found


def create_topics(pipelines: Sequence[Pipeline], folder: Path) -> tuple[TopicState, ...]:
    """Make the declared topics that are not there.

    Raises:
        UsageError: the brokers do not make one as declared.
        TransientError: they do not answer.
    """
    return tuple(_state(name, topic, folder, create=True) for name, topic in _declared(pipelines))


def list_topics(pipelines: Sequence[Pipeline], folder: Path) -> tuple[TopicState, ...]:
    """The declared topics, whether they are there, and in what they differ from their declaration."""
    return tuple(_state(name, topic, folder, create=False) for name, topic in _declared(pipelines))


def _declared(pipelines: Sequence[Pipeline]) -> Iterator[tuple[str, KafkaSource]]:
    """The topics that pipelines read, and those that their rejects go to, by the pipelines' names.

    Raises:
        UsageError: there are none.
    """
    letters = [(one.name, one.rejects) for one in pipelines if one.rejects is not None]
    if not letters or any(isinstance(one.source.origin, KafkaSource) for one in pipelines):
        yield from ((pipeline.name, origin) for pipeline, origin in of_kafka(pipelines))
    yield from ((name, KafkaSource(rejects.topic, rejects.cluster)) for name, rejects in letters)


def _state(pipeline: str, origin: KafkaSource, folder: Path, *, create: bool) -> TopicState:
    cluster = Cluster(origin.cluster, folder)
    try:
        created = create and make_topic(cluster, origin.topic, origin.shape)
        if not created and origin.topic not in topic_names(cluster):
            return TopicState(pipeline, origin.topic, cluster.brokers, None)
        facts = cluster.topic(origin.topic)
        differences = _differences(origin, len(facts.partitions), facts.replication, settings_of(cluster, origin.topic))
        return TopicState(pipeline, origin.topic, cluster.brokers, len(facts.partitions), created, tuple(differences))
    finally:
        cluster.close()


def _differences(origin: KafkaSource, partitions: int, replication: int, settings: dict[str, str]) -> Iterator[str]:
    """What is not as declared. Of `settings` only those that are there are looked at."""
    shape = origin.shape
    if shape.partitions not in (None, partitions):
        yield f"it has {partitions} partitions, not {shape.partitions}"
    if shape.replication not in (None, replication):
        yield f"it keeps {replication} copies, not {shape.replication}"
    retention, policy = settings.get("retention.ms"), settings.get("cleanup.policy")
    wanted = None if shape.retention is None else str(shape.retention // 1_000)
    if wanted is not None and retention not in (None, wanted):
        yield f"retention.ms is {retention}, not {wanted}"
    if shape.compaction and policy is not None and "compact" not in policy:
        yield f"cleanup.policy is {policy}: it is not compacted"


def describe_topics(pipelines: Sequence[Pipeline], folder: Path, lake: Lake) -> tuple[TopicDescription, ...]:
    """The topics that pipelines read.

    Raises:
        SourceLost: a topic is not there.
        TransientError: the brokers do not answer.
    """
    return tuple(_description(pipeline, origin, folder, lake) for pipeline, origin in of_kafka(pipelines))


def _description(pipeline: Pipeline, origin: KafkaSource, folder: Path, lake: Lake) -> TopicDescription:
    cluster = Cluster(origin.cluster, folder)
    try:
        facts = cluster.topic(origin.topic)
        return TopicDescription(
            pipeline.name,
            origin.topic,
            facts.unique_id,
            facts.replication,
            tuple(settings_of(cluster, origin.topic).items()),
            lags(cluster, origin.topic, positions(lake, pipeline.name, facts.unique_id)),
        )
    finally:
        cluster.close()


def lag_of(pipeline: Pipeline, origin: KafkaSource, folder: Path, lake: Lake) -> tuple[PartitionLag, ...]:
    """How far the lake is behind the topic.

    Raises:
        SourceLost: there is no such topic.
        TransientError: the brokers do not answer.
    """
    cluster = Cluster(origin.cluster, folder)
    try:
        unique_id = cluster.topic(origin.topic).unique_id
        return lags(cluster, origin.topic, positions(lake, pipeline.name, unique_id))
    finally:
        cluster.close()


def with_lag(status: PipelineStatus, pipeline: Pipeline, folder: Path, lake: Lake) -> PipelineStatus:
    """A pipeline's status with what its topic says; a topic that does not answer is told of, and stops nothing."""
    origin = pipeline.source.origin
    if not isinstance(origin, KafkaSource):
        return status
    try:
        lag = lag_of(pipeline, origin, folder, lake)
    except PenstockError as error:
        return replace(status, source_error=error.message)
    return replace(status, lag=lag, waiting=sum(one.records for one in lag))


def lags(cluster: Cluster, topic: str, position: dict[int, int]) -> tuple[PartitionLag, ...]:
    """The partitions of a topic beside a position in it."""
    reached = reach(cluster, topic)
    behind = {
        one.partition: max(one.earliest, position.get(one.partition, 0))
        for one in reached
        if max(one.earliest, position.get(one.partition, 0)) < one.latest
    }
    times = times_at(cluster, topic, behind)
    now = time.time()
    return tuple(
        PartitionLag(
            one.partition,
            one.earliest,
            one.latest,
            position.get(one.partition),
            max(0, one.latest - max(one.earliest, position.get(one.partition, 0))),
            max(0.0, now - times[one.partition] / 1_000) if one.partition in times else None,
        )
        for one in reached
    )


def last_incarnation(lake: Lake, pipeline: str) -> Incarnation | None:
    """The incarnation that a pipeline reads, where it ever ran."""
    table = lake.table(table_name(Kind.CONTRACTS, pipeline))
    if table is None:
        return None
    table.refresh()
    known = Contracts(table).incarnations()
    return known[-1] if known else None


def positions(lake: Lake, pipeline: str, unique_id: str) -> dict[int, int]:
    """Partition -> the next offset that the lake needs of the topic with this id; empty where it has none of it."""
    last = last_incarnation(lake, pipeline)
    if last is None or last.identity.unique_id != unique_id:
        return {}
    bronze = lake.table(table_name(Kind.BRONZE, pipeline))
    found = dict(last.starts)
    if bronze is not None:
        bronze.refresh()
        prefix = offset_txn(pipeline, last.number, 0)[:-1]
        found |= {
            int(name[len(prefix) :]): value
            for name, value in bronze.txns().items()
            if name.startswith(prefix) and name[len(prefix) :].isdigit()
        }
    return found
