"""One measured run in a process of its own, so that memory and CPU time are its own: `python -m penstock.bench.child`.

Prints one JSON object: seconds, CPU seconds, peak memory, seconds by step, counts.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time

import penstock


def main(folder: str, batch_rows: str) -> None:
    """Run the project's pipelines once, in batches of `batch_rows`."""
    project = penstock.open(folder)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    summaries = project.run(once=True, batch_rows=int(batch_rows))
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    summary = summaries[0]
    json.dump(
        {
            "seconds": seconds,
            "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "peak_bytes": after.ru_maxrss * 1024,
            "batches": summary.batches,
            "steps": dict(summary.step_seconds),
            "counts": dataclasses.asdict(summary.counts),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
