"""How a batch is dealt out to executors, and that nothing of keys and verdicts is lost on the way there and back."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.contract import PlacedKeys, Verdict
from penstock.engines.spark.deriving import dealt
from penstock.engines.spark.session import parse_options
from penstock.engines.spark.shares import PackedKeys, PackedVerdict, together
from penstock.errors import UsageError
from penstock.limits import SHARE_ROWS_MIN
from penstock.model.position import Range
from penstock.run.polling import joined, shared


def keys(places: list[tuple[int, int, int]]) -> PlacedKeys:
    """Keys that tell their places: (partition, offset, index)."""
    partition, offset, index = (np.array(column, np.int64) for column in zip(*places, strict=True))
    return PlacedKeys(
        bucket=np.zeros(len(places), np.int64),
        high=(offset * 7919 + index).astype(np.uint64),
        low=partition.astype(np.uint64),
        source=np.ones(len(places), np.int32),
        partition=partition.astype(np.int32),
        offset=offset,
        index=index.astype(np.int32),
    )


spans = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 5 * SHARE_ROWS_MIN)),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one[0],
)


@given(spans, st.integers(1, 9))
def test_shares_hold_every_offset_once(found: list[tuple[int, int]], count: int) -> None:
    ranges = tuple(Range(1, partition, 10, 10 + size) for partition, size in sorted(found))
    shares = shared(ranges, count)
    assert joined(sorted(item for share in shares for item in share)) == ranges
    sizes = [sum(item.end - item.start for item in share) for share in shares]
    assert len(shares) <= count
    assert max(sizes) <= max(SHARE_ROWS_MIN, -(-sum(sizes) // count))


def test_few_records_are_one_share() -> None:
    ranges = (Range(1, 0, 0, 3), Range(1, 1, 5, 9))
    assert shared(ranges, 8) == [ranges]
    assert shared((), 8) == []


places = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 2)), min_size=1, unique=True)


@given(places, st.integers(1, 4), st.randoms())
def test_a_verdict_comes_back_to_the_part_its_keys_came_from(
    found: list[tuple[int, int, int]], count: int, random: object
) -> None:
    """As the driver does it: parts in any order, keys brought together, a verdict on each, taken apart again."""
    dealt = [sorted(found[start::count]) for start in range(count) if found[start::count]]
    parts = [pickle.loads(pickle.dumps(PackedKeys.of(keys(part)))) for part in dealt]
    joint, order = together([part.unpacked() for part in parts])
    at = list(zip(joint.partition.tolist(), joint.offset.tolist(), joint.index.tolist(), strict=True))
    assert at == sorted(found)
    accepted = joint.offset % 2 == 0
    verdict = Verdict(
        accepted,
        np.where(accepted, 0, joint.source),
        np.where(accepted, 0, joint.partition),
        np.where(accepted, 0, joint.offset),
        np.where(accepted, 0, joint.index),
    )
    back = np.empty(len(order), np.intp)
    back[order] = np.arange(len(order))
    start = 0
    for part in dealt:
        own = verdict.take(back[start : start + len(part)])
        packed = pickle.loads(pickle.dumps(PackedVerdict.of(own))).unpacked()
        assert packed.accepted.tolist() == [offset % 2 == 0 for _, offset, _ in part]
        lost = [(partition, offset, index) for partition, offset, index in part if offset % 2]
        winners = zip(
            packed.winner_partition[~packed.accepted].tolist(),
            packed.winner_offset[~packed.accepted].tolist(),
            packed.winner_index[~packed.accepted].tolist(),
            strict=True,
        )
        assert list(winners) == lost
        start += len(part)


def test_spark_options_are_name_and_value() -> None:
    assert parse_options("") == {}
    assert parse_options("spark.a=1,spark.b=x,y, spark.c=k=v") == {"spark.a": "1", "spark.b": "x,y", "spark.c": "k=v"}
    for wrong in ("spark.a", "a=1", "spark.a=1,b=2"):
        with pytest.raises(UsageError, match="is not a Spark setting"):
            parse_options(wrong)


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_each_file_of_bronze_is_in_one_share(count: int) -> None:
    files: Any = [f"file {number}" for number in range(7)]
    shares = dealt(files, count)
    assert sorted(file for share in shares for file in share) == sorted(files)
    assert all(shares)
    assert len(shares) == min(count, 7)
