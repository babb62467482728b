"""What a worker keeps between the stages does not outlive the batches under way, wherever the second stage ran."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.engines.spark.worker import Room

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def room_of(pipeline: str, folder: Path) -> Any:
    """As much of a room as keeping needs."""
    room: Any = object.__new__(Room)
    room._setup, room._scratch = SimpleNamespace(name=pipeline), folder
    return room


EVENTS: Any = SimpleNamespace(refined=pa.table({"n": [1, 2]}), records=pa.table({"n": [1]}))


def test_only_the_batches_under_way_are_kept(tmp_path: Path) -> None:
    room, other = room_of("a", tmp_path), room_of("b", tmp_path)
    other._keep(EVENTS, 1)
    for batch in range(1, 12):
        for _ in range(3):
            assert room._keep(EVENTS, batch)
    kept = [path.name.split("-")[:2] for path in tmp_path.iterdir()]
    assert sorted({(name, int(batch)) for name, batch in kept}) == [("a", 10), ("a", 11), ("b", 1)]


def test_what_the_disk_does_not_take_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("pyarrow.ipc.new_file", full)
    assert room_of("a", tmp_path)._keep(EVENTS, 1) is None
    assert list(tmp_path.iterdir()) == []
