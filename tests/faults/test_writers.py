"""Two writers of one pipeline: the second is turned away, and one that was paused and overtaken changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from faults import world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

PLACES = (
    "bronze-written:2",
    "bronze:2",
    "forget:2",
    "refine:2",
    "silver-written:2",
    "rejects:2",
    "silver:2",
    "gold:2",
    "ledger:2",
)
LOCK = "lake/_penstock/locks/meters.lock"


@contextlib.contextmanager
def paused(folder: Path, places: list[str], operation: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A writer that has stopped itself; it goes on with SIGCONT."""
    child = world.start_run(folder, places=places, operation=operation, signal="SIGSTOP")
    try:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(2)]
        if said != ["running\n", "there\n"]:
            pytest.fail(f"it never came there: {said} {child.communicate(timeout=60)[1]}")
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        yield child
    finally:
        child.kill()
        child.communicate(timeout=60)


@pytest.fixture(autouse=True)
def counted(record_property: Callable[[str, object], None]) -> None:
    record_property("faults: rival writers", 1)


def go_on(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Let a paused writer continue to its end; its exit code and what it said."""
    child.send_signal(signal.SIGCONT)
    _, errors = child.communicate(timeout=120)
    return child.returncode, errors


def committed(folder: Path) -> dict[str, str]:
    """Every log entry of the lake, and every file that one names, by a digest of its bytes."""
    found = {}
    for path in world.files_of(folder, "*/*/_delta_log/*.json"):
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("bronze/meters", "silver/readings", "rejects/meters", "gold/minutes", "ledger/meters"):
        table = world.lake(folder).table(name)
        assert table is not None
        for file in table.files():
            found[table.path(file)] = hashlib.sha256((folder / "lake" / name / file.path).read_bytes()).hexdigest()
    return found


def test_the_second_is_turned_away_and_told_of_the_first(tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 150)
    with paused(folder, ["silver:2"]) as first:
        second = subprocess.run(
            [sys.executable, "-m", "penstock", "-C", str(folder), "run", "--once"], capture_output=True, text=True
        )
        assert second.returncode == 4
        assert f"process {first.pid}" in second.stderr
        assert "meters" in second.stderr
        assert "Traceback" not in second.stderr
        assert go_on(first)[0] == 0
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("place", PLACES)
def test_a_paused_writer_that_was_overtaken_changes_nothing(place: str, tmp_path: Path) -> None:
    """The lock is taken away here, as it would be on a disk that two machines share."""
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 200)
    with paused(folder, [place]) as first:
        (folder / LOCK).unlink()
        acknowledged.update(world.push(folder, 200, 300))
        world.run(folder, rows=50)
        before = committed(folder)
        code, errors = go_on(first)
    assert code == 4, errors
    assert "Fenced" in errors
    assert committed(folder) == before
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("operation", [3, 70, 131, 152])
def test_paused_before_a_file_operation(operation: int, tmp_path: Path) -> None:
    """The one that was overtaken may have been about to sync, to rename, or to create anything."""
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 150)
    with paused(folder, [], operation) as first:
        with contextlib.suppress(FileNotFoundError):
            (folder / LOCK).unlink()
        acknowledged.update(world.push(folder, 150, 200))
        world.run(folder, rows=50)
        before = committed(folder)
        code, errors = go_on(first)
    if code == 0:  # it was stopped before it had read anything, so it is simply the next writer
        assert operation < 30
    else:
        assert (code, "Fenced" in errors) == (4, True), errors
        assert committed(folder) == before
    world.assert_sound(folder, acknowledged)
    acknowledged.update(world.push(folder, 200, 230))
    world.run(folder)
    world.assert_sound(folder, acknowledged)


def test_two_at_once_leave_one(tmp_path: Path) -> None:
    """Started together without the lock's help: each takes over, and whoever loses says so."""
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 300)
    world.run(folder, rows=100)
    acknowledged.update(world.push(folder, 300, 600))
    with paused(folder, ["bronze:5"]) as first:
        (folder / LOCK).unlink()
        with paused(folder, ["silver:6"]) as second:
            first.send_signal(signal.SIGCONT)
            second.send_signal(signal.SIGCONT)
            assert first.stderr is not None
            assert select.select([first.stderr], [], [], 60)[0]
            codes = sorted(child.wait(timeout=60) for child in (first, second))
    assert codes == [0, 4]
    world.assert_sound(folder, acknowledged)
