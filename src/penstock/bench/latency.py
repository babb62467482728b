"""From a push that is due to the answer of a query: at an offered 50,000 events a second, how long does it take?

Three processes: a client pushes blocks on a schedule that waits for nobody, `run` follows, a reader asks silver when
the ledger has changed. A block's latency is counted from when it was due, not from when the client got to it (a stall
is charged to every block it held up), until a query that began anew has returned the block's last accepted row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.bench import project
from penstock.bench.measuring import Beside, Options, Say, audited, listed, reconcile, say_audit, scratch
from penstock.errors import LawBroken
from penstock.limits import BATCH_INTERVAL_MIN_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 50_000
BLOCK_ROWS = 1_000
SECONDS = 30.0

INTERVALS_MS = (round(BATCH_INTERVAL_MIN_SECONDS * 1_000), 100)
"""Milliseconds between two batches, at least: as it is by default, and what a pipeline in a hurry would be given."""

WARM_SECONDS = 2.0
"""Blocks due in the first seconds are pushed and must reconcile, but are not counted: the run is still starting."""


def main(options: Options, say: Say) -> dict[str, Any]:
    """Latency by percentile of the blocks, by the shortest time between two batches.

    Raises:
        LawBroken: what was pushed does not reconcile, was not seen, or the audit finds a violation.
    """
    seconds = options.seconds or SECONDS
    first = BLOCK_ROWS  # one block is pushed beforehand, so that there is a lake to look at
    events = int((WARM_SECONDS + seconds) * RATE / BLOCK_ROWS) * BLOCK_ROWS
    planted = project.Planted()
    for sent in project.ticks(first + events, RATE):
        planted.add(sent)
    say(
        f"workload: {RATE:,} ticks a second of {planted.bytes_per_event:.0f} bytes in pushes of {BLOCK_ROWS:,} for "
        f"{seconds:.0f} s, after {WARM_SECONDS:.0f} s that are not counted; planted: {listed(planted.faults)}"
    )
    runs = [_run(planted, events, interval_ms, options, say) for interval_ms in INTERVALS_MS]
    return {"workload": vars(planted), "runs": runs}


def _run(planted: project.Planted, events: int, interval_ms: int, options: Options, say: Say) -> dict[str, Any]:
    first = planted.events - events
    with scratch() as folder:
        project.declare(folder, project.PUSH, batch_interval_min_ms=interval_ms)
        with penstock.open(folder).pusher() as pusher:
            pusher.records(project.market(RATE).make(0, first).block)
        with Beside("follow", folder) as follower:
            follower.wait_ready()
            with Beside("watch", folder) as reader:
                reader.wait_ready()
                with Beside("offer", folder, first, events, BLOCK_ROWS, RATE) as client:
                    client.wait_ready()
                    client.order("offer")
                    pushed = client.result()
                reader.order(str(pushed["offered"][-1][2]))
                watched = reader.result()
            follower.order("stop")
            followed = follower.result()
        reconcile(planted, followed["counts"])
        latencies = _latencies(pushed["offered"], followed["durable"], watched["seen"])
        audit = audited(folder, planted.events) if options.audit else None
    figures = {name: _percentiles(values) for name, values in latencies.items()}
    processor = {"run": followed, "client": pushed, "reader": watched}
    cpu = {name: measured["cpu_seconds"] for name, measured in processor.items()}
    say(f"a batch at most every {interval_ms} ms:")
    for name, found in figures.items():
        say(f"  due -> {name}: " + ", ".join(f"{which} {value:,.0f} ms" for which, value in found.items()))
    say(
        f"  rows: {planted.events:,} pushed = {followed['counts']['records']:,} records, "
        f"{followed['counts']['accepted']:,} accepted; {followed['batches']} batches, {watched['queries']:,} queries"
    )
    say("  CPU seconds: " + listed({name: round(value, 1) for name, value in cpu.items()}))
    if audit:
        say_audit(say, audit)
    return {
        "interval_ms": interval_ms,
        "milliseconds": figures,
        "batches": followed["batches"],
        "queries": watched["queries"],
        "cpu_seconds": cpu,
        "peak_bytes": followed["peak_bytes"],
        "counts": followed["counts"],
        "audit": audit,
    }


def _latencies(
    offered: list[list[float]], durable: list[list[float]], seen: list[list[float]]
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds from when each counted block was due until it was acknowledged, in all tables, and seen."""
    due, acknowledged, last_accepted, last = np.array(offered).T
    counted = due >= due[0] + WARM_SECONDS
    reached = {
        "acknowledged": acknowledged,
        "durable in all tables": _reached(durable, last + 1),
        "in the answer of a query": _reached(seen, last_accepted),
    }
    return {name: (times - due)[counted] * 1_000 for name, times in reached.items()}


def _reached(steps: list[list[float]], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """When a number that only grows, as (time, number), was at least as high as each wanted one."""
    times, numbers = np.array(steps).T
    at = numbers.searchsorted(wanted)
    if at.max() == len(times):
        raise LawBroken(
            f"record {wanted.max():.0f} was acknowledged, but never seen: the last one was {numbers[-1]:.0f}",
            hint="Please report this, with the output of `penstock audit`.",
        )
    return np.asarray(times[at])


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99), method="higher").tolist()
    return {"p50": p50, "p99": p99, "max": float(values.max())}
