"""Simulated worlds: the same for the same seed, faulty where the truth says so and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import UsageError
from penstock.sources.contract import Bounds
from penstock.sources.faults import Fault
from penstock.sources.simulate import SimulatedSource, produce
from penstock.sources.worlds import RECORD_BYTES, devices, instruments, open_world

KEYS = {"market": ("instrument_id", "sequence"), "iot": ("device_id", "sequence")}


def strict(value: bytes) -> dict[str, object] | None:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        found = json.loads(value.decode(), parse_constant=refuse)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@given(st.sampled_from(["market", "iot"]), st.integers(0, 2**40), st.integers(1, 300), st.data())
@settings(max_examples=25, deadline=None)
def test_any_range_can_be_made_by_itself(name: str, start: int, count: int, data: st.DataObject) -> None:
    world = open_world(name, seed=data.draw(st.integers(0, 9)), rate=1_000, faults=0.5)
    whole = world.make(start, count)
    cut = data.draw(st.integers(0, count - 1))
    part = world.make(start + cut, count - cut)
    assert part.block.equals(whole.block.slice(cut))
    assert part.truth.equals(whole.truth.slice(cut))


@pytest.mark.parametrize("name", ["market", "iot"])
def test_faults_are_where_the_truth_says(name: str) -> None:
    world = open_world(name, seed=5, rate=1_000, faults=0.6)
    sent = world.make(0, 6_000)
    known = set((instruments() if name == "market" else devices()).column(0).to_pylist())
    values, truth = sent.block["value"].to_pylist(), sent.truth.to_pylist()
    seen: dict[str | None, int] = {}
    latest = 0
    for ordinal, (value, row) in enumerate(zip(values, truth, strict=True)):
        fault = row["fault"]
        seen[fault] = seen.get(fault, 0) + 1
        event = strict(value)
        assert (event is None) == (fault == "broken")
        assert (row["original"] is not None) == (fault == "doubled")
        if event is None:
            continue
        assert len(value) < RECORD_BYTES
        assert (event[KEYS[name][0]] in known) == (fault != "unknown")
        assert ("note" in event) == (fault == "extra")
        measure = event["price"] if name == "market" else event["value"]
        assert isinstance(measure, float | int) == (fault != "wrong_type")
        if isinstance(measure, float | int):
            assert (abs(measure) > 10_000) == (fault == "violation")
        if fault == "doubled":
            assert row["original"] < ordinal
            assert values[row["original"]] == value
            assert truth[row["original"]]["fault"] is None
        else:
            assert event["sequence"] == ordinal
        if name == "market" and fault is None:
            assert event["ts"] >= latest
            latest = event["ts"]  # type: ignore[assignment]
    assert set(seen) == {None, *(fault.value for fault in Fault)}
    assert abs(seen[None] / 6_000 - 0.4) < 0.08


def test_no_faults_and_nothing_but_faults() -> None:
    assert open_world("market", seed=1, rate=10, faults=0).make(0, 500).truth["fault"].null_count == 500
    kinds = open_world("market", seed=1, rate=10, faults=1).make(0, 500).truth["fault"]
    assert kinds.null_count == sum(1 for row in range(500) if kinds[row].as_py() is None) > 0
    assert not any(kind == "doubled" for kind in kinds.to_pylist())


def test_seeds_differ() -> None:
    one, other = (open_world("market", seed=seed, rate=10, faults=0).make(0, 50) for seed in (1, 2))
    assert not one.block.equals(other.block)


@pytest.mark.parametrize(("name", "rate", "faults"), [("ocean", 1, 0.0), ("market", 0, 0.0), ("market", 1, 1.5)])
def test_nonsense_is_refused(name: str, rate: int, faults: float) -> None:
    with pytest.raises(UsageError):
        open_world(name, seed=1, rate=rate, faults=faults)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_an_endless_world_grows_at_its_rate() -> None:
    clock = Clock()
    world = open_world("market", seed=1, rate=100, faults=0)
    source = SimulatedSource(world, incarnation=1, rate=100, events=None, monotonic=clock, sleep=clock.sleep)
    position: dict[int, int] = {0: 1_000}
    for _ in range(20):
        clock.now += 1
        for span in source.plan(position, Bounds(100_000, 1 << 30)):
            position = {0: span.end}
    assert abs(position[0] - 1_000 - 20 * 100) <= 101
    assert not source.exhausted(position)
    assert source.wait(position, 1.0)


@pytest.mark.parametrize("rate", [7, 333, 50_000])
def test_a_producer_keeps_its_rate_and_skips_nothing(rate: int) -> None:
    clock = Clock()
    world = open_world("iot", seed=1, rate=rate, faults=0.1)
    sent = list(produce(world, rate=rate, seconds=3, monotonic=clock, sleep=clock.sleep))
    ordinals = np.concatenate([block.truth["ordinal"].to_numpy() for block in sent])
    assert ordinals.tolist() == list(range(3 * rate))
    assert clock.now == pytest.approx(103.0, abs=0.1)
    assert max(block.block.num_rows for block in sent) <= max(1, rate // 20)


def test_a_producer_without_a_rate_sends_all_at_once() -> None:
    clock = Clock()
    world = open_world("market", seed=1, rate=10, faults=0)
    sent = list(produce(world, rate=None, events=40_000, monotonic=clock, sleep=clock.sleep))
    assert sum(block.block.num_rows for block in sent) == 40_000
    assert clock.now == 100.0
