"""Steps 0 and 1: what the source has becomes the next batch, bounded in rows, bytes and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.limits import BATCH_ROWS_MIN, BATCH_SECONDS_TARGET
from penstock.model.columns import INGESTED_AT, OFFSET, PARTITION, SOURCE, TIMESTAMP
from penstock.run.protocol import Batch
from penstock.run.rows import micros
from penstock.sources.contract import Bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.model.position import Range
    from penstock.run.context import Clock
    from penstock.sources.contract import Source


class BatchSize:
    """How many rows the next batch may have: what takes about BATCH_SECONDS_TARGET, or with `fixed` what was asked."""

    def __init__(self, rows_max: int, *, fixed: bool = False) -> None:
        self._rows_max = rows_max
        self._fixed = fixed
        self.rows = rows_max

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a batch that passed through; one below the least size says nothing about the cost of a row."""
        if self._fixed or rows < BATCH_ROWS_MIN or seconds <= 0:
            return
        wanted = int(rows * BATCH_SECONDS_TARGET / seconds)
        self.rows = max(min(BATCH_ROWS_MIN, self._rows_max), min(self._rows_max, wanted))


class Poller:
    """Reads the source from a position on; the position moves with every batch and is bronze's after its commit."""

    def __init__(
        self, source: Source, incarnation: int, position: dict[int, int], size: BatchSize, bytes_max: int, clock: Clock
    ) -> None:
        self.source = source
        self.position = position
        self.size = size
        self._incarnation = incarnation
        self._bytes_max = bytes_max
        self._clock = clock

    def poll(self, number: int) -> Batch | None:
        """The next batch, or None when there is nothing new now."""
        ranges = self.source.plan(self.position, Bounds(self.size.rows, self._bytes_max))
        if not ranges:
            return None
        records = as_bronze(self.source.read(ranges), self._incarnation, self._clock.now())
        self.position = self.position | {item.partition: item.end for item in ranges}
        return Batch(number, joined(ranges), records, self.source.fingerprint(self.position))


def as_bronze(records: pa.Table, incarnation: int, now: int) -> pa.Table:
    """Records as a source gives them, as bronze columns; what has no time of ingestion gets `now` (microseconds)."""
    ingested = records["ingested_at"]
    if ingested.null_count:
        ingested = ingested.fill_null(micros(now))
    return pa.table(
        {
            SOURCE: pa.repeat(pa.scalar(incarnation, pa.int32()), records.num_rows),
            PARTITION: records["partition"],
            OFFSET: records["offset"],
            TIMESTAMP: records["timestamp"],
            INGESTED_AT: ingested,
            "key": records["key"],
            "value": records["value"],
            "headers": records["headers"],
        }
    )


def joined(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Adjacent ranges of a partition as one: ten thousand small files are one range of records."""
    result: list[Range] = []
    for item in ranges:
        last = result[-1] if result else None
        if last and (last.source, last.partition, last.end) == (item.source, item.partition, item.start):
            result[-1] = type(item)(item.source, item.partition, last.start, item.end)
        else:
            result.append(type(item)(item.source, item.partition, item.start, item.end))
    return tuple(result)
