"""Topics as an operator sees them: made, listed, and how far their partitions reach."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock import limits
from penstock.errors import UsageError
from penstock.sources.kafka_client import EARLIEST, LATEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.kafka import TopicShape
    from penstock.sources.kafka_client import Cluster

SHOWN_SETTINGS = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "compression.type")
"""Settings of a topic that a reader has to know."""


@dataclass(frozen=True)
class PartitionReach:
    """A partition: offsets [earliest, latest) are there; `latest` is the end of what may be read."""

    partition: int
    earliest: int
    latest: int


def reach(cluster: Cluster, topic: str) -> tuple[PartitionReach, ...]:
    """What a topic holds now.

    Raises:
        SourceLost: there is no such topic.
        TransientError: the brokers do not answer.
    """
    partitions = cluster.topic(topic).partitions
    earliest, latest = (cluster.offsets(topic, partitions, when) for when in (EARLIEST, LATEST))
    return tuple(PartitionReach(number, earliest[number], latest[number]) for number in partitions)


def topic_names(cluster: Cluster) -> set[str]:
    """The topics that there are.

    Raises:
        TransientError: the brokers do not answer.
    """
    try:
        return set(cluster.admin.list_topics(timeout=limits.KAFKA_REQUEST_SECONDS).topics)
    except cluster.module.KafkaException as error:
        raise cluster.failure(error, "listing topics") from None


def make_topic(cluster: Cluster, name: str, shape: TopicShape) -> bool:
    """Make a topic as declared; False where it is there already.

    Raises:
        UsageError: the brokers do not make it like that.
        TransientError: they do not answer.
    """
    kafka = cluster.module.KafkaError
    settings = {}
    if shape.retention is not None:
        settings["retention.ms"] = str(shape.retention // 1_000)
    if shape.compaction:
        settings["cleanup.policy"] = "compact" if shape.retention is None else "compact,delete"
    wanted = cluster.module.admin.NewTopic(name, shape.partitions or -1, shape.replication or -1, config=settings)
    seconds = limits.KAFKA_REQUEST_SECONDS
    try:
        cluster.answer(cluster.admin.create_topics([wanted], request_timeout=seconds)[name], seconds)
    except cluster.module.KafkaException as error:
        code = error.args[0].code()
        if code == kafka.TOPIC_ALREADY_EXISTS:
            return False
        if code in (kafka._TIMED_OUT, kafka._TRANSPORT, kafka.REQUEST_TIMED_OUT):
            raise cluster.failure(error, f"making the topic {name}") from None
        raise UsageError(
            f"the brokers do not make the topic {name}: {error.args[0].str()}", hint="Change its declaration."
        ) from None
    return True


def settings_of(cluster: Cluster, name: str) -> dict[str, str]:
    """SHOWN_SETTINGS of a topic; none where they are not shown to this user, who may read it all the same.

    Raises:
        TransientError: the brokers do not answer.
    """
    admin, seconds = cluster.module.admin, limits.KAFKA_REQUEST_SECONDS
    resource = admin.ConfigResource(admin.ResourceType.TOPIC, name)
    try:
        asked = cluster.admin.describe_configs([resource], request_timeout=seconds)
        found = cluster.answer(asked[resource], seconds)
    except cluster.module.KafkaException as error:
        if error.args[0].code() == cluster.module.KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return {}
        raise cluster.failure(error, f"describing the topic {name}") from None
    return {name: found[name].value for name in SHOWN_SETTINGS if name in found}


def times_at(cluster: Cluster, topic: str, places: Mapping[int, int]) -> dict[int, int]:
    """The times in milliseconds of the first records at or after the places (partition -> offset), where there are any
    and they are quick to come."""
    found: dict[int, int] = {}
    if not places:
        return found
    few = {"max.partition.fetch.bytes": limits.KAFKA_LOOK_BYTES, "queued.min.messages": 1}
    consumer = cluster.consumer(settings=few)
    try:
        consumer.assign([cluster.module.TopicPartition(topic, number, offset) for number, offset in places.items()])
        deadline = time.monotonic() + limits.KAFKA_SILENCE_SECONDS
        while len(found) < len(places) and time.monotonic() < deadline:
            for message in consumer.consume(100, limits.KAFKA_STEP_WAIT_SECONDS):
                if message.error() is None:
                    found.setdefault(message.partition(), message.timestamp()[1])
    finally:
        consumer.close()
    return {number: stamp for number, stamp in found.items() if stamp >= 0}
