"""Finds many records by their places at once: the exact set arithmetic behind `conservation.py`, in arrays.

A place is a source, a partition and an offset. In one partition offsets are mostly without gaps, so that finding one is
a subtraction; where they have gaps it is a search in a sorted array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.model.columns import OFFSET, PARTITION, SOURCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.proof.witness import Arrays


class Places:
    """The distinct places among `arrays` (SOURCE, PARTITION, OFFSET), numbered in order.

    `row` maps a number to the row of `arrays` it was first seen in; `repeated` are the rows of places seen before.
    """

    def __init__(self, arrays: Arrays) -> None:
        partition = pack(arrays)
        offset = arrays[OFFSET].astype(np.int64, copy=False)
        self._is_sorted = _is_sorted(partition, offset)
        order = np.arange(len(offset)) if self._is_sorted else np.lexsort((offset, partition))
        partition, offset = partition[order], offset[order]
        fresh = np.ones(len(offset), np.bool_)
        fresh[1:] = (partition[1:] != partition[:-1]) | (offset[1:] != offset[:-1])
        self.row = order[fresh]
        self.repeated = order[~fresh]
        self.offset = offset[fresh]
        self.partition = partition[fresh]
        self._groups, self._starts = np.unique(self.partition, return_index=True)
        self._stops = np.append(self._starts[1:], len(self.offset))

    def __len__(self) -> int:
        return len(self.offset)

    def find(self, arrays: Arrays) -> NDArray[np.int64]:
        """The number of each place of `arrays`, or -1."""
        partition = pack(arrays)
        offset = arrays[OFFSET].astype(np.int64, copy=False)
        found = np.full(len(offset), -1, np.int64)
        for number, group in enumerate(self._groups.tolist()):
            start, stop = int(self._starts[number]), int(self._stops[number])
            mine = slice(None) if len(self._groups) == 1 and (partition == group).all() else partition == group
            found[mine] = self._find_in(self.offset[start:stop], offset[mine], start)
        return found

    def slice_of(self, packed: int, start: int, end: int) -> tuple[int, int]:
        """The numbers [from, to) of the places of a partition with offsets in [start, end)."""
        at = int(np.searchsorted(self._groups, packed))
        if at == len(self._groups) or int(self._groups[at]) != packed:
            return 0, 0
        first, stop = int(self._starts[at]), int(self._stops[at])
        low, high = np.searchsorted(self.offset[first:stop], [start, end])
        return first + int(low), first + int(high)

    def text(self, number: int, index: int | None = None) -> str:
        """A place as a person reads it."""
        packed = int(self.partition[number])
        place = f"{packed >> 32}/{packed & 0xFFFFFFFF}/{int(self.offset[number])}"
        return place if index is None else f"{place}#{index}"

    @staticmethod
    def _find_in(known: NDArray[np.int64], wanted: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        first, last = int(known[0]), int(known[-1])
        if last - first + 1 == len(known):
            return np.where((wanted >= first) & (wanted <= last), wanted - first + start, -1)
        at = np.searchsorted(known, wanted)
        hit = known[np.minimum(at, len(known) - 1)] == wanted
        return np.where(hit, at + start, -1)


def pack(arrays: Arrays) -> NDArray[np.int64]:
    """Source and partition in one number."""
    return pack_numbers(arrays[SOURCE].astype(np.int64), arrays[PARTITION].astype(np.int64))


def pack_numbers(source: NDArray[np.int64], partition: NDArray[np.int64]) -> NDArray[np.int64]:
    return (source << 32) | (partition & 0xFFFFFFFF)


def _is_sorted(partition: NDArray[np.int64], offset: NDArray[np.int64]) -> bool:
    if len(offset) < 2:
        return True
    same = partition[1:] == partition[:-1]
    return bool(((partition[1:] > partition[:-1]) | (same & (offset[1:] >= offset[:-1]))).all())
