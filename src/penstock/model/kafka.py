"""A Kafka topic as a declaration names it: where it is, how to be let in, and how it is made.

What only says how to reach the topic is no part of what a declaration means: it may change at any time, and two
declarations that differ in nothing else are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Secret:
    """A text that is never shown, or the path of a file that holds it, relative to the project folder."""

    value: str = field(default="", repr=False)
    file: str = ""


@dataclass(frozen=True)
class KafkaSecurity:
    """How a client proves who it is, and whom it believes. Paths are relative to the project folder."""

    protocol: str = "plaintext"
    mechanism: str | None = None
    username: str | None = None
    password: Secret | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: Secret | None = None


@dataclass(frozen=True)
class KafkaCluster:
    """How to reach the brokers. `options` are further settings of librdkafka, by name."""

    brokers: str
    security: KafkaSecurity = KafkaSecurity()
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class TopicShape:
    """How `penstock topics create` makes a topic; None leaves it to the broker. `retention` is in
    microseconds."""

    partitions: int | None = None
    replication: int | None = None
    retention: int | None = None
    compaction: bool = False


@dataclass(frozen=True)
class RejectsTopic:
    """The topic that rejects are sent to."""

    topic: str
    cluster: KafkaCluster


@dataclass(frozen=True)
class KafkaSource:
    """A Kafka topic. `group` is the name that lag tools see; None for `penstock.<pipeline>`."""

    topic: str
    cluster: KafkaCluster = field(compare=False)
    group: str | None = field(default=None, compare=False)
    shape: TopicShape = field(default=TopicShape(), compare=False)
    kind: str = "kafka"
