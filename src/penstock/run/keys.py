"""An index from 128-bit key digests to the places of their events, for one bucket, in bounded memory.

A bucket is a few sorted runs behind a Bloom filter, merged as they grow up to a bound (a log-structured merge). What
outgrows its share of memory is moved to disposable files, run by run; nothing here needs to survive the process.
`duplicates.py` uses it.
"""

from __future__ import annotations

import mmap
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.limits import KEYS_PER_RUN_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]

BYTES_PER_KEY = 32
_BLOOM_WORDS_MIN = 1 << 12
_KEYS_PER_BLOOM_WORD = 4
"""16 bits of filter per key: about one in four hundred absent keys is looked up in vain."""
_KEYS_AT_ONCE = 1 << 20
"""Keys added to a filter at a time: what is worked out for each takes more room than the key."""


@dataclass(frozen=True)
class KeyBlock:
    """Digests and where their events are: four arrays of one length.

    `high` and `low` are the halves of the digest, `offset` the record's offset, `origin` a packed source, partition and
    index (see `pack_origin`).
    """

    high: U64
    low: U64
    offset: U64
    origin: U64

    def __len__(self) -> int:
        return len(self.high)

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> KeyBlock:
        return KeyBlock(self.high[chosen], self.low[chosen], self.offset[chosen], self.origin[chosen])

    @property
    def bytes(self) -> int:
        return BYTES_PER_KEY * len(self)


def order_of(block: KeyBlock) -> NDArray[np.intp]:
    """The order of the rows by key; equal keys stay as they are."""
    order = np.argsort(block.high, kind="stable")
    high, low = block.high[order], block.low[order]
    if np.any((high[1:] == high[:-1]) & (low[1:] < low[:-1])):
        # Two keys share a high half (hardly ever): sort by the whole digest, which is stable too.
        order = np.lexsort((block.low, block.high))
    return order


def merged(left: KeyBlock, right: KeyBlock) -> KeyBlock:
    """One sorted block with the rows of both. One column after the other, so that only one is there twice."""
    order = np.argsort(np.concatenate([left.high, right.high]), kind="stable")
    columns = (
        np.concatenate([getattr(left, name), getattr(right, name)])[order]
        for name in ("high", "low", "offset", "origin")
    )
    return KeyBlock(*columns)


class BloomFilter:
    """A blocked Bloom filter: every key sets four bits of one 64-bit word."""

    def __init__(self, keys: int) -> None:
        words = max(_BLOOM_WORDS_MIN, 1 << max(0, (keys // _KEYS_PER_BLOOM_WORD) - 1).bit_length())
        self._words = np.zeros(words, np.uint64)
        self.capacity = words * _KEYS_PER_BLOOM_WORD

    @property
    def bytes(self) -> int:
        return self._words.nbytes

    def _slots(self, high: U64, low: U64) -> tuple[NDArray[np.intp], U64]:
        word = (low & np.uint64(len(self._words) - 1)).astype(np.intp)
        mask = np.zeros(len(high), np.uint64)
        for shift in (40, 46, 52, 58):
            mask |= np.uint64(1) << ((high >> np.uint64(shift)) & np.uint64(63))
        return word, mask

    def add(self, high: U64, low: U64) -> None:
        for start in range(0, len(high), _KEYS_AT_ONCE):
            part = slice(start, start + _KEYS_AT_ONCE)
            word, mask = self._slots(high[part], low[part])
            np.bitwise_or.at(self._words, word, mask)

    def may_hold(self, high: U64, low: U64) -> NDArray[np.bool_]:
        """False where a key was certainly never added."""
        word, mask = self._slots(high, low)
        held: NDArray[np.bool_] = (self._words[word] & mask) == mask
        return held


class KeyIndex:
    """All keys of one bucket. `find` and `add` take blocks of any length, sorted by key (`order_of`); `add` wants keys
    that are not there yet."""

    def __init__(self) -> None:
        self._runs: list[KeyBlock] = []
        self._spilled: list[_SpilledRun] = []
        self._bloom = BloomFilter(0)
        self._keys = 0

    def __len__(self) -> int:
        return self._keys

    @property
    def bytes(self) -> int:
        """Bytes held in memory; spilled runs are the file system's."""
        return self._bloom.bytes + self.run_bytes

    @property
    def run_bytes(self) -> int:
        """Bytes that spilling frees."""
        return sum(run.bytes for run in self._runs)

    def find(self, wanted: KeyBlock) -> tuple[NDArray[np.bool_], U64, U64]:
        """For each wanted key: whether it is here, and the offset and origin of its event (0 where it is not)."""
        found = np.zeros(len(wanted), np.bool_)
        offset = np.zeros(len(wanted), np.uint64)
        origin = np.zeros(len(wanted), np.uint64)
        candidates = np.flatnonzero(self._bloom.may_hold(wanted.high, wanted.low))
        for run in (*self._runs, *(spilled.keys for spilled in self._spilled)):
            if not len(candidates):
                break
            at = _search(run, wanted.high[candidates], wanted.low[candidates])
            hit = at >= 0
            rows = candidates[hit]
            found[rows] = True
            offset[rows] = run.offset[at[hit]]
            origin[rows] = run.origin[at[hit]]
            candidates = candidates[~hit]
        self._let_go()
        return found, offset, origin

    def add(self, block: KeyBlock) -> None:
        if not len(block):
            return
        self._keys += len(block)
        self._runs.append(block)
        if self._keys > self._bloom.capacity:
            self._bloom = BloomFilter(2 * self._keys)
            for run in (*self._runs, *(spilled.keys for spilled in self._spilled)):
                self._bloom.add(run.high, run.low)
            self._let_go()
        else:
            self._bloom.add(block.high, block.low)
        self._merge()

    def _merge(self) -> None:
        """Merge a run into its left neighbour while that is not at least twice as long, so that runs stay few; but no
        further than KEYS_PER_RUN_MAX, because a merge takes as much room again."""
        runs = self._runs
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]):
            if len(runs[-2]) + len(runs[-1]) > KEYS_PER_RUN_MAX:
                return
            last = runs.pop()
            runs[-1] = merged(runs[-1], last)

    def spill(self, folder: Path) -> None:
        """Move the run that has been in memory longest, and is among the longest, to a disposable file."""
        if self._runs:
            self._spilled.append(_SpilledRun(self._runs.pop(0), folder))

    def _let_go(self) -> None:
        for run in self._spilled:
            run.let_go()


class _SpilledRun:
    """A run in an unnamed file, mapped into memory."""

    def __init__(self, run: KeyBlock, folder: Path) -> None:
        columns = (run.high, run.low, run.offset, run.origin)
        with tempfile.TemporaryFile(dir=folder) as file:
            for column in columns:
                column.tofile(file)
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.keys = KeyBlock(*np.frombuffer(self._map, np.uint64).reshape(len(columns), len(run)))

    def let_go(self) -> None:
        """Leave the pages that were looked at to the file system: the kernel would count them as this process's."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _search(run: KeyBlock, high: U64, low: U64) -> NDArray[np.intp]:
    """The row of each key in a sorted run, or -1."""
    at = np.searchsorted(run.high, high)
    result = np.full(len(high), -1, np.intp)
    pending = np.arange(len(high))
    while len(pending):
        inside = at[pending] < len(run)
        pending = pending[inside]
        same = run.high[at[pending]] == high[pending]
        pending = pending[same]
        equal = run.low[at[pending]] == low[pending]
        result[pending[equal]] = at[pending[equal]]
        # Equal high halves with other low halves: step on, for as many keys as that concerns (hardly ever one).
        pending = pending[~equal]
        at[pending] += 1
    return result
