"""Bugs put in on purpose: each must be seen by the audit, refused by the next start, or shown by the tests' own checks.

A test here that passes without its bug being noticed would say that the other tests prove nothing.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import penstock
from faults import powerloss, world
from penstock.engines.outcome import Events
from penstock.errors import Fenced, InvariantBroken, LakeCorrupt, PenstockError, SourceLost, StorageError
from penstock.lake import vacuum
from penstock.lake.manifest import TableManifest
from penstock.lake.table import Table
from penstock.plan.gold import GoldPlan
from penstock.run import duplicates, protocol, restart, service
from penstock.run.duplicates import Duplicates
from penstock.run.gold import GoldKeeper
from penstock.run.protocol import BatchProtocol
from penstock.run.windows import OpenWindows
from penstock.sources.push_log import Appended, PushLog
from penstock.testing import sqlitedisk
from penstock.testing.powerloss import PowerLossStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from penstock.engines.contract import Verdict

EVENTS = 160


class Stopped(Exception):
    """Ends a run in the middle, as a crash would."""


def crash_after(step: str, batch: int) -> Callable[[str, int], None]:
    def after_step(name: str, number: int) -> None:
        if (name, number) == (step, batch):
            raise Stopped

    return after_step


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return world.make_project(tmp_path / "shop")


@pytest.fixture
def acknowledged(folder: Path) -> dict[int, bytes]:
    return world.push(folder, 0, EVENTS)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return monkeypatch.setattr


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    if "nothing_planted" not in request.node.name:
        record_property("faults: planted bugs, each found", 1)


def laws(folder: Path) -> set[int]:
    """The laws that the audit finds broken."""
    return {found["law"] for found in world.violations(folder)}


def test_nothing_planted_nothing_found(folder: Path, acknowledged: dict[int, bytes]) -> None:
    with pytest.raises(Stopped):
        world.run(folder, after_step=crash_after("silver", 2))
    world.run(folder, keep_open=True)
    assert laws(folder) == set()
    world.run(folder)
    world.assert_sound(folder, acknowledged)


def test_silver_before_bronze_is_durable(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]
) -> None:
    absorb, write = BatchProtocol.absorb, Table.write

    def hasty(self: BatchProtocol, batch: Any, events: Any, pins: Any, journal: Any, _bronze: Any, before: Any) -> Any:
        return absorb(self, batch, events, pins, journal, None, before)

    def failing(self: Table, data: pa.Table) -> Any:
        if self.name == "bronze/meters":
            raise StorageError("the disk had a bad moment")
        return write(self, data)

    plant(BatchProtocol, "absorb", hasty)
    plant(Table, "write", failing)
    with contextlib.suppress(StorageError):
        world.run(folder, rows=1000)
    with pytest.raises(LakeCorrupt, match="bronze/meters lost batch"):
        world.run(folder)


def test_a_bronze_batch_passed_over(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is committed though the one before it failed."""
    commit, write, failed = service._Loop._bronze, Table.write, []

    def failing(self: Table, data: pa.Table) -> Any:
        if self.name == "bronze/meters" and not failed:
            failed.append(True)
            raise StorageError("the disk had a bad moment")
        return write(self, data)

    plant(service._Loop, "_bronze", lambda self, batch, position, before: commit(self, batch, position, None))
    plant(BatchProtocol, "_check_next", lambda self, table, number: None)
    with monkeypatch.context() as patch:
        patch.setattr(Table, "write", failing)
        with pytest.raises(StorageError):
            world.run(folder)
    with pytest.raises(LakeCorrupt, match="batch 1 is gone, and the ledger lacks"):
        world.run(folder)


