"""What workloads share: a scratch folder, measured child processes, reconciled counts, versions, lines to read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.errors import LawBroken, PenstockError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.bench.project import Planted

CHILD = "penstock.bench.child"

Say = Callable[[str], None]
"""Takes the lines that a person reads while a workload runs."""

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Options:
    """What can be asked of workloads; each looks at what concerns it. None and () leave it to the workload.

    `events` is the size of the input, `seconds` the length of an offered load, `against` a script to run in turn,
    `lake` a URI below which lakes are made (they stay there). Of the workload `kafka`, `parts` are what to measure and
    `brokers` where.
    """

    events: int | None = None
    batch_rows: tuple[int, ...] = ()
    seconds: float | None = None
    against: Path | None = None
    audit: bool = True
    lake: str | None = None
    parts: tuple[str, ...] = ()
    brokers: str | None = None


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is deleted in the end; where TMPDIR says."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- children ---------------------------------------------------------------------------------------------------------


class Beside:
    """A part of `child.py` that works beside others. Ends with `result`, which may give it its last order."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", CHILD, *map(str, arguments)]
        self._name = str(arguments[0])
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_ready(self) -> None:
        """Until it has said that it is ready."""
        if self._output().readline().strip() != "ready":
            raise self._failed()

    def order(self, text: str) -> None:
        """Give it a line."""
        if self._process.stdin is None:
            raise self._failed()
        with contextlib.suppress(BrokenPipeError):  # it has ended, and `result` says how
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """What it measured, once it has ended."""
        lines = self._output().read().strip().splitlines()
        if self._process.wait() != 0 or not lines:
            raise self._failed()
        measured: dict[str, Any] = json.loads(lines[-1])
        return measured

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happened, it does not outlive the workload."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _output(self) -> Any:
        return self._process.stdout

    def _failed(self) -> PenstockError:
        return PenstockError(f"the measured part `{self._name}` failed", hint="What it said stands above.")


def child(*arguments: object) -> dict[str, Any]:
    """What a part of `child.py` measured, in a process of its own."""
    return script("-m", CHILD, *arguments)


def script(*arguments: object) -> dict[str, Any]:
    """Run Python with these arguments; the JSON object on the last line it prints."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip()[-2000:]
        raise PenstockError(f"{' '.join(command[1:4])} failed: {said}", hint="Run it by itself to see more.")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


# -- the truth --------------------------------------------------------------------------------------------------------


def reconcile(planted: Planted, counts: Mapping[str, Any]) -> None:
    """Every record ended where the simulator says that it must.

    Raises:
        LawBroken: one did not.
    """
    wanted = {"records": planted.events, "events": planted.events, "skipped": 0}
    wanted |= {name: planted.expected.get(name, 0) for name in ("accepted", "quarantined", "duplicate")}
    got = {name: counts[name] for name in wanted}
    if got != wanted:
        raise LawBroken(f"what was put in must become {wanted}; it became {got}", hint="Run `penstock audit`.")


def audited(folder: Path, records: int) -> dict[str, Any]:
    """The audit of a project, in a process of its own.

    Raises:
        LawBroken: it found a violation.
    """
    measured = child("audit", folder)
    found = measured["violations"]
    if found:
        raise LawBroken(f"the audit found {len(found)} violations, first: {found[0]}", hint="Run `penstock audit`.")
    return measured | {"rows_per_second": records / measured["seconds"]}


# -- words ------------------------------------------------------------------------------------------------------------


def say_run(say: Say, measured: Mapping[str, Any]) -> None:
    """Counts and costs of a run."""
    counts, events = measured["counts"], measured["counts"]["events"]
    say(
        f"  rows: {counts['records']:,} records = {counts['accepted']:,} accepted + {counts['quarantined']:,} "
        f"quarantined + {counts['duplicate']:,} duplicate + {counts['skipped']:,} skipped"
    )
    say(
        f"  {measured['seconds']:.2f} s, {measured['batches']} batches, peak {megabytes(measured['peak_bytes'])}, "
        f"{measured['cpu_seconds'] / events * 1e6:.2f} CPU s per million events"
    )


def say_audit(say: Say, audit: Mapping[str, Any]) -> None:
    """The rate and the memory of an audit without violations."""
    say(
        f"  audit: {audit['rows_per_second']:,.0f} records/s, peak {megabytes(audit['peak_bytes'])}, no violation "
        f"({audit['seconds']:.2f} s, {audit['cpu_seconds']:.2f} CPU s)"
    )


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def listed(values: Mapping[str, Any]) -> str:
    """Names and numbers on one line."""
    return ", ".join(f"{name} {value:,}" for name, value in values.items())


def versions() -> dict[str, str]:
    """The versions a figure depends on, and the file system, which may make `durable` cost nothing."""
    found = {name: version(name) for name in ("penstock", "duckdb", "deltalake", "pyarrow", "numpy")}
    for extra in ("confluent-kafka", "pyspark"):
        with contextlib.suppress(PackageNotFoundError):
            found[extra] = version(extra)
    kind = file_system(Path(tempfile.gettempdir()))
    note = " (in memory: no fsync is paid for; set TMPDIR to a folder on disk)" if kind in MEMORY_FILE_SYSTEMS else ""
    return found | {"arrow": pa.cpp_version, "processors": str(os.cpu_count()), "file system": kind + note}


def file_system(folder: Path) -> str:
    """The kind of file system that `folder` is on; `unknown` where the kernel does not say."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    points = [(Path(fields[1]), fields[2]) for fields in (line.split() for line in mounts)]
    holding = [(len(point.parts), kind) for point, kind in points if resolved.is_relative_to(point)]
    return max(holding)[1] if holding else "unknown"
