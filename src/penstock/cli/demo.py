"""`penstock demo`: a million events end to end, with the proof, explained as it goes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import count, duration, moment, print_facts, print_table, size
from penstock.cli.progress import Counter
from penstock.cli.session import Session, pass_session
from penstock.cli.traces import print_trace
from penstock.errors import LawBroken, UsageError
from penstock.ops.scaffold import create_project

if TYPE_CHECKING:
    from penstock.wire import Project

WIDTH = 100
BAR = """
    select instrument_id, window_start from gold.bars_1m order by abs(trades - 3), window_start, instrument_id limit 1
"""


@click.command()
@click.option("--events", type=click.IntRange(1_000), default=1_000_000, show_default=True, help="How many.")
@click.option(
    "--into", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="A new folder for it."
)
@click.option("--faults", type=click.FloatRange(0, 1), default=0.02, show_default=True, help="Share of faulty events.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another seed, other events.")
@pass_session
def command(session: Session, events: int, into: Path, faults: float, seed: int) -> None:
    """A million made-up market ticks, faults among them, become tables; and the proof that none is missing.

    Makes a project in a new folder (never over an existing one), simulates, runs, compares with what was planted,
    audits, and traces one bar back to the raw bytes it was made from.

    \b
    Example:
      penstock demo --events 200000
    """
    folder = session.folder / into
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not an empty folder",
            hint="Delete it, or name another: `penstock demo --into NAME`, `make demo DEMO=NAME`.",
        )
    began = time.monotonic()
    _heading(1, "A project")
    create_project(folder, "market")
    _say(
        f"{folder} is a project folder now. Everything it does is declared in {into}/pipelines/ticks.yaml: ticks "
        "arrive as JSON, are checked by five rules, typed, enriched from a table of instruments, made unique within a "
        "day, and summed up in one-minute bars."
    )
    from penstock.wire import open_project  # noqa: PLC0415 - the first words come at once

    project = open_project(folder, session.settings)
    _send(project, events, faults, seed)
    _run(project)
    _tables(project)
    _reconcile(project)
    _audit(project)
    _trace(project)
    _close(into, time.monotonic() - began)


def _send(project: Project, events: int, faults: float, seed: int) -> None:
    _heading(2, f"{events:,} events, some of them wrong")
    with Counter("sent", total=events, shown=sys.stderr.isatty()) as counter:
        done = project.simulate(world="market", events=events, faults=faults, seed=seed, progress=counter.set)
    _say(
        f"{done.records:,} records went into the local push log, each on disk before it was acknowledged. The "
        "simulator planted faults, and a truth file says for each record what was planted and where it must end:"
    )
    print_facts((name.replace("_", " "), f"{number:>9,}") for name, number in done.faults)


def _run(project: Project) -> None:
    _heading(3, "Run")
    with Counter("records", shown=sys.stderr.isatty()) as counter:
        (summary,) = project.run_once(progress=lambda done: counter.add(done.counts.records))
    rate = summary.counts.records / max(summary.seconds, 1e-9)
    _say(
        f"{count(summary.counts.records, 'record')} in {duration(summary.seconds)} ({rate:,.0f} a second), in "
        f"{count(summary.batches, 'batch', 'batches')}: raw bytes to bronze, clean rows to "
        "silver, what was wrong to rejects, bars to gold, a row for every batch to the ledger. Every commit was on "
        "disk before anything was built on it."
    )
    print_facts(
        (name, f"{getattr(summary.counts, name):>9,}")
        for name in ("records", "accepted", "quarantined", "duplicate", "flagged")
    )


def _tables(project: Project) -> None:
    _heading(4, "The tables")
    _say("They are plain Delta tables in the project's lake folder: any Delta reader opens them.")
    headers = ("table", "rows", "files", "bytes")
    rows = [(table.name, f"{table.rows:,}", table.files, size(table.bytes)) for table in project.tables()]
    print_table(headers, rows, headers[1:])


def _reconcile(project: Project) -> None:
    _heading(5, "Beside the truth")
    found = project.reconcile()
    actual = dict(found.found)
    headers = ("", "must be", "is")
    print_table(
        headers, [(name, f"{must:,}", f"{actual.get(name, 0):,}") for name, must in found.expected], headers[1:]
    )
    if found.mismatched:
        raise LawBroken(
            f"{found.mismatched:,} records did not end where they must: {'; '.join(found.mismatches)}",
            hint="Run `penstock audit` in the demo's folder, and report what it says.",
        )
    _say(f"Place by place: each of the {found.sent:,} records ended exactly where the truth file says that it must.")


def _audit(project: Project) -> None:
    _heading(6, "The audit")
    _say(
        "The audit needs no truth file. It reads the files of the lake with code of its own, evaluates every rule "
        "again from the raw bytes, and computes gold again from silver."
    )
    report = project.audit()
    facts: dict[str, Any] = report.pipelines["ticks"].as_json()
    print_facts((name, f"{facts[name]:>9,}") for name in ("records", "accepted", "quarantined", "duplicate", "skipped"))
    if not report.clean:
        raise LawBroken(
            f"the audit found {count(len(report.violations), 'violation')}: {report.violations[0].message}",
            hint="Run `penstock audit` in the demo's folder, and report what it says.",
        )
    total = sum(facts[name] for name in ("accepted", "quarantined", "duplicate", "skipped"))
    _say(f"{facts['records']:,} records, {total:,} events, each in exactly one place: no law is broken.")


def _trace(project: Project) -> None:
    _heading(7, "One bar, back to the bytes")
    (bar,) = project.sql(BAR).to_pylist()
    where = f"instrument_id = '{bar['instrument_id']}' and window_start = '{bar['window_start']}'"
    name = f"{bar['instrument_id']} at {moment(bar['window_start'])}"
    _say(f"A bar is a claim. This is what the one of {name} was made from:")
    print_trace(project.trace("gold.bars_1m", where=where))


def _close(into: Path, seconds: float) -> None:
    _heading(8, f"That was {duration(seconds)}. Try next")
    for text in (
        f'penstock -C {into} sql "select * from gold.bars_1m order by volume desc limit 5"',
        f"penstock -C {into} rejects",
        f"penstock -C {into} explain",
        f"penstock -C {into} simulate --rate 20000 --seconds 10 && penstock -C {into} run --once",
        "penstock init mine --template iot",
    ):
        click.echo(f"  {text}")


def _heading(number: int, text: str) -> None:
    click.echo(f"\n{click.style(f'{number}. {text}', bold=True)}")


def _say(text: str) -> None:
    click.echo(click.wrap_text(text, WIDTH))