def test_forgotten_before_it_was_durable(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = BatchProtocol.commit_bronze

    def forgetful(self: BatchProtocol, batch: Any, journal: Any, forget: Callable[[], None]) -> Any:
        forget()
        return commit(self, batch, journal, lambda: None)

    with monkeypatch.context() as patch:
        patch.setattr(BatchProtocol, "commit_bronze", forgetful)
        with pytest.raises(Stopped):
            world.run(folder, after_step=crash_after("bronze-written", 1))
    with pytest.raises(SourceLost, match=r"0/0\.\.40"):
        world.run(folder)


def test_an_ack_before_the_commit(folder: Path, plant: Callable[..., None]) -> None:
    append, count = PushLog.append, 0

    def hasty(self: PushLog, records: pa.Table, **options: Any) -> Appended:
        nonlocal count
        count += 1
        if count != 2:
            return append(self, records, **options)
        start = self.partitions()[0].next_offset
        offsets = np.arange(start, start + records.num_rows)
        return Appended(np.zeros(len(offsets), np.int32), offsets, 0)

    plant(PushLog, "append", hasty)
    acknowledged: dict[int, bytes] = {}
    for first in (0, 50, 100):
        for offset, value in world.push(folder, first, first + 50).items():
            acknowledged.setdefault(offset, value)
    world.run(folder)
    assert laws(folder) == set()  # no audit can know what a client was told
    with pytest.raises(AssertionError, match="acknowledged, and not in bronze"):
        world.assert_sound(folder, acknowledged)


def test_a_lost_reject(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    settle = Events.settle

    def lossy(*arguments: Any, **options: Any) -> Any:
        outcome = settle(*arguments, **options)
        return replace(outcome, rejects=outcome.rejects.slice(1))

    plant(Events, "settle", lossy)
    world.run(folder)
    assert 1 in laws(folder)


def test_a_doubled_row_of_silver(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    settle = Duplicates.settle

    def lenient(self: Duplicates, keys: Any) -> Verdict:
        verdict = settle(self, keys)
        return replace(verdict, accepted=np.ones(len(keys), np.bool_))

    plant(Duplicates, "settle", lenient)
    world.run(folder)
    assert laws(folder)


def test_the_last_of_equal_keys_wins(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    """`>=` for `>`: the later of two in one batch is taken."""
    first_of_each = duplicates.first_of_each

    def last_of_each(block: Any) -> Any:
        size = len(block.high)
        backwards = block.take(np.arange(size)[::-1])
        return (size - 1 - first_of_each(backwards))[::-1]

    plant(duplicates, "first_of_each", last_of_each)
    world.run(folder, rows=1000)
    assert 6 in laws(folder)
    with pytest.raises(AssertionError):
        world.assert_tables(folder, acknowledged)


def test_a_window_closed_too_early(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    """`>=` for `>` at the watermark: the window it lies in is taken for closed."""
    first = GoldPlan.first_window_start
    plant(GoldPlan, "first_window_start", lambda self, after: first(self, self.window_end(first(self, after))))
    world.run(folder, keep_open=True)
    assert 5 in laws(folder)


def test_a_window_left_open(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    take = OpenWindows.take_before
    plant(OpenWindows, "take_before", lambda self, start: take(self, start - 60_000_000))
    world.run(folder, keep_open=True)
    assert 5 in laws(folder)


def test_a_window_counted_twice(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    add = OpenWindows.add

    def twice(self: OpenWindows, partials: pa.Table) -> None:
        add(self, partials)
        add(self, partials.slice(0, 1))

    plant(OpenWindows, "add", twice)
    world.run(folder)
    assert 5 in laws(folder)


def test_a_late_row_that_corrects_nothing(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]
) -> None:
    plant(GoldKeeper, "_correct", lambda *_: None)
    world.run(folder)
    assert laws(folder) & {5, 7}


def test_open_windows_forgotten_at_a_restart(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]
) -> None:
    load = GoldKeeper.load

    def forgetful(self: GoldKeeper, batch: int, closed_until: int | None) -> None:
        load(self, batch, closed_until)
        self._open.take_before(1 << 60)

    world.run(folder, keep_open=True)
    world.push(folder, EVENTS, EVENTS + 40)
    plant(GoldKeeper, "load", forgetful)
    world.run(folder)
    assert 5 in laws(folder)


def test_a_batch_that_is_not_derived_again(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]
) -> None:
    from_bronze = restart.batch_from_bronze

    def empty(tables: Any, deriver: Any, number: int) -> Any:
        batch = from_bronze(tables, deriver, number)
        batch.work._rows = batch.work._rows.slice(0, 0)
        return batch

    with pytest.raises(Stopped):
        world.run(folder, after_step=crash_after("bronze", 2))
    plant(restart, "batch_from_bronze", empty)
    world.run(folder)
    assert 1 in laws(folder)


def test_a_truncated_value(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    """Bronze holds other bytes than were acknowledged; silver was made of the right ones."""
    write = Table.write

    def changed(self: Table, data: pa.Table) -> Any:
        if self.name == "bronze/meters" and data.num_rows:
            values = data["value"].to_pylist()
            values[1] = values[0]
            at = data.schema.get_field_index("value")
            data = data.set_column(at, data.schema.field(at), [values])
        return write(self, data)

    plant(Table, "write", changed)
    world.run(folder)
    assert laws(folder)
    with pytest.raises(AssertionError):
        world.assert_tables(folder, world.bronze(folder))


def test_a_duplicate_that_names_another_winner(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]
) -> None:
    settle = Duplicates.settle

    def next_to_it(self: Duplicates, keys: Any) -> Verdict:
        verdict = settle(self, keys)
        return replace(verdict, winner_offset=np.where(verdict.accepted, 0, verdict.winner_offset + 1))

    plant(Duplicates, "settle", next_to_it)
    world.run(folder)
    assert laws(folder)
    with pytest.raises(AssertionError):
        world.assert_tables(folder, acknowledged)


def test_a_watermark_that_goes_back(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    """Time is what the last batch says: a batch of late rows opens windows again that were closed."""
    world.run(folder, rows=1000, keep_open=True)
    late = {"kind": "reading", "id": EVENTS, "site": "a", "at": world.START, "value": "1"}
    penstock.open(folder).ingest("meters", [late])
    plant(protocol, "later", lambda left, right: left if right is None else right)
    world.run(folder, keep_open=True)
    assert laws(folder)


def overtaken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """For `after_step`: after its second silver batch the writer sleeps while another one does all there is."""
    check_owner, silver = Table.check_owner, []

    def after_step(step: str, batch: int) -> None:
        silver.extend([batch] * (step == "silver"))
        if step == "silver" and len(silver) == 2:
            (folder / "lake/_penstock/locks/meters.lock").unlink()
            with monkeypatch.context() as patch:
                patch.setattr(Table, "check_owner", check_owner)
                world.run(folder, rows=60)

    return after_step


def test_a_stale_writer_is_let_through(
    folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Fenced):
        world.run(folder, rows=10, after_step=overtaken(folder, monkeypatch))
    world.assert_sound(folder, acknowledged)
    files = world.make_project(folder.with_name("files"), powerloss.FILES)  # a push log would refuse what it trimmed
    world.drop(files, "0.ndjson", world.events(0, EVENTS))
    after_step = overtaken(files, monkeypatch)
    plant(Table, "check_owner", lambda self, writer, *, taking=False: None)
    with pytest.raises(InvariantBroken, match="cannot follow"):
        world.run(files, rows=10, after_step=after_step)  # the second line of defence
    assert laws(files) == set()
    world.drop(files, "1.ndjson", world.events(EVENTS, 2 * EVENTS))
    after_step = overtaken(files, monkeypatch)
    plant(BatchProtocol, "_check_next", lambda self, table, number: None)
    with contextlib.suppress(PenstockError):
        world.run(files, rows=10, after_step=after_step)
    assert laws(files) & {1, 3}


def test_records_of_a_file_that_the_manifest_does_not_have_yet(
    tmp_path: Path, plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.make_project(tmp_path / "files", powerloss.FILES)
    world.drop(folder, "0.ndjson", world.events(0, 50))

    def later(self: TableManifest, rows: pa.Table) -> None:
        self._entries = self.entries() if rows.num_rows == 0 else rows.select(self._schema.names).cast(self._schema)

    with monkeypatch.context() as patch:
        patch.setattr(TableManifest, "append", later)
        with pytest.raises(Stopped):
            world.run(folder, rows=20, after_step=crash_after("bronze", 1))
    with pytest.raises(SourceLost, match="the manifest"):
        world.run(folder)


def test_a_vacuum_of_live_files(folder: Path, acknowledged: dict[int, bytes], plant: Callable[..., None]) -> None:
    garbage = vacuum._is_garbage

    def greedy(table: Table, file: Any, live: set[str], removed_at: Any, horizon: int) -> bool:
        return garbage(table, file, set(list(live)[1:]), removed_at, horizon)

    plant(vacuum, "_is_garbage", greedy)
    world.run(folder)
    powerloss.tidy(world.lake(folder))
    assert laws(folder)
    with pytest.raises(LakeCorrupt):
        world.assert_tables(folder, acknowledged)


@pytest.mark.integration
@pytest.mark.skipif(not sqlitedisk.can_watch(), reason="SQLite is linked into this Python: its syncs cannot be seen")
@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("sync", r"/\d{20}\.json"),
        ("sync", r"/\.part-[^/]*"),
        ("sync_folder", "/_delta_log"),
        ("sync", r"\.checkpoint\.parquet"),
    ],
    ids=["of a log entry", "of a data file", "of a log folder", "of a checkpoint before the entries go"],
)
def test_a_lost_sync(operation: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power is lost while the story is told: some state shows what was built on what was not durable."""
    before, lost = PowerLossStorage._before, 0

    def forgetful(self: PowerLossStorage, asked: str, path: str) -> None:
        nonlocal lost
        is_lost = asked == operation and re.search(part + "$", path) is not None
        lost += is_lost
        before(self, f"{asked}, forgotten," if is_lost else asked, path)

    monkeypatch.setattr(PowerLossStorage, "_before", forgetful)
    storage = powerloss.recorded(tmp_path / "shop", powerloss.PUSH, monkeypatch)
    assert lost
    states = powerloss.chosen(storage, 60, 1)
    assert any(powerloss.problems([state], tmp_path, powerloss.PUSH) for state in states)
