"""`penstock audit`: checks the laws from the files, one pipeline after the other. Read `STEPS` for what is checked.

The cut is the last ledger row: what came after it is in flight and no violation. Tables are looked at downstream first,
so that a pipeline may run meanwhile. Damage never stops an audit: it becomes a violation, and the rest goes on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from penstock.errors import LakeCorrupt, PenstockError, UsageError
from penstock.lake.layout import Kind, bronze_spec, rejects_spec, split_name, table_name
from penstock.limits import GIB
from penstock.model.columns import batch_txn
from penstock.model.pipeline import FilesSource
from penstock.proof import ledger as ledgers
from penstock.proof.conservation import Conservation
from penstock.proof.duplicates import DuplicateCheck
from penstock.proof.gold import GoldCheck
from penstock.proof.manifest import check_manifest
from penstock.proof.pins import Applied, check_pins, check_reject_contracts, read_contracts
from penstock.proof.positions import check_offsets, check_order, check_rows_below
from penstock.proof.report import AuditReport, Law, PipelineReport
from penstock.proof.tables import View, check_files, take
from penstock.proof.values import check_values
from penstock.proof.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Gold, Pipeline
    from penstock.proof.ledger import Ledger

DAMAGE = (duckdb.Error, pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError)
"""What reading stored bytes raises when they are not what was written."""


def audit(
    lake: Lake,
    parse: Callable[[str], Pipeline],
    *,
    pipelines: Sequence[str] | None = None,
    from_batch: int = 1,
    memory_bytes: int = GIB,
    threads: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Check the laws for some pipelines (all by default), from a batch on, in bounded memory.

    `parse` turns a contract's text into the pipeline it declares; it raises PenstockError for text that is none.
    `progress` is told, now and then, what is being done.

    Raises:
        UsageError: there is no such pipeline, or the memory does not suffice.
    """
    known = pipeline_names(lake)
    for name in pipelines or ():
        if name not in known:
            raise UsageError(f"the lake has no pipeline {name!r}", hint=f"It has: {', '.join(known) or 'none yet'}.")
    reports = {}
    with Witness(memory_bytes=memory_bytes, threads=threads, filesystem=lake.storage.filesystem) as witness:
        for name in known if pipelines is None else pipelines:
            check = _PipelineAudit(lake, parse, witness, name, max(1, from_batch), threads, progress)
            reports[name] = check.run()
    return AuditReport(reports)


def pipeline_names(lake: Lake) -> list[str]:
    """The pipelines that have ever run in this lake."""
    kinds = (Kind.CONTRACTS, Kind.LEDGER, Kind.BRONZE)
    return sorted({name for kind, name in map(split_name, lake.tables()) if kind in kinds})


@dataclass
class _Tables:
    """The tables of a pipeline at the cut; those that do not exist are empty views."""

    bronze: View
    silver: View
    rejects: View
    golds: list[tuple[Gold, View]]
    references: dict[str, View]
    manifest: View | None


