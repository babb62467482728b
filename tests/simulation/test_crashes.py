"""A crash within the process leaves the disk as SIGKILL does, and nothing else: no lock, no thread, no open file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from faults import world
from simulation.crashing import Crash, Life
from simulation.killed import run

TESTS = Path(__file__).parent.parent

PLACES = (
    ("bronze-written", 2, 0),
    ("silver-written", 2, 0),
    ("gold", 3, 0),
    ("none", 1, 118),
    ("none", 1, 163),
)
"""A step and which time it is reached, or the number of a change on the disk."""


@pytest.mark.integration
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_it_leaves_what_a_kill_leaves(place: tuple[str, int, int], tmp_path: Path) -> None:
    step, count, operation = place
    folders = [world.make_project(tmp_path / name, threads=1) for name in ("crashed", "killed")]
    for folder in folders:
        acknowledged = world.push(folder, 0, 60)
    threads = set(threading.enumerate())
    with pytest.raises(Crash):
        run(folders[0], Life(place=(step, count), operation=operation))
    assert set(threading.enumerate()) == threads
    assert not _open_files(folders[0] / "lake")
    done = subprocess.run(
        [sys.executable, "-m", "simulation.killed", str(folders[1]), step, str(count), str(operation)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    assert _left(folders[0]) == _left(folders[1])
    for folder in folders:
        world.run(folder)
        world.assert_sound(folder, acknowledged)


def _left(folder: Path) -> Counter[str]:
    """Every file of the lake, without what is random in its name; SQLite's own leftovers are another way to say the
    same."""
    names = [str(path.relative_to(folder)) for path in (folder / "lake").rglob("*") if path.is_file()]
    plain = [re.sub(r"(part-|tmp-)[0-9a-f-]+|[0-9a-f]{32}", r"\1*", name) for name in names]
    return Counter(name for name in plain if not name.endswith(("-wal", "-shm")))


def _open_files(folder: Path) -> list[str]:
    opened = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            opened.append(os.readlink(descriptor))
        except OSError:
            continue
    return [path for path in opened if path.startswith(str(folder))]
