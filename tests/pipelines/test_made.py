"""Made-up pipelines and input: the same tables, those of the oracle, however the input is cut, killed, shuffled, threaded.

A failure names its seed (the parameter), and the declaration; `PENSTOCK_MADE=1000` makes more of them.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

import penstock
from pipelines import cases, made, made_oracle
from simulation import killed
from simulation.crashing import Crash, Life

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEEDS = int(os.environ.get("PENSTOCK_MADE", "8"))
RECORDS = 90


def straight(folder: Path, sent: list[made.Record], draw: random.Random) -> None:
    _push(folder, sent)
    cases.run(folder)


def split(folder: Path, sent: list[made.Record], draw: random.Random) -> None:
    """In two runs, of which the first keeps its windows open, and in small batches."""
    middle = draw.randrange(len(sent))
    _push(folder, sent[:middle])
    penstock.open(folder).run(once=True, keep_open=True, batch_rows=13)
    _push(folder, sent[middle:])
    cases.run(folder, 29)


def crashed(folder: Path, sent: list[made.Record], draw: random.Random) -> None:
    _push(folder, sent)
    for _ in range(3):
        try:
            killed.run(folder, Life(operation=draw.randrange(1, 160)))
        except Crash:
            continue
    cases.run(folder, 25)


def threaded(folder: Path, sent: list[made.Record], draw: random.Random) -> None:
    _push(folder, sent)
    penstock.open(folder, threads=4).run(once=True, batch_rows=40)


def _push(folder: Path, sent: list[made.Record]) -> None:
    penstock.open(folder).ingest("made", [record.value for record in sent])


WAYS: tuple[Callable[..., None], ...] = (straight, split, crashed, threaded)


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_one_answer(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    declared = made.pipeline(draw)
    sent = made.records(declared, RECORDS, draw)
    ways = [(way.__name__, way, sent) for way in WAYS]
    ways.append(("shuffled", split, draw.sample(sent, len(sent))))
    for name, way, order in ways:
        folder = made.make_project(tmp_path / name, declared)
        way(folder, order, draw)
        try:
            made_oracle.assert_answer(penstock.open(folder), declared, order)
            assert cases.violations(folder) == []
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}\n{declared.yaml()}") from error
