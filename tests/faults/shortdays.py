"""Days that last seconds: what upkeep keeps for a day, and what it trusts for a minute, in the same proportions.

`python -m faults.shortdays FOLDER` is the writer of such days: batch after batch until its standard input is closed, with
the loop's upkeep, and now and then what a person would call. It ends with a drain, and prints what was cleared away.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import penstock
from penstock.lake import history, maintenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAY_SECONDS = 12
LIFE_SECONDS = 5.0
"""How long the writer runs before it stops for `optimize` and `vacuum`."""

SHORT = {
    "penstock.lake.vacuum.DAY_MICROSECONDS": DAY_SECONDS * 1_000_000,
    "penstock.lake.vacuum.LOG_KEPT_SECONDS_MIN": 5,
    "penstock.lake.table.REFRESH_TRUST_SECONDS": 2.0,
    "penstock.lake.table.COMMIT_FILE_SECONDS_MAX": DAY_SECONDS / 2,
    "penstock.lake.maintenance.VACUUM_EVERY_SECONDS": 2,
    "penstock.lake.maintenance.UPKEEP_EVERY_VERSIONS": 4,
    "penstock.lake.vacuum.LOG_ENTRIES_MAX": 24,
    "penstock.lake.vacuum.CHECKPOINT_SPACING_VERSIONS": 8,
    "penstock.lake.table.COMMITS_PER_CHECKPOINT": 5,
}
LIMITS = {"kept_days": 1, "log_kept_days": 1, "compact_every_batches": 3, "batch_interval_min_ms": 20}


@contextmanager
def short_days() -> Iterator[None]:
    """In this process."""
    with ExitStack() as stack:
        for name, value in SHORT.items():
            stack.enter_context(patch(name, value))
        yield


def write(folder: Path, over: threading.Event) -> Counter[str]:
    """Run until it is over, then to the end of what was pushed; how much was cleared away meanwhile."""
    cleared: Counter[str] = Counter()

    def merge(*arguments: Any, inner: Callable[..., Any] = maintenance.merge_due, **named: Any) -> Any:
        done = inner(*arguments, **named)
        cleared["compactions"] += done[0] is not None
        return done

    def vacuum(*arguments: Any, inner: Callable[..., Any] = maintenance.vacuum, **named: Any) -> Any:
        done = inner(*arguments, **named)
        cleared["files"] += done.files
        return done

    def log(*arguments: Any, inner: Callable[..., Any] = maintenance.keep_log, **named: Any) -> Any:
        done = inner(*arguments, **named)
        cleared["entries"] += done.entries if done else 0
        return done

    def expire(*arguments: Any, inner: Callable[..., Any] = history.expire) -> Any:
        gone = inner(*arguments)
        cleared["stretches"] += gone
        return gone

    with (
        patch("penstock.run.upkeep.merge_due", merge),
        patch("penstock.lake.maintenance.merge_due", merge),
        patch("penstock.run.upkeep.vacuum", vacuum),
        patch("penstock.lake.maintenance.vacuum", vacuum),
        patch("penstock.run.upkeep.keep_log", log),
        patch("penstock.lake.history.expire", expire),
    ):
        while not over.is_set():
            project = penstock.open(folder)
            stop = threading.Event()
            timer = threading.Timer(LIFE_SECONDS, stop.set)
            timer.start()
            project.run(batch_rows=200, stop=stop)
            timer.join()
            cleared["files by hand"] += sum(one.files for one in project.vacuum())
            project.optimize()
        penstock.open(folder).run(once=True, batch_rows=200)
    return cleared


def is_over() -> threading.Event:
    """Set when standard input ends."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    return over


if __name__ == "__main__":
    with short_days():
        print(json.dumps(write(Path(sys.argv[1]), is_over())))
