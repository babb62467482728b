"""The composition root: everything a person does with a project folder, as methods of `Project`.

The command line prints what these return; Python programs use them as they are (`penstock.open`). How each is done is
in the package it calls: here is only which parts it takes. Of which kind those are is chosen in `lake/opening.py`,
`sources/opening.py` and `ops/contexts.py`.
"""

from __future__ import annotations

import os
import re
import threading
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penstock.declare.project import load_project
from penstock.errors import DeclarationError, UsageError
from penstock.lake.cuts import cut
from penstock.lake.lake import Lake
from penstock.lake.opening import is_uri, open_storage, store_options
from penstock.limits import TRACE_ROWS_MAX
from penstock.model.kafka import KafkaSource
from penstock.model.position import Place
from penstock.ops import cases, facts, maintaining, offsets, running, simulation
from penstock.ops.checking import check_pipelines, reference_columns
from penstock.ops.contexts import contexts, parser
from penstock.ops.ingest import Ingested, Pusher
from penstock.ops.topics import create_topics, describe_topics, list_topics, of_kafka, with_lag
from penstock.plan import compile as compile_plan
from penstock.plan.explain import Explanation, explain
from penstock.proof import rejects
from penstock.proof.audit import audit
from penstock.proof.trace import trace_back, trace_forward
from penstock.run.context import RunOptions, SystemClock, no_step, no_words
from penstock.run.service import run_pipeline
from penstock.serving.catalog import catalog, parse_as_of
from penstock.serving.frames import as_frame
from penstock.serving.query import QueryBounds, QueryResult, query
from penstock.settings import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from penstock.declare.project import LoadedProject
    from penstock.declare.testfile import PipelineTest
    from penstock.lake.maintenance import Rewritten, Vacuumed
    from penstock.lake.storage import Storage
    from penstock.lake.table import Table
    from penstock.model.finding import Finding
    from penstock.model.pipeline import Pipeline
    from penstock.ops.topics import TopicDescription, TopicState
    from penstock.plan import Plan
    from penstock.proof.facts import Trace
    from penstock.proof.rejects import Reject, RejectCount
    from penstock.proof.report import AuditReport
    from penstock.run.context import BatchDone, RunSummary
    from penstock.settings import Settings

Frame = Literal["arrow", "pandas", "polars"]


def open_project(folder: str | os.PathLike[str], settings: Mapping[str, object] | None = None) -> Project:
    """The project in `folder`. Findings in pipelines and tests wait for `check` and `run`.

    Args:
        settings: by name; they go before the environment and penstock.yaml.

    Raises:
        UsageError: there is no project in the folder.
        DeclarationError: a setting is wrong.
    """
    path = Path(folder)
    flags = {name: str(value) for name, value in (settings or {}).items()}
    unknown = flags.keys() - BY_NAME.keys()
    if unknown:
        raise UsageError(f"there is no setting {min(unknown)}", hint=_nearest(min(unknown), BY_NAME, "settings"))
    loaded = load_project(path, os.environ, flags)
    wrong = tuple(finding for finding in loaded.findings if finding.code in ("no-project", "bad-setting"))
    if wrong:
        raise DeclarationError(wrong)
    return Project(path, loaded)


