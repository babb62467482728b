"""The follower that sends rejects: what a failure repeats. `tests/sources/test_kafka_commands.py` has it on a broker."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from penstock.errors import TransientError
from penstock.model.columns import BATCH
from penstock.run.context import SystemClock
from penstock.run.deadletters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Iterator


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

    def send(_self: DeadLetters, batch: int, _rows: pa.Table) -> None:
        if batch in away:
            raise TransientError("away")
        sent.append(batch)

    monkeypatch.setattr(DeadLetters, "_send_rows", send)
    letters = followed(3, SimpleNamespace(monotonic=lambda: 0.0))
    with pytest.raises(TransientError):
        letters._send(3)
    away.clear()
    letters._send(3)
    assert sent == [1, 2, 3]


def test_what_is_tried_again_waits_whatever_is_absorbed_meanwhile() -> None:
    letters = followed(1, SystemClock())
    for for_more in (True, False):
        began = time.monotonic()
        absorbing = threading.Timer(0.05, letters.after_batch, [7 + for_more])
        absorbing.start()
        letters._wait(5.0 if for_more else 0.3, for_more=for_more)
        absorbing.join()
        assert (time.monotonic() - began < 0.3) is for_more


def test_a_run_that_ends_sends_no_further_batch_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [0.0], []

    def send(_self: DeadLetters, batch: int, _rows: pa.Table) -> None:
        sent.append(batch)
        now[0] += 6.0

    monkeypatch.setattr(DeadLetters, "_send_rows", send)
    letters = followed(3, SimpleNamespace(monotonic=lambda: now[0]))
    letters._ending_at = 10.0
    letters._send(3)
    assert sent == [1, 2]
