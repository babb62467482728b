"""Files are merged beside the batches: nobody waits for it, and what goes wrong there stops the run all the same."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from penstock.errors import LakeCorrupt
from penstock.run.context import SystemClock
from penstock.run.upkeep import Upkeep
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def upkeep_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], Upkeep]:
    """Upkeep of tables that have a name only; `keep` is what is done to the files of one. A vacuum of gold is due."""

    def make(keep: Callable[[str], None]) -> Upkeep:
        monkeypatch.setattr("penstock.run.upkeep.keep_files", lambda table, *_, now: keep(table.name))
        monkeypatch.setattr(
            "penstock.run.upkeep.merge_due", lambda table, *_, now, may_vacuum: (keep(table.name), may_vacuum)
        )
        monkeypatch.setattr("penstock.run.upkeep.vacuum", lambda table, *_, **__: keep(f"vacuum of {table.name}"))
        monkeypatch.setattr("penstock.run.upkeep.keep_log", lambda *_, now: None)
        named = {name: SimpleNamespace(name=name) for name in ("bronze", "silver", "rejects")}
        ledger = SimpleNamespace(position=lambda: 0, table=SimpleNamespace(name="ledger"))
        gold = (SimpleNamespace(name="gold"),)
        tables: Any = SimpleNamespace(
            **named, ledger=ledger, gold=gold, manifest=None, writer=SimpleNamespace(pipeline="p")
        )
        return Upkeep(tables, Settings(), SystemClock())

    return make


def test_a_batch_does_not_wait_for_a_merge(upkeep_of: Callable[[Callable[[str], None]], Upkeep]) -> None:
    goes_on, begun, kept = threading.Event(), threading.Event(), []

    def keep(name: str) -> None:
        if name == "bronze":
            begun.set()
            assert goes_on.wait(60)
        kept.append((name, threading.current_thread().name))

    with upkeep_of(keep) as upkeep:
        upkeep.after_bronze()
        assert begun.wait(60)
        upkeep.after_bronze()  # one at a time for each table
        upkeep.after_batch(1)
        assert kept == [("gold", threading.current_thread().name)]  # whose files corrections replace
        goes_on.set()
    assert kept[1:] == [(name, "upkeep_0") for name in ("bronze", "vacuum of gold", "ledger")]


def test_gold_is_not_vacuumed_anew_while_it_is(upkeep_of: Callable[[Callable[[str], None]], Upkeep]) -> None:
    goes_on, begun, kept = threading.Event(), threading.Event(), []

    def keep(name: str) -> None:
        kept.append(name)
        if name == "vacuum of gold":
            begun.set()
            assert goes_on.wait(60)

    with upkeep_of(keep) as upkeep:
        upkeep.after_batch(1)
        assert begun.wait(60)
        upkeep.after_batch(2)
        goes_on.set()
    assert kept.count("vacuum of gold") == 1
    assert kept.count("gold") == 2


def test_what_went_wrong_in_a_merge_is_raised_by_the_next_look(
    upkeep_of: Callable[[Callable[[str], None]], Upkeep],
) -> None:
    def keep(name: str) -> None:
        raise LakeCorrupt(f"{name} is damaged")

    def look_on(upkeep: Upkeep) -> None:
        with upkeep:
            upkeep.after_bronze()
            upkeep._under_way["bronze"].exception(60)
            upkeep.after_bronze()
            pytest.fail("nobody noticed")

    with pytest.raises(LakeCorrupt, match="bronze is damaged"):
        look_on(upkeep_of(keep))


def test_what_went_wrong_in_the_last_merge_is_raised_at_the_end(
    upkeep_of: Callable[[Callable[[str], None]], Upkeep],
) -> None:
    def keep(name: str) -> None:
        if name == "silver":
            raise LakeCorrupt(f"{name} is damaged")

    with pytest.raises(LakeCorrupt, match="silver is damaged"), upkeep_of(keep) as upkeep:
        upkeep.after_silver()
