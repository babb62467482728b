"""Which valid events are accepted and which are duplicates, over the whole history (DESIGN 4, "Duplicates").

The index of a bucket is rebuilt from silver when a batch first touches it, and forgotten when memory is needed; so the
cost of a batch grows with the buckets it touches, never with the table. Of equal keys the lowest (batch, place, index)
wins. `keys.py` is the index itself.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from penstock.engines.contract import Verdict
from penstock.run.keys import KeyBlock, KeyIndex, order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.engines.contract import PlacedKeys

    LoadBucket = Callable[[int], Iterator[PlacedKeys]]


class Duplicates:
    """The keys of all accepted events, by bucket.

    `load` reads one bucket's keys from silver, as committed now. `settle` is called once per batch, in batch order,
    before the batch's silver commit; it remembers the winners. After a failed commit the object is worthless.
    """

    def __init__(self, load: LoadBucket, *, memory_bytes: int, spill_folder: Path) -> None:
        self._load = load
        self._memory_bytes = memory_bytes
        self._spill_folder = spill_folder
        self._buckets: OrderedDict[int, KeyIndex] = OrderedDict()
        self._origins: list[tuple[int, int]] = []

    def settle(self, keys: PlacedKeys) -> Verdict:
        """Decide for the valid events of one batch."""
        size = len(keys)
        accepted = np.zeros(size, np.bool_)
        winner_offset = np.zeros(size, np.uint64)
        winner_origin = np.zeros(size, np.uint64)
        block = self._pack(keys)
        for bucket in np.unique(keys.bucket):
            rows = np.flatnonzero(keys.bucket == bucket)
            rows = rows[order_of(block.take(rows))]
            part = block.take(rows)
            index = self._index(int(bucket))
            first = first_of_each(part)
            found, offset, origin = index.find(part)
            new = (first == np.arange(len(rows))) & ~found
            accepted[rows[new]] = True
            winner_offset[rows] = np.where(found, offset, part.offset[first])
            winner_origin[rows] = np.where(found, origin, part.origin[first])
            index.add(part.take(new))
            self._make_room(int(bucket))
        return self._verdict(accepted, winner_offset, winner_origin)

    def _verdict(self, accepted: NDArray[np.bool_], offset: NDArray[np.uint64], origin: NDArray[np.uint64]) -> Verdict:
        sources = np.array([source for source, _ in self._origins] or [0], np.int32)
        partitions = np.array([partition for _, partition in self._origins] or [0], np.int32)
        code = (origin >> np.uint64(32)).astype(np.intp)
        return Verdict(
            accepted,
            np.where(accepted, np.int32(0), sources[code]),
            np.where(accepted, np.int32(0), partitions[code]),
            np.where(accepted, np.int64(0), offset.astype(np.int64)),
            np.where(accepted, np.int32(0), (origin & np.uint64(0xFFFFFFFF)).astype(np.int32)),
        )

    def _pack(self, keys: PlacedKeys) -> KeyBlock:
        """Places in 16 bytes instead of 20: sources and partitions are few, so a pair becomes a small code."""
        pair = (keys.source.astype(np.int64) << 32) | keys.partition.astype(np.int64)
        code = np.zeros(len(pair), np.uint64)
        for value in np.unique(pair):
            origin = (int(value) >> 32, int(value) & 0xFFFFFFFF)
            if origin not in self._origins:
                self._origins.append(origin)
            code[pair == value] = self._origins.index(origin)
        packed = (code << np.uint64(32)) | keys.index.astype(np.uint64)
        return KeyBlock(keys.high, keys.low, keys.offset.astype(np.uint64), packed)

    def _index(self, bucket: int) -> KeyIndex:
        index = self._buckets.get(bucket)
        if index is None:
            index = KeyIndex()
            self._buckets[bucket] = index
            for keys in _ahead(self._load(bucket)):
                block = self._pack(keys)
                index.add(block.take(order_of(block)))
                self._make_room(bucket)
        self._buckets.move_to_end(bucket)
        return index

    def _make_room(self, current: int) -> None:
        """Forget the buckets touched longest ago; of one that alone is too large, runs go to files. The filter stays in
        memory, and half of the bound is for runs whatever it takes."""
        while len(self._buckets) > 1 and sum(index.bytes for index in self._buckets.values()) > self._memory_bytes:
            oldest = next(iter(self._buckets))
            if oldest == current:
                self._buckets.move_to_end(oldest)
                oldest = next(iter(self._buckets))
            del self._buckets[oldest]
        index = self._buckets[current]
        while index.run_bytes > self._memory_bytes // 2:
            index.spill(self._spill_folder)


def _ahead(pieces: Iterator[PlacedKeys]) -> Iterator[PlacedKeys]:
    """The same pieces, each made by another thread while the one before is used."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(next, pieces, None)
        while (piece := following.result()) is not None:
            following = thread.submit(next, pieces, None)
            yield piece


def first_of_each(block: KeyBlock) -> NDArray[np.intp]:
    """For each row of a sorted block the row at which its key stands first."""
    starts = np.ones(len(block), np.bool_)
    starts[1:] = (block.high[1:] != block.high[:-1]) | (block.low[1:] != block.low[:-1])
    return np.maximum.accumulate(np.where(starts, np.arange(len(block)), 0))