@dataclass
class _PipelineAudit:
    lake: Lake
    parse: Callable[[str], Pipeline]
    witness: Witness
    name: str
    from_batch: int
    threads: int
    progress: Callable[[str], None]
    report: PipelineReport = field(default_factory=PipelineReport)

    def run(self) -> PipelineReport:
        self.progress(f"{self.name}: looking at the tables")
        with self._guarded(table_name(Kind.LEDGER, self.name)):
            self._run()
        return self.report

    def _run(self) -> None:
        ledger_view = self._view(Kind.LEDGER, self.name)
        contracts_view = self._view(Kind.CONTRACTS, self.name)
        self._check_files([view for view in (ledger_view, contracts_view) if view is not None])
        applied = Applied({}, frozenset(), frozenset())
        if contracts_view is not None:
            with self._guarded(contracts_view.name):
                applied = read_contracts(self.witness, contracts_view, self.parse, self.report)
        if ledger_view is None:
            return
        ledger = ledgers.read(self.witness, ledger_view, self.name, applied, self.report)
        if ledger is None:
            return
        pipeline = applied.contracts.get(int(ledger.contracts[-1])) or next(
            (applied.contracts[version] for version in sorted(applied.contracts, reverse=True)), None
        )
        if pipeline is None:
            self.report.broken(Law.DETERMINISM, contracts_view.name if contracts_view else "", "there is no contract")
            return
        tables = self._take(pipeline, ledger)
        self._check_files(
            [
                *(tables.bronze, tables.silver, tables.rejects),
                *(view for _, view in tables.golds),
                *tables.references.values(),
                *([tables.manifest] if tables.manifest else []),
            ]
        )
        self._check_laws(pipeline, applied, ledger, tables)

    # -- looking ------------------------------------------------------------------------------------------------------

    def _take(self, pipeline: Pipeline, ledger: Ledger) -> _Tables:
        """Look at the tables, each before those it is derived from."""
        golds = [(gold, self._gold_view(gold, ledger)) for gold in pipeline.gold]
        rejects = self._view_or_broken(Kind.REJECTS, self.name)
        silver = self._view_or_broken(Kind.SILVER, pipeline.silver.table)
        bronze = self._view_or_broken(Kind.BRONZE, self.name)
        references = {one.name: self._view(Kind.REFERENCES, one.name) for one in pipeline.references}
        is_files = isinstance(pipeline.source.origin, FilesSource)
        return _Tables(
            bronze,
            silver,
            rejects,
            golds,
            {name: view for name, view in references.items() if view is not None},
            self._view_or_broken(Kind.MANIFESTS, self.name) if is_files else None,
        )

    def _gold_view(self, gold: Gold, ledger: Ledger) -> View:
        """The gold table as the cut has it: now, unless it has gone on since; then before its next batch."""
        name = table_name(Kind.GOLD, gold.name)
        view = self._view_or_broken(Kind.GOLD, gold.name)
        version = ledger.versions.get(name)
        if view.txns.get(batch_txn(self.name), 0) > ledger.last and version is not None:
            with self._guarded(name):
                table = self.lake.table(name)
                if table is not None:
                    last = table.past.last_version_of(self.name, ledger.last, version)
                    return take(table, self.witness, version=last)
        return view

    def _view(self, kind: Kind, name: str) -> View | None:
        """A table as it is now; None where there is none, or its log cannot be read."""
        full = table_name(kind, name)
        with self._guarded(full):
            table = self.lake.table(full)
            return None if table is None else take(table, self.witness)
        return None

    def _view_or_broken(self, kind: Kind, name: str) -> View:
        view = self._view(kind, name)
        if view is not None:
            return view
        full = table_name(kind, name)
        if kind is not Kind.REJECTS:
            self.report.broken(Law.LOUD, full, "the table is missing or cannot be read")
        spec = bronze_spec(name) if kind is Kind.BRONZE else rejects_spec(name)
        return View(full, -1, self.witness.types_of(spec.file_schema), (), lambda _: "", {})

    def _check_files(self, views: Sequence[View]) -> None:
        check_files(views, self.threads, progress=lambda text: self.progress(f"{self.name}: {text}"))
        for view in views:
            for damage in view.damage:
                self.report.broken(Law.LOUD, view.name, f"file {damage}")

    # -- checking -----------------------------------------------------------------------------------------------------

    def _check_laws(self, pipeline: Pipeline, applied: Applied, ledger: Ledger, tables: _Tables) -> None:
        witness, report, name = self.witness, self.report, self.name
        for view in (tables.bronze, tables.silver, tables.rejects, *(view for _, view in tables.golds)):
            with self._guarded(view.name):
                if view.types:
                    check_rows_below(witness, name, view, report)
        golds = [view for _, view in tables.golds]
        check_order(name, tables.bronze, tables.silver, tables.rejects, golds, ledger.view, report)
        with self._guarded(tables.bronze.name):
            check_offsets(witness, name, tables.bronze, ledger, report)
        with self._guarded(ledger.view.name):
            check_pins(witness, ledger, applied, tables.references, report)
        if tables.manifest is not None:
            with self._guarded(tables.manifest.name):
                check_manifest(witness, tables.manifest, ledger, report)
        if self.from_batch > ledger.last:
            return
        with self._guarded(tables.rejects.name):
            check_reject_contracts(witness, ledger, tables.rejects, self.from_batch, report)
        self._check_rows(pipeline, applied, ledger, tables)

    def _check_rows(self, pipeline: Pipeline, applied: Applied, ledger: Ledger, tables: _Tables) -> None:
        witness, report = self.witness, self.report

        def progress(text: str) -> None:
            self.progress(f"{self.name}: {text}")

        with self._guarded(tables.bronze.name):
            conservation = Conservation(
                witness,
                lambda contract: applied.contracts.get(contract, pipeline).source,
                ledger,
                tables.bronze,
                tables.silver,
                tables.rejects,
                report,
                applied.topics,
            )
            conservation.run(self.from_batch, progress)
        for first, last, contract in ledger.chunks(self.from_batch, sys.maxsize):
            with self._guarded(tables.silver.name):
                declared = applied.contracts.get(contract, pipeline)
                check_values(witness, declared, tables.silver, (first, last), report)
        progress("looking for duplicates")
        with self._guarded(tables.silver.name):
            DuplicateCheck(witness, pipeline, tables.silver, tables.rejects, self.from_batch, ledger.last, report).run()
        before = ledgers.closed_until(witness, ledger.view, self.from_batch - 1) if self.from_batch > 1 else None
        for gold, view in tables.golds:
            progress(f"computing {view.name} again")
            with self._guarded(view.name):
                GoldCheck(
                    witness,
                    gold,
                    pipeline.silver,
                    tables.silver,
                    view,
                    ledger.last,
                    ledger.closed_until,
                    self.from_batch,
                    before,
                    report,
                ).run()

    def _guarded(self, table: str) -> _Guard:
        return _Guard(self.report, table)


class _Guard:
    """Turns what damaged data raises into a violation."""

    def __init__(self, report: PipelineReport, table: str) -> None:
        self._report = report
        self._table = table

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            return False
        if isinstance(error, UsageError) and not isinstance(error.__cause__, duckdb.OutOfMemoryException):
            self._report.broken(Law.LOUD, self._table, f"cannot be checked: {error.message}")
            return True
        if isinstance(error, LakeCorrupt) or (isinstance(error, DAMAGE) and not isinstance(error, PenstockError)):
            message = error.message if isinstance(error, LakeCorrupt) else str(error).strip().splitlines()[0]
            self._report.broken(Law.LOUD, self._table, f"cannot be read: {message}")
            return True
        return False
