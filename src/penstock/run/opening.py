"""Opens a pipeline for running: recovery, tables, fencing, contract, references, source, in the order that is safe."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.engines.contract import Job
from penstock.lake import layout
from penstock.lake.contracts import Contracts
from penstock.lake.fence import take_over
from penstock.lake.ledger import Ledger
from penstock.lake.manifest import TableManifest
from penstock.lake.recovery import recover
from penstock.lake.references import References
from penstock.limits import KEY_INDEX_BYTES_MAX
from penstock.model.batch import Pins
from penstock.plan.compile import compile as compile_plan
from penstock.run.contracting import apply_contract, choose_incarnation, refuse_changes_of_meaning
from penstock.run.duplicates import Duplicates
from penstock.run.gold import GoldKeeper
from penstock.run.plans import Plans
from penstock.run.protocol import BatchProtocol
from penstock.run.references import ReferenceKeeper
from penstock.run.silverkeys import SilverKeys
from penstock.run.silverwindows import SilverWindows
from penstock.run.tables import PipelineTables
from penstock.sources.opening import open_source, refuse_absent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.lake.fence import Writer
    from penstock.lake.lake import Lake
    from penstock.lake.layout import TableSpec
    from penstock.lake.table import Table
    from penstock.plan.gold import GoldPlan
    from penstock.plan.nouns import Plan
    from penstock.run.context import PipelineContext, RunOptions
    from penstock.run.patience import Patience
    from penstock.sources.contract import Source


@dataclass(frozen=True)
class Opened:
    """A pipeline that may be run by this process and no other."""

    protocol: BatchProtocol
    references: ReferenceKeeper
    source: Source
    incarnation: int
    contract: int
    refine: int

    def pins(self) -> Pins:
        """What a batch that starts now is derived with."""
        return Pins(self.contract, self.refine, self.references.versions)


def open_pipeline(
    context: PipelineContext, options: RunOptions, report: Callable[[str], None], patience: Patience
) -> Opened:
    """Take the pipeline over. The caller holds the lake's lock of the pipeline.

    Raises:
        UsageError: the engine cannot reach the source.
        DeclarationError: the declaration changes the meaning of rows that are there.
        LakeCorrupt: the tail of a table is damaged, and something was built on it.
        SourceLost: the source is not the one the lake knows, or has lost records.
        Fenced: another writer took over meanwhile.
        TransientError: the source did not answer for too long.
        Stopped: the run was stopped while the source was waited for.
    """
    pipeline, lake, name = context.pipeline, context.lake, context.pipeline.name
    context.engine.refuse_unreachable(pipeline)
    for line in recover(lake, name):
        report(line)
    existing = lake.table(layout.table_name(layout.Kind.CONTRACTS, name))
    if existing is None:
        # A mistaken path is found before the lake has anything that a corrected one would change.
        patience.insist(
            lambda: refuse_absent(pipeline.source, folder=context.folder, state_folder=context.lake.state_folder)
        )
    else:
        refuse_changes_of_meaning(Contracts(existing), pipeline, context.parse, context.compare)

    # The tables that need no plan come first: loading references takes a writer, and the plan takes references.
    contracts_table = lake.create(layout.contracts_spec(name))
    manifest_table = lake.create(layout.manifest_spec(name)) if pipeline.source.origin.kind == "files" else None
    upstream = [table for table in (contracts_table, manifest_table) if table is not None]
    writer = take_over(name, upstream)
    contracts = Contracts(contracts_table)
    store = References(lake)
    references = ReferenceKeeper(pipeline.references, context.folder, store, context.clock, report)
    references.load_if_changed(writer, first=True)

    plan = compile_plan(pipeline, references.columns(references.versions))
    context.engine.register(plan.refine)
    tables = _open_tables(lake, plan, context, writer, contracts, manifest_table)
    contract = apply_contract(contracts, writer, pipeline, context.parse, context.clock.now())
    plans = Plans(contracts, references, context.parse)
    opened = context.clock.now()
    manifest = None if manifest_table is None else TableManifest(manifest_table, writer)
    with ExitStack() as on_failure:
        with tables.owned():
            source, incarnation = patience.insist(
                lambda: _open_source(context, manifest, contracts, writer, opened, options)
            )
            on_failure.callback(source.close)
            position, fingerprints = tables.position(incarnation), tables.fingerprints(incarnation)
            patience.insist(lambda: source.resume(position, fingerprints))
        job = Job(
            pipeline=pipeline,
            folder=context.folder,
            settings=context.settings,
            lake=lake,
            writer=writer,
            source=source,
            incarnation=incarnation,
            bronze=tables.bronze,
            rejects=tables.rejects,
            silver=tables.silver,
            golds=plan.golds,
            refine_version=context.refine_version,
        )
        protocol = BatchProtocol(
            tables=tables,
            gold=_gold_keepers(plan, tables, context),
            plans=plans,
            references=references,
            duplicates=_duplicates(plan, tables, context),
            deriver=context.engine.deriver(job),
            clock=context.clock,
            after_step=context.after_step,
        )
        on_failure.pop_all()
    return Opened(protocol, references, source, incarnation, contract, context.refine_version)


def _open_tables(
    lake: Lake,
    plan: Plan,
    context: PipelineContext,
    writer: Writer,
    contracts: Contracts,
    manifest: Table | None,
) -> PipelineTables:
    """Create what is missing, add new columns, and make the writer known to every table, upstream first."""
    pipeline = plan.pipeline
    silver_spec = layout.silver_spec(
        pipeline.silver.table, plan.silver_columns, pipeline.silver.event_time, pipeline.silver.key
    )
    bronze = lake.create(layout.bronze_spec(pipeline.name))
    rejects = lake.create(layout.rejects_spec(pipeline.name))
    silver = lake.create(silver_spec)
    gold = tuple(lake.create(gold_table_spec(gold_plan, silver_spec, context)) for gold_plan in plan.golds)
    ledger = lake.create(layout.ledger_spec(pipeline.name))
    take_over(pipeline.name, [bronze, rejects, silver, *gold, ledger], writer=writer)
    silver.evolve(writer, silver_spec)
    return PipelineTables(pipeline.name, writer, bronze, rejects, silver, gold, Ledger(ledger), contracts, manifest)


def gold_table_spec(plan: GoldPlan, silver: TableSpec, context: PipelineContext) -> TableSpec:
    """The gold table's columns, with the types the engine finds for the measures."""
    found = context.engine.schema(plan.recompute_sql, {"rows": silver.schema})
    return layout.gold_spec(
        plan.name, [found.field(name) for name in plan.by], [found.field(name) for name in plan.measures]
    )


