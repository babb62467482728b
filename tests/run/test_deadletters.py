"""The follower that sends rejects: what a failure repeats. `tests/sources/test_kafka_commands.py` has it on a broker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from penstock.errors import TransientError
from penstock.model.columns import BATCH
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


def test_a_failure_repeats_one_batch_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    away = [3]

    def send(_self: DeadLetters, batch: int, _rows: pa.Table) -> None:
        if batch in away:
            raise TransientError("away")
        sent.append(batch)

    monkeypatch.setattr(DeadLetters, "_send_rows", send)
    tables: Any = SimpleNamespace(pipeline="ticks", rejects=Rejects(), ledger=SimpleNamespace(position=lambda: 3))
    letters = DeadLetters(None, tables, Path(), "ticks", SimpleNamespace(monotonic=lambda: 0.0), lambda _text: None)  # type: ignore[arg-type]
    with pytest.raises(TransientError):
        letters._send(3)
    away.clear()
    letters._send(3)
    assert sent == [1, 2, 3]
