"""Cuts: one moment for all tables, whatever was committed, corrected or compacted since."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lake.lakes import open_lake, owned
from penstock.errors import UsageError
from penstock.lake import layout, log
from penstock.lake.cuts import Cut, cut, time_text
from penstock.lake.ledger import Ledger
from penstock.lake.references import References
from penstock.lake.vacuum import clean_log
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.columns import BATCH

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.lake.lake import Lake
    from penstock.lake.table import Table

SECOND = 1_000_000


@dataclass
class Pipe:
    """A pipeline whose every batch has one record, one row in silver, and rewrites the one row of its gold table."""

    lake: Lake
    name: str

    def __post_init__(self) -> None:
        gold = layout.gold_spec(f"g_{self.name}", [], [pa.field("n", pa.int64())])
        specs = (
            layout.bronze_spec(self.name),
            layout.rejects_spec(self.name),
            layout.silver_spec(f"s_{self.name}", [], "_timestamp"),
            gold,
            layout.ledger_spec(self.name),
        )
        self.writer, self.tables = owned(self.lake, *specs, pipeline=self.name)

    def run(self, batch: int, written_at: int, *, ledger: bool = True, references: int = 0) -> None:
        bronze, rejects, silver, gold, book = self.tables
        row = pa.table({"_source": [1], "_partition": [0], "_offset": [batch], BATCH: [batch]})
        time = pa.array([batch * SECOND], layout.TIME)
        row = row.append_column("_timestamp", time).append_column("_ingested_at", time)
        versions = [(rejects.name, rejects.version)]
        for table in (bronze, silver):
            versions.append((table.name, table.commit(self.writer, batch=batch, add=table.write(row)).version))
        total = pa.table({"window_start": pa.array([0], layout.TIME), "n": [batch], BATCH: [batch]})
        add = gold.write(total)
        versions.append((gold.name, gold.commit(self.writer, batch=batch, add=add, remove=gold.files()).version))
        if ledger:
            pins = Pins(1, 1, (("r", references),) if references else ())
            entry = LedgerRow(
                batch, (), BatchCounts(records=1), pins, None, None, tuple(versions), written_at=written_at
            )
            Ledger(book).append(self.writer, entry)


def batches(cut: Cut, name: str) -> list[int]:
    """The `_batch` (in gold the measure) of every row of a table in the cut."""
    found = cut.table(name)
    column = "n" if name.startswith("gold/") else found.bound_column or BATCH
    rows = [value for part in found.table.read(files=found.files) for value in part.column(column).to_pylist()]
    return sorted(value for value in rows if found.bound is None or value <= found.bound)


@pytest.fixture
def pipes(tmp_path: Path) -> tuple[Pipe, Pipe]:
    lake = open_lake(tmp_path)
    first, second = Pipe(lake, "a"), Pipe(lake, "b")
    for batch in (1, 2, 3):
        first.run(batch, batch * 10 * SECOND)
    for batch in (1, 2):
        second.run(batch, (batch * 10 + 5) * SECOND)
    first.run(4, 0, ledger=False)  # in flight
    return first, second


def check(found: Cut, of_a: int, of_b: int) -> None:
    assert found.batches == {"a": of_a, "b": of_b}
    for pipeline, last in (("a", of_a), ("b", of_b)):
        wanted = list(range(1, last + 1))
        assert batches(found, f"bronze/{pipeline}") == wanted
        assert batches(found, f"silver/s_{pipeline}") == wanted
        assert batches(found, f"ledger/{pipeline}") == wanted
        assert batches(found, f"rejects/{pipeline}") == []
        assert batches(found, f"gold/g_{pipeline}") == ([last] if last else [])


def test_a_cut_of_now_ends_at_the_last_ledger_rows(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    found = cut(open_lake(tmp_path))
    check(found, 3, 2)
    assert list(found) == [
        "bronze/a",
        "bronze/b",
        "gold/g_a",
        "gold/g_b",
        "ledger/a",
        "ledger/b",
        "rejects/a",
        "rejects/b",
        "silver/s_a",
        "silver/s_b",
    ]


@pytest.mark.parametrize(
    ("seconds", "of_a", "of_b"), [(9, 0, 0), (10, 1, 0), (15, 1, 1), (24.999999, 2, 1), (25, 2, 2), (1e6, 3, 2)]
)
def test_a_time_picks_each_pipelines_last_row(
    pipes: tuple[Pipe, Pipe], tmp_path: Path, seconds: float, of_a: int, of_b: int
) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    check(cut(open_lake(tmp_path), moment), of_a, of_b)
    check(cut(open_lake(tmp_path), moment.replace(tzinfo=None)), of_a, of_b)
    check(cut(open_lake(tmp_path), moment.astimezone(timezone(timedelta(hours=-7)))), of_a, of_b)


def test_a_batch_fixes_the_time_for_the_others(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    check(cut(open_lake(tmp_path), 2, "a"), 2, 1)
    check(cut(open_lake(tmp_path), 2, "b"), 2, 2)


def test_a_batch_that_is_not_there_is_refused(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    with pytest.raises(UsageError, match="has no batch 4"):
        cut(lake, 4, "a")
    with pytest.raises(UsageError, match="needs its pipeline"):
        cut(lake, 1)
    with pytest.raises(UsageError, match="no pipeline c"):
        cut(lake, 1, "c")
    with pytest.raises(UsageError, match="no table gold/x"):
        cut(lake).table("gold/x")


def test_an_empty_lake_has_an_empty_cut(tmp_path: Path) -> None:
    found = cut(open_lake(tmp_path))
    assert (list(found), found.batches) == ([], {})
    pipe = Pipe(open_lake(tmp_path), "a")
    found = cut(open_lake(tmp_path))
    assert found.batches == {"a": 0}
    assert [found.table(table.name).files for table in pipe.tables] == [()] * 5


def test_references_end_at_the_pinned_version(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    pipe = Pipe(lake, "a")
    store = References(lake)
    for version in (1, 2, 3):
        assert store.append(pipe.writer, "r", pa.table({"id": [version]}), 5) == version
        if version < 3:
            pipe.run(version, version * SECOND, references=version)
    assert batches(cut(open_lake(tmp_path)), "references/r") == [1, 2]
    assert batches(cut(open_lake(tmp_path), 1), "references/r") == [1]


def test_a_cut_that_is_held_stays_what_it_was(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    found = cut(open_lake(tmp_path))
    for pipe in pipes:
        pipe.run(5, 100 * SECOND)
    check(found, 3, 2)


def test_files_that_begin_after_the_cut_are_not_read(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    assert len(cut(open_lake(tmp_path), 1, "a").table("silver/s_a").files) == 1


def test_gold_that_is_no_longer_kept_names_the_oldest_cut(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    gold: Table = pipes[0].tables[3]
    version = dict(Ledger(pipes[0].tables[4]).row(3).versions)[gold.name]
    # What cleaning the log leaves: a checkpoint at batch 3's version, and nothing before it.
    past = log.checkpoint_path(gold.name, version)
    DeltaTable(gold.storage.uri(gold.name), version=version).create_checkpoint()
    assert gold.storage.size(past)
    for old in range(version):
        gold.storage.delete(log.entry_path(gold.name, old))
    lake = open_lake(tmp_path)
    check(cut(lake, 3, "a"), 3, 2)
    found = cut(lake, 1, "a")
    assert batches(found, "silver/s_a") == [1]
    with pytest.raises(UsageError, match=r"as of batch 1 of a is no longer kept") as caught:
        found.table("gold/g_a")
    assert caught.value.hint == "The oldest cut there is: --as-of 3 (1970-01-01T00:00:30Z)."


def test_gold_is_read_from_its_history_as_long_as_that_is_kept(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    pipe, gold = pipes[0], pipes[0].tables[3]
    made = [1, 2, 3]

    def shorten(days: int) -> None:
        gold.checkpoint()
        now = time.time_ns() // 1000 + days * 86_400 * SECOND
        assert clean_log(gold, log_kept_days=1, kept_days=7, now=now).entries > 3
        assert len(log.list_log(gold.storage, gold.name).entries) == 1

    for last in (6, 8):
        for batch in range(last - 1, last + 1):
            pipe.run(batch, batch * 10 * SECOND)
            made.append(batch)
        if last == 6:
            shorten(2)
    for batch in made:
        assert batches(cut(open_lake(tmp_path), batch, "a"), "gold/g_a") == [batch]
    for batch in (9, 10):
        pipe.run(batch, batch * 10 * SECOND)
    shorten(10)
    with pytest.raises(UsageError, match="as of batch 3 of a is no longer kept") as caught:
        cut(open_lake(tmp_path), 3, "a").table("gold/g_a")
    assert caught.value.hint == "The oldest cut there is: --as-of 6 (1970-01-01T00:01:00Z)."
    for batch in (6, 7, 8, 9, 10):
        assert batches(cut(open_lake(tmp_path), batch, "a"), "gold/g_a") == [batch]


def test_gold_is_read_as_it_was_stored_last(tmp_path: Path) -> None:
    """The files of the version that the ledger names were merged, and deleted long before the next batch came."""
    pipe = Pipe(open_lake(tmp_path), "a")
    gold: Table = pipe.tables[3]
    pipe.run(1, SECOND)
    before = gold.files()
    rows = pa.concat_tables(gold.read())
    gold.commit(pipe.writer, batch=None, add=gold.write(rows), remove=before, data_change=False)
    for file in before:
        gold.storage.delete(f"{gold.name}/{file.path}")
    assert batches(cut(open_lake(tmp_path)), "gold/g_a") == [1]
    for batch in (2, 3):
        pipe.run(batch, batch * SECOND)
        assert batches(cut(open_lake(tmp_path), 1, "a"), "gold/g_a") == [1]
    gold.checkpoint()
    pipe.run(4, 4 * SECOND)
    now = time.time_ns() // 1000 + 2 * 86_400 * SECOND
    assert clean_log(gold, log_kept_days=1, kept_days=7, now=now).entries > 3
    for batch in (1, 2, 3, 4):
        assert batches(cut(open_lake(tmp_path), batch, "a"), "gold/g_a") == [batch]


def test_gold_whose_files_were_deleted_is_no_longer_kept(pipes: tuple[Pipe, Pipe], tmp_path: Path) -> None:
    gold: Table = pipes[0].tables[3]
    version = dict(Ledger(pipes[0].tables[4]).row(1).versions)[gold.name]
    for file in gold.files(version):
        gold.storage.delete(f"{gold.name}/{file.path}")
    with pytest.raises(UsageError, match=r"no longer kept") as caught:
        cut(open_lake(tmp_path), 1, "a").table("gold/g_a")
    assert caught.value.hint == "The oldest cut there is: --as-of 2 (1970-01-01T00:00:20Z)."


def test_times_are_written_for_people() -> None:
    assert time_text(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456Z"
