"""What is done to Spark's workers, tasks and driver; afterwards every law holds, and the tables are what they should be.

Workers die, fail, run twice, lose what they kept, have a wrong clock or no disk where a plant tells them to
(`plants.py`). `faults/world.py` has the pipeline and the truth about it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from conformance import engines, processes
from conformance.plants import STAGES
from conformance.waiting import wait_until
from faults import world
from faults.test_damage import flip
from faults.test_writers import LOCK
from penstock.engines.spark.session import Session
from penstock.errors import EngineFailed, Fenced, LakeCorrupt, RuleStopped, StorageError, UsageError
from penstock.lake.datafile import overlaps
from penstock.limits import SPARK_TASK_FAILURES_MAX
from penstock.model.columns import BATCH
from penstock.run.references import ReferenceKeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conformance.plants import Plants

pytestmark = pytest.mark.conformance

EVENTS = 120
ROWS = 40
IS_FULL = os.environ.get("PENSTOCK_CONFORMANCE") == "full"
KILLED_STEPS = world.STEPS if IS_FULL else ("bronze-written", "rejects")
"""Steps after which a whole process is killed, which takes a Java of its own; in `test_cases.py` an exception does, at
every step."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return world.make_project(tmp_path / "shop")


@pytest.fixture(autouse=True)
def counted(record_property: Callable[[str, object], None]) -> None:
    record_property("faults: of Spark", 1)


def run(folder: Path, engine: str = "spark") -> None:
    engines.run(folder, engine, ROWS)


