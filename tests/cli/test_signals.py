"""Signals: the first one ends a run cleanly, a second one at once, and nothing is lost either way."""

import json
import signal
import subprocess
import sys
import time

import pytest

import penstock
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


def test_a_second_signal_ends_at_once_and_the_next_run_recovers(shop):
    penstock.open(shop).simulate(events=50_000)
    process = started(shop, "--batch-rows", "2000")
    until_batch(process)
    process.send_signal(signal.SIGTERM)
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
