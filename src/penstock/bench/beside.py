"""Measured parts that work beside each other: clients that push, a run that follows, a reader that watches.

Each says `ready` when it is warm and takes its orders as lines on standard input. Times are those of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench.project import RATE, market
from penstock.model.batch import Disposition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.run.context import BatchDone
    from penstock.sources.worlds import Sent

WATCH_PAUSE_SECONDS = 0.002
"""Between two looks of the reader at the ledger's log: it asks when there is something new, so that its queries do not
take the processors from what is measured."""

WATCH_SECONDS_MAX = 120.0
"""How long the reader waits for the last record; beyond it the run has failed."""


def push(folder: str, first: str, events: str, block: str) -> dict[str, Any]:
    """Push records [first, first + events) in blocks, each when the one before is acknowledged."""
    made = _blocks(int(first), int(events), int(block), RATE)
    blocks = [sent.block["value"].to_pylist() for sent in made]
    with penstock.open(folder).pusher() as pusher:
        order("ready")
        began = time.monotonic()
        acknowledged, waits = 0, []
        for values in blocks:
            start = time.monotonic()
            acknowledged += pusher.values(values).records
            waits.append(time.monotonic() - start)
        return {"began": began, "ended": time.monotonic(), "acknowledged": acknowledged, "waits": waits}


def offer(folder: str, first: str, events: str, block: str, rate: str) -> dict[str, Any]:
    """Push records [first, first + events) in blocks, each when it is due, whether or not others are through.

    A push that takes long makes the next ones late, and their latency counts from when they were due.
    """
    made = list(_blocks(int(first), int(events), int(block), int(rate)))
    offered = []
    with penstock.open(folder).pusher() as pusher:
        order("ready")
        before = time.process_time()
        began = time.monotonic()
        for number, sent in enumerate(made, 1):
            due = began + number * int(block) / int(rate)
            while (left := due - time.monotonic()) > 0:
                time.sleep(left)
            places = pusher.records(sent.block)
            acknowledged = time.monotonic()
            accepted = sent.truth["expected"].to_numpy() == Disposition.ACCEPTED
            offered.append((due, acknowledged, int(places.offsets[accepted].max()), int(places.offsets.max())))
    return {"offered": offered, "cpu_seconds": time.process_time() - before}


def follow(folder: str) -> dict[str, Any]:
    """Run the pipeline until told to stop. Says `ready` after its first batch."""
    stop = threading.Event()
    durable: list[tuple[float, int]] = []

    def obey() -> None:
        order("ready")
        stop.set()

    def progress(done: BatchDone) -> None:
        before = durable[-1][1] if durable else 0
        durable.append((time.monotonic(), before + done.counts.records))
        if not before:
            threading.Thread(target=obey, daemon=True).start()

    summary = penstock.open(folder).run(stop=stop, progress=progress)[0]
    return {"durable": durable, "batches": summary.batches, "counts": dataclasses.asdict(summary.counts)}


def watch(folder: str) -> dict[str, Any]:
    """Ask silver for the last record it holds, whenever the ledger has a new entry, until it holds the one wanted.

    Says `ready` after the first answer; standard input then names the offset that is wanted.
    """
    project = penstock.open(folder)
    log = Path(folder) / "lake" / "ledger" / "ticks" / "_delta_log"
    seen: list[tuple[float, int]] = [(time.monotonic(), -1)]
    queries, changed = 0, 0
    orders: Queue[str] = Queue()
    wanted, deadline = None, float("inf")
    while (wanted is None or seen[-1][1] < wanted) and time.monotonic() < deadline:
        if changed == (changed := log.stat().st_mtime_ns):
            time.sleep(WATCH_PAUSE_SECONDS)
        else:
            query = f"select max(_offset) as last from silver.ticks where _offset > {seen[-1][1]}"
            last = project.sql(query)["last"][0].as_py()
            seen += [] if last is None else [(time.monotonic(), last)]
            queries += 1
            if queries == 1:
                threading.Thread(target=lambda: orders.put(order("ready")), daemon=True).start()
        if wanted is None and not orders.empty():
            wanted, deadline = int(orders.get()), time.monotonic() + WATCH_SECONDS_MAX
    return {"seen": seen, "queries": queries}


def order(say: str) -> str:
    """Say where this process is, and wait for the next line on standard input."""
    sys.stdout.write(f"{say}\n")
    sys.stdout.flush()
    return sys.stdin.readline().strip()


def _blocks(first: int, events: int, block: int, rate: int) -> Iterator[Sent]:
    world = market(rate)
    for start in range(first, first + events, block):
        yield world.make(start, min(block, first + events - start))
