"""On a real cluster: tasks that are thought to be slow run twice, and executors die with what they kept.

The machines share this one's file system, as they would a network's.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from conformance import cluster, engines
from conformance.plants import STAGES, Plants
from conformance.waiting import wait_until
from faults import world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.cluster import Cluster

pytestmark = pytest.mark.conformance

EVENTS = 120
ROWS = 40
SPECULATION = (
    "spark.speculation=true",
    "spark.speculation.interval=20ms",
    "spark.speculation.multiplier=1.1",
    "spark.speculation.quantile=0.1",
    "spark.speculation.minTaskRuntime=0ms",
    "spark.speculation.efficiency.enabled=false",
)


@pytest.fixture(scope="module")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with cluster.started(folder, Plants(folder / "plants")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, spark_cluster: Cluster) -> Path:
    spark_cluster.plants.clear()
    folder = world.make_project(tmp_path / "shop", "files: {path: incoming}")
    world.drop(folder, "1.ndjson", world.events(0, EVENTS))
    return folder


def test_speculation_doubles_nothing(folder: Path, spark_cluster: Cluster) -> None:
    for stage in STAGES:
        spark_cluster.plants.plant(stage, "stuck")
    run = spark_cluster.start_run(folder, *SPECULATION, rows=ROWS)
    _, errors = run.communicate(timeout=240)
    assert run.returncode == 0, errors
    batches = engines.batches(folder) - 1  # the last one is the drain
    for stage in STAGES:
        assert spark_cluster.plants.calls(stage) > 2 * batches, "no task was run a second time"
    world.assert_sound(folder, dict(enumerate(world.events(0, EVENTS))))


def test_a_cluster_that_gives_no_executors_is_told_and_the_wait_can_be_ended(
    folder: Path, spark_cluster: Cluster
) -> None:
    """They are asked for more memory than any machine has."""
    run = spark_cluster.start_run(folder, "spark.executor.memory=4g", rows=ROWS)
    assert run.stderr is not None
    try:
        told = next(line for line in run.stderr if "no executor" in line)
    finally:
        run.terminate()
        _, errors = run.communicate(timeout=60)
    assert "penstock-spark-" in told
    assert run.returncode == 0, errors
    world.assert_sound(folder, {})


@pytest.mark.parametrize("stage", STAGES)
def test_an_executor_is_killed(stage: str, folder: Path, spark_cluster: Cluster) -> None:
    plants = spark_cluster.plants
    plants.plant(stage, "slow", times=2)
    run = spark_cluster.start_run(folder, rows=ROWS)
    try:
        wait_until(lambda: plants.left == [], seconds=120)
        os.kill(spark_cluster.executors()[0], signal.SIGKILL)
    finally:
        _, errors = run.communicate(timeout=240)
    assert run.returncode == 0, errors
    world.assert_sound(folder, dict(enumerate(world.events(0, EVENTS))))
