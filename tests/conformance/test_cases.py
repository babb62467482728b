"""Every case of tests/pipelines makes the same tables on both engines: straight, killed and resumed, in other batches, and
switched from one to the other in the middle.

Four cases go all these ways, the rest straight; with `PENSTOCK_CONFORMANCE=full` all of them do. What an
engine cannot do is in GAPS (`matrix.py`) with its reason, and fails once it can.
"""

from __future__ import annotations

import itertools
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from conformance import engines
from conformance.matrix import CHOSEN, IS_FULL, assert_answer, going, other, rows_of
from pipelines import cases

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.matrix import Straight
    from conformance.plants import Plants

pytestmark = pytest.mark.conformance


@going("straight", cases.CASES)
def test_straight(case: str, straight: Straight, spark: Plants, tmp_path: Path) -> None:
    project, wanted = straight(case)
    folder = shutil.copytree(project, tmp_path / case)
    engines.run(folder, "spark")
    assert_answer(folder, wanted)
    assert spark.calls("refine") > 0
    assert spark.calls("settle") > 0


@going("split", CHOSEN)
@pytest.mark.parametrize("batches", [3, 7])
def test_split(case: str, batches: int, straight: Straight, spark: Plants, tmp_path: Path) -> None:
    project, wanted = straight(case)
    folder = shutil.copytree(project, tmp_path / case)
    engines.run(folder, "spark", rows_of(wanted, batches))
    assert_answer(folder, wanted)


@going("killed", CHOSEN)
def test_killed_and_resumed(case: str, straight: Straight, spark: Plants, tmp_path: Path) -> None:
    """After every step in one life, each time resumed by the engine that the lot falls on."""
    project, wanted = straight(case)
    folder = shutil.copytree(project, tmp_path / case)
    draw = random.Random(case)
    killed, rows = [], rows_of(wanted, 5)
    for step in draw.sample(cases.STEPS, len(cases.STEPS)):
        engine, batch = draw.choice(engines.ENGINES), engines.batches(folder) + draw.randrange(2)
        if engines.run_killed(folder, engine, step, max(1, batch), rows):
            killed.append(f"{engine} {step}:{batch}")
    engines.run(folder, draw.choice(engines.ENGINES), rows)
    try:
        assert_answer(folder, wanted)
    except AssertionError as error:
        raise AssertionError(f"killed after {' | '.join(killed)}: {error}") from error
    assert killed


@pytest.mark.parametrize(
    ("step", "resumed_by"),
    list(
        itertools.product(cases.STEPS, engines.ENGINES)
        if IS_FULL
        else zip(cases.STEPS, itertools.cycle(engines.ENGINES))
    ),
)
def test_killed_at_each_step(step: str, resumed_by: str, straight: Straight, spark: Plants, tmp_path: Path) -> None:
    project, wanted = straight("market_ticks")
    folder = shutil.copytree(project, tmp_path / "project")
    assert engines.run_killed(folder, "spark", step, 2, rows_of(wanted, 3))
    engines.run(folder, resumed_by, rows_of(wanted, 3))
    assert_answer(folder, wanted)


@going("switched", CHOSEN)
@pytest.mark.parametrize("first", engines.ENGINES)
def test_switched(case: str, first: str, straight: Straight, spark: Plants, tmp_path: Path) -> None:
    """To the other engine and back, as an operator does it: stopped, and started again."""
    project, wanted = straight(case)
    folder = shutil.copytree(project, tmp_path / case)
    rows = rows_of(wanted, 6)
    for engine in (first, other(first)):
        engines.run_batches(folder, engine, rows, 2)
    engines.run(folder, first, rows)
    assert_answer(folder, wanted)
