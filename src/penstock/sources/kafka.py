"""A Kafka topic as a source: read by position, never as a member of a group.

`plan` takes from what `kafka_ahead.py` has read already, the oldest first across the partitions, and cuts exactly by
records and bytes; `read` of what was just planned is served from memory, any other range by a consumer of its own.
With `read_ahead=False` (a driver whose workers read) it plans by offsets alone.

Offsets are sparse: marks of transactions, aborted records and compaction leave gaps. A range ends where the reader
stands, so that the ranges of a partition follow each other without a gap; where one begins above the end of the last,
records were lost, and the lake says so by that.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock import limits
from penstock.errors import SourceLost, TransientError
from penstock.model.position import Range, SourceIdentity
from penstock.sources.contract import RECORD_SCHEMA, Backlog, wall_clock
from penstock.sources.kafka_ahead import Ahead
from penstock.sources.kafka_client import EARLIEST, LATEST, Cluster
from penstock.sources.kafka_offsets import Allotment, GroupOffsets
from penstock.sources.kafka_ranges import read_pieces
from penstock.sources.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from penstock.model.kafka import KafkaSource
    from penstock.model.position import Position
    from penstock.sources.contract import Bounds, Clock
    from penstock.sources.kafka_ahead import Buffer, Piece
    from penstock.sources.kafka_client import TopicFacts

TROUBLED_SECONDS = 1.0
"""How long a request waits once the brokers are known to be away: a stop is not held up longer."""


class TopicSource:
    """Reads the topic of `origin` as incarnation `incarnation`. See `Source` for the contract.

    `unique_id` is the id that the topic must have, where that is known: a worker's, from its driver.

    Raises:
        SourceLost: there is no such topic, or it is another one than `unique_id`.
        TransientError: the brokers do not answer.
        UsageError: the Kafka client is not installed or does not take its settings, or the brokers refuse them.
    """

    divisible = True

    def __init__(
        self,
        origin: KafkaSource,
        *,
        pipeline: str,
        incarnation: int,
        folder: Path,
        on_data_loss: str = "stop",
        read_ahead: bool = True,
        unique_id: str | None = None,
        record_bytes_max: int = limits.RECORD_BYTES_MAX,
        clock: Clock = wall_clock,
    ) -> None:
        self._topic = origin.topic
        self._incarnation = incarnation
        self._records_loss = on_data_loss == "record"
        self._reads_ahead = read_ahead
        self._record_bytes_max = record_bytes_max
        self._clock = clock
        self._cluster = Cluster(origin.cluster, folder)
        self._notices = Notices()
        self._group = GroupOffsets(self._cluster, origin.topic, origin.group or f"penstock.{pipeline}")
        with ExitStack() as on_failure:
            on_failure.callback(self._cluster.close)
            facts = self._cluster.topic(origin.topic)
            self.identity = SourceIdentity("kafka", origin.topic, unique_id or facts.unique_id)
            self._check_same(facts)
            on_failure.pop_all()
        self._partitions = facts.partitions
        self._looked = time.monotonic()
        self._ahead: Ahead | None = None
        self._first: dict[int, int] = {}
        self._jumped: dict[int, tuple[int, int]] = {}
        self._allotment = Allotment()
        self._lock = threading.Lock()
        self._planned: deque[dict[int, tuple[int, int, pa.Table]]] = deque()

    # -- planning -----------------------------------------------------------------------------------------------------

    def plan(self, position: Position, bounds: Bounds) -> tuple[Range, ...]:
        if not self._reads_ahead:
            return self._plan_by_offsets(position, bounds)
        try:
            ahead = self._reader_at(position)
            with ahead.changed:
                rows = self._wait_for(ahead, bounds)
            if rows or self._has_ends(ahead):
                if self._looked <= ahead.heard:
                    self._look()
                return self._take(ahead, position, rows)
        except TransientError:
            self._drop_failed()
            raise
        if self._cluster.is_troubled or time.monotonic() - self._looked > limits.KAFKA_REFRESH_SECONDS:
            self._look()
        return self._take(ahead, position, {})

    def _reader_at(self, position: Position) -> Ahead:
        """The reader, standing at the position; another one where this one does not."""
        ahead = self._ahead
        if ahead is not None:
            ahead.raise_failure()
            if set(ahead.buffers) == set(self._partitions) and not any(
                buffer.head != self._start(number, position) or (buffer.out_of_range and not buffer.pieces)
                for number, buffer in ahead.buffers.items()
            ):
                return ahead
            self._drop_reader()
        self._look()  # by its offsets alone a topic that was made anew looks like one that lost records
        starts = self._starts(position)
        self._ahead = Ahead(
            self._cluster,
            self._topic,
            starts,
            record_bytes_max=self._record_bytes_max,
            clock=self._clock,
        )
        return self._ahead

    def _start(self, partition: int, position: Position) -> int:
        """Where reading a partition begins: at the position, unless what lies there is known to be lost."""
        at = position.get(partition, self._first.get(partition, 0) if not position else 0)
        lost = self._jumped.get(partition)
        return lost[1] if lost is not None and lost[0] <= at < lost[1] else at

    def _starts(self, position: Position) -> dict[int, int]:
        """Where reading every partition begins.

        A topic that is read for the first time begins with what it still has; what is gone later was lost.
        """
        earliest = self._cluster.offsets(self._topic, self._partitions, EARLIEST)
        latest = self._cluster.offsets(self._topic, self._partitions, LATEST)
        if not position:
            self._first = earliest
        starts = {number: self._start(number, position) for number in self._partitions}
        self._check_there(starts, earliest, latest)
        return {number: self._start(number, position) for number in self._partitions}

    def _check_there(self, starts: Position, earliest: Position, latest: Position) -> None:
        """Stop, or where that was asked for note, that records from `starts` on are not there."""
        beyond = [
            f"{number}/{latest[number]}..{start}"
            for number, start in starts.items()
            if start > latest.get(number, start)
        ]
        if beyond:
            raise SourceLost(
                f"the topic {self._topic} ends before the lake does: its records {', '.join(beyond)} are in the lake, "
                f"and the topic has given, or will give, their offsets to others",
                hint="Go on with what the topic has now, as another incarnation: "
                "`penstock offsets reset --to latest` (or a time).",
            )
        gone = {
            number: (start, earliest[number]) for number, start in starts.items() if start < earliest.get(number, 0)
        }
        if not gone:
            return
        shown = ", ".join(f"{number}/{start}..{end}" for number, (start, end) in sorted(gone.items()))
        message = f"records {shown} were deleted from the topic {self._topic}"
        if not self._records_loss:
            raise SourceLost(
                f"{message} before the lake had them",
                hint="Set `on_data_loss: record` to go on after them; the lake then says what is missing.",
            )
        self._jumped |= gone
        self._notices.add(f"Lost: {message}; the pipeline goes on after them.")

    def _wait_for(self, ahead: Ahead, bounds: Bounds) -> dict[int, int]:
        """How many records of each partition the plan takes; waits a little for a full one while more is coming."""
        began = time.monotonic()
        while True:
            ahead.raise_failure()
            waited = time.monotonic() - began
            unheard = any(buffer.is_unheard for buffer in ahead.buffers.values())
            late = waited >= (limits.KAFKA_SILENCE_SECONDS if unheard else limits.KAFKA_FILL_SECONDS)
            rows, is_full = _choose(ahead.buffers, bounds, whatever=late)
            if is_full or (late and rows) or all(buffer.at_end for buffer in ahead.buffers.values()):
                return rows
            if waited >= limits.KAFKA_SILENCE_SECONDS or (not rows and self._cluster.is_troubled):
                return rows
            ahead.changed.wait(limits.KAFKA_FILL_SECONDS)

    def _has_ends(self, ahead: Ahead) -> bool:
        """Whether there are offsets without records to step over."""
        return any(not one.pieces and one.next > one.head for one in ahead.buffers.values())

    def _take(self, ahead: Ahead, position: Position, rows: Mapping[int, int]) -> tuple[Range, ...]:
        """Take the chosen records out of the buffers, as ranges that `read` finds in memory."""
        ranges: list[Range] = []
        tables: dict[int, tuple[int, int, pa.Table]] = {}
        with ahead.changed:
            for partition, buffer in ahead.buffers.items():
                start = buffer.head
                end = _end_of(buffer, rows.get(partition, 0))
                if end > start:
                    taken = ahead.take(partition, rows.get(partition, 0), end)
                    table = pa.concat_tables([RECORD_SCHEMA.empty_table(), *(piece.table for piece in taken)])
                    tables[partition] = start, end, table
                    ranges.append(Range(self._incarnation, partition, start, end))
        if not position and ranges:
            # A partition that still had nothing is known to begin here: what is deleted from now on was lost.
            named = {span.partition for span in ranges}
            begins = {number: first for number, first in self._first.items() if first and number not in named}
            ranges += [Range(self._incarnation, number, first - 1, first) for number, first in begins.items()]
            tables |= {number: (first - 1, first, RECORD_SCHEMA.empty_table()) for number, first in begins.items()}
        if tables:
            with self._lock:
                self._planned.append(tables)
                while len(self._planned) > limits.FILE_PLANS_CACHED_MAX:
                    self._planned.popleft()
        return tuple(sorted(ranges))

    def _plan_by_offsets(self, position: Position, bounds: Bounds) -> tuple[Range, ...]:
        """Ranges that hold about as much as the bounds say; nothing is read."""
        self._look()
        starts = self._starts(position)
        latest = self._cluster.offsets(self._topic, self._partitions, LATEST)
        waiting = {number: max(0, latest[number] - start) for number, start in starts.items()}
        shares = self._allotment.shares(waiting, bounds)
        ranges = [
            Range(self._incarnation, number, starts[number], starts[number] + share)
            for number, share in sorted(shares.items())
            if share
        ]
        if not position and ranges:
            named = {span.partition for span in ranges}
            ranges += [
                Range(self._incarnation, number, first - 1, first)
                for number, first in self._first.items()
                if first and number not in named
            ]
        return tuple(sorted(ranges))

    def held(self, records: int, size: int, offsets: int) -> None:
        """What ranges of so many offsets turned out to hold; the next plans by offsets go by it."""
        self._allotment.held(records, size, offsets)

    # -- what the topic is now ----------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask again which topic this is: what was read before the answer came is of the topic that we know."""
        asked = time.monotonic()
        seconds = TROUBLED_SECONDS if self._cluster.is_troubled else limits.KAFKA_REQUEST_SECONDS
        facts = self._cluster.topic(self._topic, seconds)
        self._check_same(facts)
        self._partitions = facts.partitions
        self._looked = asked

    def _check_same(self, facts: TopicFacts) -> None:
        if facts.unique_id != self.identity.unique_id:
            raise SourceLost(
                f"the topic {self._topic} had the id {self.identity.unique_id}, but now has the id {facts.unique_id}: "
                f"it was made anew, so what it still held is gone",
                hint="Accept the new one with `penstock run --new-incarnation`.",
            )

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, ranges: Sequence[Range]) -> pa.Table:
        tables: list[pa.Table] = []
        missing: list[Range] = []
        for span in ranges:
            planned = self._from_memory(span)
            if planned is None:
                missing.append(span)
            else:
                tables.append(planned)
        tables += self.read_pieces(missing)
        table = pa.concat_tables([RECORD_SCHEMA.empty_table(), *tables])
        if missing or len({span.partition for span in ranges}) < len(ranges):
            table = table.sort_by([("partition", "ascending"), ("offset", "ascending")])
        return table

    def read_pieces(
        self, ranges: Sequence[Range], *, rows: int = 100_000, size: int = 32 * limits.MIB
    ) -> Iterator[pa.Table]:
        if not ranges:
            return
        yield from read_pieces(
            self._cluster,
            self._topic,
            ranges,
            rows=rows,
            size=size,
            record_bytes_max=self._record_bytes_max,
        )
        self._look()

    def _from_memory(self, span: Range) -> pa.Table | None:
        with self._lock:
            planned = [tables[span.partition] for tables in self._planned if span.partition in tables]
        for start, end, table in planned:
            if start <= span.start and span.end <= end:
                offsets = table["offset"].to_numpy()
                first, last = np.searchsorted(offsets, [span.start, span.end]).tolist()
                return table.slice(first, last - first)
        return None

    # -- restart ------------------------------------------------------------------------------------------------------

    def fingerprint(self, position: Position) -> Mapping[int, int]:  # noqa: ARG002 - the topic's id says it all
        return {}

    def resume(self, position: Position, fingerprints: Mapping[int, int]) -> None:  # noqa: ARG002
        if position:
            self._starts(position)

    def forget(self, position: Position) -> None:
        with self._lock:
            while self._planned and all(
                end <= position.get(number, 0) for number, (_, end, _) in self._planned[0].items()
            ):
                self._planned.popleft()
        self._group.commit(position)

    # -- what is ahead ------------------------------------------------------------------------------------------------

    def backlog(self, position: Position) -> Backlog:
        ahead = self._ahead
        if ahead is not None:
            with ahead.changed:
                ends = {number: max(one.end or 0, one.next) for number, one in ahead.buffers.items()}
        else:
            with suppress(TransientError):
                ends = self._cluster.offsets(self._topic, self._partitions, LATEST)
                if not position:
                    self._first = self._cluster.offsets(self._topic, self._partitions, EARLIEST)
                return self._amount(position, ends)
            return Backlog(None, None)
        return self._amount(position, ends)

    def _amount(self, position: Position, ends: Mapping[int, int]) -> Backlog:
        records = sum(max(0, end - self._start(number, position)) for number, end in ends.items())
        return Backlog(records, self._allotment.bytes_of(records))

    def wait(self, position: Position, seconds: float) -> bool:
        self._group.flush()
        ahead = self._ahead
        if ahead is None or any(one.head != self._start(number, position) for number, one in ahead.buffers.items()):
            if not self.exhausted(position):
                return True
            time.sleep(seconds)
            return False
        deadline = time.monotonic() + seconds
        with ahead.changed:
            while True:
                if ahead.failure is not None or self._has_ends(ahead):
                    return True
                if any(one.pieces or one.out_of_range for one in ahead.buffers.values()):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                ahead.changed.wait(left)

    def exhausted(self, position: Position) -> bool:
        if not position and not self._first:
            self._first = self._cluster.offsets(self._topic, self._partitions, EARLIEST)
        self._look()
        latest = self._cluster.offsets(self._topic, self._partitions, LATEST)
        return all(self._start(number, position) >= end for number, end in latest.items())

    def notices(self) -> tuple[str, ...]:
        return self._notices.take()

    def close(self) -> None:
        self._drop_reader()
        self._group.close()
        self._cluster.close()
        with self._lock:
            self._planned.clear()

    def _drop_reader(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _drop_failed(self) -> None:
        if self._ahead is not None and self._ahead.failure is not None:
            self._drop_reader()


def _choose(buffers: Mapping[int, Buffer], bounds: Bounds, *, whatever: bool) -> tuple[dict[int, int], bool]:
    """Records of each partition to take, the oldest pieces first, and whether they fill the bounds.

    Ends where a partition has run out whose next records are still coming, as they may be older than the rest; with
    `whatever` it goes on without them.
    """
    if not whatever and any(buffer.is_starving for buffer in buffers.values()):
        return {}, False
    heads = [(buffer.pieces[0].age, number, 0) for number, buffer in buffers.items() if buffer.pieces]
    heapq.heapify(heads)
    rows: dict[int, int] = {}
    taken, size = 0, 0
    while heads:
        _, number, index = heapq.heappop(heads)
        buffer = buffers[number]
        piece = buffer.pieces[index]
        if taken + piece.rows > bounds.rows or size + piece.bytes > bounds.bytes:
            fitting = _fitting(piece, bounds.rows - taken, bounds.bytes - size, at_least=0 if taken else 1)
            if fitting:
                rows[number] = rows.get(number, 0) + fitting
            return rows, True
        rows[number] = rows.get(number, 0) + piece.rows
        taken, size = taken + piece.rows, size + piece.bytes
        if index + 1 < len(buffer.pieces):
            heapq.heappush(heads, (buffer.pieces[index + 1].age, number, index + 1))
        elif not buffer.at_end and not whatever:
            return rows, False
    return rows, taken >= bounds.rows


def _fitting(piece: Piece, rows: int, size: int, *, at_least: int) -> int:
    """How many records of the piece fit."""
    by_bytes = int(np.searchsorted(np.cumsum(piece.sizes), size, side="right"))
    return max(at_least, min(by_bytes, rows, piece.rows))


def _end_of(buffer: Buffer, rows: int) -> int:
    """The offset after the first `rows` records; where they are all there are, the one at which the reader stands."""
    for piece in buffer.pieces:
        if piece.rows > rows:
            return int(piece.offsets[rows - 1]) + 1 if rows else buffer.head
        rows -= piece.rows
        if not rows and piece is not buffer.pieces[-1]:
            return int(piece.offsets[-1]) + 1
    return buffer.next
