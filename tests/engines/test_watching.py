"""A cluster that gives no executors is told now and then, and who waits for it can be stopped."""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import MagicMock

import pytest

from penstock.engines.spark import watching
from penstock.engines.spark.watching import Watch

WAIT_SECONDS_MAX = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SPARK_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(watching, "SPARK_EXECUTORS_SECONDS", 0.05)
    monkeypatch.setattr(watching, "SPARK_EXECUTORS_REPEAT_SECONDS", 0.1)


def context_with(executors: int) -> Any:
    context = MagicMock()
    context._jsc.sc().getExecutorMemoryStatus().size.return_value = 1 + executors
    return context


def test_it_is_told_again_and_again_while_a_job_waits() -> None:
    told: list[str] = []
    twice = threading.Event()

    def tell(sentence: str) -> None:
        told.append(sentence)
        if len(told) == 2:
            twice.set()

    watch = Watch(context_with(0), tell, threading.Event())
    watch.start()
    with watch.job():
        assert twice.wait(WAIT_SECONDS_MAX)
    watch.close()
    assert "Spark has had no executor for" in told[0]
    assert not watch.has_cancelled


def test_a_stop_ends_the_jobs_of_this_session_alone() -> None:
    context, stop, cancelled = context_with(0), threading.Event(), threading.Event()
    context.cancelJobsWithTag.side_effect = lambda _: cancelled.set()
    watch = Watch(context, lambda _: None, stop)
    watch.start()
    with watch.job():
        stop.set()
        assert cancelled.wait(WAIT_SECONDS_MAX)
    watch.close()
    assert watch.has_cancelled
    (tag,) = context.addJobTag.call_args.args
    context.cancelJobsWithTag.assert_called_with(tag)


@pytest.mark.parametrize(("executors", "jobs"), [(1, 1), (0, 0)])
def test_nothing_is_told_or_ended_where_nobody_waits(executors: int, jobs: int) -> None:
    context, stop, told, looked = context_with(executors), threading.Event(), [], threading.Event()
    stop.set()
    watch = Watch(context, told.append, stop)
    watch.start()
    if jobs:
        with watch.job():
            looked.wait(0.3)
    else:
        looked.wait(0.3)
    watch.close()
    assert told == []
    assert not watch.has_cancelled
    context.cancelJobsWithTag.assert_not_called()
