"""The Spark context of this process: found or started, and what is missing for that explained."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from penstock.engines.spark import java
from penstock.engines.spark.watching import Watch
from penstock.errors import EngineFailed, PenstockError, TransientError, UsageError
from penstock.limits import SPARK_TASK_FAILURES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspark import SparkContext
    from pyspark.core.broadcast import Broadcast

SPARK_VERSION = "4.2"
LOCAL_ADDRESS = "127.0.0.1"
STAND_INS = {"spark.master": "local[*]", "spark.app.name": "pyspark-shell"}
"""What Spark has where nobody said anything."""


_sharing = threading.Lock()
_users = 0
"""Sessions that are open in this process; Spark allows one context, so they share it."""
_is_ours = False
"""Whether a session started the context: one that was there before is left running."""


class Session:
    """One Spark context, shared by the pipelines of a process. `run` may be called from several threads at once.

    A context that is there already (a notebook's, another project's) is used as it is, and outlives the session. `tell`
    is given a sentence while a cluster gives no executors; that wait ends when `stop` is set.

    Raises:
        UsageError: pyspark or Java is missing or of another version, or Spark does not start; says what to do.
    """

    def __init__(
        self,
        master: str | None,
        options: Mapping[str, str],
        threads: int,
        *,
        tell: Callable[[str], None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        global _users, _is_ours
        _require_package()
        with _sharing, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pandas, which pyspark looks at and we do not hand it
            java.forget_dead()
            running = _running(master)
            if running is None:
                self._context = _started(master, options, threads)
            else:
                self._context = running
            _is_ours = _is_ours or running is None
            _users += 1
        self._watch = Watch(self._context, tell, stop or threading.Event())
        if not self.is_local:
            self._watch.start()

    @property
    def parallelism(self) -> int:
        """How many shares are worked on at once: the cores of all executors.

        Raises:
            EngineFailed: Java does not answer.
        """
        with self._explaining("Spark does not answer"):
            return max(1, int(self._context.defaultParallelism))

    @property
    def is_local(self) -> bool:
        """Whether the executors run in this machine's own process, and so see its files."""
        return str(self._context.master).startswith("local")

    def broadcast(self, value: object) -> Broadcast[Any]:
        """A value that each worker loads once.

        Raises:
            EngineFailed: Java does not answer.
        """
        with self._explaining("Spark does not take a value"):
            return self._context.broadcast(value)

    def destroy(self, sent: Broadcast[Any]) -> None:
        """Delete a value that was broadcast, with its file on this machine. No job may use it any more."""
        with suppress(Exception):  # of py4j: a Java that is gone has nothing to delete any more
            sent.destroy()

    def run(self, stage: Callable[[Iterable[Any]], Iterable[Any]], shares: Sequence[object]) -> list[Any]:
        """What `stage` gives for each share, in their order; each share is a task of its own.

        Raises:
            PenstockError: what a worker returned instead of a result.
            TransientError: there were no executors, and the run is to stop.
            EngineFailed: Spark gave up on a task; with what it says of the last attempt.
        """
        with self._explaining("Spark gave up on a task"), self._watch.job():
            results = self._context.parallelize(shares, len(shares)).mapPartitions(stage).collect()
        for result in results:
            if isinstance(result, PenstockError):
                raise result
        return results

    @contextmanager
    def _explaining(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of py4j and pyspark, which have no common type
            if self._watch.has_cancelled:
                raise TransientError(
                    "Spark had no executor when the run was stopped", hint="What was acknowledged is in bronze."
                ) from error
            log = java.log()
            where = "Spark's own log"
            if log is not None:
                log.is_kept = True
                where = f"Spark's log, {log.path},"
            raise EngineFailed(
                f"{what}: {java.reason(error)}",
                hint=f"Run again: what was acknowledged is in bronze. {where} tells more.",
            ) from error

    def close(self) -> None:
        """The last one that is closed ends the context and with it the executors, if a session started it; Java stays
        for the next."""
        global _users, _is_ours
        self._watch.close()
        with _sharing:
            _users -= 1
            if _users == 0 and _is_ours:
                java.stop(_active())
                _is_ours = False


def parse_options(text: str) -> dict[str, str]:
    """Spark's settings from `name=value,name=value`; a comma followed by no `name=` belongs to the value before.

    Raises:
        UsageError: a part is not of that shape.
    """
    options = {}
    for part in re.split(r",(?=\s*[\w.-]+=)", text) if text.strip() else []:
        name, equals, value = part.strip().partition("=")
        if not equals or not name.startswith("spark."):
            raise UsageError(
                f"spark_options: {part.strip()!r} is not a Spark setting", hint="Write `spark.executor.memory=4g`."
            )
        options[name] = value
    return options


def _running(master: str | None) -> SparkContext | None:
    """The context that this process has already."""
    running = _active()
    if running is not None and master and not _same_master(master, str(running.master)):
        raise UsageError(
            f"this process has a Spark context with the master {running.master}, and {master} was asked for",
            hint="Stop that context first, or leave the master out to use it.",
        )
    return running


def _active() -> SparkContext | None:
    from pyspark import SparkContext  # noqa: PLC0415 - an extra

    return SparkContext._active_spark_context


def _same_master(asked: str, running: str) -> bool:
    """Whether they are the same but for how often a task may fail."""
    asked, running = (master.partition(",")[0].rstrip("]") for master in (asked, running))
    return asked == running


def _started(master: str | None, options: Mapping[str, str], threads: int) -> SparkContext:
    """A context of ours; where there is none, the log is named and stays."""
    try:
        return _context(master, options, threads)
    except UsageError as error:
        log = java.log()
        if log is None:
            raise
        log.is_kept = True
        raise UsageError(error.message, hint=f"{error.hint} {log.path} has what Java said.") from error


def _context(master: str | None, options: Mapping[str, str], threads: int) -> SparkContext:
    from pyspark import SparkConf, SparkContext  # noqa: PLC0415 - an extra

    defaults = {
        "spark.app.name": "penstock",
        "spark.log.level": "ERROR",
        "spark.scheduler.mode": "FAIR",
        "spark.python.worker.reuse": "true",
    }
    first = SparkConf(loadDefaults=False).setAll([("spark.ui.showConsoleProgress", "false"), *options.items()])
    java.start(first)
    conf = SparkConf().setAll([*options.items()])  # knows what spark-submit and spark-defaults.conf say

    def said(name: str) -> str | None:
        value: str | None = conf.get(name)
        return None if value == STAND_INS.get(name) and name not in options else value

    chosen = master or said("spark.master") or f"local[{threads}]"
    local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\s*(\d+))?\])?", chosen)
    if local is not None:
        # Spark's own default of a local master is to give up at the first failure.
        chosen = f"local[{local[1] or 1},{local[2] or SPARK_TASK_FAILURES_MAX}]"
        defaults |= {
            "spark.ui.enabled": "false",
            "spark.driver.bindAddress": LOCAL_ADDRESS,
            "spark.driver.host": LOCAL_ADDRESS,
        }
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    conf.setMaster(chosen)
    conf.setAll([(name, value) for name, value in defaults.items() if not said(name)])
    try:
        with _interrupts_kept():
            return SparkContext.getOrCreate(conf)
    except Exception as error:
        raise UsageError(
            f"Spark did not start with the master {chosen}: {java.reason(error)}",
            hint="Look at `spark_master` and `spark_options` in penstock.yaml, or --master and --conf.",
        ) from error


def _require_package() -> None:
    try:
        found = importlib.metadata.version("pyspark")
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(
            "the Spark engine needs pyspark, which is not installed", hint="Install it: pip install 'penstock[spark]'"
        ) from None
    if not found.startswith(f"{SPARK_VERSION}."):
        raise UsageError(
            f"the Spark engine needs pyspark {SPARK_VERSION}, and {found} is installed",
            hint=f"Install it: pip install 'pyspark=={SPARK_VERSION}.*'",
        )


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Ctrl-C stays with who has it: PySpark would cancel the jobs of the batch under way."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
