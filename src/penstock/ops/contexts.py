"""Makes what a pipeline's loop needs (`run.context.PipelineContext`) out of a declaration, a lake and settings."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from penstock.declare import load_pipeline
from penstock.declare.compare import compare
from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.engines.version import refine_version
from penstock.errors import DeclarationError, check
from penstock.run.context import Clock, PipelineContext, SystemClock, no_step, no_words
from penstock.scratch import ScratchFolder

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from penstock.engines.contract import Engine
    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Pipeline
    from penstock.settings import Settings


class Forgiving(dict[str, str]):
    """Variables, and a word for each that is not set: how a source was reached is of no use to who reads a contract,
    and an audit must not need its passwords."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "unset"


def parser(file: str, environment: Mapping[str, str]) -> Callable[[str], Pipeline]:
    """What turns the text of a stored contract back into a pipeline.

    The function raises DeclarationError where this version of Penstock, or this environment, does not take the text.
    """

    def parse(text: str) -> Pipeline:
        loaded = load_pipeline(text, file, Forgiving(environment))
        if loaded.pipeline is None:
            raise DeclarationError(loaded.findings)
        return loaded.pipeline

    return parse


@contextmanager
def contexts(
    pipelines: Sequence[Pipeline],
    folder: Path,
    lake: Lake,
    settings: Settings,
    *,
    environment: Mapping[str, str] | None = None,
    parse: Callable[[str], Pipeline] | None = None,
    clock: Clock | None = None,
    after_step: Callable[[str, int], None] = no_step,
    tell: Callable[[str], None] = no_words,
    stop: threading.Event | None = None,
) -> Iterator[tuple[PipelineContext, ...]]:
    """A context for each pipeline, with an engine of its own and an equal share of the memory.

    Engines and disposable files go at the end. An engine whose workers do not come tells it, and waits until `stop`.
    """
    check(bool(pipelines), "contexts for no pipeline")
    with ExitStack() as stack:
        scratch = stack.enter_context(ScratchFolder())
        made_engine = _engines(settings, stack, tell, stop)
        made = []
        for pipeline in pipelines:
            engine = made_engine(settings.memory_bytes // len(pipelines), scratch)
            stack.callback(engine.close)
            made.append(
                PipelineContext(
                    pipeline=pipeline,
                    folder=folder,
                    lake=lake,
                    settings=settings,
                    engine=engine,
                    parse=parse or parser(pipeline.file, os.environ if environment is None else environment),
                    compare=compare,
                    refine_version=refine_version(),
                    scratch_folder=scratch,
                    clock=clock or SystemClock(),
                    after_step=after_step,
                    tell=partial(_tell, tell, pipeline.name),
                )
            )
        yield tuple(made)


def _tell(tell: Callable[[str], None], pipeline: str, sentence: str) -> None:
    tell(f"{pipeline}: {sentence}")


def _engines(
    settings: Settings, stack: ExitStack, tell: Callable[[str], None], stop: threading.Event | None
) -> Callable[[int, Path], Engine]:
    """What makes an engine with so much memory and a folder to spill to. Spark is one session for all of them."""

    def embedded(memory_bytes: int, spill_folder: Path) -> EmbeddedEngine:
        return EmbeddedEngine(threads=settings.threads, memory_bytes=memory_bytes, spill_folder=spill_folder)

    if settings.engine == "embedded":
        return embedded
    from penstock.engines.spark.session import Session, parse_options  # noqa: PLC0415 - an extra, and slow to import

    options = parse_options(settings.spark_options)
    session = Session(settings.spark_master or None, options, settings.threads, tell=tell, stop=stop)
    stack.callback(session.close)
    from penstock.engines.spark.engine import SparkEngine  # noqa: PLC0415 - only once Spark is known to be there

    return lambda memory_bytes, spill_folder: SparkEngine(session, embedded(memory_bytes, spill_folder))
