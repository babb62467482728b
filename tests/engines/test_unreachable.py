"""What executors on other machines cannot reach is refused with what to do, before anything is changed or written."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from penstock.engines.spark.engine import SparkEngine
from penstock.engines.spark.shares import Allowance
from penstock.engines.spark.worker import Room
from penstock.engines.version import refine_version
from penstock.errors import StorageError, UsageError
from penstock.lake.lake import Lake
from penstock.lake.layout import bronze_spec
from penstock.lake.storage import LocalStorage
from penstock.limits import MIB

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("kind", "is_local", "refused"), [("push", False, True), ("push", True, False), ("kafka", False, False)]
)
def test_a_push_log_is_on_one_machine(kind: str, is_local: bool, refused: bool) -> None:
    session: Any = SimpleNamespace(is_local=is_local)
    pipeline: Any = SimpleNamespace(name="meters", source=SimpleNamespace(origin=SimpleNamespace(kind=kind)))
    engine = SparkEngine(session, MagicMock())
    if not refused:
        engine.refuse_unreachable(pipeline)
        return
    with pytest.raises(UsageError, match="the push log of meters is on this machine"):
        engine.refuse_unreachable(pipeline)


def test_a_lake_s_folder_that_a_worker_does_not_see(tmp_path: Path) -> None:
    """Its machine has a folder of its own there, or none."""
    setup: Any = SimpleNamespace(
        refine_version=refine_version(),
        lake=str(tmp_path / "lake"),
        store_options={},
        state_folder=tmp_path / "lake",
        bronze=bronze_spec("meters"),
    )
    for _ in range(2):
        with pytest.raises(StorageError, match=rf"{socket.gethostname()}.*bronze/meters in {tmp_path / 'lake'}"):
            Room(setup, Allowance(64 * MIB, MIB))
        (tmp_path / "lake").mkdir(exist_ok=True)
    assert list((tmp_path / "lake").iterdir()) == []
    Lake(LocalStorage(tmp_path / "lake")).create(setup.bronze)
    Room(setup, Allowance(64 * MIB, MIB)).close()
