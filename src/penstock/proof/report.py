"""What an audit finds: violations per law and pipeline, and the counts it took from the rows. `audit.py` fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from penstock.limits import LOSSES_SHOWN_MAX, VIOLATION_EXAMPLES_MAX
from penstock.model.columns import INDEX, OFFSET, PARTITION, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Law(IntEnum):
    """The laws an audit can find broken, by their number in the documentation."""

    CONSERVATION = 1
    POSITION = 3
    ORDER = 4
    GOLD = 5
    DETERMINISM = 6
    LATE = 7
    LOUD = 8


@dataclass(frozen=True)
class Violation:
    """One way in which a law does not hold.

    `places` are examples (`source/partition/offset#index`), at most VIOLATION_EXAMPLES_MAX; `total` is how many there
    are. `batch` is set where a single batch is concerned.
    """

    law: Law
    table: str
    message: str
    batch: int | None = None
    places: tuple[str, ...] = ()
    total: int = 1

    def as_json(self) -> dict[str, object]:
        document: dict[str, object] = {"law": int(self.law), "table": self.table, "message": self.message}
        if self.batch is not None:
            document["batch"] = self.batch
        document["total"] = self.total
        document["places"] = list(self.places)
        return document


@dataclass
class PipelineReport:
    """One pipeline's counts, taken from the rows of its tables, and its violations.

    `losses` are ranges of offsets that the source lost and the lake recorded, `lost_offsets` how many they are.
    """

    records: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    skipped: int = 0
    flagged: int = 0
    batches: int = 0
    lost_offsets: int = 0
    losses: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def lost(self, range_text: str, offsets: int) -> None:
        """Note what the source no longer had, and the pipeline was allowed to go on without; the first are kept."""
        self.lost_offsets += offsets
        if len(self.losses) < LOSSES_SHOWN_MAX:
            self.losses.append(range_text)

    def broken(
        self,
        law: Law,
        table: str,
        message: str,
        *,
        batch: int | None = None,
        places: Iterable[str] = (),
        total: int = 1,
    ) -> None:
        """Add a violation, or add to the one that says the same of the same table; the first few `places` are kept."""
        shown = [place for place, _ in zip(places, range(VIOLATION_EXAMPLES_MAX), strict=False)]
        for number, known in enumerate(self.violations):
            if (known.law, known.table, known.message) == (law, table, message):
                together = tuple([*known.places, *shown][:VIOLATION_EXAMPLES_MAX])
                one = batch if batch == known.batch else None
                self.violations[number] = Violation(law, table, message, one, together, known.total + total)
                return
        self.violations.append(Violation(law, table, message, batch, tuple(shown), total))

    def as_json(self) -> dict[str, object]:
        return {
            "records": self.records,
            "accepted": self.accepted,
            "quarantined": self.quarantined,
            "duplicate": self.duplicate,
            "skipped": self.skipped,
            "flagged": self.flagged,
            "batches": self.batches,
            "lost_offsets": self.lost_offsets,
            "losses": list(self.losses),
            "violations": [violation.as_json() for violation in self.violations],
        }


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, per pipeline. `clean` means that no law is broken as far as the files can show."""

    pipelines: Mapping[str, PipelineReport]

    @property
    def clean(self) -> bool:
        return not any(report.violations for report in self.pipelines.values())

    @property
    def violations(self) -> tuple[Violation, ...]:
        return tuple(violation for report in self.pipelines.values() for violation in report.violations)

    def as_json(self) -> dict[str, object]:
        return {"pipelines": {name: report.as_json() for name, report in self.pipelines.items()}}


def place_text(row: Mapping[str, object]) -> str:
    """The place of a row as `source/partition/offset`, with `#index` where the row has one."""
    text = f"{row[SOURCE]}/{row[PARTITION]}/{row[OFFSET]}"
    return f"{text}#{row[INDEX]}" if row.get(INDEX) is not None else text
