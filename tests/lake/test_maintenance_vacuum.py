"""Vacuum, clean logs and the loop's upkeep: nothing that is needed goes, and the rest does."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lake.lakes import open_lake, owned
from penstock.errors import Fenced, LakeCorrupt, UsageError
from penstock.lake import layout, log
from penstock.lake import vacuum as vacuuming
from penstock.lake.compaction import compact
from penstock.lake.maintenance import KeptFiles, keep_files, keep_log, vacuum_txn
from penstock.lake.vacuum import clean_log, vacuum
from penstock.model.columns import BATCH, batch_txn
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.lake.fence import Writer
    from penstock.lake.storage import StoredFile
    from penstock.lake.table import Table

DAY = 86_400_000_000
SPEC = layout.silver_spec("s", [], "_timestamp")


def real_now() -> int:
    return time.time_ns() // 1000


def rows(batch: int, days: tuple[int, ...] = (0,)) -> pa.Table:
    times = pa.array([day * DAY for day in days], layout.TIME)
    return pa.table({"_timestamp": times, BATCH: pa.repeat(pa.scalar(batch, pa.int64()), len(days))})


def add_batch(table: Table, writer: Writer, batch: int, days: tuple[int, ...] = (0,)) -> None:
    table.commit(writer, batch=batch, add=table.write(rows(batch, days)))


def batches(table: Table) -> list[int]:
    return sorted(value for part in table.read(columns=[BATCH]) for value in part[BATCH].to_pylist())


def path_of(table: Table, path: str) -> Path:
    return Path(table.storage.uri(f"{table.name}/{path}"))


def make_old(table: Table, days: float) -> None:
    """As if every file of the table had been written so many days ago."""
    then = time.time() - days * 86_400
    for file in path_of(table, "").rglob("*"):
        if file.is_file():
            os.utime(file, (then, then))


@pytest.fixture
def silver(tmp_path: Path) -> tuple[Writer, Table]:
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    for batch in range(1, 5):
        add_batch(table, writer, batch)
    return writer, table


# -- vacuum -----------------------------------------------------------------------------------------------------------


def test_replaced_files_go_after_the_kept_period_and_not_before(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    make_old(table, 30)
    old, version = table.files(), table.version
    compact(table, writer)
    for days in (0.0, 6.9):  # written long ago, but needed until just now
        assert vacuum(table, writer, kept_days=7, now=real_now() + int(days * DAY)).files == 0
    assert [part.num_rows for part in table.read(files=table.files(version))] == [1, 1, 1, 1]
    later = real_now() + int(7.1 * DAY)
    looked = vacuum(table, None, kept_days=7, now=later, dry_run=True)
    assert (looked.table, looked.files, looked.bytes) == ("silver/s", 4, sum(file.size for file in old))
    assert all(path_of(table, file.path).exists() for file in old)
    assert vacuum(table, writer, kept_days=7, now=later) == looked
    assert not any(path_of(table, file.path).exists() for file in old)
    assert batches(table) == [1, 2, 3, 4]
    assert DeltaTable(table.storage.uri("silver/s")).to_pyarrow_table().num_rows == 4


def test_leftovers_go_and_foreign_files_stay(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    orphan = table.write(rows(9))[0]
    leftovers = [
        path_of(table, orphan.path),
        path_of(table, "_month=1970-01/.part-1234"),
        path_of(table, "_delta_log/_commit_1234.json.tmp"),
        path_of(table, "_delta_log/._last_checkpoint.tmp-12ab"),
    ]
    foreign = [
        path_of(table, "README.md"),
        path_of(table, "_damaged/00000000000000000001.checkpoint.parquet"),
        path_of(table, "_delta_log/00000000000000000099.note"),
    ]
    for file in (*leftovers, *foreign):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert vacuum(table, writer, kept_days=1, now=real_now()).files == 0
    log_files = set(path_of(table, "_delta_log").glob("*.json"))
    assert vacuum(table, writer, kept_days=1, now=real_now() + 2 * DAY).files == 4
    assert not any(file.exists() for file in leftovers)
    assert all(file.exists() for file in foreign)
    assert set(path_of(table, "_delta_log").glob("*.json")) == log_files
    assert batches(table) == [1, 2, 3, 4]


@pytest.mark.parametrize("moment", ["files", "removals"])
def test_what_is_replaced_while_a_vacuum_looks_stays(
    silver: tuple[Writer, Table], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Gold's corrections go on meanwhile."""
    writer, table = silver
    make_old(table, 30)
    old = table.files()
    files, removals = table.storage.files, vacuuming._removal_times

    def replace_all() -> None:
        table.commit(writer, batch=5, add=table.write(rows(5)), remove=old)

    def listed(folder: str) -> list[StoredFile]:
        found = list(files(folder))
        replace_all()
        return found

    def removed(of: Table) -> dict[str, int]:
        replace_all()
        return removals(of)

    if moment == "files":
        monkeypatch.setattr(table.storage, "files", listed)
    else:
        monkeypatch.setattr(vacuuming, "_removal_times", removed)
    assert vacuum(table, writer, kept_days=7, now=real_now()).files == 0
    assert batches(table) == [5]
    assert [part.num_rows for part in table.read(files=old)] == [1, 1, 1, 1]


