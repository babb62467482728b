"""The instants of local times, for casts of times that name no offset (`times.py`), by the zones of `zones.py`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.plan.zones import CYCLE_MICROS, CYCLE_SINCE, DAY_MICROS, zone

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INSTANT = pa.timestamp("us", tz="UTC")


def instants(local_times: pa.Array, zones: pa.Array, laters: pa.Array) -> pa.Array:
    """The instant of each local time; NULL in a gap, in an overlap the earlier, or with `laters` the later one.

    The zone and the wish for the later instant are the same for all rows: they come from a column's declaration.
    """
    if len(local_times) == 0:
        return pa.array([], _INSTANT)
    present = local_times.is_valid().to_numpy(zero_copy_only=False)
    micros = local_times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    found, exists = _instants(micros, zones[0].as_py(), later=laters[0].as_py())
    return pa.array(found, pa.int64(), mask=~(exists & present)).cast(_INSTANT)


def _instants(local: NDArray[np.int64], name: str, *, later: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Instants in microseconds, and whether the clocks ever showed that local time.

    The offsets a day before and a day after are the two there can be: no zone changes twice within two days. An offset
    counts if it is the one that holds at the instant it leads to. Before a change clocks are read with the first.
    """
    first = local - _offsets(local - DAY_MICROS, name)
    second = local - _offsets(local + DAY_MICROS, name)
    is_first = first + _offsets(first, name) == local
    is_second = second + _offsets(second, name) == local
    earlier = np.where(is_first & is_second, np.minimum(first, second), np.where(is_first, first, second))
    latest = np.where(is_first & is_second, np.maximum(first, second), np.where(is_first, first, second))
    return (latest if later else earlier), is_first | is_second


def _offsets(instant: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """The zone's offset at each instant, in microseconds."""
    since, offset = _changes(name)
    cycles = np.maximum((instant - CYCLE_SINCE) // CYCLE_MICROS, 0)
    found: NDArray[np.int64] = offset[np.searchsorted(since, instant - cycles * CYCLE_MICROS, side="right") - 1]
    return found


@cache
def _changes(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    changes = zone(name).changes
    return np.array([change.since for change in changes]), np.array([change.offset for change in changes])
