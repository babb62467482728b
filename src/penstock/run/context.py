"""What a caller hands to the loop and gets back: see `service.py` for the loop itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.engines.contract import Engine
    from penstock.lake.lake import Lake
    from penstock.model.batch import BatchCounts
    from penstock.model.finding import Finding
    from penstock.model.pipeline import Pipeline
    from penstock.settings import Settings


class Clock(Protocol):
    """Time as an argument: `now` in microseconds since the epoch, `monotonic` in seconds."""

    def now(self) -> int: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


def no_step(step: str, batch: int) -> None:
    """Called after each numbered step of a batch; tests kill the process here."""


def no_words(sentence: str) -> None:
    """Called with what an operator should know now and not at the end: a source that is waited for."""


@dataclass(frozen=True)
class PipelineContext:
    """Everything one pipeline's loop needs.

    `parse` turns a stored contract's text back into a pipeline; `compare` says what a declaration would change of the
    meaning of rows that an applied one wrote. `refine_version` is the 63-bit pin of our refine code and the engine's
    version. `scratch_folder` is for disposable files.
    """

    pipeline: Pipeline
    folder: Path
    lake: Lake
    settings: Settings
    engine: Engine
    parse: Callable[[str], Pipeline]
    compare: Callable[[Pipeline, Pipeline], tuple[Finding, ...]]
    refine_version: int
    scratch_folder: Path
    clock: Clock = field(default_factory=SystemClock)
    after_step: Callable[[str, int], None] = no_step
    tell: Callable[[str], None] = no_words


@dataclass(frozen=True)
class RunOptions:
    """How to run. `once` ends when everything there is has been absorbed, and closes all windows unless `keep_open`.

    `new_incarnation` accepts a source that is not the one the lake knows (a recreated log, another folder).
    """

    once: bool = False
    keep_open: bool = False
    batch_rows: int | None = None
    batch_bytes: int | None = None
    new_incarnation: bool = False


@dataclass(frozen=True)
class BatchDone:
    """Progress: batch `batch` is in all tables. `backlog` is the number of records that wait, where known."""

    pipeline: str
    batch: int
    counts: BatchCounts
    seconds: float
    backlog: int | None = None


@dataclass(frozen=True)
class RunSummary:
    """What a run did. `reports` are things a person should know that stopped nothing."""

    pipeline: str
    batches: int
    counts: BatchCounts
    seconds: float
    reports: tuple[str, ...] = ()
    step_seconds: tuple[tuple[str, float], ...] = ()
