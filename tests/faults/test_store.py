"""Whole pipelines with their lake in a real store: killed, raced for, failed at every request; all laws hold."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import penstock
from faults import world
from faults.storeproxy import FAULTS, Request, store_proxy
from lake.stores import environment, give_up_soon, new_lake
from penstock.errors import StorageError, TransientError
from pipelines import cases

if TYPE_CHECKING:
    from pathlib import Path

    from tools.servers import S3Server

pytestmark = pytest.mark.integration

LOUD = [fault for fault in FAULTS if not fault.startswith("silent")]


@pytest.fixture
def lake(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new lake's URI; the environment says how to reach it, also to child processes."""
    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    return new_lake(s3_server)


def test_everything_a_user_does(lake: str, tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop", lake=lake)
    acknowledged = world.push(folder, 0, 150)
    world.run(folder)
    early = world.query(folder, "select count(*) as n from silver.readings")
    acknowledged.update(world.push(folder, 150, 300))
    world.run(folder, rows=30)
    world.assert_sound(folder, acknowledged)
    shop = penstock.open(folder)
    assert shop.sql("select count(*) as n from silver.readings", as_of=4).to_pylist() == early
    assert shop.trace("gold.minutes", limit=1).windows
    assert shop.trace_forward("meters:1/0/7")
    assert [done.files_after for done in shop.optimize(["silver.readings"])] == [1]
    assert shop.vacuum(dry_run=True)
    assert shop.vacuum()
    assert shop.history("silver.readings", 2)
    assert shop.sql("select count(*) as n from silver.readings", as_of=4).to_pylist() == early
    world.assert_sound(folder, acknowledged)
    assert sorted(path.name for path in folder.iterdir()) == [".penstock", "penstock.yaml", "pipelines"]


@pytest.mark.parametrize("step", ["bronze-written", "bronze", "silver", "gold"])
def test_killed_and_resumed(lake: str, step: str, tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop", lake=lake)
    acknowledged = world.push(folder, 0, 160)
    with world.start_run(folder, places=[f"{step}:2"]) as child:
        child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL
    world.run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("place", ["bronze:2", "silver-written:2", "gold:2"])
def test_a_paused_writer_that_was_overtaken_changes_nothing(lake: str, place: str, tmp_path: Path) -> None:
    """As on two machines: the second does not see the first one's lock."""
    folder = world.make_project(tmp_path / "shop", lake=lake)
    acknowledged = world.push(folder, 0, 160)
    child = world.start_run(folder, places=[place], signal="SIGSTOP")
    try:
        assert child.stdout is not None
        assert [child.stdout.readline() for _ in range(2)] == ["running\n", "there\n"]
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        second = subprocess.run(
            [sys.executable, "-m", "penstock", "-C", str(folder), "run", "--once"], capture_output=True, text=True
        )
        assert (second.returncode, f"process {child.pid}" in second.stderr) == (4, True), second.stderr
        (folder / ".penstock/state/locks/meters.lock").unlink()
        acknowledged.update(world.push(folder, 160, 200))
        world.run(folder, rows=50)
        before = versions(folder)
        child.send_signal(signal.SIGCONT)
        _, errors = child.communicate(timeout=120)
    finally:
        child.kill()
    assert (child.returncode, "Fenced" in errors) == (4, True), errors
    assert versions(folder) == before
    world.assert_sound(folder, acknowledged)


def versions(folder: Path) -> dict[str, int]:
    return {table.name: table.version for table in penstock.open(folder).tables()}


@pytest.mark.parametrize("turn", range(3))
def test_requests_of_a_run_fail(
    s3_server: S3Server, lake: str, turn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seventh request has a fault. A run ends right or says what it could not do, and the next one goes on.

    Silence is left to the tests of one table: what waits for it makes a run of hundreds of requests long.
    """
    give_up_soon(monkeypatch)
    folder = world.make_project(tmp_path / "shop", lake=lake)
    acknowledged = world.push(folder, 0, 120)

    def choose(request: Request) -> str | None:
        fault = LOUD[(request.number // 7 + turn) % len(LOUD)] if request.number % 7 == turn else None
        return fault if request.conditional or fault != "409 before" else "500 before"

    with store_proxy(s3_server.port) as proxy:
        proxy.choose = choose
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            ended = False
            for _ in range(6):
                with contextlib.suppress(StorageError, TransientError):
                    world.run(folder)
                    ended = True
                    break
        assert ended or proxy.failed > 20
        assert proxy.failed > 10
    world.run(folder)
    world.assert_sound(folder, acknowledged)


def test_a_store_that_goes_away_ends_the_run_with_clear_words(
    s3_server: S3Server, lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_soon(monkeypatch)
    folder = world.make_project(tmp_path / "shop", lake=lake)
    acknowledged = world.push(folder, 0, 160)
    with store_proxy(s3_server.port) as proxy:

        def after_step(name: str, batch: int) -> None:
            if (name, batch) == ("bronze", 2):
                proxy.choose = lambda _: "503 before"

        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            with pytest.raises(StorageError, match="SlowDown") as caught:
                world.run(folder, after_step=after_step)
    assert "run again" in caught.value.hint
    world.run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("case", cases.CASES)
def test_every_case_has_its_answer(lake: str, case: str, tmp_path: Path) -> None:
    folder = cases.make_project(case, tmp_path / case)
    (folder / "penstock.yaml").write_text(f"lake: {lake}\n")
    cases.run(folder)
    assert cases.tables(folder) == cases.expected(case)
    assert cases.violations(folder) == []
