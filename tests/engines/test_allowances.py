"""What a worker may hold follows the number of workers, which on a cluster is known only when they have come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.engines.spark.deriving import SparkDeriver
from penstock.engines.spark.shares import Allowance
from penstock.engines.spark.worker import Room
from penstock.limits import MIB, SPARK_WORKER_BYTES_MIN
from penstock.settings import Settings


def test_it_is_asked_for_anew_with_each_batch() -> None:
    session = MagicMock(parallelism=2)
    job = MagicMock(settings=Settings(memory_bytes=1_024 * MIB, batch_bytes_max=64 * MIB))
    deriver = SparkDeriver(session, MagicMock(), job)
    plan: Any = SimpleNamespace(pipeline=None)
    at_opening = deriver.stage(plan, {})._allowance
    session.parallelism = 8
    later = deriver.stage(plan, {})._allowance
    session.parallelism = 1_000
    assert at_opening == Allowance(512 * MIB, 64 * MIB)
    assert later == Allowance(128 * MIB, 16 * MIB)
    assert deriver.stage(plan, {})._allowance.memory_bytes == SPARK_WORKER_BYTES_MIN


def test_a_worker_keeps_its_engine_and_bounds_it_anew() -> None:
    room: Any = object.__new__(Room)
    room._allowance = Allowance(64 * MIB, MIB)
    room._engine = engine = EmbeddedEngine(threads=1, memory_bytes=64 * MIB)
    try:
        room.allow(Allowance(128 * MIB, MIB))
        (limit,) = engine.query("SELECT current_setting('memory_limit') AS it", {})["it"].to_pylist()
        assert limit == "128.0 MiB"
    finally:
        engine.close()
