"""What the driver sends to all workers is deleted when no batch uses it any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from penstock.engines.spark.engine import SparkEngine
from penstock.limits import PLANS_KEPT
from penstock.settings import Settings


class Session:
    """Knows what was sent and is not deleted."""

    parallelism = 2
    is_local = True

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def broadcast(self, value: Any) -> Any:
        self.sent.append(SimpleNamespace(value=value))
        return self.sent[-1]

    def destroy(self, sent: Any) -> None:
        self.sent.remove(sent)


def test_the_plans_used_last_are_kept_until_the_engine_closes() -> None:
    session: Any = Session()
    engine = SparkEngine(session, MagicMock())
    deriver = engine.deriver(MagicMock(settings=Settings()))
    plans: list[Any] = [SimpleNamespace(pipeline=name) for name in "abcdef"]
    for plan in plans[:PLANS_KEPT]:
        deriver.stage(plan, {})
    deriver.stage(plans[0], {})  # used again: others go before it
    for plan in plans[PLANS_KEPT:]:
        deriver.stage(plan, {})
    assert len(session.sent) == 1 + PLANS_KEPT
    assert {sent.value.pipeline for sent in session.sent[1:]} == {"a", "d", "e", "f"}
    engine.close()
    assert session.sent == []
