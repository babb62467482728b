"""What the plan of a reset says, without a broker; `tests/sources/test_kafka_commands.py` carries one out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from penstock.model.position import SourceIdentity
from penstock.ops import offsets
from penstock.sources.kafka_topics import PartitionReach


def plan(monkeypatch: pytest.MonkeyPatch, at: dict[int, int], there: PartitionReach, to: int) -> offsets.Reset:
    monkeypatch.setattr(offsets, "positions", lambda *_: at)
    pipeline: Any = SimpleNamespace(name="ticks", silver=SimpleNamespace(key=(), unique_within=None))
    lake: Any = SimpleNamespace(table=lambda _name: None)
    wanted = {there.partition: to}
    return offsets._plan(pipeline, SourceIdentity("kafka", "t", "id"), lake, [there], wanted, executed=False)


@pytest.mark.parametrize(
    ("at", "there", "to", "again", "skipped", "said"),
    [
        ({0: 5_000}, (7_000, 9_000), 7_000, 0, 2_000, "Up to 2,000 records are never read."),
        ({0: 5_000}, (0, 9_000), 9_000, 0, 4_000, "Up to 4,000 records are never read."),
        ({0: 7_000}, (0, 5_000), 5_000, 0, 0, "it goes on at the topic's end"),
        ({0: 7_000}, (0, 5_000), 4_000, 1_000, 0, "Up to 1,000 records are read again"),
        ({0: 5_000}, (0, 9_000), 5_000, 0, 0, "The lake goes on where it is."),
        ({}, (3_000, 9_000), 4_000, 0, 1_000, "Up to 1,000 records are never read."),
        ({1: 10}, (3_000, 9_000), 3_000, 0, 3_000, "Up to 3,000 records are never read."),
    ],
)
def test_a_plan_says_what_is_read_again_and_what_never(
    monkeypatch: pytest.MonkeyPatch,
    at: dict[int, int],
    there: tuple[int, int],
    to: int,
    again: int,
    skipped: int,
    said: str,
) -> None:
    found = plan(monkeypatch, at, PartitionReach(0, *there), to)
    [move] = found.moves
    assert (move.again, move.skipped) == (again, skipped)
    meaning = " ".join(found.meaning)
    assert said in meaning
    assert ("goes on where it is" in meaning) == (at == {0: to})
