"""What a batch came to: dispositions, pins, and the ledger row that records both."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.model.position import Range


class Disposition(StrEnum):
    """Where an event ended. Every event ends in exactly one."""

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Pins:
    """The input versions a batch was derived with. `references` maps names to versions."""

    contract: int
    refine: int
    references: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class BatchCounts:
    """Rows by outcome. events = accepted + quarantined + duplicate + skipped. `rules` counts failing rows by rule name,
    flags included; `overflows` counts NULL measures by `gold.measure`."""

    records: int = 0
    events: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    skipped: int = 0
    flagged: int = 0
    rules: tuple[tuple[str, int], ...] = ()
    overflows: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: BatchCounts) -> BatchCounts:
        """The counts of both together."""
        return BatchCounts(
            records=self.records + other.records,
            events=self.events + other.events,
            accepted=self.accepted + other.accepted,
            quarantined=self.quarantined + other.quarantined,
            duplicate=self.duplicate + other.duplicate,
            skipped=self.skipped + other.skipped,
            flagged=self.flagged + other.flagged,
            rules=_merged(self.rules, other.rules),
            overflows=_merged(self.overflows, other.overflows),
        )


def _merged(left: tuple[tuple[str, int], ...], right: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    totals = dict(left)
    for name, rows in right:
        totals[name] = totals.get(name, 0) + rows
    return tuple(sorted(totals.items()))


@dataclass(frozen=True)
class LedgerRow:
    """One batch as the ledger keeps it. Times are microseconds since the epoch, UTC; None where not known.

    `versions` maps table names (`bronze/ticks`, `gold/bars`) to the Delta version whose log entry committed the batch.
    `seconds` maps step names to their duration and `bytes` table names to bytes written; both are None for a row that
    was written again after a crash.
    """

    batch: int
    ranges: tuple[Range, ...]
    counts: BatchCounts
    pins: Pins
    watermark: int | None
    closed_until: int | None
    versions: tuple[tuple[str, int], ...]
    seconds: tuple[tuple[str, float], ...] | None = None
    bytes: tuple[tuple[str, int], ...] | None = None
    written_at: int = field(default=0, compare=False)
