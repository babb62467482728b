"""Topics with the simulated market in them: made, filled as fast as the brokers take it, or at a rate.

Records are keyed by instrument, so that equal keys lie in one partition, and are sent as users send them: compressed,
acknowledged by all replicas, not doubled when they are sent again.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.bench import project
from penstock.errors import TransientError, UsageError
from penstock.model.kafka import KafkaCluster
from penstock.sources.kafka_client import Cluster
from penstock.sources.simulate import produce

if TYPE_CHECKING:
    import pyarrow as pa

PARTITIONS = 4
BROKERS_VARIABLE = "KAFKA_BROKERS"
REQUEST_SECONDS = 30.0
FLUSH_SECONDS_MAX = 120.0
QUEUE_WAIT_SECONDS = 0.05

PRODUCER = {
    "compression.type": "lz4",
    "acks": "all",
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
}


def brokers(given: str | None) -> str:
    """The brokers to measure with.

    Raises:
        UsageError: none are named.
    """
    found = given or os.environ.get(BROKERS_VARIABLE, "")
    if not found:
        raise UsageError(
            "the workload `kafka` needs a Kafka broker",
            hint=f"`make kafka-up` starts one and prints its {BROKERS_VARIABLE}; or give --brokers HOST:PORT.",
        )
    return found


class Topic:
    """A new topic of PARTITIONS partitions, deleted in the end.

    Raises:
        UsageError: the Kafka client is not installed, or the broker refuses.
        TransientError: the broker does not answer.
    """

    def __init__(self, servers: str) -> None:
        self.brokers = servers
        self.name = f"penstock-bench-{uuid.uuid4().hex[:12]}"
        self._cluster = Cluster(KafkaCluster(servers), Path())
        new = self._cluster.module.admin.NewTopic(self.name, PARTITIONS, 1)
        self._asked(self._cluster.admin.create_topics([new]), "making")

    def fill(self, events: int, first: int = 0) -> project.Planted:
        """Put records [first, first + events) of the world in; what was planted in them."""
        planted = project.Planted()
        with self.producer() as producer:
            for sent in project.ticks(events, first=first):
                producer.send(sent.block)
                planted.add(sent)
        return planted

    def producer(self) -> Producer:
        return Producer(self._cluster, self.name)

    def __enter__(self) -> Topic:
        return self

    def __exit__(self, *_: object) -> None:
        self._asked(self._cluster.admin.delete_topics([self.name]), "deleting")
        self._cluster.close()

    def _asked(self, answers: dict[str, Any], doing: str) -> None:
        try:
            self._cluster.answer(answers[self.name], REQUEST_SECONDS)
        except self._cluster.module.KafkaException as error:
            raise self._cluster.failure(error, f"{doing} the topic {self.name}") from None


class Producer:
    """Sends records to a topic. At the end of the context the brokers have all of them.

    Raises:
        TransientError: they have not.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._topic = topic
        self._producer = cluster.producer(PRODUCER)
        self._sent = 0
        self._acknowledged = 0

    def send(self, block: pa.Table) -> None:
        """Hand over records; waits where the queue is full. Their Kafka timestamp is now."""
        produce_one, acknowledge = self._producer.produce, self._acknowledge
        for key, value in zip(block["key"].to_pylist(), block["value"].to_pylist(), strict=True):
            while True:
                try:
                    produce_one(self._topic, value, key, on_delivery=acknowledge)
                    break
                except BufferError:
                    self._producer.poll(QUEUE_WAIT_SECONDS)
        self._sent += block.num_rows
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the brokers have what was sent."""
        self._producer.flush(FLUSH_SECONDS_MAX)
        if self._acknowledged != self._sent:
            raise TransientError(f"{self._sent} records were sent, and {self._acknowledged} acknowledged")

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.flush()

    def _acknowledge(self, error: object, _: object) -> None:
        self._acknowledged += error is None


def stream(servers: str, topic: str, first: str, events: str, rate: str) -> dict[str, Any]:
    """Send records [first, first + events) to a topic, each when it is due at `rate` a second."""
    cluster = Cluster(KafkaCluster(servers), Path())
    began = time.time()
    with Producer(cluster, topic) as producer:
        world = project.market(int(rate))
        for sent in produce(world, rate=int(rate), events=int(events), first=int(first)):
            producer.send(sent.block)
    return {"began": began, "ended": time.time()}
