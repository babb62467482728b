"""Cases whose records come from a topic, with their lake in a folder and in a store, on both engines: straight, killed
and resumed, switched. With `PENSTOCK_CONFORMANCE=full` all of them go all ways."""

from __future__ import annotations

import functools
import itertools
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from conformance import engines, topics
from conformance.matrix import CHOSEN, IS_FULL, assert_answer, other, rows_of
from conformance.topics import LAYOUTS, Told
from lake.stores import environment, new_lake
from pipelines import cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tools.servers import KafkaServer, S3Server

    from conformance.matrix import Straight
    from conformance.plants import Plants

    Tell = Callable[[str, str], Told]
    Copy = Callable[[Path, str], Path]

pytestmark = pytest.mark.conformance

LAKES = ("folder", "store")
CASES = cases.CASES if IS_FULL else CHOSEN


@pytest.fixture(scope="session")
def told(kafka_server: KafkaServer, straight: Straight, tmp_path_factory: pytest.TempPathFactory) -> Tell:
    """Of a case and a layout: the project on a topic, and its answer."""

    @functools.cache
    def made(case: str, layout: str) -> Told:
        project, _ = straight(case)
        folder = tmp_path_factory.mktemp(f"{case}-{layout}")
        return topics.tell(case, layout, kafka_server.address, project.with_name("embedded"), folder)

    return made


@pytest.fixture
def copy(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """Makes a copy of a project, with its lake beside it or in the store."""
    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)

    def copied(project: Path, lake: str) -> Path:
        folder = shutil.copytree(project, tmp_path / "project")
        if lake == "store":
            (folder / "penstock.yaml").write_text(f"lake: {new_lake(s3_server)}\n")
        return folder

    return copied


def dealt() -> Iterator[tuple[str, str, str, str]]:
    """(case, engine, lake, layout): any two of them together at least once."""
    if IS_FULL:
        yield from itertools.product(CASES, engines.ENGINES, LAKES, LAYOUTS)
        return
    for number, turn in itertools.product(range(len(CASES)), range(2)):
        yield CASES[number], engines.ENGINES[turn], LAKES[(number + turn) % 2], LAYOUTS[(number // 2 + turn) % 2]


@pytest.mark.parametrize(("case", "engine", "lake", "layout"), list(dealt()))
def test_straight(case: str, engine: str, lake: str, layout: str, told: Tell, copy: Copy, spark: Plants) -> None:
    of_topic = told(case, layout)
    folder = copy(of_topic.project, lake)
    engines.run(folder, engine)
    assert_answer(folder, of_topic.wanted)
    assert (spark.calls("settle") > 0) == (engine == "spark")


LIVES = list(itertools.product(engines.ENGINES, engines.ENGINES, LAKES))
"""(killed, resumed by, lake)"""


@pytest.mark.parametrize(
    ("step", "life"),
    list(itertools.product(cases.STEPS, LIVES) if IS_FULL else zip(cases.STEPS, itertools.cycle(LIVES))),
)
def test_killed_at_each_step(step: str, life: tuple[str, str, str], told: Tell, copy: Copy, spark: Plants) -> None:
    killed, resumed_by, lake = life
    of_topic = told("market_ticks", "keyed")
    folder, rows = copy(of_topic.project, lake), rows_of(of_topic.wanted, 3)
    assert engines.run_killed(folder, killed, step, 2, rows)
    engines.run(folder, resumed_by, rows)
    assert_answer(folder, of_topic.wanted)


@pytest.mark.skipif(not IS_FULL, reason="long; each step is in `test_killed_at_each_step`")
@pytest.mark.parametrize("lake", LAKES)
@pytest.mark.parametrize("case", CASES)
def test_killed_again_and_again(case: str, lake: str, told: Tell, copy: Copy, spark: Plants) -> None:
    """After every step in one life, each time resumed by the engine that the lot falls on."""
    of_topic = told(case, "keyed")
    folder, rows = copy(of_topic.project, lake), rows_of(of_topic.wanted, 5)
    draw = random.Random(f"{case} {lake}")
    killed = []
    for step in draw.sample(cases.STEPS, len(cases.STEPS)):
        engine, batch = draw.choice(engines.ENGINES), engines.batches(folder) + draw.randrange(2)
        if engines.run_killed(folder, engine, step, max(1, batch), rows):
            killed.append(f"{engine} {step}:{batch}")
    engines.run(folder, draw.choice(engines.ENGINES), rows)
    try:
        assert_answer(folder, of_topic.wanted)
    except AssertionError as error:
        raise AssertionError(f"killed after {' | '.join(killed)}: {error}") from error
    assert killed


@pytest.mark.parametrize(
    ("case", "first", "lake"),
    list(itertools.product(CASES, engines.ENGINES, LAKES))
    if IS_FULL
    else [("nested_list", "embedded", "store"), ("sensor_statistics", "spark", "folder")],
)
def test_switched(case: str, first: str, lake: str, told: Tell, copy: Copy, spark: Plants) -> None:
    """To the other engine and back, as an operator does it: stopped, and started again."""
    of_topic = told(case, "keyed")
    folder, rows = copy(of_topic.project, lake), rows_of(of_topic.wanted, 6)
    for engine in (first, other(first)):
        engines.run_batches(folder, engine, rows, 2)
    engines.run(folder, first, rows)
    assert_answer(folder, of_topic.wanted)


@pytest.mark.parametrize(
    ("case", "first"), list(itertools.product(CASES, engines.ENGINES)) if IS_FULL else [("market_ticks", "spark")]
)
def test_where_batches_decide_either_engine_derives_the_same(
    case: str, first: str, told: Tell, copy: Copy, spark: Plants
) -> None:
    """Records that contest a key lie in several partitions and batches: which of them wins, bronze's batches say."""
    of_topic = told(case, "scattered")
    folder, rows = copy(of_topic.project, "folder"), rows_of(of_topic.wanted, 3)
    assert engines.run_killed(folder, first, "bronze", 2, rows)
    twin = shutil.copytree(folder, folder.with_name("twin"))
    engines.run(folder, "embedded", rows)
    engines.run(twin, "spark", rows)
    engines.assert_same(*(engines.answer(one, as_of=2, varying=()) for one in (folder, twin)))
    for one in (folder, twin):
        assert cases.violations(one) == []
