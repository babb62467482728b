"""The tables of one pipeline, open for writing by one fenced writer, and what can be read off their positions."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import LakeCorrupt, SourceLost
from penstock.model.batch import Pins
from penstock.model.columns import (
    batch_txn,
    contract_pin,
    fingerprint_txn,
    offset_place,
    offset_txn,
    reference_pin,
    refine_pin,
    start_txn,
)
from penstock.model.position import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.lake.contracts import Contracts
    from penstock.lake.fence import Writer
    from penstock.lake.ledger import Ledger
    from penstock.lake.table import Table


@dataclass(frozen=True)
class PipelineTables:
    """Upstream first: bronze, rejects, silver, gold, ledger. `contracts` holds declarations and incarnations,
    `manifest` the files of a files source."""

    pipeline: str
    writer: Writer
    bronze: Table
    rejects: Table
    silver: Table
    gold: tuple[Table, ...]
    ledger: Ledger
    contracts: Contracts
    manifest: Table | None = None

    @contextmanager
    def owned(self) -> Iterator[None]:
        """A context in which a writer that was overtaken is told so (`Fenced`), and not that what the other one has
        meanwhile trimmed, vacuumed or moved out of the log is lost or missing."""
        try:
            yield
        except (SourceLost, LakeCorrupt, FileNotFoundError):
            self.bronze.refresh()
            self.bronze.check_owner(self.writer)
            raise

    def batch_of(self, table: Table) -> int:
        """The last batch the table has absorbed; 0 for none."""
        return table.txn(batch_txn(self.pipeline)) or 0

    def position(self, source: int) -> dict[int, int]:
        """Partition -> next offset of one incarnation, as bronze has it, or where the incarnation was told to begin."""
        known = self.contracts.incarnations()
        starts = known[source - 1].starts if source <= len(known) else {}
        return dict(starts) | self._numbers(offset_txn(self.pipeline, source, 0)[:-1])

    def fingerprints(self, source: int) -> dict[int, int]:
        """Partition -> the source's digest of what lies below the position."""
        found = {}
        for partition in self.position(source):
            digest = self.bronze.txn(fingerprint_txn(self.pipeline, source, partition))
            if digest is not None:
                found[partition] = digest
        return found

    def _numbers(self, prefix: str) -> dict[int, int]:
        return {
            int(name[len(prefix) :]): value
            for name, value in self.bronze.txns().items()
            if name.startswith(prefix) and name[len(prefix) :].isdigit()
        }

    def pins(self, table: Table) -> Pins | None:
        """The pins the table's last commit of a batch carried."""
        contract, refine = table.txn(contract_pin(self.pipeline)), table.txn(refine_pin(self.pipeline))
        if contract is None or refine is None:
            return None
        prefix = reference_pin(self.pipeline, "")
        references = {name[len(prefix) :]: pin for name, pin in table.txns().items() if name.startswith(prefix)}
        return Pins(contract, refine, tuple(sorted(references.items())))

    def ranges(self, batch: int) -> tuple[Range, ...]:
        """The ranges of a batch that the ledger lacks, from bronze's log entry of it.

        A batch without ranges is a drain, one whose ranges hold no records is none: rows do not tell them apart.
        """
        entry, before = self.bronze.past.committed(self.pipeline, batch)
        found = []
        for name, end in entry.txns.items():
            place = offset_place(self.pipeline, name)
            if place is not None:
                start = entry.txns.get(start_txn(self.pipeline, *place), before.get(name, 0))
                found.append(Range(*place, start, end))
        return tuple(sorted(found))

    def versions(self, batch: int, known: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        """Per table the version whose log entry committed `batch`, or its last one below it."""
        tables = (self.bronze, self.rejects, self.silver, *self.gold)
        return tuple(
            (table.name, known[table.name] if table.name in known else table.past.version_at(self.pipeline, batch))
            for table in tables
        )
