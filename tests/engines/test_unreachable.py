"""What executors on other machines cannot reach is refused with what to do, before anything is changed or written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from penstock.engines.spark.engine import SparkEngine
from penstock.errors import UsageError


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
