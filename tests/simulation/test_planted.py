"""Bugs planted into the product: the simulation finds each of them within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from penstock.lake import compaction
from penstock.lake import vacuum as vacuuming
from penstock.lake.table import Table
from penstock.run import opening, restart
from penstock.run.gold import GoldKeeper
from penstock.run.protocol import BatchProtocol
from penstock.run.silverkeys import SilverKeys
from penstock.run.tables import PipelineTables
from simulation.actions import (
    change_contract,
    change_reference,
    crash_at_a_step,
    optimize,
    overtaken,
    push_log_is_replaced,
    read,
    refused_contract,
    run,
    send,
    send_again,
    time_passes,
    vacuum,
)
from simulation.shop import Shop
from simulation.weeks import Failed, live

if TYPE_CHECKING:
    from penstock.model.batch import Pins

Bug = Callable[[pytest.MonkeyPatch], None]
Action = Callable[[Shop], str]
SEEDS_MAX = 12
LENGTH = 20


def keys_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SilverKeys, "load", lambda self, bucket: iter(()))


def corrections_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GoldKeeper, "_correct", lambda *_: None)


def open_windows_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    load = GoldKeeper.load

    def forgetful(self: GoldKeeper, batch: int, closed_until: int | None) -> None:
        load(self, batch, closed_until)
        self._open.take_before(1 << 60)

    patch.setattr(GoldKeeper, "load", forgetful)


def watermark_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    load_gold = restart.load_gold

    def forgetful(protocol: BatchProtocol, in_ledger: int) -> None:
        load_gold(protocol, in_ledger)
        protocol.progress.watermark = None

    patch.setattr(restart, "load_gold", forgetful)


def pins_ignored(patch: pytest.MonkeyPatch) -> None:
    """A batch is finished under what is in force now."""
    patch.setattr(PipelineTables, "pins", lambda self, table: None)


def late_after_of_another_contract(patch: pytest.MonkeyPatch) -> None:
    advance = BatchProtocol._advance

    def newest(self: BatchProtocol, batch: Any, event_time_max: int | None, pins: Pins) -> None:
        advance(self, batch, event_time_max, replace(pins, contract=len(self._plans._contracts.all())))

    patch.setattr(BatchProtocol, "_advance", newest)


def changes_of_meaning_let_through(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(opening, "refuse_changes_of_meaning", lambda *_: None)


def another_source_taken_for_the_same(patch: pytest.MonkeyPatch) -> None:
    choose = opening.choose_incarnation

    def trusting(*arguments: Any, accept_new: bool) -> int:
        return choose(*arguments, accept_new=True)

    patch.setattr(opening, "choose_incarnation", trusting)


def stale_writers_let_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "check_owner", lambda self, writer, taking=False: None)


def compaction_that_loses_a_file(patch: pytest.MonkeyPatch) -> None:
    merge = compaction.merge_files
    patch.setattr(compaction, "merge_files", lambda table, group: merge(table, group[:-1]))


def vacuum_that_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    """Files go once they are old, though they were replaced just now."""
    patch.setattr(vacuuming, "_removal_times", lambda table: {})


def record_read_twice_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    position = PipelineTables.position

    def behind(self: PipelineTables, source: int) -> dict[int, int]:
        return {partition: max(0, offset - 1) for partition, offset in position(self, source).items()}

    patch.setattr(PipelineTables, "position", behind)


FOUND_BY: dict[Bug, tuple[Action, ...]] = {
    keys_forgotten_at_a_restart: (send, send_again, run),
    corrections_lost: (send, run),
    open_windows_forgotten_at_a_restart: (send, run),
    watermark_forgotten_at_a_restart: (send, run),
    pins_ignored: (send, change_contract, change_reference, crash_at_a_step),
    late_after_of_another_contract: (send, change_contract, crash_at_a_step),
    changes_of_meaning_let_through: (send, run, refused_contract),
    another_source_taken_for_the_same: (send, run, push_log_is_replaced),
    stale_writers_let_in: (send, overtaken),
    compaction_that_loses_a_file: (send, run, optimize),
    vacuum_that_does_not_wait: (send, run, time_passes, read, optimize, vacuum),
    record_read_twice_after_a_restart: (send, run),
}
"""Each bug, and the actions of the simulations that are to find it: with all of them, more seeds would be needed."""


@pytest.mark.integration
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("bug", FOUND_BY, ids=lambda bug: bug.__name__)
def test_it_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    for seed in range(1, SEEDS_MAX + 1):
        try:
            live(seed, LENGTH, choices=[(1, action) for action in FOUND_BY[bug]])
        except Failed:
            return
    pytest.fail(f"none of {SEEDS_MAX} simulations found it")