def _gold_keepers(plan: Plan, tables: PipelineTables, context: PipelineContext) -> tuple[GoldKeeper, ...]:
    rows = SilverWindows(tables.silver, plan.pipeline.silver.event_time, context.engine)
    return tuple(
        GoldKeeper(gold_plan, table, rows, context.engine)
        for gold_plan, table in zip(plan.golds, tables.gold, strict=True)
    )


def _duplicates(plan: Plan, tables: PipelineTables, context: PipelineContext) -> Duplicates | None:
    silver = plan.pipeline.silver
    if not silver.key:
        return None
    keys = SilverKeys(tables.silver, plan.refine, silver, context.engine)
    spill_folder: Path = context.scratch_folder
    return Duplicates(keys.load, memory_bytes=KEY_INDEX_BYTES_MAX, spill_folder=spill_folder)


def _open_source(
    context: PipelineContext,
    manifest: TableManifest | None,
    contracts: Contracts,
    writer: Writer,
    now: int,
    options: RunOptions,
) -> tuple[Source, int]:
    """Open the source once to learn who it is, and under its incarnation's number."""

    def opened(incarnation: int) -> Source:
        return open_source(
            context.pipeline.source,
            pipeline=context.pipeline.name,
            incarnation=incarnation,
            folder=context.folder,
            state_folder=context.lake.state_folder,
            manifest=manifest,
            record_bytes_max=context.settings.record_bytes_max,
            push_bytes_max=context.settings.push_bytes_max,
            clock=context.clock.now,
            read_ahead=not context.engine.reads_apart,
        )

    known = contracts.incarnations()
    incarnation = known[-1].number if known else 1
    source = opened(incarnation)
    try:
        number = choose_incarnation(contracts, writer, source.identity, now, accept_new=options.new_incarnation)
    except BaseException:
        source.close()
        raise
    if number != incarnation:
        source.close()
        source = opened(number)
    return source, number
