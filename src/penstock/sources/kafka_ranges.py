"""Reads given ranges of a topic, each from its start to its end, in tables of a bounded size.

The end of a range is known from a record at or above it, from the record just below it, or from the brokers' word that
there is nothing more to read up to it; which of these comes first depends on what lies there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock import limits
from penstock.errors import SourceLost, TransientError
from penstock.sources.kafka_client import EARLIEST, LATEST, from_offset
from penstock.sources.kafka_records import records_of, runs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.model.position import Range
    from penstock.sources.kafka_client import Cluster


def read_pieces(
    cluster: Cluster, topic: str, ranges: Sequence[Range], *, rows: int, size: int, record_bytes_max: int
) -> Iterator[pa.Table]:
    """The records of the ranges; see `TopicSource.read_pieces`.

    Raises:
        SourceLost: the brokers no longer have a part of a range.
        TransientError: the brokers do not answer, or reading broke off.
    """
    turn: dict[int, list[Range]] = {}
    for span in sorted(ranges):
        turn.setdefault(span.partition, []).append(span)
    while turn:
        # The first range of each partition that is left, side by side: one consumer, one start per partition.
        spans = {number: waiting.pop(0) for number, waiting in turn.items()}
        turn = {number: waiting for number, waiting in turn.items() if waiting}
        yield from _Reading(cluster, topic, spans, rows, size, record_bytes_max).tables()


class _Reading:
    """One range of each partition, read by one consumer."""

    def __init__(
        self, cluster: Cluster, topic: str, spans: dict[int, Range], rows: int, size: int, record_bytes_max: int
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._spans = spans
        self._rows = rows
        self._size = size
        self._record_bytes_max = record_bytes_max
        self._next = {number: span.start for number, span in spans.items()}
        self._consumer = cluster.consumer()
        self._step = 100
        kafka = cluster.module.KafkaError
        self._end_code = kafka._PARTITION_EOF
        self._lost_codes = (kafka._AUTO_OFFSET_RESET, kafka.OFFSET_OUT_OF_RANGE)

    def tables(self) -> Iterator[pa.Table]:
        module = self._cluster.module
        consumer = self._consumer
        consumer.assign([module.TopicPartition(self._topic, number, at) for number, at in sorted(self._next.items())])
        held: list[pa.Table] = []
        rows, size = 0, 0
        heard = time.monotonic()
        try:
            while self._next:
                step = min(self._step, self._rows)
                messages = consumer.consume(step, 0) or consumer.consume(1, limits.KAFKA_STEP_WAIT_SECONDS)
                if not messages:
                    self._refuse_silence(heard)
                    continue
                heard = time.monotonic()
                for table, each in self._records(messages):
                    total = int(each.sum())
                    if held and (rows + table.num_rows > self._rows or size + total > self._size):
                        yield _in_order(held)
                        held, rows, size = [], 0, 0
                    held.append(table)
                    rows, size = rows + table.num_rows, size + total
            if held:
                yield _in_order(held)
        finally:
            consumer.close()

    def _refuse_silence(self, heard: float) -> None:
        if time.monotonic() - heard > limits.KAFKA_READ_SECONDS:
            waiting = ", ".join(f"{number}/{at}" for number, at in sorted(self._next.items()))
            raise self._cluster.away(f"no records of {self._topic} came from {waiting} on")

    def _records(self, messages: list[Any]) -> Iterator[tuple[pa.Table, Any]]:
        """The messages' records that the ranges hold, a table per run of one partition."""
        errors = [one for one in messages if one.error() is not None]
        broken = next((one for one in errors if self._breaks(one)), None)
        if broken is not None:
            # Nothing of this step counts: what follows a failure in it might have left something out.
            place = f"{self._topic}/{broken.partition()}"
            raise self._cluster.failure(broken.error(), f"reading {place}{from_offset(broken)}")
        sound = [one for one in messages if one.error() is None]
        if sound:
            table, sizes = records_of(sound, self._cluster.module.Message, self._record_bytes_max)
            by_bytes = limits.KAFKA_STEP_BYTES * len(sound) // max(1, int(sizes.sum()))
            self._step = max(1, min(limits.KAFKA_MESSAGES_PER_STEP, by_bytes, 4 * self._step))
            offsets = table["offset"].to_numpy()
            for number, start, end in runs_of(table):
                if number not in self._next:
                    continue
                span = self._spans[number]
                first, last = np.searchsorted(offsets[start:end], [self._next[number], span.end]).tolist()
                if first < last:
                    yield table.slice(start + first, last - first), sizes[start + first : start + last]
                self._reach(number, int(offsets[end - 1]) + 1)
        for one in errors:
            self._heed(one)

    def _reach(self, partition: int, offset: int) -> None:
        if offset >= self._spans[partition].end:
            del self._next[partition]
            # What the client has read behind the range is dropped there, instead of being laid out here.
            self._consumer.pause([self._cluster.module.TopicPartition(self._topic, partition)])
        else:
            self._next[partition] = max(offset, self._next[partition])

    def _breaks(self, told: Any) -> bool:
        """Whether an error is about a range and not understood: records of it may be missing from what comes next."""
        partition = told.partition()
        if partition not in self._next or told.error().code() in (self._end_code, *self._lost_codes):
            return False
        at = told.offset()  # None where it is about the whole partition
        return at is None or bool(at < self._spans[partition].end)

    def _heed(self, told: Any) -> None:
        partition = told.partition()
        if partition not in self._next:
            if partition not in self._spans:
                self._cluster.note(told.error())
        elif told.error().code() in self._lost_codes:
            self._lost(partition)
        else:
            # The partition's end, or damage behind the range: either way there is nothing more before it.
            self._reach(partition, told.offset())

    def _lost(self, partition: int) -> None:
        at, end = self._next[partition], self._spans[partition].end
        earliest = self._cluster.offsets(self._topic, [partition], EARLIEST)[partition]
        latest = self._cluster.offsets(self._topic, [partition], LATEST)[partition]
        if earliest <= at <= latest:
            raise TransientError(f"{self._topic}/{partition} was not to be read from {at} on", hint="Try again.")
        gone = f"{at}..{min(end, earliest)}" if at < earliest else f"{latest}..{end}"
        raise SourceLost(
            f"records {partition}/{gone} can no longer be read from the topic {self._topic}: it holds "
            f"{earliest}..{latest} now",
            hint="`penstock audit` shows what bronze holds.",
        )


def _in_order(tables: list[pa.Table]) -> pa.Table:
    """The tables as one, ordered by place. Each is one partition's, and those of a partition are in order."""
    return pa.concat_tables(sorted(tables, key=lambda table: table["partition"][0].as_py()))