def test_vacuum_needs_a_day_and_the_owner(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = silver
    with pytest.raises(UsageError, match="kept_days is 0"):
        vacuum(table, writer, kept_days=0, now=real_now())
    with pytest.raises(UsageError, match="by its writer only"):
        vacuum(table, None, kept_days=1, now=real_now())
    compact(table, writer)
    owned(open_lake(tmp_path), SPEC)
    with pytest.raises(Fenced):
        vacuum(table, writer, kept_days=1, now=real_now() + 9 * DAY)
    assert len(list(path_of(table, "").rglob("*.parquet"))) == 5


@pytest.mark.parametrize("seed", range(6))
def test_every_file_of_a_kept_version_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Random appends, compactions, checkpoints and log cleanings, over weeks of a made-up clock."""
    choice = random.Random(seed)
    start = real_now()
    now = start
    monkeypatch.setattr(log, "_now_milliseconds", lambda: now // 1000)
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    began: list[tuple[int, set[str]]] = []  # when each state of the table began, and its files
    batch, kept = 0, choice.randint(1, 9)
    for _ in range(40):
        now += choice.randrange(2 * DAY)
        action = choice.random()
        known = set(path_of(table, "").rglob("*.parquet"))
        if action < 0.6:
            batch += 1
            add_batch(table, writer, batch, tuple(choice.sample(range(0, 90, 30), k=choice.randint(1, 3))))
        elif action < 0.8:
            compact(table, writer)
        else:
            table.checkpoint()
            clean_log(
                table, log_kept_days=1, kept_days=7, now=start + 400 * DAY
            )  # the checkpoint remembers what was removed when
        for file in set(path_of(table, "").rglob("*.parquet")) - known:
            os.utime(file, (now / 1e6, now / 1e6))
        began.append((now, {file.path for file in table.files()}))
        if choice.random() < 0.3:
            vacuum(table, writer, kept_days=kept, now=now)
            ends = [moment for moment, _ in began[1:]] + [now + 1]
            needed = set().union(
                *(files for (_, files), end in zip(began, ends, strict=True) if end >= now - kept * DAY)
            )
            there = {str(file.relative_to(path_of(table, ""))) for file in path_of(table, "").rglob("part-*.parquet")}
            assert needed <= there
            removed_long_ago = set().union(*(files for _, files in began)) - needed
            assert not removed_long_ago & there
    assert batches(open_lake(tmp_path).table("silver/s")) == batches(table)


# -- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_log(tmp_path: Path) -> tuple[Writer, Table]:
    """Batches 1 to 30 at the versions 2 to 31, with checkpoints at versions 11, 21 and 31."""
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    for batch in range(1, 31):
        add_batch(table, writer, batch)
        if batch % 10 == 0:
            table.checkpoint()
    assert log.list_log(table.storage, table.name).checkpoints == (11, 21, 31)
    return writer, table


def listing(table: Table) -> log.Listing:
    return log.list_log(table.storage, table.name)


def test_entries_behind_a_checkpoint_go_when_they_are_old(long_log: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = long_log
    assert clean_log(table, log_kept_days=1, kept_days=7, now=real_now()).entries == 0
    done = clean_log(table, log_kept_days=1, kept_days=7, now=real_now() + 2 * DAY)
    assert (done.entries, done.checkpoints) == (31, 2)
    assert listing(table) == log.Listing((31,), (31,))
    fresh = open_lake(tmp_path).table("silver/s")
    assert batches(fresh) == list(range(1, 31))
    assert fresh.txn(batch_txn("p")) == 30
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    add_batch(table, writer, 31)
    assert batches(table) == list(range(1, 32))
    assert DeltaTable(table.storage.uri("silver/s")).to_pyarrow_table().num_rows == 31
    assert clean_log(table, log_kept_days=1, kept_days=7, now=real_now() + 2 * DAY).entries == 0


@pytest.mark.parametrize(
    ("never_above", "absorbed", "base"),
    [(30, None, 21), (21, None, 21), (20, None, 11), (5, None, 0), (None, 30, 31), (None, 29, 21), (None, 9, 0)],
)
def test_entries_that_the_ledger_needs_stay(
    long_log: tuple[Writer, Table], never_above: int | None, absorbed: int | None, base: int
) -> None:
    _, table = long_log
    before = {version: table.files(version) for version in range(2, 32)}
    position = None if absorbed is None else ("p", absorbed)
    clean_log(table, log_kept_days=1, kept_days=7, now=real_now() + 2 * DAY, never_above=never_above, absorbed=position)
    assert listing(table).entries == tuple(range(base, 32))
    if base:
        assert listing(table).checkpoints[0] == base
        assert {file.stats[BATCH][0] for file in table.files(base)} == set(range(1, base))
    for version in range(2, 32):
        assert {file.stats[BATCH][0] for file in before[version]} == set(range(1, version))
        assert table.files(version) == before[version]


def test_a_checkpoint_that_is_not_what_the_log_says_stops_it(long_log: tuple[Writer, Table]) -> None:
    _, table = long_log
    other = table.storage.read(log.checkpoint_path(table.name, 21))
    table.storage.write(log.checkpoint_path(table.name, 31), other)
    with pytest.raises(LakeCorrupt, match="checkpoint 31 is not what"):
        clean_log(table, log_kept_days=1, kept_days=7, now=real_now() + 2 * DAY)
    table.storage.write(log.checkpoint_path(table.name, 31), b"PAR1")
    with pytest.raises(LakeCorrupt, match=r"31\.checkpoint"):
        clean_log(table, log_kept_days=1, kept_days=7, now=real_now() + 2 * DAY)
    assert listing(table).entries == tuple(range(32))


def test_old_checkpoints_are_thinned_out(long_log: tuple[Writer, Table], monkeypatch: pytest.MonkeyPatch) -> None:
    writer, table = long_log
    for batch in range(31, 71):
        add_batch(table, writer, batch)
        if batch % 10 == 0:
            table.checkpoint()
    made = listing(table).checkpoints
    assert made == (11, 21, 31, 41, 51, 61, 71)
    monkeypatch.setattr(vacuuming, "CHECKPOINT_SPACING_VERSIONS", 25)
    clean_log(table, log_kept_days=1, kept_days=7, now=real_now())
    assert listing(table).checkpoints == made  # a reader may just have listed them
    clean_log(table, log_kept_days=1, kept_days=7, now=real_now() + 300_000_000)
    left = listing(table)
    assert left.entries == tuple(range(72))
    assert left.checkpoints[-2:] == made[-2:]
    assert left.checkpoints[0] == made[0]
    assert len(left.checkpoints) < len(made)
    assert all(b - a <= 25 for a, b in zip(left.checkpoints, left.checkpoints[1:], strict=False))
    table.reopen()
    assert batches(table) == list(range(1, 71))


# -- the loop's upkeep ------------------------------------------------------------------------------------------------


@dataclass
class Loop:
    """A pipeline's table as the loop keeps it, batch by batch."""

    table: Table
    writer: Writer
    settings: Settings
    batch: int = 0

    def run(self, count: int, now: int | None = None) -> list[KeptFiles]:
        done = []
        for _ in range(count):
            self.batch += 1
            add_batch(self.table, self.writer, self.batch)
            done.append(self.keep(now or real_now()))
        return done

    def keep(self, now: int) -> KeptFiles:
        kept = keep_files(self.table, self.writer, self.settings, now=now)
        keep_log(self.table, self.writer.pipeline, self.batch, self.settings, now=now)
        return kept


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    return Loop(table, writer, replace(Settings(), compact_every_batches=8))


def test_upkeep_does_mostly_nothing_and_keeps_files_few(loop: Loop) -> None:
    done = loop.run(100)
    assert 8 <= sum(kept.rewritten is not None for kept in done) <= 15
    assert len(loop.table.files()) <= 8 + 7
    assert batches(loop.table) == list(range(1, 101))


def test_upkeep_goes_on_where_another_process_stopped(loop: Loop, tmp_path: Path) -> None:
    for _ in range(30):
        writer, (table,) = owned(open_lake(tmp_path), SPEC)
        loop.table, loop.writer = table, writer
        loop.run(1)
    assert len(loop.table.files()) <= 8 + 5
    assert batches(loop.table) == list(range(1, 31))


def test_upkeep_vacuums_every_few_hours_with_a_compaction(loop: Loop) -> None:
    first = loop.run(8)
    assert [kept.vacuumed is not None for kept in first if kept.rewritten] == [True]
    assert loop.table.txn(vacuum_txn("p")) == pytest.approx(time.time(), abs=60)
    assert not any(kept.vacuumed for kept in loop.run(16))
    later = loop.run(16, now=real_now() + 8 * DAY)
    assert sum(kept.vacuumed.files for kept in later if kept.vacuumed) >= 8
    assert batches(loop.table) == list(range(1, 41))


def test_upkeep_vacuums_a_table_that_nothing_is_ever_compacted_in(loop: Loop) -> None:
    """Gold whose every batch replaces its one file has never two to merge."""
    table, done = loop.table, []
    for batch in range(1, 140):
        before = table.files()
        table.commit(loop.writer, batch=batch, add=table.write(rows(batch)), remove=before)
        loop.batch = batch
        done.append(loop.keep(real_now() + (8 * DAY if batch > 70 else 0)))
    assert not any(kept.rewritten for kept in done)
    assert [kept.vacuumed.files for kept in done if kept.vacuumed] == [0, 125]
    assert batches(table) == [139]


def test_upkeep_cleans_the_log_up_to_the_ledger(loop: Loop) -> None:
    loop.run(70)
    now = real_now() + 2 * DAY
    loop.run(70, now=now)
    left = listing(loop.table)
    assert left.entries[0] > 64
    assert left.checkpoints[0] == left.entries[0]
    assert batches(loop.table) == list(range(1, 141))


def test_upkeep_of_a_writer_that_was_replaced_stops(loop: Loop, tmp_path: Path) -> None:
    for batch in range(1, 10):
        add_batch(loop.table, loop.writer, batch)
    owned(open_lake(tmp_path), SPEC)
    with pytest.raises(Fenced):
        loop.keep(real_now())
