"""Reads a topic ahead of the plans made from it: a thread that keeps a bounded buffer of Arrow per partition.

A consumer is assigned once, at the offsets where the buffers end, and never again: moving one that has records on their
way has lost records before. Whenever other partitions or offsets are wanted, a new consumer takes over. When the buffer
is full of partitions that are ahead while another has nothing, the new one reads only those that are behind.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock import limits
from penstock.sources.kafka_client import from_offset
from penstock.sources.kafka_records import oldest, records_of, runs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from penstock.sources.contract import Clock
    from penstock.sources.kafka_client import Cluster


VIEW_TIMES_MAX = 4
"""How much more memory than its own a piece may hold as a view of the step that it came with; others are copied."""


@dataclass(frozen=True)
class Piece:
    """Records of one partition in order, with the bytes of each. `age` is what pieces are taken in the order of."""

    table: pa.Table
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    age: int
    bytes: int

    @property
    def rows(self) -> int:
        return len(self.offsets)

    def slice(self, start: int, end: int) -> Piece:
        """The records from row `start` to row `end`."""
        sizes = self.sizes[start:end]
        part = self.table.slice(start, end - start)
        return Piece(part, self.offsets[start:end], sizes, self.age, int(sizes.sum()))


@dataclass
class Buffer:
    """What was read of a partition and not taken yet.

    `head` is the offset from which on records are here, `next` the offset to read next, `end` the one up to which there
    was something to read when that was looked at last (None: not looked at yet). `out_of_range`: the brokers do not
    have `next`.
    """

    head: int
    next: int
    end: int | None = None
    pieces: deque[Piece] = field(default_factory=deque)
    bytes: int = 0
    out_of_range: bool = False

    @property
    def at_end(self) -> bool:
        return self.out_of_range or (self.end is not None and self.next >= self.end)

    @property
    def is_unheard(self) -> bool:
        """Nothing was heard of it yet."""
        return self.end is None and not self.pieces and not self.out_of_range

    @property
    def is_starving(self) -> bool:
        return not self.pieces and not self.at_end


class Ahead:
    """A running reader of `topic` from `starts` (partition -> offset). Buffers are read under `changed`, which is
    notified whenever one of them has changed; `heard` is when, by the monotonic clock. `close` ends it."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        starts: Mapping[int, int],
        *,
        record_bytes_max: int,
        clock: Clock,
        bytes_max: int = limits.KAFKA_AHEAD_BYTES,
    ) -> None:
        self.buffers = {partition: Buffer(offset, offset) for partition, offset in sorted(starts.items())}
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self.heard = 0.0
        self._cluster = cluster
        self._topic = topic
        self._record_bytes_max = record_bytes_max
        self._clock = clock
        self._bytes_max = bytes_max
        self._bytes = 0
        self._step = 100
        self._reading: set[int] = set()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=f"kafka {topic}", daemon=True)
        self._thread.start()

    # -- for the planner ----------------------------------------------------------------------------------------------

    def take(self, partition: int, rows: int, head: int) -> list[Piece]:
        """The first `rows` records of a partition, which then begins at `head`. Called under `changed`."""
        buffer = self.buffers[partition]
        taken: list[Piece] = []
        while rows > 0:
            piece = buffer.pieces.popleft()
            if piece.rows > rows:
                buffer.pieces.appendleft(piece.slice(rows, piece.rows))
                piece = piece.slice(0, rows)
            taken.append(piece)
            rows -= piece.rows
            buffer.bytes -= piece.bytes
            self._bytes -= piece.bytes
        buffer.head = head
        self.changed.notify_all()
        return taken

    def raise_failure(self) -> None:
        """Raise what ended the thread."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        with self.changed:
            self._stop = True
            self.changed.notify_all()
        self._thread.join()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        consumer: Any = None
        try:
            while not self._stop:
                wanted = self._wanted()
                if consumer is None or wanted != self._reading:
                    if consumer is not None:
                        consumer.close()
                    consumer = self._assigned(wanted)
                if self._is_full():
                    with self.changed:
                        if not self._stop and self._is_full() and self._wanted() == self._reading:
                            self.changed.wait(limits.KAFKA_STEP_WAIT_SECONDS)
                    continue
                messages = consumer.consume(self._step, 0) or consumer.consume(1, limits.KAFKA_STEP_WAIT_SECONDS)
                if messages:
                    self._keep(consumer, messages)
        except BaseException as failure:  # noqa: BLE001 - raised in the planner's thread
            self.failure = failure
            with self.changed:
                self.changed.notify_all()
        finally:
            if consumer is not None:
                consumer.close()

    def _is_full(self) -> bool:
        return self._bytes >= self._bytes_max

    def _wanted(self) -> set[int]:
        """The partitions to read: all, unless some are so far ahead that the others would not be heard."""
        everything = {number for number, buffer in self.buffers.items() if not buffer.out_of_range}
        share = self._bytes_max // max(1, len(everything))
        ahead = {number for number in everything if self.buffers[number].bytes >= share}
        if not self._is_full():
            resting = everything - self._reading
            if self._reading and resting and not any(self.buffers[one].bytes < share // 2 for one in resting):
                return self._reading & everything
            return everything
        starving = any(buffer.is_starving for buffer in self.buffers.values())
        return everything - ahead if starving else self._reading & everything or everything

    def _assigned(self, partitions: set[int]) -> Any:
        module = self._cluster.module
        consumer = self._cluster.consumer()
        consumer.assign(
            [module.TopicPartition(self._topic, number, self.buffers[number].next) for number in sorted(partitions)]
        )
        self._reading = partitions
        return consumer

    def _keep(self, consumer: Any, messages: list[Any]) -> None:
        """Sort messages into the buffers; errors among them say where a partition ends, or what is wrong."""
        message = self._cluster.module.Message
        errors = [one for one in messages if one.error() is not None]
        if errors:
            broken = next((one for one in errors if self._breaks(one)), None)
            if broken is not None:
                # Nothing of this step counts: what follows a failure in it might have left something out.
                place = f"{self._topic}/{broken.partition()}"
                raise self._cluster.failure(broken.error(), f"reading {place}{from_offset(broken)}")
            messages = [one for one in messages if one.error() is None]
        pieces = self._pieces(messages, message) if messages else []
        ends = self._ends(consumer, {partition for partition, _ in pieces})
        with self.changed:
            for partition, piece in pieces:
                buffer = self.buffers[partition]
                buffer.pieces.append(piece)
                buffer.next = int(piece.offsets[-1]) + 1
                buffer.bytes += piece.bytes
                self._bytes += piece.bytes
                buffer.end = max(buffer.end or 0, ends.get(partition, 0))
            for one in errors:
                self._heed(one)
            self.heard = time.monotonic()
            self.changed.notify_all()

    def _pieces(self, messages: list[Any], message: Any) -> list[tuple[int, Piece]]:
        table, sizes = records_of(messages, message, self._record_bytes_max)
        total = int(sizes.sum())
        by_bytes = limits.KAFKA_STEP_BYTES * len(messages) // max(1, total)
        self._step = max(1, min(limits.KAFKA_MESSAGES_PER_STEP, by_bytes, 4 * self._step))
        offsets, arrived = table["offset"].to_numpy(), self._clock()
        found = []
        reached: dict[int, int] = {}
        for partition, start, end in runs_of(table):
            expected = reached.get(partition, self.buffers[partition].next)
            start += int(np.searchsorted(offsets[start:end], expected))
            if start == end:
                continue
            reached[partition] = int(offsets[end - 1]) + 1
            part, places, lengths = table.slice(start, end - start), offsets[start:end], sizes[start:end]
            size = int(lengths.sum())
            if size * VIEW_TIMES_MAX < total:
                part, places, lengths = part.take(pa.array(np.arange(end - start))), places.copy(), lengths.copy()
            found.append((partition, Piece(part, places, lengths, oldest(part, arrived), size)))
        return found

    def _ends(self, consumer: Any, partitions: set[int]) -> dict[int, int]:
        """Where the partitions end, as the last answers said."""
        place = self._cluster.module.TopicPartition
        found = {}
        for number in partitions:
            known = consumer.get_watermark_offsets(place(self._topic, number), cached=True)
            if known is not None:
                found[number] = known[1]
        return found

    def _breaks(self, told: Any) -> bool:
        """Whether an error is about a partition and not understood: records may be missing from what comes next."""
        kafka = self._cluster.module.KafkaError
        known = (kafka._PARTITION_EOF, kafka._AUTO_OFFSET_RESET, kafka.OFFSET_OUT_OF_RANGE)
        return told.partition() in self.buffers and told.error().code() not in known

    def _heed(self, told: Any) -> None:
        buffer = self.buffers.get(told.partition())
        if buffer is None:
            self._cluster.note(told.error())
        elif told.error().code() == self._cluster.module.KafkaError._PARTITION_EOF:
            # What lies between the last record and here is no record: marks of transactions, or compacted away.
            buffer.next = max(buffer.next, told.offset())
            buffer.end = buffer.next
        else:
            buffer.out_of_range = True
