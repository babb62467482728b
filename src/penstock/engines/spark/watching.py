"""Looks on while jobs wait for a cluster that gives no executors: tells it, and ends the wait when the run is to stop.

Spark itself says so in its log at most, and waits for ever.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.engines.spark import java
from penstock.limits import SPARK_EXECUTORS_REPEAT_SECONDS, SPARK_EXECUTORS_SECONDS, SPARK_WATCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark import SparkContext


class Watch:
    """A thread beside the jobs of one session, from `start` to `close`. Jobs may come from several threads.

    `has_cancelled` says that the jobs which failed were ended here, because `stop` was set.
    """

    def __init__(self, context: SparkContext, tell: Callable[[str], None], stop: threading.Event) -> None:
        self._context = context
        self._tell = tell
        self._stop = stop
        self._tag = f"penstock-{uuid.uuid4().hex}"
        self._jobs = 0
        self._counting = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.has_cancelled = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="spark-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def job(self) -> Iterator[None]:
        """Around a job of this thread."""
        self._context.addJobTag(self._tag)
        with self._counting:
            self._jobs += 1
        try:
            yield
        finally:
            with self._counting:
                self._jobs -= 1

    def _follow(self) -> None:
        waited, tells_at = 0.0, SPARK_EXECUTORS_SECONDS
        while not self._closed.wait(SPARK_WATCH_SECONDS):
            try:
                if not self._jobs or self._has_executors():
                    waited, tells_at = 0.0, SPARK_EXECUTORS_SECONDS
                    continue
                if self._stop.is_set():
                    self.has_cancelled = True
                    self._context.cancelJobsWithTag(self._tag)
            except Exception:  # noqa: BLE001 - of py4j; a Java that is gone fails the jobs too, which tell it
                return
            waited += SPARK_WATCH_SECONDS
            if waited >= tells_at:
                tells_at = waited + SPARK_EXECUTORS_REPEAT_SECONDS
                self._tell(_no_executor(waited))

    def _has_executors(self) -> bool:
        return bool(self._context._jsc.sc().getExecutorMemoryStatus().size() > 1)  # the driver is among them


def _no_executor(seconds: float) -> str:
    log = java.log()
    where = "Spark's own log" if log is None else str(log.path)
    return (
        f"Spark has had no executor for {seconds:.0f} s, and a batch waits for one; look for free cores and memory in"
        f" the cluster, or let Spark say more in {where}: --conf spark.log.level=WARN"
    )
