"""kill -9 while a client pushes, that is killed too: after each numbered step, again while that is put right, and at any
moment. The lives are in `kills.py`; a failure names its seed and its life, which `tools/kills.py` does again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faults import world

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

TOOL = Path(__file__).parents[2] / "tools" / "kills.py"
KILLS = 40
LOSSY = """
import runpy, sys
from faults import forks
from penstock.run import restart
from_bronze = restart.batch_from_bronze

def lossy(tables, deriver, number):
    batch = from_bronze(tables, deriver, number)
    batch.work._rows = batch.work._rows.slice(1)
    return batch

restart.batch_from_bronze = lossy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A planted bug: what a crash left half done is derived again without its first record."""


def killed(*arguments: str, program: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, str(TOOL), "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=TOOL.parents[1] / "tests")


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_killed_again_and_again(seed: int, record_property: Callable[[str, object], None]) -> None:
    done = killed("--seed", str(seed), "--kills", str(KILLS))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    record_property("faults: seed", seed)
    record_property("faults: kills", told["killed"])
    record_property("faults: kills during a recovery", told["in_recovery"])
    record_property("faults: clients killed", told["clients_killed"])
    record_property("faults: audits after kills", told["audits"])
    record_property("faults: acknowledged records, none lost", told["acknowledged"])
    assert told["killed"] == KILLS
    assert told["in_recovery"] >= KILLS // 6
    assert told["clients_killed"] >= KILLS // 12
    assert set(told["kills"]) >= {"any operation", "any moment"}
    # Which steps the others meet depends on how the threads are timed; `tests/pipelines` kills after each for certain.
    assert len(set(told["kills"]) & set(world.STEPS)) >= len(world.STEPS) - 2


def test_a_recovery_that_loses_a_record_is_seen() -> None:
    done = killed("--seed", "1", "--kills", "12", program=("-c", LOSSY))
    assert done.returncode == 1
    assert "seed 1, life 0" in done.stderr, done.stderr


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
