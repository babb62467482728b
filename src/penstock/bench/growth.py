"""Growth: the cost of a batch after a hundred thousand batches against the first ones, and a start with all of that.

Two lakes get the same ticks in turns; one of them has a past (`testing/aged.py`). Then the old one is filled, killed in
the middle of a batch and started again: the clock runs from the start of the process until its first new batch is in
the ledger.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench.measuring import Options, Say, scratch
from penstock.bench.project import put_lake
from penstock.errors import LawBroken, PenstockError
from penstock.testing.aged import age

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """\
pipeline: ticks
source:
  simulate: {world: market, rate: RATE, events: EVENTS}
  format: json
silver:
  table: ticks
  key: [instrument_id, venue, sequence]
  unique_within: 1 day
  event_time: event_time
  late_after: 10 seconds
  columns:
    instrument_id: {type: string, required: true}
    venue: {type: string, required: true}
    sequence: {type: int64, required: true}
    event_time: {type: timestamp, from: ts, unit: ms, required: true}
    price: {type: "decimal(18,8)", required: true}
    quantity: {type: float64}
  rules:
    sane_price: {check: price between -500 and 1e6}
    sane_quantity: {check: quantity > 0}
gold:
  bars_1m:
    window: 1 minute
    by: [instrument_id]
    measures: {open: first(price), high: max(price), low: min(price), close: last(price), trades: count()}
