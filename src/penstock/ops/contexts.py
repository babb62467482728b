"""Makes what a pipeline's loop needs (`run.context.PipelineContext`) out of a declaration, a lake and settings."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from penstock.declare import load_pipeline
from penstock.declare.compare import compare
from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.errors import DeclarationError, check
from penstock.run.context import Clock, PipelineContext, SystemClock, no_step
from penstock.scratch import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Pipeline
    from penstock.settings import Settings

REFINE_PACKAGES = ("penstock.plan", "penstock.engines.embedded", "penstock.model")
"""Packages whose code decides what a record becomes."""


@cache
def refine_version() -> int:
    """A 63-bit digest of the code that refines records and of the version of DuckDB that runs it."""
    digest = hashlib.sha256(importlib.metadata.version("duckdb").encode())
    for package in REFINE_PACKAGES:
        for file in sorted(files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(f"{package}/{file.name}\0".encode())
                digest.update(file.read_bytes())
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def parser(file: str, environment: Mapping[str, str]) -> Callable[[str], Pipeline]:
    """What turns the text of a stored contract back into a pipeline.

    The function raises DeclarationError where this version of Penstock, or this environment, does not take the text.
    """

    def parse(text: str) -> Pipeline:
        loaded = load_pipeline(text, file, environment)
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
) -> Iterator[tuple[PipelineContext, ...]]:
    """A context for each pipeline, with an engine of its own and an equal share of the memory.

    Engines and disposable files go at the end.
    """
    check(bool(pipelines), "contexts for no pipeline")
    with ExitStack() as stack:
        scratch = stack.enter_context(ScratchFolder())
        made = []
        for pipeline in pipelines:
            engine = EmbeddedEngine(
                threads=settings.threads,
                memory_bytes=settings.memory_bytes // len(pipelines),
                spill_folder=scratch,
            )
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
                )
            )
        yield tuple(made)
