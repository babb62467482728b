"""What goes wrong in a simulated world: which records are faulty, how, and what must become of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.limits import SIMULATED_DOUBLE_DISTANCE_MAX
from penstock.model.batch import Disposition
from penstock.sources.noise import below, draw, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Fault(StrEnum):
    """Kinds of faults, planted in equal shares."""

    BROKEN = "broken"
    """The bytes are not JSON."""
    DOUBLED = "doubled"
    """The same bytes as an earlier record, up to SIMULATED_DOUBLE_DISTANCE_MAX records before."""
    LATE = "late"
    """The event time lies half a minute to an hour back."""
    OUT_OF_ORDER = "out_of_order"
    """The event time lies up to five seconds back."""
    WRONG_TYPE = "wrong_type"
    """A value that its column's type does not hold."""
    UNKNOWN = "unknown"
    """An instrument or device that the reference does not have."""
    VIOLATION = "violation"
    """A value that breaks a rule."""
    EXTRA = "extra"
    """A field that nobody declared."""


FAULTS = tuple(Fault)
CLEAN = -1

LATE_US = (30 * 1_000_000, 3_600 * 1_000_000)
OUT_OF_ORDER_US = (1, 5 * 1_000_000)

EXPECTED = {
    Fault.BROKEN: Disposition.QUARANTINED,
    Fault.DOUBLED: Disposition.DUPLICATE,
    Fault.LATE: Disposition.ACCEPTED,
    Fault.OUT_OF_ORDER: Disposition.ACCEPTED,
    Fault.WRONG_TYPE: Disposition.QUARANTINED,
    Fault.UNKNOWN: Disposition.QUARANTINED,
    Fault.VIOLATION: Disposition.QUARANTINED,
    Fault.EXTRA: Disposition.ACCEPTED,
}
"""Where the events end under the declarations of the templates."""

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("fault", pa.string()),
        pa.field("expected", pa.string(), nullable=False),
        pa.field("original", pa.int64()),
    ]
)
"""One row per record sent: its fault (null: none), the disposition it must get, and for a double its original."""


@dataclass(frozen=True)
class Planted:
    """Faults of consecutive ordinals. `kinds` holds indexes of FAULTS or CLEAN; `events` the ordinal of the event that
    a record is about, which differs from its own for a double."""

    ordinals: NDArray[np.int64]
    kinds: NDArray[np.int8]
    events: NDArray[np.int64]

    def is_(self, fault: Fault) -> NDArray[np.bool_]:
        """Which records have the fault."""
        return np.equal(self.kinds, FAULTS.index(fault))

    def back_us(self, seed: int) -> NDArray[np.int64]:
        """How far each event time is put back, in microseconds."""
        back = np.zeros(len(self.ordinals), np.int64)
        for fault, (least, most) in ((Fault.LATE, LATE_US), (Fault.OUT_OF_ORDER, OUT_OF_ORDER_US)):
            chosen = self.is_(fault)
            if chosen.any():
                share = unit(draw(seed, "back", self.ordinals[chosen]))
                back[chosen] = (least + share * (most - least)).astype(np.int64)
        return back

    def truth(self) -> pa.Table:
        """What was planted, in TRUTH_SCHEMA."""
        names = pa.array([fault.value for fault in FAULTS])
        expected = pa.array([EXPECTED[fault].value for fault in FAULTS] + [Disposition.ACCEPTED.value])
        clean = self.kinds == CLEAN
        doubled = self.is_(Fault.DOUBLED)
        columns = [
            pa.array(self.ordinals),
            names.take(pa.array(self.kinds, mask=clean)),
            expected.take(pa.array(np.where(clean, len(FAULTS), self.kinds))),
            pa.array(self.events, mask=~doubled),
        ]
        return pa.Table.from_arrays(columns, schema=TRUTH_SCHEMA)


def plant(seed: int, share: float, start: int, count: int, first: int = 0) -> Planted:
    """The faults of records [start, start + count), a `share` (0 to 1) of them in all.

    None is a double of a record before `first`.
    """
    ordinals = np.arange(start, start + count, dtype=np.int64)
    kinds = _kinds(seed, share, ordinals)
    events = ordinals.copy()
    doubled = np.flatnonzero(kinds == FAULTS.index(Fault.DOUBLED))
    if len(doubled):
        distance = 1 + below(draw(seed, "distance", ordinals[doubled]), SIMULATED_DOUBLE_DISTANCE_MAX)
        originals = ordinals[doubled] - distance
        # A double of a faulty record would have two faults: it is left clean instead.
        clean = (originals >= first) & (_kinds(seed, share, np.maximum(originals, 0)) == CLEAN)
        events[doubled[clean]] = originals[clean]
        kinds[doubled[~clean]] = CLEAN
    return Planted(ordinals, kinds, events)


def _kinds(seed: int, share: float, ordinals: NDArray[np.int64]) -> NDArray[np.int8]:
    is_faulty = unit(draw(seed, "faulty", ordinals)) < share
    kinds = below(draw(seed, "kind", ordinals), len(FAULTS))
    return np.where(is_faulty, kinds, CLEAN).astype(np.int8)
