"""`penstock run`: run pipelines, for ever or until everything there is has been absorbed."""

from __future__ import annotations

import dataclasses
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.failures import report, unexpected
from penstock.cli.logs import json_logger
from penstock.cli.output import duration, note, print_json, print_table
from penstock.cli.progress import Counter
from penstock.cli.session import Session, json_option, pass_session
from penstock.cli.signals import stop_on_signals
from penstock.errors import PenstockError, UsageError
from penstock.ops.running import severity
from penstock.settings import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ops.running import RunOutcome
    from penstock.run.context import BatchDone, RunSummary

HEADERS = ("pipeline", "batches", "records", "accepted", "quarantined", "duplicate", "skipped", "flagged", "time")


@click.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@click.option("--once", is_flag=True, help="End when everything there is has been absorbed, and close all windows.")
@click.option("--keep-open", is_flag=True, help="With --once: leave open windows open.")
@click.option("--batch-rows", type=click.IntRange(1), help="Records in one batch, at most.")
@click.option("--new-incarnation", is_flag=True, help="Accept a source that is not the one the lake knows.")
@click.option("--engine", type=click.Choice(BY_NAME["engine"].choices), help="What computes, for this run.")
@click.option("--master", metavar="URL", help="With --engine spark: the master, as spark-submit knows it.")
@click.option("--conf", "conf", multiple=True, metavar="NAME=VALUE", help="A setting of Spark's; may be repeated.")
@json_option
@pass_session
def command(
    session: Session,
    pipelines: tuple[str, ...],
    once: bool,
    keep_open: bool,
    batch_rows: int | None,
    new_incarnation: bool,
    engine: str | None,
    master: str | None,
    conf: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run pipelines (all, or those named), for ever or with --once until everything there is has been absorbed.

    SIGTERM and Ctrl-C stop after the batches under way; a second one ends at once, and nothing is lost either way.
    Where standard error is not a terminal, each batch is a line of JSON there.

    \b
    Examples:
      penstock -C shop run --once
      penstock -C shop run ticks --batch-rows 500000
      penstock -C shop run --once --engine spark --master "local[4]"
    """
    project = _with_engine(session, engine, master, conf).project()
    stop = threading.Event()
    with _Follower() as (progress, tell), stop_on_signals(stop, tell):
        outcome = project.run_outcome(
            pipelines,
            once=once,
            keep_open=keep_open,
            batch_rows=batch_rows,
            new_incarnation=new_incarnation,
            stop=stop,
            progress=progress,
            tell=tell,
        )
    _print(outcome, as_json, reports_too=once)
    return _exit_code(outcome)


def _with_engine(session: Session, engine: str | None, master: str | None, conf: tuple[str, ...]) -> Session:
    """The same call with what was said about the engine; `conf` adds to what penstock.yaml says, and goes before it."""
    given = {"engine": engine, "spark_master": master}
    session = session.with_settings({name: value for name, value in given.items() if value is not None})
    if master is None and not conf:
        return session
    settings = session.project().settings
    if settings.engine != "spark":
        raise UsageError(
            "--master and --conf are for the Spark engine, and this run has another one", hint="Add --engine spark."
        )
    if not conf:
        return session
    return session.with_settings({"spark_options": ",".join(filter(None, (settings.spark_options, *conf)))})


class _Follower:
    """How a person or a log collector follows the run: gives a progress callback and a way to tell them something."""

    def __enter__(self) -> tuple[Callable[[BatchDone], None], Callable[[str], None]]:
        self._counter = Counter("records", shown=sys.stderr.isatty())
        self._counter.__enter__()
        if sys.stderr.isatty():
            return self._show, lambda text: note(f"\n{text}")
        self._logger: Any = json_logger()
        return self._log, self._logger.info

    def __exit__(self, *details: Any) -> None:
        self._counter.__exit__(*details)

    def _show(self, done: BatchDone) -> None:
        rejected = done.counts.quarantined + done.counts.duplicate
        remark = f"{done.pipeline} batch {done.batch}: {done.counts.accepted:,} accepted, {rejected:,} rejected"
        self._counter.add(done.counts.records, remark)

    def _log(self, done: BatchDone) -> None:
        counts = {name: value for name, value in dataclasses.asdict(done.counts).items() if isinstance(value, int)}
        self._logger.info(
            "batch",
            pipeline=done.pipeline,
            batch=done.batch,
            seconds=round(done.seconds, 4),
            backlog=done.backlog,
            **counts,
        )


def _print(outcome: RunOutcome, as_json: bool, *, reports_too: bool) -> None:
    """What came of a run; `reports_too` unless its reports were told when they came."""
    for name, error in outcome.failures.items():
        if len(outcome.failures) + len(outcome.summaries) > 1:
            note(f"pipeline {name}:")
        if isinstance(error, PenstockError):
            report(error)
        else:
            unexpected(error)
    summaries = list(outcome.summaries.values())
    if as_json:
        print_json({summary.pipeline: _as_json(summary) for summary in summaries})
        return
    for summary in summaries:
        for line in summary.reports if reports_too else ():
            note(f"{summary.pipeline}: {line}")
    if summaries:
        print_table(HEADERS, [_row(summary) for summary in summaries], HEADERS[1:])


def _row(summary: RunSummary) -> list[str]:
    counts = summary.counts
    numbers = (
        summary.batches,
        counts.records,
        counts.accepted,
        counts.quarantined,
        counts.duplicate,
        counts.skipped,
        counts.flagged,
    )
    return [summary.pipeline, *(f"{number:,}" for number in numbers), duration(summary.seconds)]


def _as_json(summary: RunSummary) -> dict[str, object]:
    counts = dataclasses.asdict(summary.counts)
    counts |= {"rules": dict(summary.counts.rules), "overflows": dict(summary.counts.overflows)}
    return {
        "batches": summary.batches,
        "seconds": summary.seconds,
        "counts": counts,
        "reports": list(summary.reports),
        "step_seconds": dict(summary.step_seconds),
    }


def _exit_code(outcome: RunOutcome) -> int:
    if not outcome.failures:
        return 0
    worst = min(outcome.failures.values(), key=severity)
    return worst.exit_code if isinstance(worst, PenstockError) else 1
