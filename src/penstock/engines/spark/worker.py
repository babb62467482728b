"""What runs in an executor: one share of a batch, in one of the two stages.

A worker process keeps what it opened for the next share: the engine, the source, the lake's storage, compiled plans.
Nothing here is needed later: a share may run twice, on any machine, and leaves at worst a file that nobody refers to.
An error that we know (a lost record, a broken file, a broker that is away) goes back as a result, and the loop decides;
Spark tries again only what was thrown.
"""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.engines.outcome import Events, as_bronze, numbered, widened
from penstock.engines.spark.shares import PackedKeys, Part, SettledPart, SourceShare, VerdictShare
from penstock.engines.version import refine_version
from penstock.errors import PenstockError, StorageError
from penstock.lake.lake import Lake
from penstock.lake.layout import Kind, column_type, table_name
from penstock.lake.log import has_log
from penstock.lake.manifest import TableManifest
from penstock.lake.opening import open_storage
from penstock.lake.parquet import write_files
from penstock.lake.reading import read_files
from penstock.lake.schema import align
from penstock.limits import PLANS_KEPT, SPARK_ROOMS_KEPT
from penstock.model.columns import BATCH, PLACE
from penstock.plan.compile import compile as compile_plan
from penstock.scratch import ScratchFolder
from penstock.sources.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.core.broadcast import Broadcast

    from penstock.engines.contract import Verdict
    from penstock.engines.spark.shares import Allowance, BronzeShare, Pinned, Setup
    from penstock.lake.datafile import DataFile
    from penstock.lake.layout import TableSpec
    from penstock.plan.nouns import Plan
    from penstock.sources.contract import Source


CACHED = ("events", "records")
"""Files that one part of a batch has between the stages."""


class Stage:
    """What Spark calls on a partition: a stage over the shares in it. Pickled with what a worker may hold, and
    with handles of the two broadcasts."""

    def __init__(self, setup: Broadcast[Setup], pinned: Broadcast[Pinned], allowance: Allowance) -> None:
        self._setup = setup
        self._pinned = pinned
        self._allowance = allowance

    def __call__(
        self, shares: Iterable[SourceShare | BronzeShare | VerdictShare]
    ) -> Iterator[list[Part] | SettledPart | PenstockError]:
        for share in shares:
            try:
                room = _room(self._setup.value, self._allowance)
                yield (
                    room.settle(share, self._pinned.value)
                    if isinstance(share, VerdictShare)
                    else room.refine(share, self._pinned.value)
                )
            except PenstockError as error:
                yield error


