"""The push log as a source: planned by time of acknowledgement across partitions, trimmed once bronze has it."""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock import limits
from penstock.errors import SourceLost
from penstock.model.position import Range, SourceIdentity
from penstock.sources.contract import RECORD_SCHEMA, Backlog
from penstock.sources.notices import Notices
from penstock.sources.records import record_bytes, record_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.model.position import Position
    from penstock.sources.contract import Bounds
    from penstock.sources.push_log import BlockEntry, PartitionState, PushLog

ENTRIES_PER_LOOK = 1_024


class PushLogSource:
    """Reads `log` as incarnation `incarnation`. See `Source` for the contract."""

    divisible = True

    def __init__(self, log: PushLog, *, pipeline: str, incarnation: int, on_data_loss: str = "stop") -> None:
        self._log = log
        self._incarnation = incarnation
        self._records_loss = on_data_loss == "record"
        self._notices = Notices()
        self.identity = SourceIdentity("push", pipeline, log.unique_id)

    def plan(self, position: Position, bounds: Bounds) -> tuple[Range, ...]:
        spans: list[tuple[int, int, int]] = []
        rows, size = 0, 0
        for entry, start in self._waiting(position):
            if self._records_loss and not self._is_sound(entry):
                continue
            take = entry.end - start
            share = entry.bytes * take // entry.rows
            if rows + take > bounds.rows or size + share > bounds.bytes:
                if not spans:
                    spans.append((entry.partition, start, start + self._fitting(entry, start, bounds)))
                break
            spans.append((entry.partition, start, entry.end))
            rows, size = rows + take, size + share
        return tuple(Range(self._incarnation, *span) for span in _merged(spans))

    def _waiting(self, position: Position) -> Iterator[tuple[BlockEntry, int]]:
        """Rows of the log from the position on, oldest first, each with the offset to start at."""
        streams = []
        for state in self._log.partitions().values():
            start = position.get(state.partition, 0)
            if start < state.trimmed_below:
                self._lost(state.partition, start, state.trimmed_below, "trimmed")
                start = state.trimmed_below
            streams.append(self._entries(state, start))
        return heapq.merge(*streams, key=lambda item: (item[0].ingested_at, item[0].partition))

    def _entries(self, state: PartitionState, start: int) -> Iterator[tuple[BlockEntry, int]]:
        """Rows of a partition, each with the offset to start at. They follow each other, up to its next offset."""
        reached = start
        while entries := self._log.entries(state.partition, reached, count_max=ENTRIES_PER_LOOK):
            for entry in entries:
                if entry.first_offset > reached:
                    self._lost(state.partition, reached, entry.first_offset, "missing")
                yield entry, max(reached, entry.first_offset)
                reached = entry.end
        if reached < state.next_offset:
            self._lost(state.partition, reached, state.next_offset, "missing")

    def _lost(self, partition: int, start: int, end: int, reason: str) -> None:
        """Stop, or where that was asked for note, that acknowledged records are not there: `trimmed` or `missing`."""
        what = {"trimmed": "were trimmed from", "missing": "are missing in"}[reason]
        message = f"records {partition}/{start}..{end} {what} the push log {self._log.path}"
        if not self._records_loss:
            raise SourceLost(
                f"{message}, but bronze does not hold them",
                hint="Restore lake and push log from the same backup, or set `on_data_loss: record` to go on.",
            )
        if self._log.record_loss(partition, start, end, reason):
            self._notices.add(f"Lost: {message}; the pipeline goes on after them.")

    def _is_sound(self, entry: BlockEntry) -> bool:
        """True when the row can be read; otherwise its loss is noted."""
        try:
            self._log.records(entry)
        except SourceLost as lost:
            if self._log.record_loss(entry.partition, entry.first_offset, entry.end, "damaged"):
                self._notices.add(f"Lost: {lost.message}; the pipeline goes on after them.")
            return False
        return True

    def _fitting(self, entry: BlockEntry, start: int, bounds: Bounds) -> int:
        """How many records of the row from `start` on fit into the bounds; at least one."""
        sizes = record_bytes(self._log.records(entry))[start - entry.first_offset :]
        by_bytes = int(np.searchsorted(np.cumsum(sizes), bounds.bytes, side="right"))
        return max(1, min(by_bytes, bounds.rows, len(sizes)))

    def read(self, ranges: Sequence[Range]) -> pa.Table:
        trimmed = {state.partition: state.trimmed_below for state in self._log.partitions().values()}
        tables: list[pa.Table] = []
        for span in sorted(ranges, key=lambda span: (span.partition, span.start)):
            if span.start < trimmed.get(span.partition, 0):
                raise SourceLost(
                    f"records {span} are no longer in the push log {self._log.path}: trimmed below "
                    f"{trimmed[span.partition]}",
                    hint="Bronze held them when they were trimmed: read them there.",
                )
            tables += self._read_range(span)
        return pa.concat_tables(tables or [RECORD_SCHEMA.empty_table()])

    def _read_range(self, span: Range) -> Iterator[pa.Table]:
        reached = span.start
        while reached < span.end:
            entries = self._log.entries(span.partition, reached, span.end, count_max=ENTRIES_PER_LOOK)
            if not entries or entries[0].first_offset > reached:
                found = entries[0].first_offset if entries else span.end
                raise SourceLost(
                    f"records {span.partition}/{reached}..{found} are not in the push log {self._log.path}",
                    hint="Restore the push log from the backup; `penstock audit` shows what bronze holds.",
                )
            for entry in entries:
                if entry.first_offset > reached:
                    break
                first, last = max(span.start, entry.first_offset), min(span.end, entry.end)
                block = self._log.records(entry).slice(first - entry.first_offset, last - first)
                yield record_table(span.partition, first, block, entry.ingested_at)
                reached = last

    def read_pieces(self, ranges: Sequence[Range], *, rows: int, size: int) -> Iterator[pa.Table]:  # noqa: ARG002
        yield self.read(ranges)  # a plan of this source is exact

    def held(self, records: int, size: int, offsets: int) -> None:
        """Plans look at the records themselves."""

    def fingerprint(self, position: Position) -> Mapping[int, int]:  # noqa: ARG002 - the log's id says it all
        return {}

    def resume(self, position: Position, fingerprints: Mapping[int, int]) -> None:  # noqa: ARG002
        self._log.check()
        states = self._log.partitions()
        for partition, offset in position.items():
            next_offset = states[partition].next_offset if partition in states else 0
            if offset > next_offset:
                raise SourceLost(
                    f"bronze is at {partition}/{offset}, the push log {self._log.path} ends at "
                    f"{partition}/{next_offset}: it is older than the lake",
                    hint="Restore lake and push log from the same backup.",
                )
            if partition in states and offset < states[partition].trimmed_below:
                self._lost(partition, offset, states[partition].trimmed_below, "trimmed")

    def forget(self, position: Position) -> None:
        for state in self._log.partitions().values():
            below = min(position.get(state.partition, 0), state.next_offset)
            if below > state.trimmed_below:
                self._log.trim(state.partition, below)

    def backlog(self, position: Position) -> Backlog:
        records, size = 0, 0
        for state in self._log.partitions().values():
            waiting = state.next_offset - max(position.get(state.partition, 0), state.trimmed_below)
            records += waiting
            size += state.waiting_bytes * waiting // max(1, state.next_offset - state.trimmed_below)
        return Backlog(records, size)

    def wait(self, position: Position, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.exhausted(position):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, limits.PUSH_POLL_SECONDS))
        return True

    def exhausted(self, position: Position) -> bool:
        states = self._log.partitions().values()
        if all(state.next_offset <= position.get(state.partition, 0) for state in states):
            return True
        return self._records_loss and not any(self._is_sound(entry) for entry, _ in self._waiting(position))

    def notices(self) -> tuple[str, ...]:
        return self._notices.take()

    def close(self) -> None:
        self._log.close()


def _merged(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans (partition, start, end) in order, with neighbours made one."""
    merged: list[tuple[int, int, int]] = []
    for partition, start, end in sorted(spans):
        if merged and merged[-1][0] == partition and merged[-1][2] == start:
            merged[-1] = (partition, merged[-1][1], end)
        else:
            merged.append((partition, start, end))
    return merged
