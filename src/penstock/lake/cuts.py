"""One consistent cut through all tables of a lake: as of now, of a batch, or of a time.

A cut is found from the ledgers alone. Bronze, silver, rejects and ledger are bounded by `_batch`, references by their
pinned `_version`; gold is read at the version its pipeline's ledger row names, or a later one with the same rows,
because corrections change rows there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.errors import LakeCorrupt, UsageError
from penstock.lake import layout
from penstock.lake.layout import Kind
from penstock.lake.ledger import Ledger
from penstock.model import columns as names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.lake.datafile import DataFile
    from penstock.lake.lake import Lake
    from penstock.lake.table import Table
    from penstock.model.batch import LedgerRow


@dataclass(frozen=True)
class TableCut:
    """A table in a cut: the rows of `files` whose `bound_column` is at most `bound` (all rows where that is None).

    `version` is the Delta version the files are of; `table` knows where they are (`table.path(file)`).
    """

    table: Table
    version: int
    files: tuple[DataFile, ...]
    bound_column: str | None = None
    bound: int | None = None

    @property
    def name(self) -> str:
        return self.table.name


@dataclass(frozen=True)
class Cut:
    """The batch of each pipeline (0: none yet), its ledger row, and what tables look like then."""

    rows: Mapping[str, LedgerRow | None]
    tables: Mapping[str, Table]
    ledgers: Mapping[str, Ledger]

    @property
    def batches(self) -> dict[str, int]:
        return {pipeline: row.batch if row else 0 for pipeline, row in self.rows.items()}

    def __iter__(self) -> Iterator[str]:
        """The names of the tables, sorted. One without rows in this cut is there, empty."""
        return iter(sorted(self.tables))

    def table(self, name: str) -> TableCut:
        """What `name` looks like in this cut. Looks at the table's log, not at its data.

        Raises:
            UsageError: there is no such table, or gold is no longer kept as it was then; the hint names the oldest cut.
            LakeCorrupt: the table's log ends before the version that the ledger names.
        """
        table = self.tables.get(name)
        if table is None:
            raise UsageError(f"the lake has no table {name}", hint="`penstock tables` lists them.")
        table.refresh()
        kind, short = layout.split_name(name)
        if kind is Kind.REFERENCES:
            return self._bounded(table, layout.VERSION, self._pinned(short))
        pipeline = self._owner(name)
        row = None if pipeline is None else self.rows[pipeline]
        if pipeline is None or row is None:
            return TableCut(table, table.version, ())
        version = dict(row.versions).get(name, 0)
        if table.version < version:
            raise LakeCorrupt(
                f"{name} ends at version {table.version}, but the ledger names {version}: the end of its log is gone",
                hint="Restore the table from a backup or a replica of the lake.",
            )
        if kind is not Kind.GOLD:
            return self._bounded(table, names.BATCH, row.batch)
        found = _kept_files(table, pipeline, row)
        if found is None:
            raise self._too_old(name, table, pipeline, row)
        return TableCut(table, *found)

    def _bounded(self, table: Table, column: str, bound: int) -> TableCut:
        files = tuple(file for file in table.files() if _begins_by(file, column, bound))
        return TableCut(table, table.version, files, column, bound)

    def _owner(self, name: str) -> str | None:
        """The pipeline that writes the table: by name, or because its ledger row names it."""
        kind, short = layout.split_name(name)
        if kind not in (Kind.SILVER, Kind.GOLD):
            return short if short in self.rows else None
        for pipeline, row in self.rows.items():
            if row is not None and name in dict(row.versions):
                return pipeline
        return None

    def _pinned(self, reference: str) -> int:
        """The highest version any of the batches was derived with; 0 for none."""
        pins = [dict(row.pins.references).get(reference, 0) for row in self.rows.values() if row is not None]
        return max(pins, default=0)

    def _too_old(self, name: str, table: Table, pipeline: str, row: LedgerRow) -> UsageError:
        oldest = _first_kept(self.ledgers[pipeline], row.batch, table)
        hint = "Nothing older than now is kept of it."
        if oldest is not None:
            hint = f"The oldest cut there is: --as-of {oldest.batch} ({time_text(oldest.written_at)})."
        return UsageError(f"{name} as of batch {row.batch} of {pipeline} is no longer kept", hint=hint)


def cut(lake: Lake, as_of: int | datetime | None = None, pipeline: str | None = None) -> Cut:
    """The cut as of a batch of `pipeline` (which may be left out where the lake has one), of a time, or of now.

    A batch fixes the time: every other pipeline is cut at its last ledger row written by then. A time without a zone
    is UTC. Raises UsageError where there is no such batch.
    """
    # The ledgers come first: whatever is committed after that is at batches beyond the cut, however late a table is
    # looked at.
    ledgers: dict[str, Ledger] = {}
    listed = lake.tables()
    for name in listed:
        kind, short = layout.split_name(name)
        if kind is Kind.LEDGER:
            table = lake.table(name)
            if table is not None:
                table.refresh()
                ledgers[short] = Ledger(table)
    rows = _rows_at(ledgers, as_of, pipeline)
    tables: dict[str, Table] = {}
    for name in listed:
        kind, short = layout.split_name(name)
        if kind in (Kind.CONTRACTS, Kind.MANIFESTS):
            continue
        table = ledgers[short].table if kind is Kind.LEDGER else lake.table(name)
        if table is not None:
            tables[name] = table
    return Cut(rows, tables, ledgers)


def _rows_at(
    ledgers: Mapping[str, Ledger], as_of: int | datetime | None, pipeline: str | None
) -> dict[str, LedgerRow | None]:
    if as_of is None:
        return {name: ledger.last() for name, ledger in ledgers.items()}
    if isinstance(as_of, datetime):
        moment = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        time = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
        return {name: ledger.at(time) for name, ledger in ledgers.items()}
    chosen = _chosen(ledgers, pipeline)
    row = ledgers[chosen].row(as_of)
    if row is None:
        raise UsageError(
            f"pipeline {chosen} has no batch {as_of}", hint=f"Its batches are 1 to {ledgers[chosen].position()}."
        )
    return {name: row if name == chosen else ledger.at(row.written_at) for name, ledger in ledgers.items()}


def _chosen(ledgers: Mapping[str, Ledger], pipeline: str | None) -> str:
    """The pipeline whose batch is meant."""
    if pipeline is not None and pipeline in ledgers:
        return pipeline
    known = ", ".join(sorted(ledgers)) or "none yet"
    if pipeline is not None:
        raise UsageError(f"no pipeline {pipeline} has run in this lake", hint=f"Pipelines: {known}.")
    if len(ledgers) == 1:
        return next(iter(ledgers))
    raise UsageError("a batch number needs its pipeline", hint=f"Name one of {known}, or give a time.")


def _begins_by(file: DataFile, column: str, bound: int) -> bool:
    """Whether the file can hold a row at or below the bound."""
    bounds = file.stats.get(column)
    return bounds is None or bounds[0] <= bound


def _first_kept(ledger: Ledger, batch: int, table: Table) -> LedgerRow | None:
    """The first row after `batch` as of which the table can still be read, by halving: versions only grow."""
    low, high = batch, ledger.position()
    found = ledger.row(high)
    if high <= low or found is None or _kept_files(table, ledger.pipeline, found) is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        row = ledger.row(middle)
        if row is not None and _kept_files(table, ledger.pipeline, row) is not None:
            found, high = row, middle
        else:
            low = middle
    return found


def _kept_files(table: Table, pipeline: str, row: LedgerRow) -> tuple[int, tuple[DataFile, ...]] | None:
    """The table's files as of a ledger row, and their version; None where its log entries, or files, were deleted."""
    named = dict(row.versions).get(table.name)
    if named is None:
        return None
    # Not the named version: a compaction since may have replaced its files long ago, with the same rows.
    version = table.past.last_version_of(pipeline, row.batch, named)
    try:
        files = table.files(version)
    except UsageError:
        return None
    live = {file.path for file in table.files()}
    for file in files:
        if file.path not in live and table.storage.size(f"{table.name}/{file.path}") is None:
            return None
    return version, tuple(files)


def time_text(time: int) -> str:
    """Microseconds since the epoch as people write it, in UTC."""
    moment = datetime.fromtimestamp(time // 1_000_000, UTC).replace(microsecond=time % 1_000_000)
    return moment.isoformat().replace("+00:00", "Z")