class Project:
    """A project folder. Get one from `penstock.open`. Methods that name pipelines take all of them where none is named.

    Every method may raise StorageError where the disk refuses, and UsageError for names that the project does not have.
    """

    def __init__(self, folder: Path, loaded: LoadedProject) -> None:
        self.folder = folder
        self._loaded = loaded
        self.lake = Lake(_storage(folder, loaded.settings))

    @property
    def settings(self) -> Settings:
        return self._loaded.settings

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """The pipelines whose files are sound."""
        return self._loaded.pipelines

    @property
    def tests(self) -> tuple[PipelineTest, ...]:
        """The test files that are sound."""
        return self._loaded.tests

    # -- declaring ----------------------------------------------------------------------------------------------------

    def check(self) -> tuple[Finding, ...]:
        """Every finding about the project's files; empty when it can run."""
        return self._loaded.findings or check_pipelines(self.pipelines, self.folder, self.settings)

    def explain(self, pipelines: Sequence[str] = ()) -> dict[str, Explanation]:
        """What each pipeline will do: tables, columns with types and lineage, SQL, rules.

        Raises:
            DeclarationError: a file of the project, or a reference, has findings.
        """
        chosen = self._chosen(pipelines)
        self._require_sound()
        return {pipeline.name: explain(self._plan(pipeline)) for pipeline in chosen}

    def test(self, names: Sequence[str] = ()) -> Iterator[cases.CaseResult]:
        """Run the project's tests, or those named, one after the other.

        Raises:
            DeclarationError: a file of the project has findings.
        """
        self._require_sound()
        known = {test.name: test for test in self.tests}
        pipelines = {pipeline.name: pipeline for pipeline in self.pipelines}
        for name in names:
            if name not in known:
                raise UsageError(f"there is no test {name}", hint=_nearest(name, known, "tests"))
        for test in self.tests if not names else [known[name] for name in names]:
            yield cases.run_case(test, pipelines[test.pipeline], self.folder, self.settings, os.environ)

    # -- putting in ---------------------------------------------------------------------------------------------------

    def pusher(self, pipeline: str | None = None) -> Pusher:
        """A way to push records into a pipeline's log; use it with `with`. See `ingest` for a single call."""
        declared = self._push_pipeline(pipeline)
        source = facts.incarnation(self.lake, declared.name)
        return Pusher(declared, self.settings, self.lake.state_folder, source)

    def ingest(self, pipeline: str, data: Any) -> Ingested:
        """Push records and return their places; all are durable when this returns.

        Args:
            data: a list of bytes, texts or dictionaries; an Arrow table, a pandas or a polars frame, each row of which
                becomes a JSON object; or the path of a file.

        Raises:
            UsageError: the data is of another kind, or a record is over the size limit.
            TransientError: the log stayed full.
        """
        with self.pusher(pipeline) as pusher:
            return pusher.file(data) if isinstance(data, Path) else pusher.values(data)

    def simulate(
        self,
        pipeline: str | None = None,
        *,
        world: str | None = None,
        rate: int | None = None,
        seconds: float | None = None,
        events: int | None = None,
        faults: float = 0.02,
        seed: int = 1,
        to: str | None = None,
        transactional: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> simulation.Simulated:
        """Send made-up events to a pipeline's log or topic and write the truth about them to `truth/`.

        Args:
            to: `push` or `kafka`, where the project has pipelines of both kinds and none is named.
            transactional: send to a topic in transactions.
        """
        declared = self._fed_pipeline(pipeline, to)
        with self._feeder(declared, transactional=transactional) as feeder:
            return simulation.simulate(
                feeder,
                declared,
                self.folder / simulation.TRUTH_FOLDER,
                world=world or simulation.guess_world(declared),
                rate=rate,
                seconds=seconds,
                events=events,
                faults=faults,
                seed=seed,
                progress=progress,
            )

    def reconcile(self, pipeline: str | None = None) -> simulation.Reconciled:
        """Compare where each simulated record ended with where it must end by the truth files."""
        declared = self._fed_pipeline(pipeline, None)
        truth = simulation.read_truth(self.folder / simulation.TRUTH_FOLDER, declared.name)
        place = "_source, _partition, _offset"
        return simulation.reconcile(
            truth,
            self.sql(f"select {place} from silver.{declared.silver.table}"),
            self.sql(f"select {place}, disposition from rejects.{declared.name}"),
        )

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, pipelines: Sequence[str] = (), **options: Any) -> tuple[RunSummary, ...]:
        """Run pipelines as `run_outcome` does; the worst failure is raised.

        Raises:
            DeclarationError, RuleStopped, Fenced, SourceLost, LakeCorrupt, StorageError: as the exit codes say.
        """
        outcome = self.run_outcome(pipelines, **options)
        outcome.raise_worst()
        return tuple(outcome.summaries.values())

    def run_once(self, *pipelines: str, **options: Any) -> tuple[RunSummary, ...]:
        """Absorb everything there is, close all windows, and return what was done."""
        return self.run(pipelines, once=True, **options)

    def run_outcome(
        self,
        pipelines: Sequence[str] = (),
        *,
        once: bool = False,
        keep_open: bool = False,
        batch_rows: int | None = None,
        new_incarnation: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[BatchDone], None] = lambda _: None,
        after_step: Callable[[str, int], None] = no_step,
        tell: Callable[[str], None] = no_words,
    ) -> running.RunOutcome:
        """Run pipelines side by side until they end (`once`), `stop` is set or one fails, which stops the others.

        Args:
            keep_open: with `once`, do not close the open windows at the end.
            new_incarnation: accept a source that is not the one the lake knows.
            progress: called after each batch, from the pipelines' threads.
            after_step: called after each numbered step of a batch; for tests.
            tell: called with what an operator should know at once, from the pipelines' threads.

        Raises:
            DeclarationError: a file of the project has findings.
        """
        chosen = self._chosen(pipelines)
        self._require_sound()
        if not chosen:
            raise UsageError("the project has no pipelines", hint="Declare one in pipelines/NAME.yaml.")
        options = RunOptions(once, keep_open, batch_rows, None, new_incarnation)
        stop = stop or threading.Event()
        made_for = self.folder, self.lake, self.settings
        with contexts(chosen, *made_for, after_step=after_step, tell=tell, stop=stop) as made:
            return running.run_all(made, options, stop, progress, run_pipeline)

    # -- looking ------------------------------------------------------------------------------------------------------

    def query(self, sql: str, *, as_of: str | int | None = None, verify: bool = False) -> QueryResult:
        """Run one SELECT over one consistent cut; the result streams. Use it with `with`.

        Args:
            as_of: a batch (`12`, `ticks:12`) or a time (ISO 8601, UTC).
            verify: check the files the query uses against their checksums first.

        Raises:
            QueryError: the query cannot be answered.
            LakeCorrupt: with `verify`, a file is not what was written.
        """
        moment, pipeline = parse_as_of(None if as_of is None else str(as_of))
        storage = self.lake.storage
        relations = catalog(cut(self.lake, moment, pipeline), storage)
        bounds = QueryBounds(memory_bytes=self.settings.memory_bytes, threads=self.settings.threads)
        return query(sql, relations, verify=verify, bounds=bounds, filesystem=storage.filesystem)

    def sql(self, sql: str, *, as_of: str | int | None = None, verify: bool = False, as_: Frame = "arrow") -> Any:
        """The result of one SELECT as a pyarrow.Table, or as a pandas or polars frame. See `query`."""
        with self.query(sql, as_of=as_of, verify=verify) as result:
            return as_frame(result.table(), as_)

    def tables(self) -> tuple[facts.TableFacts, ...]:
        """Every table of the lake."""
        return facts.all_tables(self.lake)

    def history(self, table: str, limit: int | None = None) -> tuple[facts.CommitFacts, ...]:
        """The commits of a table (`gold.bars_1m`), the newest first."""
        return facts.history(self._table(table), limit)

    def status(self) -> tuple[facts.PipelineStatus, ...]:
        """How far each declared pipeline is, and how far behind its source where that can be asked."""
        return tuple(
            with_lag(facts.status(self.lake, pipeline), pipeline, self.folder, self.lake) for pipeline in self.pipelines
        )

    # -- topics -------------------------------------------------------------------------------------------------------

    def topics(self, pipelines: Sequence[str] = (), *, create: bool = False) -> tuple[TopicState, ...]:
        """The topics that pipelines declare; with `create` those that are not there are made.

        Raises:
            UsageError: no pipeline reads from Kafka, or the brokers do not make a topic as declared.
            TransientError: the brokers do not answer.
        """
        act = create_topics if create else list_topics
        self._require_sound()
        return act(self._chosen(pipelines), self.folder)

    def describe_topics(self, pipelines: Sequence[str] = ()) -> tuple[TopicDescription, ...]:
        """The topics that pipelines read, with what the lake has of each partition.

        Raises:
            SourceLost: a topic is not there.
            TransientError: the brokers do not answer.
        """
        return describe_topics(self._topic_pipelines(pipelines), self.folder, self.lake)

    def reset_offsets(
        self, pipeline: str | None, to: str, *, partitions: Sequence[int] = (), execute: bool = False
    ) -> offsets.Reset:
        """Plan, and with `execute` carry out, that a pipeline goes on elsewhere in its topic: see `offsets.reset`."""
        chosen = self._topic_pipelines([] if pipeline is None else [pipeline])
        if len(chosen) != 1:
            names = ", ".join(one.name for one in chosen)
            raise UsageError(f"{len(chosen)} pipelines read from Kafka", hint=f"Name one of {names}.")
        return offsets.reset(
            chosen[0],
            self.folder,
            self.lake,
            to,
            partitions=partitions,
            execute=execute,
            now=SystemClock().now(),
        )

    def _topic_pipelines(self, names: Sequence[str]) -> tuple[Pipeline, ...]:
        self._require_sound()
        return tuple(pipeline for pipeline, _ in of_kafka(self._chosen(names)))

    # -- proving ------------------------------------------------------------------------------------------------------

    def audit(self, pipelines: Sequence[str] = (), *, from_batch: int = 1) -> AuditReport:
        """Check the laws from the files, for every pipeline of the lake or those named."""
        return audit(
            self.lake,
            parser("contract", os.environ),
            pipelines=tuple(pipelines) or None,
            from_batch=from_batch,
            memory_bytes=self.settings.memory_bytes,
            threads=self.settings.threads,
        )

    def trace(self, table: str, *, where: str = "true", limit: int = TRACE_ROWS_MAX) -> Trace:
        """Follow rows of a gold, silver or rejects table back to the raw bytes they were made from."""
        return trace_back(
            self.lake,
            parser("contract", os.environ),
            table,
            where,
            limit=limit,
            memory_bytes=self.settings.memory_bytes,
            threads=self.settings.threads,
        )

    def trace_forward(self, record: str) -> Trace:
        """Follow a record (`ticks:1/0/4711`: pipeline, source, partition, offset) to where its events ended."""
        match = re.fullmatch(r"(\w+):(\d{1,9})/(\d{1,9})/(\d{1,18})", record, re.ASCII)
        if match is None:
            raise UsageError(f"{record} is not a record's place", hint="Write PIPELINE:SOURCE/PARTITION/OFFSET.")
        return trace_forward(
            self.lake,
            parser("contract", os.environ),
            match[1],
            Place(int(match[2]), int(match[3]), int(match[4])),
            memory_bytes=self.settings.memory_bytes,
            threads=self.settings.threads,
        )

    def rejects(
        self, pipelines: Sequence[str] = (), *, rule: str | None = None, since: str | None = None
    ) -> tuple[RejectCount, ...]:
        """How many events were rejected, by pipeline, disposition and rule, with an example of each.

        Args:
            rule: only this one; `duplicate` for duplicates.
            since: a time (ISO 8601, UTC) or a span before now (`12h`).
        """
        return rejects.summary(
            self.lake,
            pipelines=tuple(pipelines) or None,
            rule=rule,
            since=facts.parse_since(since, SystemClock().now()),
            memory_bytes=self.settings.memory_bytes,
            threads=self.settings.threads,
        )

    def reject_rows(
        self, pipelines: Sequence[str] = (), *, rule: str | None = None, since: str | None = None, limit: int = 20
    ) -> tuple[Reject, ...]:
        """The first rejected events of each pipeline, with their raw bytes and every reason."""
        return rejects.rows(
            self.lake,
            pipelines=tuple(pipelines) or None,
            rule=rule,
            since=facts.parse_since(since, SystemClock().now()),
            limit=limit,
            memory_bytes=self.settings.memory_bytes,
            threads=self.settings.threads,
        )

    # -- keeping ------------------------------------------------------------------------------------------------------

    def optimize(
        self, tables: Sequence[str] = (), *, zorder: Sequence[str] = (), report: Callable[[str], None] = lambda _: None
    ) -> tuple[Rewritten, ...]:
        """Merge small files of tables (all, or those named); with `zorder` put rows near in these columns together."""
        names = [self._table(name).name for name in tables]
        return maintaining.optimize_tables(self.lake, names, zorder=zorder, report=report)

    def vacuum(
        self, tables: Sequence[str] = (), *, dry_run: bool = False, report: Callable[[str], None] = lambda _: None
    ) -> tuple[Vacuumed, ...]:
        """Delete files that no version within the kept period needs; with `dry_run` only count them."""
        names = [self._table(name).name for name in tables]
        return maintaining.vacuum_tables(
            self.lake,
            names,
            kept_days=self.settings.kept_days,
            now=SystemClock().now(),
            dry_run=dry_run,
            report=report,
        )

    # -- names and plans -----------------------------------------------------------------------------------------------

    def _require_sound(self) -> None:
        if self._loaded.findings:
            raise DeclarationError(self._loaded.findings)

    def _plan(self, pipeline: Pipeline) -> Plan:
        references, broken = reference_columns(pipeline, self.folder)
        if broken:
            raise DeclarationError(broken)
        return compile_plan(pipeline, references)

    def _chosen(self, names: Sequence[str]) -> tuple[Pipeline, ...]:
        """The pipelines named, or all."""
        known = {pipeline.name: pipeline for pipeline in self.pipelines}
        for name in names:
            if name not in known:
                self._require_sound()
                raise UsageError(f"there is no pipeline {name}", hint=_nearest(name, known, "pipelines"))
        return tuple(known[name] for name in dict.fromkeys(names)) if names else self.pipelines

    def _feeder(self, pipeline: Pipeline, *, transactional: bool) -> simulation.Feeder:
        """What sends made-up records to a pipeline's source."""
        if isinstance(pipeline.source.origin, KafkaSource):
            return simulation.TopicFeeder(
                pipeline.source.origin, pipeline.name, self.folder, self.lake, transactional=transactional
            )
        if transactional:
            raise UsageError(
                f"pipeline {pipeline.name} does not read from Kafka", hint="Only a topic takes transactions."
            )
        return self.pusher(pipeline.name)

    def _fed_pipeline(self, name: str | None, to: str | None) -> Pipeline:
        """The pipeline named, or the only one that takes made-up records; `to` says which kind of source it has."""
        kinds = ("push", "kafka") if to is None else (to,)
        if name is None:
            takers = [one for one in self.pipelines if one.source.origin.kind in kinds]
            if len(takers) == 1:
                return takers[0]
            if not any(isinstance(one.source.origin, KafkaSource) for one in takers) and "push" in kinds:
                return self._push_pipeline(None)
            self._require_sound()
            raise UsageError(
                f"{len(takers)} pipelines {'take made-up records' if to is None else 'read from Kafka'}",
                hint=f"Name one of {', '.join(one.name for one in takers)}." if takers else "Declare one.",
            )
        found = self._chosen([name])[0]
        if to is not None and found.source.origin.kind != to:
            kind = found.source.origin.kind
            raise UsageError(f"pipeline {name} has a {kind} source, not a {to} source", hint="Leave --to out.")
        return found

    def _push_pipeline(self, name: str | None) -> Pipeline:
        """The pipeline named, or the only one that takes pushed records."""
        if name is not None:
            return self._chosen([name])[0]
        takers = [pipeline for pipeline in self.pipelines if pipeline.source.origin.kind == "push"]
        if len(takers) != 1:
            self._require_sound()
            names = ", ".join(pipeline.name for pipeline in takers)
            raise UsageError(
                f"{len(takers)} pipelines take pushed records",
                hint=f"Name one of {names}." if takers else "Declare one with `source: push: {}`.",
            )
        return takers[0]

    def _table(self, name: str) -> Table:
        known = {facts.dotted(table): table for table in self.lake.tables()}
        found = self.lake.table(known[name.lower()]) if name.lower() in known else None
        if found is None:
            raise UsageError(f"there is no table {name}", hint=_nearest(name, known, "tables"))
        found.refresh()
        return found


def _storage(folder: Path, settings: Settings) -> Storage:
    if not is_uri(settings.lake):
        return open_storage(str(folder / settings.lake), options={}, state_folder="")
    options = store_options(settings.lake, settings, os.environ)
    return open_storage(settings.lake, options=options, state_folder=folder / settings.state)


def _nearest(name: str, known: Mapping[str, object], what: str) -> str:
    """A hint: the nearest known name, or all of them."""
    near = get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"There are: {', '.join(known)}." if known else f"There are no {what}."
