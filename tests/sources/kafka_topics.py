"""Topics on a real broker for the tests: made with random names, filled, cut short, made anew."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import confluent_kafka
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from penstock.model.kafka import KafkaCluster, KafkaSource
from penstock.sources.kafka import TopicSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Topic:
    """A topic with a random name, made here; or the one called `name`, which is there."""

    def __init__(self, address: str, partitions: int = 3, name: str = "", **config: str) -> None:
        self.address = address
        self.name = name or f"t-{uuid.uuid4().hex[:12]}"
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        self.producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 5, "log_level": 0})
        if not name:
            self.make(partitions, **config)

    def make(self, partitions: int = 3, **config: str) -> None:
        settings = {name.replace("_", "."): value for name, value in config.items()}
        made = self.admin.create_topics([NewTopic(self.name, partitions, 1, config=settings)])
        made[self.name].result(30)

    def delete(self) -> None:
        self.admin.delete_topics([self.name])[self.name].result(30)

    def grow(self, partitions: int) -> None:
        asked = self.admin.create_partitions([confluent_kafka.admin.NewPartitions(self.name, partitions)])
        asked[self.name].result(30)

    def truncate(self, below: Mapping[int, int]) -> None:
        """Delete the records below an offset, as retention does."""
        places = [confluent_kafka.TopicPartition(self.name, number, offset) for number, offset in below.items()]
        for future in self.admin.delete_records(places).values():
            future.result(30)

    def configure(self, **config: str) -> None:
        settings = {name.replace("_", "."): value for name, value in config.items()}
        resource = ConfigResource(ResourceType.TOPIC, self.name, set_config=settings)
        self.admin.alter_configs([resource])[resource].result(30)

    def send(self, values: Iterable[bytes | None], partition: int = 0, **more: Any) -> None:
        for value in values:
            self.producer.produce(self.name, value, partition=partition, **more)
        assert self.producer.flush(30) == 0

    def transactions(self, groups: Sequence[tuple[Sequence[bytes], bool]], partition: int = 0) -> None:
        """Send each group of values in a transaction of its own, committed (True) or aborted."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.address, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(30)
        for values, is_committed in groups:
            producer.begin_transaction()
            for value in values:
                producer.produce(self.name, value, partition=partition)
            producer.flush(30)
            if is_committed:
                producer.commit_transaction(30)
            else:
                producer.abort_transaction(30)

    @property
    def declared(self) -> KafkaSource:
        return KafkaSource(self.name, KafkaCluster(self.address))

    def open(self, incarnation: int = 1, **more: Any) -> TopicSource:
        return open_topic(self.address, self.name, incarnation, **more)


def open_topic(address: str, name: str, incarnation: int = 1, **more: Any) -> TopicSource:
    origin = KafkaSource(name, KafkaCluster(address))
    return TopicSource(origin, pipeline="ticks", incarnation=incarnation, folder=Path(), **more)
