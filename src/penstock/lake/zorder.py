"""Z-order: rows that are near each other in several columns get near each other in files.

Each column's values are replaced by their rank among sampled boundaries (so that any distribution fills the space
evenly), and the bits of the ranks are interleaved. The method is Morton's (1966).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import ZORDER_BITS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ZOrder:
    """How rows are placed: for every column the sorted boundaries between its ranks."""

    columns: tuple[str, ...]
    boundaries: tuple[pa.Array, ...]
    bits: int

    @classmethod
    def sampled(cls, sample: pa.Table, columns: Sequence[str]) -> ZOrder:
        """Boundaries at even quantiles of the rows of `sample`: a value takes as much space as it has rows."""
        bits = min(ZORDER_BITS_MAX, 63 // len(columns))
        boundaries = []
        for name in columns:
            values = sample.column(name).drop_null().combine_chunks()
            values = values.take(pc.array_sort_indices(values))
            wanted = min(len(values), (1 << bits) - 1)
            positions = (np.arange(wanted) * len(values)) // max(wanted, 1)
            boundaries.append(values.take(pa.array(positions, pa.int64())))
        return cls(tuple(columns), tuple(boundaries), bits)

    def keys(self, table: pa.Table) -> NDArray[np.uint64]:
        """One key per row; rows in order of their keys are in Z-order. Nulls rank above every value."""
        ranks = [
            (ranked(table.column(name), boundaries) << np.uint64(self.bits)) // np.uint64(len(boundaries) + 1)
            for name, boundaries in zip(self.columns, self.boundaries, strict=True)
        ]
        return interleaved(ranks, self.bits)


def ranked(values: pa.ChunkedArray, boundaries: pa.Array) -> NDArray[np.uint64]:
    """For every value how many of the sorted `boundaries` are not above it; nulls count all."""
    together = pa.chunked_array([boundaries, *values.cast(boundaries.type).chunks], boundaries.type)
    order = np.asarray(pc.array_sort_indices(together))
    is_boundary = order < len(boundaries)
    counts = np.cumsum(is_boundary)
    ranks = np.empty(len(together), np.uint64)
    ranks[order] = counts
    return ranks[len(boundaries) :]


def interleaved(ranks: Sequence[NDArray[np.uint64]], bits: int) -> NDArray[np.uint64]:
    """The lowest `bits` bits of every rank, interleaved: the first column has the highest of every turn."""
    keys = np.zeros(len(ranks[0]), np.uint64)
    for bit in range(bits):
        for column, rank in enumerate(ranks):
            target = bit * len(ranks) + len(ranks) - 1 - column
            keys |= ((rank >> np.uint64(bit)) & np.uint64(1)) << np.uint64(target)
    return keys
