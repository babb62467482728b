"""Makes the source a pipeline declares. The only place that knows every kind."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from penstock import limits
from penstock.errors import UsageError, check
from penstock.model.kafka import KafkaSource
from penstock.model.pipeline import FilesSource, PushSource, Source
from penstock.sources.contract import wall_clock
from penstock.sources.files import FolderSource
from penstock.sources.kafka import TopicSource
from penstock.sources.kafka_client import Cluster
from penstock.sources.listing import Lister
from penstock.sources.push import PushLogSource
from penstock.sources.push_log import PushLog
from penstock.sources.simulate import SimulatedSource
from penstock.sources.worlds import open_world

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.sources.contract import Clock
    from penstock.sources.contract import Source as OpenSource
    from penstock.sources.manifest import Manifest


def open_source(
    source: Source,
    *,
    pipeline: str,
    incarnation: int,
    folder: Path,
    state_folder: Path,
    manifest: Manifest | None = None,
    record_bytes_max: int = limits.RECORD_BYTES_MAX,
    push_bytes_max: int = limits.PUSH_LOG_BYTES_MAX,
    clock: Clock = wall_clock,
    read_ahead: bool = True,
    unique_id: str | None = None,
) -> OpenSource:
    """The source of `pipeline`. `folder` is the project's, `state_folder` the lake's, with its push logs; a folder of
    files needs its `manifest`. Without `read_ahead` it only plans, and other processes read; those are told the
    `unique_id` that the source must have.

    Raises:
        StorageError, SourceLost: it cannot be opened.
        TransientError: it cannot be reached now.
        UsageError: a folder of files that lies in the lake; brokers that refuse us; a client that is not installed.
    """
    origin = source.origin
    if isinstance(origin, PushSource):
        log = open_push_log(
            origin,
            pipeline=pipeline,
            state_folder=state_folder,
            record_bytes_max=record_bytes_max,
            push_bytes_max=push_bytes_max,
            clock=clock,
        )
        return PushLogSource(log, pipeline=pipeline, incarnation=incarnation, on_data_loss=source.on_data_loss)
    if isinstance(origin, FilesSource):
        check(manifest is not None, "a folder of files was opened without its manifest")
        assert manifest is not None
        return FolderSource(
            _source_folder(origin, folder, state_folder),
            name=origin.path,
            declared=source.format,
            incarnation=incarnation,
            manifest=manifest,
            lake=state_folder,
            on_data_loss=source.on_data_loss,
            record_bytes_max=record_bytes_max,
            clock=clock,
        )
    if isinstance(origin, KafkaSource):
        return TopicSource(
            origin,
            pipeline=pipeline,
            incarnation=incarnation,
            folder=folder,
            on_data_loss=source.on_data_loss,
            read_ahead=read_ahead,
            unique_id=unique_id,
            record_bytes_max=record_bytes_max,
            clock=clock,
        )
    world = open_world(origin.world, seed=origin.seed, rate=origin.rate, faults=origin.faults)
    return SimulatedSource(world, incarnation=incarnation, rate=origin.rate, events=origin.events)


def refuse_absent(source: Source, *, folder: Path, state_folder: Path) -> None:
    """Raise for a folder of files or a topic what opening it or the first look into it would. Nothing is written.

    Raises:
        SourceLost: the folder is not there or cannot be read, or there is no such topic.
        UsageError: the folder lies in the lake, or the brokers refuse.
        TransientError: the brokers do not answer.
    """
    if isinstance(source.origin, FilesSource):
        Lister(_source_folder(source.origin, folder, state_folder), source.origin.path, state_folder).refuse_absent()
    if isinstance(source.origin, KafkaSource):
        with closing(Cluster(source.origin.cluster, folder)) as cluster:
            cluster.topic(source.origin.topic)


def _source_folder(origin: FilesSource, folder: Path, state_folder: Path) -> Path:
    path = folder / origin.path
    if path.resolve().is_relative_to(state_folder.resolve()):
        raise UsageError(
            f"source.files.path: {origin.path} is a folder of the lake",
            hint="The lake's files change when they are merged. Export what is wanted with `penstock sql`.",
        )
    return path


def open_push_log(
    origin: PushSource,
    *,
    pipeline: str,
    state_folder: Path,
    record_bytes_max: int = limits.RECORD_BYTES_MAX,
    push_bytes_max: int = limits.PUSH_LOG_BYTES_MAX,
    clock: Clock = wall_clock,
) -> PushLog:
    """The push log of a pipeline, for producers; made when it is not there.

    Raises:
        StorageError, SourceLost: it cannot be opened.
    """
    return PushLog(
        state_folder / "push" / f"{pipeline}.db",
        partitions=origin.partitions,
        record_bytes_max=record_bytes_max,
        log_bytes_max=push_bytes_max,
        clock=clock,
    )
