"""Java, which Spark runs in: one for this process, started at the first need and ended with it; and its log."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import UsageError

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway
    from pyspark import SparkConf, SparkContext

JAVA_VERSION = 17
REASON_LENGTH_MAX = 500


class Log:
    """What Java, and the workers that it starts, say. Goes with this process, unless `is_kept`."""

    def __init__(self) -> None:
        self.descriptor, name = tempfile.mkstemp(prefix="penstock-spark-", suffix=".log")
        self.path = Path(name)
        self.is_kept = False
        atexit.register(self._end)

    def _end(self) -> None:
        if not self.is_kept:
            self.path.unlink(missing_ok=True)


_log: Log | None = None


def log() -> Log | None:
    """The log of the Java that we started; None where another one runs: of spark-submit, or of a notebook."""
    return _log


def start(conf: SparkConf) -> None:
    """Start Java with these settings, unless one runs.

    Raises:
        UsageError: it is missing or too old, or does not start; says what to do.
    """
    from pyspark import SparkContext  # noqa: PLC0415 - an extra

    is_to_start = SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" not in os.environ  # else spark-submit did it
    if is_to_start:
        require_java()
    try:
        SparkContext._ensure_initialized(gateway=_launched(conf) if is_to_start else None, conf=conf)
    except Exception as error:  # of pyspark or of the system, which have no common type
        raise UsageError(
            f"Java does not start: {reason(error)}",
            hint="Look at `spark_options` in penstock.yaml, or --conf; Java takes `spark.driver.memory` then.",
        ) from error


def _launched(conf: SparkConf) -> JavaGateway:
    global _log
    from pyspark import java_gateway  # noqa: PLC0415 - an extra

    _log = Log()
    # A signal to our process group, as of `timeout` or a terminal, is for us: we end Java when what is under way is
    # done. Whatever ends us ends it too, for it reads a pipe from us.
    options = {"stderr": _log.descriptor, "start_new_session": True}
    try:
        return java_gateway.launch_gateway(conf, options)  # type: ignore[no-untyped-call]
    finally:
        os.close(_log.descriptor)


def forget_dead() -> None:
    """Let go of a Java that has ended, with the context that was in it; else this process would never have another."""
    from pyspark import SparkContext  # noqa: PLC0415 - an extra

    gateway = SparkContext._gateway
    if gateway is None:
        return
    process = gateway.__dict__.get("proc")  # as an attribute that is not there, it would be asked of Java
    if process is None or process.poll() is None:
        return
    stop(SparkContext._active_spark_context)
    with suppress(Exception):  # of py4j, whose other end is gone
        gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None


def stop(context: SparkContext | None) -> None:
    """End a context, whose Java may have ended before."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if context is not None:
            context.stop()


def require_java() -> None:
    """Raise UsageError where there is none of our version."""
    hint = f"Install Java {JAVA_VERSION} (Debian: apt install openjdk-{JAVA_VERSION}-jre-headless) or set JAVA_HOME."
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=os.path.join(home, "bin") if home else None)
    if program is None:
        where = f"in JAVA_HOME, which is {home}" if home else "on the PATH"
        raise UsageError(f"the Spark engine needs Java {JAVA_VERSION}, and there is no java {where}", hint=hint)
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if found is None or int(found[1]) < JAVA_VERSION:
        version = found[1] if found else "an unknown version"
        raise UsageError(f"the Spark engine needs Java {JAVA_VERSION}, and {program} is {version}", hint=hint)


def reason(error: Exception) -> str:
    """The line of a failure's message that says what was wrong: the last error of a worker or of Java."""
    text = str(getattr(error, "java_exception", None) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[\w.]*(?:Error|Exception|Lost|Fenced)\b.*:", line)]
    return (told or lines or [type(error).__name__])[-1][:REASON_LENGTH_MAX]
