"""The main figure: a file of ticks to bronze, silver, gold and ledger, all durable, in large and in small batches.

With `against`, a script of the same shape runs in turn with ours; it gets the file, the batch size and a folder, and
prints one JSON object with `events`, `accepted` and `seconds`.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench import project
from penstock.bench.measuring import (
    Options,
    Say,
    audited,
    child,
    listed,
    megabytes,
    reconcile,
    say_audit,
    say_run,
    scratch,
    script,
)
from penstock.limits import BATCH_ROWS_MAX

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 2_000_000
BATCH_ROWS = (500_000, BATCH_ROWS_MAX, 20_000)

MEMORY_EVENTS = 10_000_000
"""Enough that what grows with the input would show."""


def main(options: Options, say: Say) -> dict[str, Any]:
    """Events a second, by batch size.

    Raises:
        LawBroken: the counts do not reconcile, or the audit finds a violation.
    """
    with scratch() as folder:
        planted = project.one_file(folder, options.events or EVENTS)
        _say_workload(say, planted)
        runs = [_run(folder, planted, rows, options, say) for rows in options.batch_rows or BATCH_ROWS]
    return {"workload": vars(planted), "runs": runs}


def memory(options: Options, say: Say) -> dict[str, Any]:
    """Peak memory of a long run and of its audit, all settings as they are by default.

    Raises:
        LawBroken: the counts do not reconcile, or the audit finds a violation.
    """
    with scratch() as folder:
        planted = project.one_file(folder, options.events or MEMORY_EVENTS)
        _say_workload(say, planted)
        measured = _measured(folder, planted, BATCH_ROWS_MAX, options.lake)
        say(f"peak memory: {megabytes(measured['peak_bytes'])} at {measured['events_per_second']:,.0f} events/s")
        say_run(say, measured)
        if options.audit:
            measured["audit"] = audited(folder, planted.events)
            say_audit(say, measured["audit"])
    return {"workload": vars(planted), **measured}


def _say_workload(say: Say, planted: project.Planted) -> None:
    say(
        f"workload: {planted.events:,} ticks of {planted.bytes_per_event:.0f} bytes in one file, 5 rules, one lookup, "
        f"unique within a day, one-minute bars; planted: {listed(planted.faults)}"
    )


def _run(folder: Path, planted: project.Planted, batch_rows: int, options: Options, say: Say) -> dict[str, Any]:
    events = planted.events
    measured = _measured(folder, planted, batch_rows, options.lake)
    sizes = lake_bytes(folder)
    say(f"batches of {batch_rows:,}: {measured['events_per_second']:,.0f} events/s")
    say_run(say, measured)
    say("  seconds by step (steps overlap): " + listed({k: round(v, 2) for k, v in measured["steps"].items()}))
    per_million = {k: round(v / events * 1e6, 3) for k, v in measured["cpu_steps"].items()}
    say("  CPU seconds per million events: " + listed(per_million))
    say("  bytes per event: " + listed({k: round(v / events, 1) for k, v in sizes.items()}))
    if options.audit:
        measured["audit"] = audited(folder, events)
        say_audit(say, measured["audit"])
    other = _against(folder, batch_rows, options.against, measured["events_per_second"], say)
    return {"batch_rows": batch_rows, **measured, "bytes": sizes, "against": other}


def _measured(folder: Path, planted: project.Planted, batch_rows: int, uri: str | None) -> dict[str, Any]:
    """One run into a new lake, reconciled."""
    shutil.rmtree(folder / "lake", ignore_errors=True)
    if uri is not None:
        project.put_lake(folder, uri)
    measured = child("run", folder, batch_rows)
    reconcile(planted, measured["counts"])
    return measured | {
        "events_per_second": planted.events / measured["seconds"],
        "cpu_seconds_per_million": measured["cpu_seconds"] / planted.events * 1e6,
    }


def _against(folder: Path, batch_rows: int, path: Path | None, ours: float, say: Say) -> dict[str, Any] | None:
    """The other script's own figures, of the same file."""
    if path is None:
        return None
    with tempfile.TemporaryDirectory(prefix="penstock-against-") as into:
        other = script(path, folder / project.INPUT / "ticks.ndjson", batch_rows, into)
    rate = other["events"] / other["seconds"]
    say(f"  {path.name}: {rate:,.0f} events/s, {other['accepted']:,} accepted; ours is {ours / rate:.2f} of it")
    return other


def lake_bytes(folder: Path) -> dict[str, int]:
    """Bytes of the lake's data files by layer."""
    sizes: dict[str, int] = {}
    files = penstock.open(folder).lake.storage.files("")
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".parquet") and "/_delta_log/" not in file.path:
            layer = file.path.split("/")[0]
            sizes[layer] = sizes.get(layer, 0) + file.size
    return sizes
