"""Made-up pipelines and input: the same tables, those of the oracle, however the input is cut, killed, shuffled, threaded.

A failure names its seed (the parameter), and the declaration; `PENSTOCK_MADE=1000` makes more of them.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from pipelines import cases, made, made_oracle
from simulation import killed
from simulation.crashing import Crash, Life

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.wire import Project

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
        folder = _project(tmp_path / name, declared)
        way(folder, order, draw)
        try:
            _assert_answer(penstock.open(folder), declared, order)
            assert cases.violations(folder) == []
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}\n{declared.yaml()}") from error


def _project(folder: Path, declared: made.Made) -> Path:
    (folder / "pipelines").mkdir(parents=True)
    (folder / "penstock.yaml").write_text("lake: lake\nlimits: {threads: 1}\n")
    (folder / "pipelines" / "made.yaml").write_text(declared.yaml())
    return folder


def _assert_answer(project: Project, declared: made.Made, sent: list[made.Record]) -> None:
    wanted = made_oracle.answer(declared, sent)
    silver = project.sql('select * replace (epoch_us("at") as "at") from silver.made').to_pylist()
    assert len(silver) == len(wanted.accepted)
    for row in silver:
        expected = wanted.accepted[row["_offset"]]
        assert {name: row[name] for name in expected} == expected
    rejects = project.sql("select _offset, disposition, failed, winner_offset from rejects.made").to_pylist()
    found = {
        row["_offset"]: (row["disposition"], tuple(sorted(row["failed"])), row["winner_offset"]) for row in rejects
    }
    assert len(found) == len(rejects)
    assert found == wanted.rejected
    for gold in declared.golds:
        rows = project.sql(f"select * replace (epoch_us(window_start) as window_start) from gold.{gold.name}")
        _assert_gold(rows.to_pylist(), gold, made_oracle.gold(gold, wanted.accepted))


def _assert_gold(rows: list[dict[str, Any]], gold: made.Gold, wanted: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    found = {(row["window_start"], *[row[name] for name in gold.by]): row for row in rows}
    assert len(found) == len(rows), f"{gold.name} has a window twice"
    assert found.keys() == wanted.keys(), f"{gold.name}: windows differ"
    for key, measures in wanted.items():
        for name, value in measures.items():
            got = found[key][name]
            assert made_oracle.same(got, value), f"{gold.name}.{name} of {key} is {got!r}, not {value!r}"
