"""Made-up pipelines and input on Spark: the tables of the oracle, however the input is cut, whichever engine is killed and
goes on, and from a topic as from pushes.

A failure names its seed (the parameter), and the declaration; `PENSTOCK_MADE=1000` makes more of them.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

import penstock
from conformance import engines
from conformance.matrix import IS_FULL
from pipelines import cases, made, made_oracle
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tools.servers import KafkaServer

    from conformance.plants import Plants

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]

SEEDS = int(os.environ.get("PENSTOCK_MADE") or (60 if IS_FULL else 3))
FIRST_SEED = 1_001
"""Others than those that the embedded engine alone is asked."""
RECORDS = 90


def switched(folder: Path, sent: Sequence[made.Record], draw: random.Random) -> None:
    """From one engine to the other with open windows, in small batches."""
    middle, (first, second) = draw.randrange(len(sent)), draw.sample(engines.ENGINES, 2)
    push(folder, sent[:middle])
    engines.run(folder, first, 23, keep_open=True)
    push(folder, sent[middle:])
    engines.run(folder, second, 29)


def killed(folder: Path, sent: Sequence[made.Record], draw: random.Random) -> None:
    """Three lives that end after some step, of either engine; Spark has the last."""
    push(folder, sent)
    for batch in range(1, 4):
        engines.run_killed(folder, draw.choice(engines.ENGINES), draw.choice(cases.STEPS), batch, 30)
    engines.run(folder, "spark", 25)


def push(folder: Path, sent: Sequence[made.Record]) -> None:
    penstock.open(folder).ingest("made", [record.value for record in sent])


WAYS: tuple[Callable[..., None], ...] = (switched, killed)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
def test_one_answer(seed: int, kafka_server: KafkaServer, spark: Plants, tmp_path: Path) -> None:
    draw = random.Random(seed)
    declared = made.pipeline(draw)
    sent = made.records(declared, RECORDS, draw)
    for way in WAYS:
        folder = made.make_project(tmp_path / way.__name__, declared)
        way(folder, sent, draw)
        assert_answer(way.__name__, folder, declared, sent)
    topic = Topic(kafka_server.address, 1)
    topic.send([record.value for record in sent])
    origin = f'kafka: {{topic: {topic.name}, brokers: "{topic.address}"}}'
    folder = made.make_project(tmp_path / "topic", declared, origin)
    engines.run_killed(folder, draw.choice(engines.ENGINES), draw.choice(cases.STEPS), 2, 40)
    engines.run(folder, "spark", 40)
    assert_answer("topic", folder, declared, sent)


def assert_answer(way: str, folder: Path, declared: made.Made, sent: Sequence[made.Record]) -> None:
    try:
        made_oracle.assert_answer(penstock.open(folder), declared, sent)
        assert cases.violations(folder) == []
    except AssertionError as error:
        raise AssertionError(f"{way}: {error}\n{declared.yaml()}") from error
