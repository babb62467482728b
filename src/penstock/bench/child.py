"""The measured parts, each in a process of its own, so that memory and CPU time are its own.

`python -m penstock.bench.child PART ...` runs one of PARTS and prints one JSON object on its last line. Parts that
work beside others (`beside.py`) say `ready`, and wait for a line on standard input before they begin or end.
"""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench.beside import follow, offer, push, watch
from penstock.bench.kafka.topic import stream

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_NAMES = {
    "refine": "read, refine",
    "bronze-written": "bronze write",
    "bronze": "bronze commit",
    "silver-written": "duplicates, silver write",
    "silver": "silver commit",
}
"""A step of the protocol -> what its thread did since the step before. Others are called as they are."""


class ProcessorTime:
    """CPU seconds by step, of the threads that run the steps; what the engine's own threads took is the rest."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._local = threading.local()

    def after_step(self, step: str, _: int) -> None:
        """Add what this thread took since its last step."""
        now = time.thread_time()
        taken = now - getattr(self._local, "last", 0.0)
        self._local.last = now
        with self._lock:
            self.seconds[STEP_NAMES.get(step, step)] += taken


class Mapped:
    """Files mapped into memory, looked at after each batch: how much of them is resident, how much is a spilled index.

    The kernel counts mapped pages to a process, and takes them away when somebody needs the memory.
    """

    def __init__(self) -> None:
        self.resident_peak = 0
        self.spilled_peak = 0

    def look(self, _: object) -> None:
        status, maps = _of_this_process("status"), _of_this_process("maps")
        resident = re.search(r"^RssFile:\s+(\d+) kB$", status, re.MULTILINE)
        spilled = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r--s .* \(deleted\)$", maps, re.MULTILINE)
        self.resident_peak = max(self.resident_peak, int(resident[1]) * 1024 if resident else 0)
        self.spilled_peak = max(self.spilled_peak, sum(int(end, 16) - int(start, 16) for start, end in spilled))


def run(folder: str, batch_rows: str) -> dict[str, Any]:
    """Run the project's pipelines once, in batches of `batch_rows` whatever they take."""
    project = penstock.open(folder)
    processor, mapped = ProcessorTime(), Mapped()
    before = cpu_seconds()
    start = time.perf_counter()
    summary = project.run_once(batch_rows=int(batch_rows), progress=mapped.look, after_step=processor.after_step)[0]
    seconds = time.perf_counter() - start
    taken = cpu_seconds() - before
    by_step = dict(processor.seconds)
    return {
        "seconds": seconds,
        "cpu_seconds": taken,
        "mapped_peak_bytes": mapped.resident_peak,
        "spilled_bytes": mapped.spilled_peak,
        "batches": summary.batches,
        "steps": dict(summary.step_seconds),
        "cpu_steps": by_step | {"engine's own threads": max(0.0, taken - sum(by_step.values()))},
        "counts": dataclasses.asdict(summary.counts),
    }


def audit(folder: str) -> dict[str, Any]:
    """Audit the project's pipelines."""
    project = penstock.open(folder)
    before = cpu_seconds()
    start = time.perf_counter()
    report: Any = project.audit().as_json()
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu_seconds() - before,
        "violations": [found for pipeline in report["pipelines"].values() for found in pipeline["violations"]],
    }


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_bytes() -> int:
    """The most memory this process held. The kernel's `ru_maxrss` would count what the parent held at its birth."""
    held = re.search(r"^VmHWM:\s+(\d+) kB$", _of_this_process("status"), re.MULTILINE)
    return (int(held[1]) if held else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _of_this_process(name: str) -> str:
    """A file of /proc/self; empty where there is none."""
    try:
        return Path("/proc/self", name).read_text()
    except OSError:
        return ""


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "run": run,
    "audit": audit,
    "push": push,
    "offer": offer,
    "follow": follow,
    "watch": watch,
    "stream": stream,
}


def main(part: str, *arguments: str) -> None:
    """Run a part; it may know better than the whole process what its CPU time was."""
    measured = PARTS[part](*arguments)
    json.dump({"cpu_seconds": cpu_seconds(), "peak_bytes": peak_bytes()} | measured, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
