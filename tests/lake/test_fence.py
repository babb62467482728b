"""One writer owns a pipeline's tables; of two that want them exactly one gets them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lake.faults import SPEC, FaultyStorage, Killed, bronze_rows
from lake.lakes import open_lake
from penstock.errors import Fenced, TransientError
from penstock.lake import layout, log
from penstock.lake.fence import Writer, take_over
from penstock.lake.lake import Lake
from penstock.lake.vacuum import clean_log
from penstock.limits import COMMIT_FILE_SECONDS_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.lake.table import Table

SPECS = (SPEC, layout.rejects_spec("p"), layout.ledger_spec("p"))


def tables(folder: Path) -> list[Table]:
    lake = open_lake(folder)
    return [lake.create(spec) for spec in SPECS]


def test_a_later_writer_takes_a_higher_epoch_and_the_earlier_one_stops(tmp_path: Path) -> None:
    mine = tables(tmp_path)
    first = take_over("p", mine)
    assert first.epoch == 1
    files = mine[0].write(bronze_rows(1))
    second = take_over("p", tables(tmp_path))
    assert second.epoch == 2
    assert second.nonce != first.nonce
    for table in mine:
        with pytest.raises(Fenced, match=r"was taken over by writer 2 of pipeline p; this one is 1"):
            table.commit(first, batch=1, add=files if table is mine[0] else ())
    assert all(table.files() == [] for table in tables(tmp_path))


def test_pipelines_that_share_a_table_do_not_fence_each_other(tmp_path: Path) -> None:
    [table, *_] = tables(tmp_path)
    ours, theirs = take_over("p", [table]), take_over("q", [table])
    table.commit(ours, batch=1)
    table.commit(theirs, batch=7)
    assert (table.txn("p/batch"), table.txn("q/batch")) == (1, 7)


def test_further_tables_join_the_same_writer(tmp_path: Path) -> None:
    [first, *others] = tables(tmp_path)
    writer = take_over("p", [first])
    assert take_over("p", others, writer=writer) is writer
    assert all(table.txn("p/nonce") == writer.nonce for table in (first, *others))
    take_over("p", tables(tmp_path))
    with pytest.raises(Fenced):
        take_over("p", others, writer=writer)


@pytest.mark.parametrize("nonce", [1, 2])
def test_the_same_epoch_with_another_number_is_another_writer(tmp_path: Path, nonce: int) -> None:
    [table, *_] = tables(tmp_path)
    table.take(Writer("p", 5, 1))
    if nonce == 1:
        table.take(Writer("p", 5, 1))
        return
    with pytest.raises(Fenced):
        table.take(Writer("p", 5, nonce))
    with pytest.raises(Fenced):
        table.commit(Writer("p", 5, nonce), batch=1)


def test_a_take_over_that_was_cut_short_is_taken_over_itself(tmp_path: Path) -> None:
    tables(tmp_path)
    for kill_at in range(1, 40):
        storage = FaultyStorage(tmp_path)
        lake = Lake(storage)
        mine = [lake.create(spec) for spec in SPECS]
        storage.kill_at = len(storage.operations) + kill_at
        try:
            take_over("p", mine)
        except Killed:
            continue
        break
    writer = take_over("p", again := tables(tmp_path))
    assert {table.txn("p/writer") for table in again} == {writer.epoch}
    assert writer.epoch > 3


def test_of_two_that_race_exactly_one_wins(tmp_path: Path) -> None:
    tables(tmp_path)
    for _ in range(8):
        barrier = threading.Barrier(3)
        won: list[Writer] = []
        lost: list[Fenced] = []

        def race(barrier: threading.Barrier = barrier, won: list[Writer] = won, lost: list[Fenced] = lost) -> None:
            mine = tables(tmp_path)
            for table in mine:
                table.refresh()
            barrier.wait()
            try:
                won.append(take_over("p", mine))
            except Fenced as error:
                lost.append(error)

        threads = [threading.Thread(target=race) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) + len(lost) == 3
        now = tables(tmp_path)
        owners = []
        for writer in won:  # who took over first may have lost it again to one with a higher epoch
            try:
                for table in now:
                    table.refresh()
                    table.check_owner(writer)
                owners.append(writer)
            except Fenced:
                continue
        assert len(owners) == 1


@pytest.mark.parametrize("until", ["the sleeper's entry was gone", "the next one was gone"])
def test_an_entry_below_a_checkpoint_is_no_commit(tmp_path: Path, until: str) -> None:
    """A writer sleeps; the next one goes on and shortens the log, so that the version the first one wants is free."""
    [sleeping, *_] = tables(tmp_path)
    first = take_over("p", [sleeping])
    version = sleeping.refresh()
    [table, *_] = tables(tmp_path)
    second = take_over("p", [table])
    for batch in (1, 2, 3):
        table.commit(second, batch=batch, add=table.write(bronze_rows(batch)))
    table.checkpoint()
    last = table.storage.read(log.entry_path(table.name, version))
    clean_log(table, log_kept_days=1, kept_days=7, now=time.time_ns() // 1000 + 2 * 86_400_000_000)
    assert table.storage.size(log.entry_path(table.name, version + 1)) is None
    if until == "the next one was gone":  # delta-rs has found the sleeper's own entry, just before it went
        table.storage.write(log.entry_path(table.name, version), last)
    with pytest.raises(Fenced, match="this writer slept at version"):
        sleeping.commit(first, batch=1, add=sleeping.write(bronze_rows(9)))
    [fresh, *_] = tables(tmp_path)
    assert (fresh.txn("p/batch"), len(fresh.files())) == (3, 3)


def test_a_file_that_was_written_long_ago_is_written_again(tmp_path: Path) -> None:
    [table, *_] = tables(tmp_path)
    writer = take_over("p", [table])
    [young], [old], [lost] = (table.write(bronze_rows(batch)) for batch in (1, 2, 3))
    long_ago = int((time.time() - COMMIT_FILE_SECONDS_MAX - 60) * 1000)
    table.commit(writer, batch=1, add=[young])
    table.commit(writer, batch=2, add=[replace(old, modified=long_ago)])
    paths = {file.path for file in table.files()}
    assert young.path in paths
    assert old.path not in paths
    assert [file.modified > long_ago for file in table.files()] == [True, True]
    rows = [row for part in table.read() for row in part.to_pylist()]
    assert sorted(row["_batch"] for row in rows) == [1, 1, 1, 2, 2, 2]
    table.storage.delete(f"{table.name}/{lost.path}")
    with pytest.raises(TransientError, match="was deleted before it was committed"):
        table.commit(writer, batch=3, add=[replace(lost, modified=long_ago)])
    assert table.txn("p/batch") == 2
