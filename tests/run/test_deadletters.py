"""The follower that sends rejects: what a failure repeats. `tests/sources/test_kafka_commands.py` has it on a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from penstock.errors import TransientError
from penstock.lake.layout import HEADERS
from penstock.model.columns import BATCH
from penstock.run.context import SystemClock
from penstock.run.deadletters import OURS, OWN_KEY, DeadLetters, _send_letters
from penstock.sources.contract import UTC_MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Rejects:
    """A table with a row per batch, in files whose order is not that of the batches."""

    def txn(self, _name: str) -> None:
        return None

    def files(self) -> list[int]:
        return [3, 1, 2]

    def read(self, *, batches: tuple[int, int], files: list[int], **_: Any) -> Iterator[pa.Table]:
        low, high = batches
        yield from (pa.table({BATCH: [batch]}) for batch in files if low <= batch <= high)


def followed(position: int, clock: Any) -> DeadLetters:
    tables: Any = SimpleNamespace(
        pipeline="ticks", rejects=Rejects(), ledger=SimpleNamespace(position=lambda: position)
    )
    return DeadLetters(None, tables, Path(), "ticks", clock, lambda _text: None)


def test_a_failure_repeats_one_batch_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    away = [3]

    def send(_self: DeadLetters, batch: int, _rows: pa.Table) -> bool:
        if batch in away:
            raise TransientError("away")
        sent.append(batch)
        return True

    monkeypatch.setattr(DeadLetters, "_send_rows", send)
    letters = followed(3, SimpleNamespace(monotonic=lambda: 0.0))
    with pytest.raises(TransientError):
        letters._send(3)
    away.clear()
    letters._send(3)
    assert sent == [1, 2, 3]


@pytest.mark.parametrize("for_more", [True, False])
def test_what_is_tried_again_waits_whatever_is_absorbed_meanwhile(
    for_more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = followed(1, SystemClock())
    over = []

    def wait_for(is_over: Callable[[], bool], _seconds: float) -> None:
        letters._absorbed += 1
        over.append(is_over())
        letters._ending_at = 0.0
        over.append(is_over())

    monkeypatch.setattr(letters._changed, "wait_for", wait_for)
    letters._wait(15.0, for_more=for_more)
    assert over == [for_more, True]


def test_a_run_that_ends_sends_no_further_batch_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [0.0], []

    def send(_self: DeadLetters, batch: int, _rows: pa.Table) -> bool:
        sent.append(batch)
        now[0] += 6.0
        return True

    monkeypatch.setattr(DeadLetters, "_send_rows", send)
    letters = followed(3, SimpleNamespace(monotonic=lambda: now[0]))
    letters._ending_at = 10.0
    letters._send(3)
    assert sent == [1, 2]


class Topic:
    """A compacted topic that refuses what comes with a record of a late time or too many bytes, or without a key."""

    def __init__(self) -> None:
        self.requests = 0
        self.kept: list[dict[str, Any]] = []

    def send_acceptable(self, letters: pa.Table) -> dict[int, str]:
        self.requests += 1
        rows = letters.to_pylist()
        if sum(len(row["value"] or b"") for row in rows) > 1_000:
            return dict.fromkeys(range(len(rows)), "MSG_SIZE_TOO_LARGE")
        if any(row["timestamp"] is not None and row["timestamp"].year >= 2100 for row in rows):
            return dict.fromkeys(range(len(rows)), "INVALID_TIMESTAMP")
        if any(row["key"] is None for row in rows):
            return dict.fromkeys(range(len(rows)), "INVALID_RECORD")
        self.kept += rows
        return {}


def letters_of(count: int, **more: Any) -> pa.Table:
    return pa.table(
        {
            "value": pa.array([b"{"] * count, pa.binary()),
            "key": pa.nulls(count, pa.binary()),
            "headers": pa.array([[]] * count, HEADERS),
            "timestamp": pa.array([datetime(2100 if at % 2 else 2026, 1, 1, tzinfo=UTC) for at in range(count)]).cast(
                UTC_MICROSECONDS
            ),
            OURS: pa.array([[]] * count, HEADERS),
            OWN_KEY: pa.array([b"1/0/%d#0" % at for at in range(count)], pa.binary()),
        }
        | more
    )


def test_what_many_letters_lack_is_mended_for_all_together() -> None:
    topic = Topic()
    assert _send_letters(topic, letters_of(400), lambda: False)  # type: ignore[arg-type]
    assert [row["key"] for row in topic.kept] == [b"1/0/%d#0" % at for at in range(400)]
    assert {row["timestamp"] and row["timestamp"].year for row in topic.kept} == {2026, None}
    assert topic.requests < 10


def test_what_is_too_long_goes_without_its_value_and_the_others_whole() -> None:
    topic = Topic()
    values = [b"x" * 2_000 if at == 7 else b"{" for at in range(20)]
    assert _send_letters(topic, letters_of(20, value=pa.array(values, pa.binary())), lambda: False)  # type: ignore[arg-type]
    assert len(topic.kept) == 20
    assert {row[OWN_KEY] for row in topic.kept if row["value"] is None} == {b"1/0/7#0"}


def test_sending_ends_with_the_run_however_many_letters_are_refused() -> None:
    topic, asked = Topic(), iter(range(100))
    values = pa.array([b"x" * 600] * 400, pa.binary())
    assert not _send_letters(topic, letters_of(400, value=values), lambda: next(asked) > 5)  # type: ignore[arg-type]
    assert topic.requests <= 7
