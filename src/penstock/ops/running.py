"""Runs several pipelines in threads of one process; the first error stops all of them cleanly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import DeclarationError, PenstockError
from penstock.limits import JOIN_POLL_SECONDS
from penstock.run.context import BatchDone, PipelineContext, RunOptions, RunSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

Run = Callable[[PipelineContext, RunOptions, threading.Event, Callable[[BatchDone], None]], RunSummary]
"""`run_pipeline`, or what stands for it in a test."""

SEVERITY = (3, 5, 4, 1, 2)
"""Exit codes, the worst first: a broken law, lost data, a rival writer, a failure, a user's mistake."""


@dataclass(frozen=True)
class RunOutcome:
    """What came of each pipeline: a summary or an error, by its name."""

    summaries: Mapping[str, RunSummary]
    failures: Mapping[str, Exception]

    def raise_worst(self) -> None:
        """Raise the worst failure, if there is one. Findings about several pipelines are raised together."""
        if not self.failures:
            return
        worst = min(self.failures.values(), key=severity)
        if isinstance(worst, DeclarationError):
            every = [error for error in self.failures.values() if isinstance(error, DeclarationError)]
            raise DeclarationError(tuple(dict.fromkeys(one for error in every for one in error.findings)))
        raise worst


def severity(error: Exception) -> int:
    """The rank of an error; 0 is the worst: one that nobody expected."""
    return 1 + SEVERITY.index(error.exit_code) if isinstance(error, PenstockError) else 0


def run_all(
    contexts: Sequence[PipelineContext],
    options: RunOptions,
    stop: threading.Event,
    progress: Callable[[BatchDone], None],
    run: Run,
) -> RunOutcome:
    """Run every pipeline until it ends, `stop` is set, or one fails; then the others are stopped cleanly too.

    Blocks in the calling thread in short steps, so that signal handlers run there.
    """
    summaries: dict[str, RunSummary] = {}
    failures: dict[str, Exception] = {}

    def work(context: PipelineContext) -> None:
        try:
            summaries[context.pipeline.name] = run(context, options, stop, progress)
        except Exception as error:  # noqa: BLE001 - carried to the caller, who raises it
            failures[context.pipeline.name] = error
            stop.set()

    threads = [threading.Thread(target=work, args=(context,), name=context.pipeline.name) for context in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(JOIN_POLL_SECONDS)
    return RunOutcome(summaries, failures)
