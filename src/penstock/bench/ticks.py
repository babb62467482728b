"""The main figure: a file of ticks to bronze, silver, gold and ledger, all durable, in large and in small batches.

With `against`, a script of the same shape runs in turn with ours; it gets the file, the batch size and a folder, and
prints one JSON object with `events`, `accepted` and `seconds`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench import project
from penstock.errors import LawBroken, PenstockError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH_ROWS = (500_000, 20_000)


@dataclass(frozen=True)
class Run:
    """One run: batch size, what the child measured, bytes by layer; `against` is the other script's own figures."""

    batch_rows: int
    measured: dict[str, Any]
    bytes: dict[str, int]
    against: dict[str, Any] | None


def main(
    *,
    events: int = 2_000_000,
    batch_rows: Sequence[int] = BATCH_ROWS,
    against: Path | None = None,
    audit: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the workload and return its figures; `say` gets the lines a person reads while it runs.

    Raises:
        LawBroken: the counts do not reconcile, or the audit finds a violation.
    """
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        workload = project.make(folder / "project", events)
        say(
            f"workload: {events:,} ticks of {workload.bytes_per_event:.0f} bytes in one file, 5 rules, one lookup, "
            f"unique within a day, one-minute bars; planted: {_listed(workload.planted)}"
        )
        say("versions: " + ", ".join(f"{name} {version}" for name, version in project.versions().items()))
        runs = [_run(workload, rows, against, audit, say) for rows in batch_rows]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "workload": {
            "events": workload.events,
            "bytes_per_event": workload.bytes_per_event,
            "planted": workload.planted,
        },
        "versions": project.versions(),
        "runs": [
            {"batch_rows": run.batch_rows, **run.measured, "bytes": run.bytes, "against": run.against} for run in runs
        ],
    }


def _run(
    workload: project.Workload, batch_rows: int, against: Path | None, audit: bool, say: Callable[[str], None]
) -> Run:
    shutil.rmtree(workload.folder / "lake", ignore_errors=True)
    measured = _child("-m", "penstock.bench.child", str(workload.folder), str(batch_rows))
    _reconcile(workload, measured["counts"])
    events, counts = workload.events, measured["counts"]
    measured["events_per_second"] = events / measured["seconds"]
    measured["cpu_seconds_per_million"] = measured["cpu_seconds"] / events * 1e6
    sizes = project.lake_bytes(workload.folder)
    say("")
    say(
        f"batches of {batch_rows:,}: {measured['events_per_second']:,.0f} events/s "
        f"({measured['seconds']:.2f} s, {measured['batches']} batches, "
        f"{measured['cpu_seconds_per_million']:.2f} CPU s per million, peak {measured['peak_bytes'] / 1e6:,.0f} MB)"
    )
    say(
        f"  rows: {counts['records']:,} records = {counts['accepted']:,} accepted + {counts['quarantined']:,} "
        f"quarantined + {counts['duplicate']:,} duplicate + {counts['skipped']:,} skipped"
    )
    say("  seconds by step (steps overlap): " + _listed({k: round(v, 2) for k, v in measured["steps"].items()}))
    say("  bytes per event: " + _listed({k: round(v / events, 1) for k, v in sizes.items()}))
    if audit:
        measured["audit"] = _audit(workload)
        say(f"  audit: {measured['audit']['rows_per_second']:,.0f} records/s, no violation")
    other = None
    if against is not None:
        source = workload.folder / "incoming" / "ticks.ndjson"
        with tempfile.TemporaryDirectory(prefix="penstock-against-") as scratch:
            other = _child(str(against), str(source), str(batch_rows), scratch)
        rate = other["events"] / other["seconds"]
        ours = measured["events_per_second"]
        say(f"  {against.name}: {rate:,.0f} events/s, {other['accepted']:,} accepted; ours is {ours / rate:.2f} of it")
    return Run(batch_rows, measured, sizes, other)


def _child(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PenstockError(
            f"{arguments[0]} failed: {done.stderr.strip()[-2000:]}", hint="Run it by itself to see more."
        )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _reconcile(workload: project.Workload, counts: dict[str, Any]) -> None:
    """Every record ended where the simulator says that it must."""
    got = {name: counts[name] for name in ("accepted", "quarantined", "duplicate")}
    wanted = {name: workload.expected.get(name, 0) for name in got}
    if counts["records"] != workload.events or counts["events"] != workload.events or got != wanted:
        raise LawBroken(
            f"{workload.events} records were written and must become {wanted}; they became {counts}",
            hint="Run `penstock audit`.",
        )


def _audit(workload: project.Workload) -> dict[str, float]:
    start = time.perf_counter()
    report: Any = penstock.open(workload.folder).audit().as_json()
    seconds = time.perf_counter() - start
    found = report["pipelines"]["ticks"]["violations"]
    if found:
        raise LawBroken(f"the audit found {len(found)} violations, first: {found[0]}", hint="Run `penstock audit`.")
    return {"seconds": seconds, "rows_per_second": workload.events / seconds}


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in sorted(values.items(), key=lambda item: str(item[0])))