"""
RATE = 10_000
PAST = 100_000
EVENTS = 5_000_000
BATCH_ROWS = 20_000
ROUNDS = 2
BATCHES = 26
"""Batches in a turn. The first one pays for the start and is not counted."""

STORE_ROWS = 2_000
STORE_RATE = 3
STORE_BATCHES = 500
STORE_COMPARED = 50
"""Rows in a batch of a lake in a store and their rate: a batch is eleven minutes of event time, so that from the first
few on each closes windows, and corrects those of the hour before. Batches between those compared, and how many are."""


def main(options: Options, say: Say) -> dict[str, Any]:
    """Batch time of both lakes, live files, and seconds of a restart.

    Raises:
        LawBroken: the counts do not reconcile, or the audit finds a violation.
    """
    rows = options.events or EVENTS
    with scratch() as folder:
        say(
            f"workload: ticks in batches of {BATCH_ROWS:,}, into a lake without a past and one of {PAST:,} batches; "
            f"then {rows:,} rows, a kill within a batch, and a start"
        )
        fresh, old = _Project(folder / "fresh"), _Project(folder / "old")
        for project in (fresh, old):
            project.run(BATCH_ROWS)
        age(penstock.open(old.folder).lake, "ticks", PAST, time.time_ns() // 1000)
        turns = [(project, project.run(BATCH_ROWS * BATCHES)) for _ in range(ROUNDS) for project in (fresh, old)]
        times = {
            name: _batch_times([turn for other, turn in turns if other is project])
            for name, project in (("fresh", fresh), ("old", old))
        }
        live_files = max(fresh.live_files(), old.live_files())
        restart = _restart(old, rows)
        for project in (fresh, old):
            project.reconcile(audit=options.audit)
    ratio = {unit: times["old"][unit] / times["fresh"][unit] for unit in ("seconds", "cpu_seconds")}
    say(f"  rows: {old.events:,} records and {PAST:,} batches of the past reconcile" + ", no violation" * options.audit)
    for name, found in times.items():
        say(f"  {name}: {found['seconds'] * 1e3:.1f} ms a batch, {found['cpu_seconds'] * 1e3:.1f} ms of CPU")
    say(f"old against fresh: {ratio['seconds']:.3f} by time, {ratio['cpu_seconds']:.3f} by CPU time")
    say(f"live files of the largest table: {live_files}")
    took = f"{restart['seconds']:.2f} s, {restart['cpu_seconds']:.2f} s of CPU"
    say(f"restart: {took} until the first new batch is in the ledger")
    return {
        "workload": {"events": old.events, "batches_of_the_past": PAST},
        **times,
        "ratio": ratio,
        "live_files": live_files,
        "restart": restart,
    }


def in_store(options: Options, say: Say) -> dict[str, Any]:
    """Batch time in a lake at `options.lake`, or in a folder, of the batches after the 500th against the first 50.

    Raises:
        LawBroken: the counts do not reconcile, or the audit finds a violation.
    """
    batches = (options.events or STORE_ROWS * (STORE_BATCHES + STORE_COMPARED)) // STORE_ROWS
    where = options.lake or "a folder"
    say(f"workload: {batches:,} batches of {STORE_ROWS:,} ticks, eleven minutes each, into {where}")
    with scratch() as folder:
        made = _Project(folder / "store", STORE_RATE)
        settings = made.folder / "penstock.yaml"
        settings.write_text(settings.read_text() + "limits: {batch_interval_min_ms: 0}\n")  # their cost, not their rate
        if options.lake is not None:
            put_lake(made.folder, options.lake)
        turn = made.run(STORE_ROWS * batches, batch_rows=STORE_ROWS)
        made.reconcile(audit=options.audit)
    first = _batch_times([{name: found[: STORE_COMPARED + 1] for name, found in turn.items()}])
    last = _batch_times([{name: found[-STORE_COMPARED - 1 :] for name, found in turn.items()}])
    ratio = {unit: last[unit] / first[unit] for unit in first}
    say(f"  rows: {made.events:,} records reconcile" + ", no violation" * options.audit)
    for name, found in (("first", first), ("last", last)):
        took = f"{found['seconds'] * 1e3:.1f} ms a batch, {found['cpu_seconds'] * 1e3:.1f} ms of CPU"
        say(f"  {name} {STORE_COMPARED}: {took}")
    say(f"last against first: {ratio['seconds']:.3f} by time, {ratio['cpu_seconds']:.3f} by CPU time")
    return {"workload": {"events": made.events, "batches": batches}, "first": first, "last": last, "ratio": ratio}


def _batch_times(turns: list[dict[str, Any]]) -> dict[str, float]:
    """The median time between two batches in the ledger, without the drain, and the mean CPU time of a batch."""
    gaps = [after - before for turn in turns for before, after in pairwise(turn["done"][:-1])]
    processor = sum(turn["processor"][-2] - turn["processor"][0] for turn in turns)
    return {"seconds": median(gaps), "cpu_seconds": processor / len(gaps)}


def _restart(project: _Project, rows: int) -> dict[str, float]:
    project.run(max(BATCH_ROWS, rows - project.events), batch_rows=200_000)
    project.run(BATCH_ROWS * 6, kill="silver")
    started = time.time()
    began = project.run(BATCH_ROWS * 2)
    return {"seconds": began["done"][0] - started, "cpu_seconds": began["processor"][0]}


class _Project:
    """A project that gets more events with each run, `rate` of them in a second of event time."""

    def __init__(self, folder: Path, rate: int = RATE) -> None:
        self.folder = folder
        self._rate = rate
        self.events = 0
        (folder / "pipelines").mkdir(parents=True)
        (folder / "penstock.yaml").write_text("lake: lake\n")

    def run(self, events: int, batch_rows: int = 0, kill: str = "") -> dict[str, Any]:
        """Absorb so many more events in a process of its own, which may be killed in its third batch. A batch has
        BATCH_ROWS unless told otherwise."""
        self.events += events
        text = PIPELINE.replace("EVENTS", str(self.events)).replace("RATE", str(self._rate))
        (self.folder / "pipelines" / "ticks.yaml").write_text(text)
        command = [sys.executable, "-m", "penstock.bench.growth", str(self.folder), str(batch_rows or BATCH_ROWS), kill]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != (-signal.SIGKILL if kill else 0):
            raise PenstockError(f"the run failed: {done.stderr.strip()[-2000:]}", hint="Run it by itself to see more.")
        result: dict[str, Any] = {} if kill else json.loads(done.stdout.splitlines()[-1])
        return result

    def live_files(self) -> int:
        """Live files of the table that has the most."""
        lake = penstock.open(self.folder).lake
        return max(len(table.files()) for name in lake.tables() if (table := lake.table(name)) is not None)

    def reconcile(self, *, audit: bool) -> None:
        """Every record is in bronze, and every event in silver or rejects."""
        project = penstock.open(self.folder)
        sql = (
            "SELECT (SELECT count(*) FROM bronze.ticks) AS bronze, (SELECT count(*) FROM silver.ticks) + "
            "(SELECT count(*) FROM rejects.ticks) AS settled"
        )
        [found] = project.sql(sql).to_pylist()
        if found != {"bronze": self.events, "settled": self.events}:
            raise LawBroken(f"{self.events} records were made, and there are {found}", hint="Run `penstock audit`.")
        report: Any = project.audit().as_json() if audit else {"pipelines": {"ticks": {"violations": []}}}
        violations = report["pipelines"]["ticks"]["violations"]
        if violations:
            raise LawBroken(f"the audit found {violations[0]}", hint="Run `penstock audit`.")


def child(folder: str, batch_rows: str, kill: str = "") -> None:
    """Run the project once and print when its batches were in the ledger, and the CPU seconds until then."""
    made: list[int] = []
    done: list[float] = []
    processor: list[float] = []

    def after_step(step: str, batch: int) -> None:
        if step == "bronze":
            made.append(batch)
        if step == kill and len(made) >= 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == "ledger" and batch in made:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            done.append(time.time())
            processor.append(usage.ru_utime + usage.ru_stime)

    penstock.open(folder).run(once=True, keep_open=bool(kill), batch_rows=int(batch_rows), after_step=after_step)
    figures = {"done": done, "processor": processor}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    child(*sys.argv[1:])
