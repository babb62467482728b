"""Steps 0 and 1: what the source has becomes the next batch, bounded in rows, bytes and time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.errors import SourceLost
from penstock.limits import BATCH_ROWS_MIN, BATCH_SECONDS_TARGET, SHARE_ROWS_MIN
from penstock.run.protocol import Batch
from penstock.sources.contract import Bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.engines.contract import Deriver
    from penstock.model.position import Range
    from penstock.run.context import Clock
    from penstock.sources.contract import Source


class BatchSize:
    """How many rows the next batch may have: what takes about `seconds`, or with `fixed` what was asked."""

    def __init__(self, rows_max: int, seconds: float = BATCH_SECONDS_TARGET, *, fixed: bool = False) -> None:
        self._rows_max = rows_max
        self._seconds = seconds
        self._fixed = fixed
        self.rows = rows_max

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a batch that passed through; one below the least size says nothing about the cost of a row."""
        if self._fixed or rows < BATCH_ROWS_MIN or seconds <= 0:
            return
        wanted = int(rows * self._seconds / seconds)
        self.rows = max(min(BATCH_ROWS_MIN, self._rows_max), min(self._rows_max, wanted))


class Poller:
    """Plans batches from a position on; the position moves with every batch and is bronze's after its commit."""

    def __init__(
        self, source: Source, deriver: Deriver, position: dict[int, int], size: BatchSize, bytes_max: int, clock: Clock
    ) -> None:
        self.source = source
        self.position = position
        self.size = size
        self._before = position
        self._deriver = deriver
        self._bytes_max = bytes_max
        self._clock = clock

    def poll(self, number: int) -> Batch | None:
        """The next batch, or None when there is nothing new now."""
        shares = self._plan()
        if not shares:
            return None
        work = self._deriver.from_source(number, shares, self._clock.now())
        ranges = sorted(item for share in shares for item in share)
        self._before = self.position
        self.position = self.position | {item.partition: item.end for item in ranges}
        return Batch(number, joined(ranges), work, self.source.fingerprint(self.position))

    def take_back(self) -> None:
        """Forget the batch that was polled last, of which no table has anything: another is planned in its place."""
        self.position = self._before

    def _plan(self) -> list[tuple[Range, ...]]:
        """The ranges of each share of the next batch."""
        count = self._deriver.shares
        if count == 1 or self.source.divisible:
            ranges = self.source.plan(self.position, Bounds(self.size.rows, self._bytes_max))
            return shared(ranges, count)
        bounds = Bounds(-(-self.size.rows // count), -(-self._bytes_max // count))
        position = dict(self.position)
        shares: list[tuple[Range, ...]] = []
        for _ in range(count):
            try:
                ranges = self.source.plan(position, bounds)
            except SourceLost:
                if not shares:
                    raise
                break  # what lies before the loss comes first; the next plan meets it again
            if not ranges:
                break
            shares.append(ranges)
            position |= {item.partition: item.end for item in ranges}
        return shares


def shared(ranges: Sequence[Range], count: int) -> list[tuple[Range, ...]]:
    """The ranges dealt out to at most `count` shares of about the same number of offsets: as few partitions in each as
    that allows, because each is a place to begin reading at."""
    total = sum(item.end - item.start for item in ranges)
    size = max(SHARE_ROWS_MIN, -(-total // count))
    shares: list[list[Range]] = []
    room = 0
    for item in ranges:
        start = item.start
        while start < item.end:
            if room == 0:
                shares.append([])
                room = size
            end = min(item.end, start + room)
            shares[-1].append(item if (start, end) == (item.start, item.end) else replace(item, start=start, end=end))
            room -= end - start
            start = end
    return [tuple(share) for share in shares]


def joined(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Adjacent ranges of a partition as one: ten thousand small files are one range of records."""
    result: list[Range] = []
    for item in ranges:
        last = result[-1] if result else None
        if last and (last.source, last.partition, last.end) == (item.source, item.partition, item.start):
            result[-1] = replace(last, end=item.end)
        else:
            result.append(replace(item, hint=""))
    return tuple(result)
