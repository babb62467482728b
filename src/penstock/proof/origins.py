"""Where rows come from: the pipeline that owns a table, the records of events, and the batches they came in.

`trace.py` asks; whatever is read here was verified just before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.errors import PenstockError, UsageError
from penstock.lake.layout import LEDGER_COUNTS, Kind, table_name
from penstock.model.columns import (
    BATCH,
    INDEX,
    INGESTED_AT,
    OFFSET,
    PARTITION,
    PLACE,
    SOURCE,
    TIMESTAMP,
    batch_txn,
)
from penstock.model.position import Incarnation, Place, SourceIdentity
from penstock.proof.audit import pipeline_names
from penstock.proof.facts import BatchFact, RecordFact
from penstock.proof.lookup import verified, view_of, within
from penstock.proof.manifest import files_sql
from penstock.proof.tables import take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.lake.datafile import DataFile
    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Pipeline
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness

    Row = dict[str, Any]
    Event = tuple[Place, int, int]


@dataclass(frozen=True)
class Owner:
    """A pipeline with all of its contracts that can be read, and its incarnations."""

    pipeline: Pipeline
    contracts: Mapping[int, tuple[str, Pipeline | None]]
    incarnations: Mapping[int, Incarnation]


def find_owner(
    lake: Lake, witness: Witness, parse: Callable[[str], Pipeline], kind: Kind, name: str, threads: int
) -> Owner:
    """The pipeline that writes a table.

    Raises:
        UsageError: no pipeline does, or none of its contracts can be understood.
    """
    known = []
    for candidate in pipeline_names(lake):
        if kind in (Kind.BRONZE, Kind.REJECTS) and candidate != name:
            known.append(candidate)
            continue
        owner = _contracts(lake, witness, parse, candidate, threads)
        if owner is None:
            continue
        declared = owner.pipeline
        if kind is Kind.SILVER:
            tables = [declared.silver.table]
        else:
            tables = [gold.name for gold in declared.gold] if kind is Kind.GOLD else [declared.name]
        if name in tables:
            return owner
        known += tables
    shown = ", ".join(known) or "none yet"
    raise UsageError(f"the lake has no {kind} table {name!r}", hint=f"Known: {shown}.")


def _contracts(
    lake: Lake, witness: Witness, parse: Callable[[str], Pipeline], pipeline: str, threads: int
) -> Owner | None:
    view = view_of(lake, witness, Kind.CONTRACTS, pipeline)
    if view is None:
        return None
    rows = witness.rows(f"SELECT * EXCLUDE (applied_at) FROM {verified(view, threads).relation()} ORDER BY version")
    contracts: dict[int, tuple[str, Pipeline | None]] = {}
    for row in rows:
        if row["kind"] == "contract":
            try:
                contracts[row["version"]] = row["hash"], parse(row["text"] or "")
            except PenstockError:
                contracts[row["version"]] = row["hash"], None
    readable = [parsed for _, parsed in contracts.values() if parsed is not None]
    if not readable:
        raise UsageError(
            f"no contract of {pipeline} can be understood",
            hint="Run `penstock audit`, which says what is wrong with it.",
        )
    incarnations = {
        row["version"]: Incarnation(
            row["version"], SourceIdentity(row["source_kind"], row["source_name"], row["source_id"])
        )
        for row in rows
        if row["kind"] == "source"
    }
    return Owner(readable[-1], contracts, incarnations)


@dataclass
class Origins:
    """The tables of one pipeline, read for a trace. `witness` answers."""

    lake: Lake
    witness: Witness
    owner: Owner
    threads: int
    _views: dict[str, View | None] = field(default_factory=dict)
    _whole: dict[str, View] = field(default_factory=dict)

    # -- tables -------------------------------------------------------------------------------------------------------

    def has(self, kind: Kind, name: str) -> bool:
        """Whether the lake has a table."""
        return self._view(kind, name) is not None

    def read(self, kind: Kind, name: str, wanted: Callable[[DataFile], bool] | None = None) -> View:
        """A table with the wanted files, verified.

        Raises:
            UsageError: there is no such table.
            LakeCorrupt: one of the files is not what was written.
        """
        full = table_name(kind, name)
        view = self._view(kind, name)
        if view is None:
            raise UsageError(
                f"the lake has no table {kind}.{name}", hint="Has the pipeline run? `penstock status` tells."
            )
        if wanted is not None:
            return verified(view, self.threads, wanted)
        if full not in self._whole:
            self._whole[full] = verified(view, self.threads)
        return self._whole[full]

    def _view(self, kind: Kind, name: str) -> View | None:
        full = table_name(kind, name)
        if full not in self._views:
            gold_cut = self.cut() if kind is Kind.GOLD else 0  # the ledger comes first: gold is never behind it
            view = view_of(self.lake, self.witness, kind, name)
            if view is not None and view.txns.get(batch_txn(self.owner.pipeline.name), 0) > gold_cut > 0:
                view = self._gold_at(view, gold_cut)
            self._views[full] = view
        return self._views[full]

    def _gold_at(self, view: View, cut: int) -> View:
        """A gold table that has gone on since the cut, as it was then: any row may have been corrected."""
        ledger = self.read(Kind.LEDGER, self.owner.pipeline.name)
        rows = self.witness.rows(ledger.select(["versions"], f"{BATCH} = {cut}"))
        named = next((one["version"] for one in rows[0]["versions"] if one["table"] == view.name), None)
        table = self.lake.table(view.name)
        if named is None or table is None:
            return view
        version = table.past.last_version_of(self.owner.pipeline.name, cut, named)
        return take(table, self.witness, version=version)

    def cut(self) -> int:
        """The last batch of the ledger."""
        name = self.owner.pipeline.name
        if not self.has(Kind.LEDGER, name):
            return 0
        ledger = self.read(Kind.LEDGER, name)
        return int(self.witness.value(f"SELECT coalesce(max({BATCH}), 0)::BIGINT FROM {ledger.relation()}"))

    def contract_of(self, batch: int) -> Pipeline:
        """The pipeline as the contract of a batch declares it."""
        ledger = self.read(Kind.LEDGER, self.owner.pipeline.name)
        found = self.witness.rows(ledger.select(["contract"], f"{BATCH} = {batch}"))
        pinned = self.owner.contracts.get(found[0]["contract"], ("", None))[1] if found else None
        return pinned or self.owner.pipeline

    # -- records and batches ------------------------------------------------------------------------------------------

    def records(self, events: Sequence[Event], *, any_batch: bool = False) -> dict[tuple[Place, int], RecordFact]:
        """The records of events, by place and batch; read from the files that can hold them."""
        if not events:
            return {}
        wanted = pa.table(
            {
                SOURCE: pa.array([place.source for place, _, _ in events], pa.int32()),
                PARTITION: pa.array([place.partition for place, _, _ in events], pa.int32()),
                OFFSET: pa.array([place.offset for place, _, _ in events], pa.int64()),
                BATCH: pa.array([batch for _, _, batch in events], pa.int64()),
            }
        )

        def may_hold(file: DataFile) -> bool:
            return any(
                within(file, SOURCE, place.source, place.source)
                and within(file, PARTITION, place.partition, place.partition)
                and within(file, OFFSET, place.offset, place.offset)
                and (any_batch or within(file, BATCH, batch, batch))
                for place, _, batch in events
            )

        view = self.read(Kind.BRONZE, self.owner.pipeline.name, may_hold)
        keys = PLACE if any_batch else (*PLACE, BATCH)
        low, high = min(place.offset for place, _, _ in events), max(place.offset for place, _, _ in events)
        with self.witness.registered("wanted_records", wanted):
            rows = self.witness.rows(
                f"SELECT b.* FROM {view.relation()} b SEMI JOIN wanted_records w "
                f"ON {' AND '.join(f'b.{name} = w.{name}' for name in keys)} WHERE b.{OFFSET} BETWEEN {low} AND {high}"
            )
        files = self._paths({place_of(row) for row in rows})
        return {(place_of(row), row[BATCH]): _record(row, files.get(place_of(row))) for row in rows}

    def _paths(self, places: set[Place]) -> dict[Place, str]:
        """The file each place is in, for a files source."""
        if not places or not self.has(Kind.MANIFESTS, self.owner.pipeline.name):
            return {}
        view = self.read(Kind.MANIFESTS, self.owner.pipeline.name)
        wanted = pa.table(
            {
                "source": pa.array([place.source for place in places], pa.int32()),
                "offset_wanted": pa.array([place.offset for place in places], pa.int64()),
            }
        )
        with self.witness.registered("wanted_places", wanted):
            rows = self.witness.rows(
                f"SELECT w.source, w.offset_wanted, f.path FROM wanted_places w JOIN ({files_sql(view)}) f ON "
                f'w.source = f.source AND w.offset_wanted >= f.first AND w.offset_wanted < coalesce(f."end", {1 << 62})'
            )
        return {Place(row["source"], 0, row["offset_wanted"]): row["path"] for row in rows}

    def batches(self, batches: set[int]) -> tuple[BatchFact, ...]:
        """The ledger rows of batches, in short."""
        if not batches:
            return ()
        ledger = self.read(Kind.LEDGER, self.owner.pipeline.name)
        listed = ", ".join(str(batch) for batch in sorted(batches))
        rows = self.witness.rows(
            f"SELECT * EXCLUDE (watermark, closed_until) FROM {ledger.relation()} "
            f"WHERE {BATCH} IN ({listed}) ORDER BY {BATCH}"
        )
        return tuple(self._batch(row) for row in rows)

    def _batch(self, row: Row) -> BatchFact:
        ranges = row["ranges"] or []
        sources = sorted({one["source"] for one in ranges})
        return BatchFact(
            batch=row[BATCH],
            written_at=row["written_at"],
            contract=row["contract"],
            contract_hash=self.owner.contracts.get(row["contract"], ("", None))[0],
            refine=row["refine"],
            references=tuple((one["reference"], one["version"]) for one in row["references"] or []),
            ranges=tuple(
                f"{one['source']}/{one['partition']}/{one['start_offset']}..{one['end_offset']}" for one in ranges
            ),
            counts={name: row[name] for name in LEDGER_COUNTS},
            sources=tuple(self.owner.incarnations[source] for source in sources if source in self.owner.incarnations),
        )


def place_of(row: Row) -> Place:
    """The place a row names."""
    return Place(row[SOURCE], row[PARTITION], row[OFFSET])


def event_of(row: Row) -> Event:
    """The place, index and batch a row names."""
    return place_of(row), row[INDEX], row[BATCH]


def _record(row: Row, file: str | None) -> RecordFact:
    headers = tuple((one["key"], one["value"]) for one in row["headers"] or ())
    return RecordFact(
        place_of(row), row[BATCH], row[TIMESTAMP], row[INGESTED_AT], row["key"], row["value"], headers, file
    )
