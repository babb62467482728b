"""kill -9 while a client pushes: after each numbered step, again while that is put right, and at any moment."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from faults import world

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

RECOVERIES = (
    ("bronze-written:2", "bronze:2", "silver:2"),
    ("bronze:2", "refine:2", "rejects:2"),
    ("bronze:2", "rejects:2", "rejects:2"),
    ("rejects:2", "silver-written:2", "silver:2"),
    ("silver:2", "gold:2", "ledger:2"),
    ("silver:2", "refine:2", "gold:2"),
    ("gold:2", "silver:3", "refine:3"),
)
"""Where a run is killed, where the next one is that puts it right, and the one after that."""


@pytest.mark.parametrize("step", world.STEPS)
def test_killed_after_each_step_of_three_batches(step: str, tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop")
    client = world.Client(folder)
    client.acknowledged.update(world.push(folder, 0, 200))
    client.next_event = 200
    with client.pushing(last=900):
        for batch in (1, 2, 3):
            assert world.run_killed(folder, places=[f"{step}:{batch}"])
            assert world.violations(folder) == []
    world.run(folder)
    world.assert_sound(folder, client.acknowledged)


@pytest.mark.parametrize("places", RECOVERIES, ids="-".join)
def test_killed_while_recovering(places: tuple[str, ...], tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 300)
    for place in places:
        assert world.run_killed(folder, places=[place])
    world.run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("place", ["silver:5", "ledger:5", "ledger:6", "gold:6"])
def test_killed_after_a_gold_table_was_declared(place: str, tmp_path: Path) -> None:
    """It is filled from silver's history, whatever of that the ledger has, and whenever that is cut short."""
    folder = world.make_project(tmp_path / "shop")
    declaration = folder / "pipelines" / "meters.yaml"
    with_both = declaration.read_text()
    declaration.write_text(with_both[: with_both.index("  sites:")])
    acknowledged = world.push(folder, 0, 300)
    assert world.run_killed(folder, places=["silver:5"])
    declaration.write_text(with_both)
    assert world.run_killed(folder, places=[place]) or place == "silver:5"
    assert world.violations(folder) == []
    world.run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    folder = world.make_project(tmp_path / "shop")
    client = world.Client(folder)
    killed = 0
    for _ in range(8):
        with client.pushing(last=client.next_event + 200):
            child = world.start_run(folder, rows=draw.choice([5, 20, 60]))
            assert child.stdout is not None
            assert child.stdout.readline() == "running\n"
            time.sleep(draw.uniform(0, 1.2))
            child.kill()
            _, errors = child.communicate(timeout=60)
            assert child.returncode in (0, -9), f"seed {seed}: {errors}"
            killed += child.returncode == -9
    assert killed
    world.run(folder)
    world.assert_sound(folder, client.acknowledged)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_before_any_file_operation(seed: int, tmp_path: Path) -> None:
    """The first runs are killed while they create the tables and take them over, the later ones anywhere."""
    draw = random.Random(seed)
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 150)
    operations = [draw.randrange(1, 80) for _ in range(6)] + [draw.randrange(50, 250) for _ in range(6)]
    for operation in operations:
        world.run_killed(folder, rows=25, operation=operation)
        first = len(acknowledged)
        acknowledged.update(world.push(folder, first, first + 30))
    world.run(folder)
    world.assert_sound(folder, acknowledged)
