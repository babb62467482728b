"""Sends records to a topic, in order and not doubled, and learns the place that each of them got."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import limits
from penstock.errors import TransientError, UsageError
from penstock.sources.contract import wall_clock
from penstock.sources.kafka_client import LATEST
from penstock.sources.push_log import Appended

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from penstock.errors import PenstockError
    from penstock.sources.kafka_client import Cluster


OF_A_RECORD = (
    "MSG_SIZE_TOO_LARGE",
    "INVALID_MSG_SIZE",
    "INVALID_TIMESTAMP",
    "INVALID_RECORD",
    "_INVALID_DIFFERENT_RECORD",
)
"""Answers of the brokers, by the client's names, about what is in one record: without it the others may be taken."""

REFUSALS = (
    *OF_A_RECORD,
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    "POLICY_VIOLATION",
    "TOPIC_EXCEPTION",
    "_UNKNOWN_TOPIC",
    "UNKNOWN_TOPIC_OR_PART",
)
"""Answers that would be the same for the same record."""


class TopicProducer:
    """With `transactional` each call is one transaction: a reader sees all of it or nothing. `close` it.

    After `silence_seconds` in which nothing is acknowledged a call gives up.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        transactional: bool = False,
        silence_seconds: float = limits.KAFKA_READ_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._transactional = transactional
        self._silence_seconds = silence_seconds
        settings: dict[str, Any] = {"linger.ms": 20, "message.max.bytes": 2 * limits.RECORD_BYTES_MAX}
        if transactional:
            settings["transactional.id"] = f"penstock-{secrets.token_hex(8)}"
        self._failures: dict[int, Any] = {}
        self._reached: dict[int, int] = {}
        with ExitStack() as on_failure:
            on_failure.callback(cluster.close)
            cluster.topic(topic)
            self._producer = cluster.producer(settings)
            if transactional:
                with_failures(cluster, topic, lambda: self._producer.init_transactions(limits.KAFKA_READ_SECONDS))
            on_failure.pop_all()

    def close(self) -> None:
        """What was not sent is not sent any more; what was sent may be read when this returns."""
        if self._transactional:
            self._wait_until_readable()
        self._producer.purge()
        self._cluster.close()

    def send(self, block: pa.Table) -> Appended:
        """Send records (columns `value` and perhaps `key`, `headers`, `timestamp`); all are durable when it returns.

        Raises:
            TransientError: not all of them were acknowledged; those that were stay.
            UsageError: the brokers refuse them.
        """
        appended, refused = self._send(block)
        if refused:
            raise failure_of(self._cluster, self._topic, self._failures[refused[0]])
        return appended

    def send_acceptable(self, block: pa.Table) -> dict[int, str]:
        """Send records; the rows that the topic does not accept, with its answer, a name of OF_A_RECORD. All others are
        durable when it returns.

        Brokers refuse what came to them together: a row that is refused may be accepted with fewer others.

        Raises:
            TransientError, UsageError: as `send` does.
        """
        return {row: self._failures[row].name() for row in self._send(block)[1]}

    def _send(self, block: pa.Table) -> tuple[Appended, list[int]]:
        """The places of what was sent, and the rows that were refused for what is in them."""
        rows = block.num_rows
        partitions, offsets = np.full(rows, -1, np.int32), np.full(rows, -1, np.int64)
        failures = self._failures = {}

        def placed(row: int, error: Any, message: Any) -> None:
            if error is not None:
                failures[row] = error
            else:
                partitions[row], offsets[row] = message.partition(), message.offset()

        with_failures(self._cluster, self._topic, lambda: self._produce(block, placed))
        of_a_record = _codes(self._cluster, OF_A_RECORD)
        refused = sorted(row for row, error in failures.items() if error.code() in of_a_record)
        if len(refused) < len(failures):
            other = next(error for error in failures.values() if error.code() not in of_a_record)
            raise failure_of(self._cluster, self._topic, other)
        silent = int((partitions < 0).sum()) - len(refused)
        if silent:
            raise self._cluster.away(f"{silent} records sent to {self._topic} were not acknowledged")
        for number in np.unique(partitions[partitions >= 0]).tolist():
            self._reached[number] = int(offsets[partitions == number].max())
        return Appended(partitions, offsets, wall_clock()), refused

    def _wait_until_readable(self) -> None:
        """A transaction is committed when its coordinator says so; its marks reach the partitions a little later."""
        deadline = time.monotonic() + limits.KAFKA_REQUEST_SECONDS
        with suppress(TransientError):
            while self._reached and time.monotonic() < deadline:
                ends = self._cluster.offsets(self._topic, self._reached, LATEST)
                if all(ends[number] > offset for number, offset in self._reached.items()):
                    return
                time.sleep(limits.KAFKA_STEP_WAIT_SECONDS)

    def _produce(self, block: pa.Table, placed: Any) -> None:
        kafka = self._cluster.module
        if self._transactional:
            self._producer.begin_transaction()
        for row, (value, key, headers, stamp) in enumerate(_rows(block)):
            more = {} if stamp is None else {"timestamp": stamp}
            full_at = time.monotonic() + self._silence_seconds
            while True:
                try:
                    self._producer.produce(
                        self._topic, value, key, headers=headers, on_delivery=partial(placed, row), **more
                    )
                    break
                except BufferError:
                    if time.monotonic() > full_at:
                        return
                    self._producer.poll(limits.KAFKA_STEP_WAIT_SECONDS)
                except kafka.KafkaException as error:
                    # The client refuses by itself what is larger than any broker would be sent.
                    if self._transactional or error.args[0].code() != kafka.KafkaError.MSG_SIZE_TOO_LARGE:
                        raise
                    placed(row, error.args[0], None)
                    break
        self._flush()
        if self._transactional:
            self._producer.commit_transaction(limits.KAFKA_READ_SECONDS)

    def _flush(self) -> None:
        """Wait as long as records are acknowledged."""
        left = len(self._producer)
        while left:
            before, left = left, self._producer.flush(self._silence_seconds)
            if left == before:
                return


def with_failures(cluster: Cluster, topic: str, action: Any) -> None:
    """Call `action`, and raise what the client raises as one of our errors."""
    try:
        action()
    except cluster.module.KafkaException as error:
        raise failure_of(cluster, topic, error.args[0]) from None


def failure_of(cluster: Cluster, topic: str, error: Any) -> PenstockError:
    """Why a record was not sent, as one of our errors; the client says it when it is called or in its report."""
    if error.code() in _codes(cluster, REFUSALS):
        return UsageError(f"{topic} does not take a record: {cluster.plain(error.str())}")
    return cluster.failure(error, f"sending to {topic}")


def _codes(cluster: Cluster, names: Iterable[str]) -> set[int]:
    return {getattr(cluster.module.KafkaError, name) for name in names}


def _rows(block: pa.Table) -> Iterator[tuple[Any, Any, Any, int | None]]:
    """Value, key, headers and time (milliseconds) of each record, as a producer takes them."""

    def column(name: str) -> list[Any]:
        return block[name].to_pylist() if name in block.column_names else [None] * block.num_rows

    stamps = column("timestamp") if "timestamp" not in block.column_names else _milliseconds(block["timestamp"])
    for value, key, pairs, stamp in zip(column("value"), column("key"), column("headers"), stamps, strict=True):
        yield value, key, [(one["key"], one["value"]) for one in pairs] if pairs else None, stamp


def _milliseconds(stamps: pa.ChunkedArray) -> list[int | None]:
    return [None if stamp is None or stamp < 0 else stamp // 1_000 for stamp in stamps.cast("int64").to_pylist()]