class Room:
    """A pipeline as one worker process has it open."""

    def __init__(self, setup: Setup, allowance: Allowance) -> None:
        if setup.refine_version != refine_version():
            raise StorageError(
                "the executors run another version of Penstock or DuckDB than the driver",
                hint="Ship the driver's environment to the executors; docs/howto/spark.md says how.",
            )
        self._setup = setup
        self._allowance = allowance
        self._storage = open_storage(setup.lake, options=setup.store_options, state_folder=setup.state_folder)
        if not has_log(self._storage, setup.bronze.name):  # it was made before any work began
            raise StorageError(
                f"{socket.gethostname()}, where an executor runs, sees no table {setup.bronze.name} in {setup.lake}",
                hint="Executors write into the lake: put it in a store, or in a folder that all machines have there.",
            )
        self._scratch = _scratch()
        self._engine = EmbeddedEngine(threads=1, memory_bytes=allowance.memory_bytes, spill_folder=self._scratch)
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._source: Source | None = None

    @property
    def is_of(self) -> tuple[str, str]:
        """The lake and the pipeline: of these, only what was opened last is needed."""
        return self._setup.lake, self._setup.pipeline.name

    def allow(self, allowance: Allowance) -> None:
        """What the share that comes next may hold."""
        if allowance != self._allowance:
            self._engine.limit_memory(allowance.memory_bytes)
            self._allowance = allowance

    def close(self) -> None:
        self._engine.close()
        if self._source is not None:
            self._source.close()

    # -- the first stage ----------------------------------------------------------------------------------------------

    def refine(self, share: SourceShare | BronzeShare, pinned: Pinned) -> list[Part]:
        """Bronze rows and their events; those of a new share become files of bronze."""
        if not isinstance(share, SourceShare):
            return [self._part(share.batch, share.files, self._from_bronze(share.batch, share.files), pinned)]
        setup, parts = self._setup, []
        rows = sum(item.end - item.start for item in share.ranges)
        for records in self._opened_source().read_pieces(share.ranges, rows=rows, size=self._allowance.piece_bytes):
            bronze = as_bronze(records, setup.incarnation, share.now)
            files = self._write(setup.bronze, numbered(bronze, share.batch))
            parts.append(self._part(share.batch, files, bronze, pinned))
        return parts

    def _part(self, batch: int, files: tuple[DataFile, ...], records: pa.Table, pinned: Pinned) -> Part:
        events = self._events(records, pinned)
        keyed = bool(pinned.pipeline.silver.key)
        return Part(
            bronze=files,
            records=records.num_rows,
            bytes=pc.sum(pc.binary_length(records["value"])).as_py() or 0,
            events=events.count,
            skipped=events.skipped,
            stopped=events.stopped(),
            keys=PackedKeys.of(events.keys()) if keyed else None,
            cache=self._keep(events, batch),
        )

    def _opened_source(self) -> Source:
        if self._source is None:
            setup, manifest = self._setup, None
            if setup.pipeline.source.origin.kind == "files":
                table = Lake(self._storage).table(table_name(Kind.MANIFESTS, setup.pipeline.name))
                manifest = None if table is None else TableManifest(table, setup.writer, follows=True)
            self._source = open_source(
                setup.pipeline.source,
                pipeline=setup.pipeline.name,
                incarnation=setup.incarnation,
                folder=setup.folder,
                state_folder=setup.state_folder,
                manifest=manifest,
                record_bytes_max=setup.record_bytes_max,
                push_bytes_max=setup.push_bytes_max,
                unique_id=setup.unique_id,
            )
        return self._source

    def _from_bronze(self, batch: int, files: tuple[DataFile, ...]) -> pa.Table:
        """The batch's rows of these files, as they were before they were written: in order of place."""
        spec = self._setup.bronze
        pieces = list(read_files(self._storage, spec, files, batches=(batch, batch)))
        rows = pa.concat_tables(pieces) if pieces else spec.schema.empty_table()
        rows = rows.drop_columns([BATCH, *spec.partition_columns])
        return rows.sort_by([(name, "ascending") for name in PLACE])

    def _events(self, records: pa.Table, pinned: Pinned) -> Events:
        return Events(records, self._engine.refine(self._plan(pinned).refine, records, pinned.references))

    def _plan(self, pinned: Pinned) -> Plan:
        plan = self._plans.get(pinned.name)
        if plan is None:
            columns = {
                name: {field.name: column_type(field.type) for field in rows.schema}
                for name, rows in pinned.references.items()
            }
            plan = self._plans[pinned.name] = compile_plan(pinned.pipeline, columns)
            while len(self._plans) > PLANS_KEPT:
                self._plans.popitem(last=False)
        return plan

    # -- the second stage ---------------------------------------------------------------------------------------------

    def settle(self, share: VerdictShare, pinned: Pinned) -> SettledPart:
        """The rows of silver and rejects, as files, and what gold needs of them."""
        setup, part = self._setup, share.part
        events = self._recall(part) or self._events(self._from_bronze(share.batch, part.bronze), pinned)
        plan = self._plan(pinned)
        self._engine.register(plan.refine)
        columns = tuple(name for name, _ in plan.silver_columns)
        verdict: Verdict | None = None if share.verdict is None else share.verdict.unpacked()
        outcome = events.settle(share.batch, verdict, contract=share.contract, silver_columns=columns)
        windows = {}
        if outcome.silver.num_rows:
            rows = widened(outcome.silver, setup.silver.schema)
            windows = {name: self._engine.query(sql, {"rows": rows}) for name, sql in setup.windows}
        return SettledPart(
            silver=self._write(setup.silver, outcome.silver),
            rejects=self._write(setup.rejects, outcome.rejects),
            counts=outcome.counts,
            event_time_max=outcome.event_time_max,
            windows=windows,
        )

    def _write(self, spec: TableSpec, rows: pa.Table) -> tuple[DataFile, ...]:
        if not rows.num_rows:
            return ()
        return tuple(write_files(self._storage, spec.name, spec, align(rows, spec.schema)))

    # -- between the stages -------------------------------------------------------------------------------------------

    def _keep(self, events: Events, batch: int) -> str | None:
        """Put the events where the second stage finds them, in whichever process of this machine it runs. None where
        the disk does not take them: then they are derived again."""
        self._forget_before(batch - 1)
        path = self._scratch / f"{self._setup.name}-{batch}-{os.urandom(8).hex()}.arrow"
        refined = events.refined.combine_chunks()
        try:
            for name, table in zip(CACHED, (refined, events.records.combine_chunks()), strict=True):
                with pa.OSFile(f"{path}.{name}", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
        except OSError:
            for name in CACHED:
                Path(f"{path}.{name}").unlink(missing_ok=True)
            return None
        return str(path)

    def _forget_before(self, batch: int) -> None:
        """Delete what this process kept for batches before `batch`, which have been settled: the second stage may have
        run on another machine, or not at all."""
        for path in self._scratch.glob(f"{self._setup.name}-*.arrow.*"):
            if int(path.name.split("-")[1]) < batch:
                path.unlink(missing_ok=True)

    def _recall(self, part: Part) -> Events | None:
        """What the first stage left on this machine, if it is there."""
        if part.cache is None:
            return None
        try:
            refined, records = (_mapped(f"{part.cache}.{name}") for name in CACHED)
        except (OSError, pa.ArrowInvalid):
            return None
        return Events(records, refined)


def _mapped(path: str) -> pa.Table:
    """The table in a file, as its pages; the file's name is gone afterwards, the pages stay as long as the table."""
    with pa.memory_map(path) as file:
        table = pa.ipc.open_file(file).read_all()
    os.unlink(path)
    return table


_rooms: OrderedDict[str, Room] = OrderedDict()
_folders: list[ScratchFolder] = []


def _room(setup: Setup, allowance: Allowance) -> Room:
    """The pipeline as this process has it open. One that was opened anew since is let go of, and so is the one used
    longest ago where there are many."""
    room = _rooms.get(setup.name)
    if room is None:
        room = Room(setup, allowance)
        stale = [name for name, other in _rooms.items() if other.is_of == room.is_of]
        for name in stale or list(_rooms)[: max(0, len(_rooms) + 1 - SPARK_ROOMS_KEPT)]:
            _rooms.pop(name).close()
        _rooms[setup.name] = room
    _rooms.move_to_end(setup.name)
    room.allow(allowance)
    return room


def _scratch() -> Path:
    if not _folders:
        _folders.append(ScratchFolder())
    return _folders[0].path
