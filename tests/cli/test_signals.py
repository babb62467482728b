"""Signals: the first one ends a run cleanly, a second one at once, and nothing is lost either way."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

import penstock
from penstock.cli import signals
from penstock.limits import SIGNAL_REPEAT_SECONDS
from penstock.ops.scaffold import create_project

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(tmp_path):
    create_project(tmp_path / "shop", "market")
    return tmp_path / "shop"


def started(folder, *arguments):
    command = [sys.executable, "-m", "penstock", "-C", str(folder), "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_batch(process):
    """Wait for the first batch's log line."""
    for line in process.stderr:
        if json.loads(line)["event"] == "batch":
            return
    raise AssertionError("no batch")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_cleanly(shop, number):
    penstock.open(shop).simulate(events=20_000)
    process = started(shop, "--json", "--batch-rows", "2000")
    until_batch(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    absorbed = json.loads(out)["ticks"]["counts"]["records"]
    assert absorbed > 0
    assert "Traceback" not in err
    project = penstock.open(shop)
    assert project.status()[0].records == absorbed
    assert project.audit().clean
    project.run_once()
    assert project.reconcile().mismatched == 0


def test_two_signals_at_once_are_one_request(shop):
    """As from `timeout`, which signals the process and its group."""
    penstock.open(shop).simulate(events=20_000)
    process = started(shop, "--json", "--batch-rows", "2000")
    until_batch(process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["ticks"]["counts"]["records"] > 0


def test_a_later_signal_ends_at_once(monkeypatch):
    now, left = [100.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(signals.os, "_exit", left.append)
    stop = threading.Event()
    with signals.stop_on_signals(stop, lambda _: None):
        for at in (0.0, 0.2, 0.9):
            now[0] = 100.0 + at
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_set()
        assert left == []
        now[0] = 101.5
        signal.raise_signal(signal.SIGTERM)
    assert left == [128 + signal.SIGTERM]


def test_a_second_signal_ends_at_once_and_the_next_run_recovers(shop):
    penstock.open(shop).simulate(events=50_000)
    process = started(shop, "--batch-rows", "2000")
    until_batch(process)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):  # it may have stopped by then
        process.wait(timeout=1.5 * SIGNAL_REPEAT_SECONDS)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode in (0, 128 + signal.SIGTERM)
    project = penstock.open(shop)
    project.run_once()
    assert project.reconcile().mismatched == 0
    assert project.audit().clean


def test_a_second_process_is_fenced_with_exit_code_4(shop):
    penstock.open(shop).simulate(events=100)
    process = started(shop)
    try:
        until_batch(process)
        second = started(shop, "--once")
        _, err = second.communicate(timeout=60)
        assert second.returncode == 4
        assert str(process.pid) in err
    finally:
        process.terminate()
        process.communicate(timeout=60)
