"""Duplicates against a dictionary: any keys, any split into batches, any memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engines.contract import PlacedKeys, Verdict
from penstock.run.duplicates import Duplicates, first_of_each
from penstock.run.keys import BloomFilter, KeyBlock, KeyIndex, order_of

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 3)), max_size=60)
"""(bucket, high, low): small ranges, so that keys repeat and high halves collide with other low halves."""


def placed(rows: list[tuple[int, int, int]], start: int) -> PlacedKeys:
    size = len(rows)
    return PlacedKeys(
        bucket=np.array([row[0] for row in rows], np.int64),
        high=np.array([row[1] for row in rows], np.uint64) << np.uint64(60),
        low=np.array([row[2] for row in rows], np.uint64),
        source=np.full(size, 3, np.int32),
        partition=np.arange(size, dtype=np.int32) % 2,
        offset=np.arange(start, start + size, dtype=np.int64),
        index=np.arange(size, dtype=np.int32) % 5,
    )


def nothing(bucket: int) -> Iterator[PlacedKeys]:
    return iter(())


def expect(
    verdict: Verdict, rows: list[tuple[int, int, int]], start: int, seen: dict[tuple[int, int, int], int]
) -> None:
    for at, key in enumerate(rows):
        if key in seen:
            assert not verdict.accepted[at]
            assert verdict.winner_offset[at] == seen[key]
            assert verdict.winner_source[at] == 3
        else:
            assert verdict.accepted[at]
            seen[key] = start + at


@settings(max_examples=150, deadline=None)
@given(rows=KEYS, cut=st.integers(0, 60), memory=st.sampled_from([1, 1 << 16, 1 << 30]))
def test_first_one_wins_over_all_batches(rows: list[tuple[int, int, int]], cut: int, memory: int) -> None:
    history: list[PlacedKeys] = []

    def load(bucket: int) -> Iterator[PlacedKeys]:
        for keys, accepted in zip(history, verdicts, strict=True):
            chosen = np.flatnonzero(accepted & (keys.bucket == bucket))
            yield PlacedKeys(*(getattr(keys, name)[chosen] for name in PlacedKeys.__dataclass_fields__))

    verdicts: list[np.ndarray] = []
    duplicates = Duplicates(load, memory_bytes=memory, spill_folder=Path("."))
    seen: dict[tuple[int, int, int], int] = {}
    for part, start in ((rows[:cut], 0), (rows[cut:], cut)):
        keys = placed(part, start)
        verdict = duplicates.settle(keys)
        expect(verdict, part, start, seen)
        history.append(keys)
        verdicts.append(verdict.accepted)


def test_a_restart_finds_the_keys_that_silver_holds() -> None:
    loaded = placed([(0, 1, 1), (0, 2, 2)], start=10)
    duplicates = Duplicates(
        lambda bucket: iter([loaded] if bucket == 0 else []), memory_bytes=1 << 20, spill_folder=Path(".")
    )
    verdict = duplicates.settle(placed([(0, 2, 2), (1, 2, 2), (0, 1, 0)], start=20))
    assert verdict.accepted.tolist() == [False, True, True]
    assert verdict.winner_offset.tolist() == [11, 0, 0]
    assert verdict.winner_partition.tolist() == [1, 0, 0]
    assert verdict.winner_index.tolist() == [1, 0, 0]


def test_a_winner_in_another_partition_is_named_exactly() -> None:
    duplicates = Duplicates(nothing, memory_bytes=1 << 20, spill_folder=Path("."))
    verdict = duplicates.settle(placed([(0, 9, 9), (0, 8, 8), (0, 8, 8)], start=0))
    assert verdict.accepted.tolist() == [True, True, False]
    assert (verdict.winner_partition[2], verdict.winner_offset[2], verdict.winner_index[2]) == (1, 1, 1)


def in_order(block: KeyBlock) -> KeyBlock:
    return block.take(order_of(block))


@pytest.mark.parametrize("limit", [4_000, 1 << 21])
@pytest.mark.parametrize("spill", [False, True])
def test_index_finds_what_was_added_and_nothing_else(
    spill: bool, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.run.keys.KEYS_PER_RUN_MAX", limit)
    random = np.random.default_rng(5)
    index = KeyIndex()
    high = random.integers(0, 1 << 63, 30_000, dtype=np.uint64)
    low = random.integers(0, 1 << 63, 30_000, dtype=np.uint64)
    places = np.arange(30_000, dtype=np.uint64)
    for start in range(0, 20_000, 2_500):
        part = slice(start, start + 2_500)
        index.add(in_order(KeyBlock(high[part], low[part], places[part], places[part] + 7)))
        if spill:
            index.spill(tmp_path)
    wanted = in_order(KeyBlock(high, low, places, places))
    found, offset, origin = index.find(wanted)
    assert (found == (wanted.offset < 20_000)).all()
    assert (offset[found] == wanted.offset[found]).all()
    assert (origin[found] == wanted.offset[found] + 7).all()
    assert list(tmp_path.iterdir()) == []


def test_bloom_filter_never_denies_a_key() -> None:
    random = np.random.default_rng(6)
    high = random.integers(0, 1 << 63, 10_000, dtype=np.uint64)
    low = random.integers(0, 1 << 63, 10_000, dtype=np.uint64)
    bloom = BloomFilter(10_000)
    bloom.add(high, low)
    assert bloom.may_hold(high, low).all()
    assert bloom.may_hold(low, high).mean() < 0.05


def test_first_of_each_with_equal_high_halves() -> None:
    high = np.array([5, 5, 5, 5], np.uint64)
    low = np.array([2, 1, 2, 1], np.uint64)
    block = KeyBlock(high, low, high, high)
    order = order_of(block)
    assert order.tolist() == [1, 3, 0, 2]
    assert first_of_each(block.take(order)).tolist() == [0, 0, 2, 2]
