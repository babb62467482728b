"""Random numbers that are functions of (seed, stream, ordinal): any range of a simulated world can be made by itself.

The mixing is splitmix64's finaliser (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_MASK = (1 << 64) - 1


def _mix(values: Draws) -> Draws:
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def draw(seed: int, stream: str, ordinals: NDArray[np.int64]) -> Draws:
    """One uniform 64-bit number per ordinal; streams of different names are independent."""
    start = int.from_bytes(stream.encode(), "little") * 0x9E3779B97F4A7C15 + seed * 0xD1342543DE82EF95
    base = _mix(np.array([start & _MASK], np.uint64))
    return _mix(_mix(ordinals.astype(np.uint64) * _GOLDEN + base))


def below(draws: Draws, count: int) -> NDArray[np.int64]:
    """Integers of [0, count), count below 2**31."""
    return ((draws >> np.uint64(33)) * np.uint64(count) >> np.uint64(31)).astype(np.int64)


def unit(draws: Draws) -> NDArray[np.float64]:
    """Floats of [0, 1)."""
    return (draws >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))
