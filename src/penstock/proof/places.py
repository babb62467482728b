"""Finds many records by their places at once: the exact set arithmetic behind `conservation.py`, in arrays.

A place is a source, a partition and an offset; the first two are packed into one number, GROUP. Offsets of a partition
mostly come without gaps: then each has a slot of its own in a grid, and finding it is a subtraction. Where they are far
apart, finding one is a search in a sorted array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.model.columns import OFFSET, PARTITION, SOURCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.proof.witness import Arrays

GROUP = "place_group"
_SHIFT = 1 << 32

PLACE_SQL = (
    f"(coalesce({SOURCE}, -1)::BIGINT * {_SHIFT} + coalesce({PARTITION}, -1)::BIGINT) AS {GROUP}, "
    f"coalesce({OFFSET}, -1)::BIGINT AS {OFFSET}"
)
"""SQL of the columns that `Places` reads."""

_SPREAD_MAX = 4
"""A grid has at most this many slots per record."""


@dataclass(frozen=True)
class _Stretch:
    """The slots of one group: from `first` on, for offsets `low`..`high`, or for the sorted `offsets` where given."""

    group: int
    first: int
    low: int
    high: int
    offsets: NDArray[np.int64] | None

    @property
    def size(self) -> int:
        return self.high - self.low + 1 if self.offsets is None else len(self.offsets)

    def slots(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of each offset, or -1."""
        if self.offsets is None:
            return np.where((wanted >= self.low) & (wanted <= self.high), wanted + (self.first - self.low), -1)
        at = np.searchsorted(self.offsets, wanted)
        hit = self.offsets[np.minimum(at, len(self.offsets) - 1)] == wanted
        return np.where(hit, at + self.first, -1)


class Places:
    """The places in `arrays` (GROUP, OFFSET). `times` says for each slot how often its place occurs there: mostly once,
    never for the gaps of a grid. `slot` has the slot of each row."""

    def __init__(self, arrays: Arrays) -> None:
        groups, offsets = arrays[GROUP], arrays[OFFSET]
        self._stretches: list[_Stretch] = []
        size = 0
        for group in distinct(groups):
            mine = offsets if _all_equal(groups, group) else offsets[groups == group]
            low, high = int(mine.min()), int(mine.max())
            is_dense = high - low < _SPREAD_MAX * len(mine)
            stretch = _Stretch(group, size, low, high, None if is_dense else np.unique(mine))
            self._stretches.append(stretch)
            size += stretch.size
        self.size = size
        self.slot = self._slots(arrays)
        self.times = np.bincount(self.slot, minlength=size)

    def find(self, arrays: Arrays) -> NDArray[np.int64]:
        """The slot of each place of other arrays, or -1 where it does not occur."""
        slots = self._slots(arrays)
        known = slots >= 0
        known[known] = self.times[slots[known]] > 0
        return slots if known.all() else np.where(known, slots, -1)

    def _slots(self, arrays: Arrays) -> NDArray[np.int64]:
        groups, offsets = arrays[GROUP], arrays[OFFSET]
        found = np.full(len(offsets), -1, np.int64)
        for stretch in self._stretches:
            if _all_equal(groups, stretch.group):
                return stretch.slots(offsets)
            mine = groups == stretch.group
            found[mine] = stretch.slots(offsets[mine])
        return found

    def between(self, group: int, start: int, end: int) -> tuple[int, int]:
        """The slots [from, to) of a group's offsets in [start, end)."""
        for stretch in self._stretches:
            if stretch.group != group:
                continue
            if stretch.offsets is None:
                low, high = (min(max(edge - stretch.low, 0), stretch.size) for edge in (start, end))
            else:
                low, high = (int(edge) for edge in np.searchsorted(stretch.offsets, [start, end]))
            return stretch.first + low, stretch.first + high
        return 0, 0

    def offset(self, slot: int) -> int:
        """The offset a slot stands for."""
        stretch = self._stretch(slot)
        position = slot - stretch.first
        return stretch.low + position if stretch.offsets is None else int(stretch.offsets[position])

    def text(self, slot: int, index: int | None = None) -> str:
        """A place as a person reads it."""
        place = f"{group_text(self._stretch(slot).group)}/{self.offset(slot)}"
        return place if index is None else f"{place}#{index}"

    def _stretch(self, slot: int) -> _Stretch:
        return next(one for one in self._stretches if one.first <= slot < one.first + one.size)


def pack(source: NDArray[np.int64], partition: NDArray[np.int64]) -> NDArray[np.int64]:
    """Source and partition as one number, as PLACE_SQL has it."""
    return source * _SHIFT + partition


def group_text(group: int) -> str:
    """Source and partition as a person reads them."""
    return f"{group // _SHIFT}/{group % _SHIFT}"


def distinct(groups: NDArray[np.int64]) -> list[int]:
    """The different values, in order; there are few."""
    if not len(groups):
        return []
    first = int(groups[0])
    return [first] if _all_equal(groups, first) else [int(group) for group in np.unique(groups)]


def _all_equal(values: NDArray[np.int64], value: int) -> bool:
    return bool((values == value).all())
