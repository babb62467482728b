"""The history: the log folder stays short, every version of the kept period can be read, and a crash costs nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from lake.lakes import open_lake, owned
from penstock.errors import LakeCorrupt, UsageError
from penstock.lake import history, layout, log
from penstock.lake import vacuum as vacuuming
from penstock.lake.compaction import compact
from penstock.lake.storage import LocalStorage
from penstock.lake.vacuum import clean_log, vacuum
from penstock.model.columns import BATCH

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.lake.table import Table

DAY = 86_400_000_000
MINUTE = 60_000_000
SPEC = layout.silver_spec("s", [], "_timestamp")


class Days:
    """A table that is written, compacted, checkpointed, vacuumed and cleaned by a clock of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_700_000_000_000_000
        parse = log.parse_entry
        monkeypatch.setattr(log, "_now_milliseconds", lambda: self.now // 1000)
        monkeypatch.setattr(log, "parse_entry", lambda version, data: self.timed(parse(version, data)))
        monkeypatch.setattr(vacuuming, "LOG_ENTRIES_MAX", 20)
        monkeypatch.setattr(vacuuming, "CHECKPOINT_SPACING_VERSIONS", 4)
        self.states: dict[int, tuple[int, set[str]]] = {}
        """Version -> when it became the current one, and its files."""
        self.folder = folder
        self.batch = 0
        self.writer, (self.table,) = owned(open_lake(folder), SPEC)
        self.note()

    def timed(self, entry: log.Entry) -> log.Entry:
        """The entry as if delta-rs had gone by this clock."""
        return replace(entry, timestamp=self.states[entry.version][0] if entry.version in self.states else self.now)

    def note(self) -> None:
        self.states[self.table.refresh()] = (self.now, {file.path for file in self.table.files()})

    def write(self, batches: int, gap: int) -> None:
        """Batches, a gap of time apart (microseconds), each a new version; every fourth with a compaction."""
        for _ in range(batches):
            self.now += gap
            self.batch += 1
            time = pa.array([self.batch * DAY // 7], layout.TIME)
            self.table.commit(
                self.writer, batch=self.batch, add=self.table.write(pa.table({"_timestamp": time, BATCH: [self.batch]}))
            )
            self.note()
            self.stamp()
            if self.batch % 4 == 0:
                compact(self.table, self.writer)
                self.note()
                self.stamp()
                self.table.checkpoint()

    def stamp(self) -> None:
        """Give the live files that are new the time of this clock."""
        for file in self.states[self.table.version][1] - self.states[self.table.version - 1][1]:
            os.utime(self.folder / self.table.name / file, (self.now / 1e6, self.now / 1e6))

    def clean(self, kept_days: int = 7) -> int:
        return clean_log(self.table, log_kept_days=1, kept_days=kept_days, now=self.now).entries

    def listing(self) -> log.Listing:
        return log.list_log(self.table.storage, self.table.name)

    def last_current(self, version: int) -> int:
        """The last moment at which a version was the current one."""
        return self.states[version + 1][0] if version + 1 in self.states else self.now

    def readable(self, table: Table) -> set[int]:
        """The versions that can be read, each with just the files it had."""
        found = set()
        for version, (_, files) in self.states.items():
            try:
                read = {file.path for file in table.files(version)}
            except UsageError:
                continue
            assert read == files, version
            found.add(version)
        return found


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Days:
    return Days(tmp_path, monkeypatch)


def test_the_log_is_bounded_by_number_and_everything_can_be_read(days: Days) -> None:
    for _ in range(20):
        days.write(6, 5 * MINUTE)
        days.clean()
        assert len(days.listing().entries) <= 20 + 8
    assert days.readable(open_lake(days.folder).table("silver/s")) == set(days.states)
    assert [entry.version for entry in days.table.past.entries()] == sorted(range(days.table.version + 1), reverse=True)
    assert [entry.version for entry in days.table.past.entries(3)] == [days.table.version - at for at in range(3)]


def test_young_entries_stay_however_many_they_are(days: Days) -> None:
    days.write(60, MINUTE // 60)
    assert days.clean() == 0
    days.now += 3 * MINUTE
    assert 0 < days.clean() <= 24  # and no more go at once than a batch can wait for
    assert days.clean() > 0


def test_versions_can_be_read_as_long_as_they_are_kept_and_their_files_too(days: Days) -> None:
    for _ in range(30):
        days.write(4, DAY // 6)
        days.clean(kept_days=3)
        vacuum(days.table, days.writer, kept_days=3, now=days.now)
    kept = {version for version in days.states if days.last_current(version) >= days.now - 3 * DAY}
    readable = days.readable(open_lake(days.folder).table("silver/s"))
    assert kept <= readable
    assert len(readable) < len(days.states) // 2
    assert sum(1 for _ in history.entries(days.table.storage, days.table.name)) < len(days.states) // 2


class Crash(Exception):
    """The process ends here."""


@pytest.mark.parametrize("operation", [2, 5, 12, 23])
def test_a_crash_in_the_middle_of_a_cleaning_is_made_up_for(
    days: Days, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    days.write(40, 5 * MINUTE)
    days.clean()
    days.write(20, 5 * MINUTE)
    left = operation

    def before(self: LocalStorage, what: str, path: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash(path)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "_before", before)
        with pytest.raises(Crash):
            days.clean()
    days.table = open_lake(days.folder).table("silver/s")
    days.now += 2 * DAY
    assert days.readable(days.table) == set(days.states)
    assert days.clean() > 0
    days.writer, (days.table,) = owned(open_lake(days.folder), SPEC)
    days.note()
    days.write(30, 5 * MINUTE)
    days.clean()
    assert days.readable(open_lake(days.folder).table("silver/s")) == set(days.states)


def test_gaps_that_a_crash_leaves_do_no_harm(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store deletes several entries at once: any of them may be left."""
    days.write(40, 5 * MINUTE)
    known = [days.table.past.last_version_of("p", batch, 0) for batch in (5, 20)]

    def delete(self: LocalStorage, *paths: str) -> None:
        for path in paths[1::2]:
            (days.folder / path).unlink()
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", delete)
        with pytest.raises(Crash):
            days.clean()
    table = open_lake(days.folder).table("silver/s")
    assert [table.past.last_version_of("p", batch, 0) for batch in (5, 20)] == known
    assert [entry.version for entry in table.past.entries()] == list(range(table.version, -1, -1))
    assert days.readable(table) == set(days.states)
    days.write(20, 5 * MINUTE)
    assert days.clean() > 0
    assert days.listing().entries == days.listing().unbroken
    assert days.readable(open_lake(days.folder).table("silver/s")) == set(days.states)


def test_deleted_entries_that_are_back_after_a_power_loss_do_no_harm(days: Days) -> None:
    days.write(40, 5 * MINUTE)
    old = {path: path.read_bytes() for path in sorted((days.folder / "silver/s/_delta_log").iterdir())}
    assert days.clean() > 0
    gone = [path for path in old if not path.exists()]
    for path in (gone[1], *(path for path in gone if path.suffix == ".parquet")):
        path.write_bytes(old[path])
    days.write(40, 5 * MINUTE)
    assert days.clean() > 0
    assert not any(path.exists() for path in gone)
    assert days.readable(open_lake(days.folder).table("silver/s")) == set(days.states)


def test_damage_of_the_history_is_told(days: Days) -> None:
    days.write(40, 5 * MINUTE)
    days.clean()
    (path,) = (days.folder / "silver/s/_history").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    for look in (
        lambda: days.table.files(5),
        lambda: list(days.table.past.entries()),
        lambda: vacuum(days.table, days.writer, kept_days=1, now=days.now),
    ):
        with pytest.raises(LakeCorrupt, match=r"_history/.* is not what was written"):
            look()
