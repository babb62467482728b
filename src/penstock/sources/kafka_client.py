"""The way to a Kafka cluster: settings, connections, questions about topics and offsets, and errors in our words.

The Kafka client is an extra, and imported when it is needed. `kafka.py` is the source, `kafka_ahead.py` reads ahead,
`kafka_records.py` lays messages out as Arrow.
"""

from __future__ import annotations

import gc
import time
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock import limits
from penstock.errors import PenstockError, SourceLost, TransientError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import ModuleType

    from penstock.model.kafka import KafkaCluster, Secret

EARLIEST = "earliest"
LATEST = "latest"

ALONE_MILLISECONDS = 1_000
"""Between two attempts of the client to reach a broker, at most: it is the loop that waits longer."""


def kafka_module() -> ModuleType:
    """The Kafka client.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import confluent_kafka  # noqa: PLC0415 - an optional extra
        import confluent_kafka.admin  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"reading from Kafka needs the Kafka client, which cannot be imported: {error}",
            hint='Install it: pip install "penstock[kafka]"',
        ) from error
    module: ModuleType = confluent_kafka
    return module


@dataclass(frozen=True)
class TopicFacts:
    """A topic as its cluster describes it. `unique_id` is another one when the topic was made anew."""

    name: str
    unique_id: str
    partitions: tuple[int, ...]
    replication: int


class Cluster:
    """A cluster's brokers. Connections are made when they are needed; `close` gives them back.

    `folder` is the project's: paths of certificates and secrets are relative to it.
    """

    def __init__(self, declared: KafkaCluster, folder: Path) -> None:
        self.module = kafka_module()
        self._declared = declared
        self._folder = folder
        self._hidden: set[str] = set()
        self._settings = self._all_settings()
        self._said: tuple[int, str] | None = None
        self._admin: Any = None

    @property
    def brokers(self) -> str:
        return self._declared.brokers

    # -- settings -----------------------------------------------------------------------------------------------------

    def _all_settings(self) -> dict[str, Any]:
        security = self._declared.security
        given = {
            "bootstrap.servers": self._declared.brokers,
            "security.protocol": security.protocol,
            "sasl.mechanism": security.mechanism and security.mechanism.upper(),
            "sasl.username": security.username,
            "sasl.password": self._secret(security.password),
            "ssl.ca.location": self._path(security.ca),
            "ssl.certificate.location": self._path(security.certificate),
            "ssl.key.location": self._path(security.key),
            "ssl.key.password": self._secret(security.key_password),
            "client.id": "penstock",
            "log_level": 0,
            "reconnect.backoff.max.ms": ALONE_MILLISECONDS,
            "allow.auto.create.topics": False,
        }
        self._hidden.update(value for _, value in self._declared.options if len(value) > 3)
        return {name: value for name, value in given.items() if value is not None} | dict(self._declared.options)

    def _path(self, path: str | None) -> str | None:
        """Where the client finds a file, which it would not name if it did not."""
        if path is None:
            return None
        try:
            (self._folder / path).open("rb").close()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot read {path}: {error}", hint="Paths under `security` are relative to the project's folder."
            ) from error
        return str(self._folder / path)

    def _secret(self, secret: Secret | None) -> str | None:
        if secret is None:
            return None
        value = secret.value
        if secret.file:
            try:
                value = (self._folder / secret.file).read_text().rstrip("\r\n")
            except (OSError, ValueError) as error:
                raise UsageError(f"cannot read the secret in {secret.file}: {error}") from error
        self._hidden.add(value)
        return value

    def plain(self, text: str) -> str:
        """A message of the client without what must not be shown."""
        for hidden in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(hidden, "***") if hidden else text
        return text

    def _make(self, kind: Any, settings: Mapping[str, Any]) -> Any:
        try:
            return kind({**self._settings, **settings, "error_cb": self.note})
        except (self.module.KafkaException, ValueError, TypeError) as error:
            raise UsageError(
                f"the Kafka client does not take its settings: {self.plain(_text_of(error))}",
                hint="See `security` and `options` of the source.",
            ) from None

    # -- connections --------------------------------------------------------------------------------------------------

    def consumer(self, group: str = "penstock", settings: Mapping[str, Any] | None = None) -> Any:
        """A consumer of what it is assigned, committed records only; it never asks the group where to begin."""
        _collect_seldom()
        return self._make(
            self.module.Consumer,
            {
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "check.crcs": True,
                "fetch.queue.backoff.ms": 2,
                "fetch.wait.max.ms": int(limits.KAFKA_FETCH_WAIT_SECONDS * 1_000),
                "fetch.error.backoff.ms": 100,
                "fetch.max.bytes": limits.KAFKA_FETCH_BYTES,
                "max.partition.fetch.bytes": limits.KAFKA_FETCH_BYTES // 4,
                "receive.message.max.bytes": limits.KAFKA_ANSWER_BYTES_MAX,
                "queued.max.messages.kbytes": limits.KAFKA_QUEUE_KIB,
                "queued.min.messages": 100_000,
            }
            | dict(self._declared.options)
            | dict(settings or {}),
        )

    def producer(self, settings: Mapping[str, Any]) -> Any:
        """A producer whose records are not doubled, and acknowledged when all replicas have them."""
        return self._make(self.module.Producer, {"enable.idempotence": True, **settings})

    @property
    def admin(self) -> Any:
        if self._admin is None:
            self._admin = self._make(self.module.admin.AdminClient, {})
        return self._admin

    def close(self) -> None:
        self._admin = None

    # -- questions ----------------------------------------------------------------------------------------------------

    def topic(self, name: str, seconds: float = limits.KAFKA_REQUEST_SECONDS) -> TopicFacts:
        """The topic as it is now.

        Raises:
            SourceLost: there is no such topic.
            TransientError: the brokers do not answer.
            UsageError: they refuse, or give topics no ids.
        """
        unknown = self.module.KafkaError.UNKNOWN_TOPIC_OR_PART
        deadline = time.monotonic() + limits.KAFKA_REQUEST_SECONDS
        while True:
            try:
                return self._describe(name, seconds)
            except self.module.KafkaException as error:
                # A broker that has just started may not know its topics yet.
                if error.args[0].code() != unknown:
                    raise self.failure(error, f"describing the topic {name}") from None
                if time.monotonic() > deadline:
                    raise SourceLost(
                        f"there is no topic {name} at {self.brokers}",
                        hint="`penstock topics create` makes it; a topic made anew is another source.",
                    ) from None
                time.sleep(limits.KAFKA_LOOK_SECONDS)

    def _describe(self, name: str, seconds: float) -> TopicFacts:
        asked = self.admin.describe_topics(self.module.TopicCollection([name]), request_timeout=seconds)
        found = self.answer(asked[name], seconds)
        unique = found.topic_id
        if not (unique.get_most_significant_bits() or unique.get_least_significant_bits()):
            raise UsageError(
                f"the brokers {self.brokers} give the topic {name} no id: made anew, it would look like the same",
                hint="Kafka 2.8 or later is needed, for topic ids.",
            )
        replicas = [len(one.replicas) for one in found.partitions]
        partitions = tuple(sorted(one.id for one in found.partitions))
        return TopicFacts(name, str(unique), partitions, min(replicas, default=0))

    def offsets(
        self,
        topic: str,
        partitions: Iterable[int],
        when: str | int,
        seconds: float = limits.KAFKA_REQUEST_SECONDS,
    ) -> dict[int, int]:
        """Per partition the first offset that is there (EARLIEST), the one after the last that may be read (LATEST), or
        that of the first record at or after a time in milliseconds (the latest where there is none).

        Raises:
            TransientError: the brokers do not answer.
        """
        admin = self.module.admin
        spec = {EARLIEST: admin.OffsetSpec.earliest, LATEST: admin.OffsetSpec.latest}
        wanted = spec[when]() if isinstance(when, str) else admin.OffsetSpec.for_timestamp(when)
        asked = {self.module.TopicPartition(topic, partition): wanted for partition in partitions}
        if not asked:
            return {}
        try:
            futures = self.admin.list_offsets(
                asked, isolation_level=self.module.IsolationLevel.READ_COMMITTED, request_timeout=seconds
            )
            found = {place.partition: self.answer(future, seconds).offset for place, future in futures.items()}
        except self.module.KafkaException as error:
            raise self.failure(error, f"asking for the offsets of {topic}") from None
        if any(offset < 0 for offset in found.values()):
            ends = self.offsets(topic, [one for one, offset in found.items() if offset < 0], LATEST, seconds)
            found |= ends
        return found

    def answer(self, future: Any, seconds: float) -> Any:
        """The result of a request.

        Raises:
            TransientError: it did not come in time.
            KafkaException: the brokers refuse.
        """
        try:
            result = future.result(timeout=seconds + 1.0)
        except FutureTimeout:
            raise self.away("no answer in time") from None
        if self._admin is not None:
            self._admin.poll(0)  # what it said before this answer is over
        self._said = None
        return result

    # -- errors -------------------------------------------------------------------------------------------------------

    def note(self, error: Any) -> None:
        """Keep what the client says of its connections, until a request is answered. That we are not let in says more
        than what follows from it: that all brokers are down."""
        if self._said is None or self._said[0] != self.module.KafkaError._AUTHENTICATION:
            self._said = error.code(), error.str()

    @property
    def is_troubled(self) -> bool:
        """The client has said that something is wrong with its connections, and no request was answered since."""
        return self._said is not None

    def failure(self, error: Any, doing: str) -> PenstockError:
        """A client's exception (or its KafkaError) as one of ours."""
        found = error.args[0] if isinstance(error, self.module.KafkaException) else error
        kafka = self.module.KafkaError
        refused = (
            kafka.TOPIC_AUTHORIZATION_FAILED,
            kafka.GROUP_AUTHORIZATION_FAILED,
            kafka.CLUSTER_AUTHORIZATION_FAILED,
            kafka.SASL_AUTHENTICATION_FAILED,
            kafka._AUTHENTICATION,
        )
        if found.code() in refused:
            return self._refusal(found.str(), doing)
        return self.away(f"{doing}: {found.str()}")

    def _refusal(self, text: str, doing: str) -> UsageError:
        return UsageError(
            f"the Kafka brokers {self.brokers} refuse {doing}: {self.plain(text)}",
            hint="See `security` of the source, and the permissions of its user.",
        )

    def away(self, text: str) -> PenstockError:
        """What to raise when the brokers do not answer: TransientError, unless they said that we are not let in."""
        if self._admin is not None:
            self._admin.poll(0)  # it says only then what is wrong with its connections
        code, said = self._said or (0, "")
        if code == self.module.KafkaError._AUTHENTICATION:
            return self._refusal(said, "the connection")
        more = f" ({self.plain(said)})" if said and said not in text else ""
        return TransientError(
            f"Kafka at {self.brokers}: {self.plain(text)}{more}",
            hint="Are the brokers running, and reachable from here?",
        )


def _collect_seldom() -> None:
    """Let Python's collector of cycles not be driven by messages, which make none: by its own threshold (700 objects)
    it went through the whole process several times a second, for a fifth of all CPU time.

    The process keeps the higher threshold. One that is higher or off is left alone.
    """
    youngest, *older = gc.get_threshold()
    if 0 < youngest < limits.KAFKA_COLLECT_OBJECTS:
        gc.set_threshold(limits.KAFKA_COLLECT_OBJECTS, *older)


def from_offset(message: Any) -> str:
    """Where an error that came as a message is, for a sentence; one about a whole partition has no offset."""
    offset = message.offset()
    return "" if offset is None or offset < 0 else f" from {offset}"


def _text_of(error: Exception) -> str:
    found = error.args[0] if error.args else error
    return found.str() if hasattr(found, "str") else str(found)