# -- workers and tasks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["die", "fail"])
@pytest.mark.parametrize("moment", ["", "-written", "-done"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_is_lost_is_replaced(stage: str, moment: str, action: str, folder: Path, spark: Plants) -> None:
    """Before it did anything, between its files, and before it could tell; killed, or with an error of its own."""
    acknowledged = world.push(folder, 0, EVENTS)
    spark.plant(f"{stage}{moment}", action, times=2)
    run(folder)
    assert spark.left == []
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("stage", STAGES)
def test_all_workers_killed_at_once(stage: str, folder: Path, spark: Plants) -> None:
    """kill -9 by somebody else, while they are at work."""
    acknowledged = world.push(folder, 0, EVENTS)
    spark.plant(stage, "slow", times=2)
    with running(folder) as runner:
        wait_until(lambda: spark.left == [])
        workers = processes.spark_workers()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
    assert workers
    assert runner.error is None
    world.assert_sound(folder, acknowledged)


def test_a_task_that_never_succeeds_ends_the_run_and_the_next_one_goes_on(folder: Path, spark: Plants) -> None:
    acknowledged = world.push(folder, 0, EVENTS)
    spark.plant("settle", "fail", times=2 * SPARK_TASK_FAILURES_MAX)
    with pytest.raises(EngineFailed, match="planted: settle") as caught:
        run(folder)
    assert caught.value.exit_code == 1
    assert "Run again" in caught.value.hint
    spark.clear()
    run(folder)
    world.assert_sound(folder, acknowledged)


def test_stages_that_run_twice_double_nothing(folder: Path, spark: Plants) -> None:
    """As a task does whose result was lost, or that was thought to be slow; what it wrote first, nobody refers to."""
    acknowledged = world.push(folder, 0, EVENTS)
    for stage in STAGES:
        spark.plant(stage, "twice", times=100)
    run(folder)
    bronze = world.lake(folder).table("bronze/meters")
    assert bronze is not None
    assert len(world.files_of(folder, "bronze/meters/*/*.parquet")) > len(bronze.files())
    world.assert_sound(folder, acknowledged)


def test_what_the_first_stage_kept_is_only_a_shortcut(folder: Path, spark: Plants) -> None:
    acknowledged = world.push(folder, 0, EVENTS)
    spark.plant("settle", "forget", times=100)
    run(folder)
    assert len(spark.left) < 100
    world.assert_sound(folder, acknowledged)


def test_a_worker_s_clock_decides_nothing(folder: Path, spark: Plants) -> None:
    acknowledged = world.push(folder, 0, EVENTS)
    for stage in STAGES:
        spark.plant(stage, "clock", times=100)
    run(folder)
    for table in ("bronze/meters", "silver/readings", "rejects/meters"):
        assert all(row["_ingested_at"] < datetime.now(UTC) for row in world.by_files(folder, table))
    written = [row["written_at"] for row in world.by_files(folder, "ledger/meters")]
    assert max(written) < datetime.now(UTC) + timedelta(minutes=1)
    world.assert_sound(folder, acknowledged)


# -- errors that are not tried again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_in_a_worker(stage: str, folder: Path, spark: Plants) -> None:
    acknowledged = world.push(folder, 0, EVENTS)
    spark.plant(stage, "full")
    with pytest.raises(StorageError, match=r"(?i)no space left") as caught:
        run(folder)
    assert "free" in caught.value.hint.lower()
    assert world.violations(folder) == []
    spark.clear()
    run(folder)
    world.assert_sound(folder, acknowledged)


def test_a_damaged_file_of_bronze_met_in_recovery(folder: Path, spark: Plants) -> None:
    acknowledged = world.push(folder, 0, EVENTS)
    assert engines.run_killed(folder, "embedded", "forget", 2, ROWS)
    bronze = world.lake(folder).table("bronze/meters")
    assert bronze is not None
    (last,) = (file for file in bronze.files() if overlaps(file, BATCH, 2, 2))
    whole = {path: path.read_bytes() for path in world.files_of(folder, f"bronze/meters/{last.path}")}
    for path in whole:
        flip(0.4)(path)
    spark.clear()
    with pytest.raises(LakeCorrupt) as caught:
        run(folder)
    assert caught.value.exit_code == 3
    assert Path(last.path).name in caught.value.message
    assert spark.calls("refine:2") == 1, (spark.folder / "calls").read_text()  # not tried again
    for path, content in whole.items():
        path.write_bytes(content)
    run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.timeout(60)
def test_a_reference_that_cannot_be_read_ends_the_run(
    folder: Path, spark: Plants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for files of a batch that was never given to the workers."""
    acknowledged = world.push(folder, 0, EVENTS)

    def tables(self: ReferenceKeeper, versions: object) -> NoReturn:
        raise LakeCorrupt("planted: a reference is damaged")

    with monkeypatch.context() as damaged:
        damaged.setattr(ReferenceKeeper, "tables", tables)
        with pytest.raises(LakeCorrupt, match="planted"):
            run(folder)
    run(folder)
    world.assert_sound(folder, acknowledged)


def test_a_rule_that_stops_says_the_same_in_both_engines(tmp_path: Path, spark: Plants) -> None:
    said, folder, acknowledged = {}, tmp_path, {}
    for engine in engines.ENGINES:
        folder = world.make_project(tmp_path / engine)
        declaration = folder / "pipelines" / "meters.yaml"
        sound = declaration.read_text()
        declaration.write_text(sound.replace("sane: {check: value >= 0}", "sane: {check: value >= 0, otherwise: stop}"))
        acknowledged = world.push(folder, 0, EVENTS)
        with pytest.raises(RuleStopped) as caught:
            run(folder, engine)
        said[engine] = str(caught.value)
        declaration.write_text(sound)
    assert said["spark"] == said["embedded"]
    assert world.violations(folder) == []
    run(folder)
    world.assert_sound(folder, acknowledged)


# -- the driver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", KILLED_STEPS)
def test_the_whole_process_killed(
    step: str, folder: Path, spark: Plants, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Java and the workers go with it, and either engine goes on."""
    acknowledged = world.push(folder, 0, EVENTS)
    mark = f"{processes.MARK}={tmp_path}"
    with monkeypatch.context() as child:
        child.setenv("PENSTOCK_ENGINE", "spark")
        child.setenv(processes.MARK, str(tmp_path))
        assert world.run_killed(folder, ROWS, places=[f"{step}:2"])
    wait_until(lambda: not processes.with_environment(mark))
    assert world.violations(folder) == []
    run(folder, engines.ENGINES[KILLED_STEPS.index(step) % 2])
    world.assert_sound(folder, acknowledged)


def test_a_signal_to_the_process_group_ends_cleanly(folder: Path) -> None:
    """As of `timeout` or a service's manager. It must not end Java while a batch is under way."""
    world.push(folder, 0, 50 * ROWS)
    command = [sys.executable, "-m", "penstock", "-C", str(folder), "run", "--engine", "spark", "--master", "local[2]"]
    run = subprocess.Popen(
        [*command, "--json", "--batch-rows", str(ROWS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stderr is not None
    next(line for line in run.stderr if json.loads(line)["event"] == "batch")
    os.killpg(run.pid, signal.SIGTERM)
    out, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert 0 < json.loads(out)["meters"]["counts"]["records"] < 50 * ROWS
    assert world.violations(folder) == []


JAVA_DIES = """
import os, signal, sys
from pathlib import Path
import penstock
from pyspark import SparkContext
from penstock.engines.spark import java
from penstock.errors import EngineFailed

def die(step, batch):
    if step == "bronze" and batch == 1:
        os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)

project = penstock.open(sys.argv[1], engine="spark", spark_master="local[2]")
logs = []
try:
    project.run(once=True, batch_rows=40, after_step=die)
except EngineFailed as error:
    logs.append(java.log().path)
    assert str(logs[0]) in error.hint
project.run(once=True, batch_rows=40)
logs.append(java.log().path)
project.run(once=True)
assert java.log().path == logs[1]
assert all(path.exists() for path in logs)
print(*logs)
"""


def test_after_java_has_died_the_same_process_starts_another(folder: Path) -> None:
    """With a log of its own, which stays while it runs; that of the first one stays for ever."""
    acknowledged = world.push(folder, 0, EVENTS)
    done = subprocess.run([sys.executable, "-c", JAVA_DIES, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (Path(path) for path in done.stdout.split())
    assert first.exists()
    assert not second.exists()
    first.unlink()
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("first", engines.ENGINES)
@pytest.mark.parametrize("place", ["refine:2", "silver-written:2", "gold:2"])
def test_a_writer_that_was_overtaken_by_the_other_engine(place: str, first: str, folder: Path, spark: Plants) -> None:
    """The lock is taken away, as where two machines share a disk. The second goes on; the first changes nothing more."""
    second = next(engine for engine in engines.ENGINES if engine != first)
    acknowledged = world.push(folder, 0, EVENTS)
    there, go_on = threading.Event(), threading.Event()

    def after_step(name: str, batch: int) -> None:
        if f"{name}:{batch}" == place:
            there.set()
            assert go_on.wait(60)

    with running(folder, first, after_step=after_step) as overtaken:
        assert there.wait(60)
        with pytest.raises(Fenced, match="meters"):
            run(folder, second)
        (folder / LOCK).unlink()
        run(folder, second)
        before = engines.answer(folder)
        go_on.set()
    assert isinstance(overtaken.error, Fenced)
    assert engines.answer(folder) == before
    world.assert_sound(folder, acknowledged)


def test_executors_elsewhere_cannot_reach_a_push_log(
    folder: Path, spark: Plants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap between the engines, which is told before anything is changed."""
    world.push(folder, 0, 10)
    monkeypatch.setattr(Session, "is_local", False)
    with pytest.raises(UsageError, match="the push log of meters is on this machine"):
        run(folder)
    assert not (folder / "lake" / "contracts").exists()
    run(folder, "embedded")


# -- helpers ----------------------------------------------------------------------------------------------------------


class Runner(threading.Thread):
    """A run in a thread, and what it raised."""

    def __init__(self, folder: Path, engine: str, after_step: Callable[[str, int], None] | None) -> None:
        super().__init__()
        self._folder = folder
        self._options = {"engine": engine} | ({} if after_step is None else {"after_step": after_step})
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            engines.run(self._folder, rows=ROWS, **self._options)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error


@contextlib.contextmanager
def running(
    folder: Path, engine: str = "spark", after_step: Callable[[str, int], None] | None = None
) -> Iterator[Runner]:
    """A run that goes on beside the test, until its end."""
    runner = Runner(folder, engine, after_step)
    runner.start()
    try:
        yield runner
    finally:
        runner.join(120)
    assert not runner.is_alive()
