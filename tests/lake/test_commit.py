"""Commits: all or nothing, once, by the owner only, durable, whatever happens in between."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lake.faults import SPEC, FaultyStorage, Killed, bronze_rows, column
from lake.lakes import open_lake, owned
from penstock.errors import Fenced, InvariantBroken, LakeCorrupt, StorageError, TransientError
from penstock.lake import layout
from penstock.lake.fence import take_over
from penstock.lake.lake import Lake
from penstock.lake.recovery import recover
from penstock.lake.storage import LocalStorage
from penstock.lake.table import Table, boot_seconds

if TYPE_CHECKING:
    from pathlib import Path


def absorb(table: Table, writer: Any, batch: int) -> None:
    table.commit(writer, batch=batch, add=table.write(bronze_rows(batch)), txns={"p/1/0": batch * 3})


def reopened(folder: Path) -> Table:
    lake = Lake(LocalStorage(folder))
    recover(lake, "p")
    table = lake.table(SPEC.name)
    assert table is not None
    return table


def assert_exactly(table: Table, batch: int) -> None:
    assert table.txn("p/batch") == batch
    assert column(list(table.read()), "_offset") == list(range(batch * 3))


def test_a_batch_is_absorbed_once(tmp_path: Path) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    files = table.write(bronze_rows(1))
    first = table.commit(writer, batch=1, add=files)
    assert not first.already
    again = table.commit(writer, batch=1, add=table.write(bronze_rows(1)))
    assert again.already
    assert again.version == first.version
    assert table.commit(writer, batch=0).already
    assert table.version == first.version
    assert_exactly(table, 1)


def test_every_commit_carries_its_writer_and_is_synced_with_its_folder(tmp_path: Path) -> None:
    storage = FaultyStorage(tmp_path)
    writer, [table] = owned(Lake(storage), SPEC)
    storage.operations.clear()
    files = table.write(bronze_rows(1))
    version = table.commit(writer, batch=1, add=files).version
    log = f"{SPEC.name}/_delta_log"
    assert storage.operations[-2:] == [("sync", f"{log}/{version:020d}.json"), ("sync_folder", log)]
    entry = [json.loads(line) for line in (tmp_path / log / f"{version:020d}.json").read_text().splitlines()]
    txns = {action["txn"]["appId"]: action["txn"]["version"] for action in entry if "txn" in action}
    assert txns == {"p/writer": writer.epoch, "p/nonce": writer.nonce, "p/batch": 1}


def test_killed_at_any_operation_the_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    survived, stages = set(), 0
    for kill_at in range(1, 60):
        folder = tmp_path / str(kill_at)
        writer, [table] = owned(Lake(LocalStorage(folder)), SPEC)
        absorb(table, writer, 1)
        storage = FaultyStorage(folder)
        lake = Lake(storage)
        table = lake.create(SPEC)
        try:
            storage.kill_at = kill_at
            writer = take_over("p", [table])
            absorb(table, writer, 2)
            table.checkpoint()
        except Killed:
            stages += 1
        else:
            break
        found = reopened(folder)
        at = found.txn("p/batch")
        assert at in (1, 2)
        survived.add(at)
        assert_exactly(found, at)
        writer = take_over("p", [found])
        for batch in range(at + 1, 4):
            absorb(found, writer, batch)
        assert_exactly(found, 3)
    assert survived == {1, 2}
    assert stages > 12


CHILD = """
    import os, sys
    sys.path.insert(0, sys.argv[3])
    from lake.faults import SPEC, FaultyStorage, bronze_rows
    from penstock.lake.fence import take_over
    from penstock.lake.lake import Lake
    from penstock.lake.table import Table
    step = sys.argv[2]
    storage = FaultyStorage(sys.argv[1])
    table = Lake(storage).create(SPEC)
    writer = take_over("p", [table])
    files = table.write(bronze_rows(2))
    whole = Table._write_entry
    def commit(self, *rest):
        if step == "before the entry":
            os._exit(9)
        done = whole(self, *rest)
        if step == "after the entry":
            os._exit(9)
        return done
    Table._write_entry = commit
    if step == "before the sync":
        storage._before = lambda operation, path: os._exit(9) if path.endswith(".json") and operation == "sync" else None
    table.commit(writer, batch=2, add=files)
    os._exit(9)
"""


@pytest.mark.parametrize(
    ("step", "at"), [("before the entry", 1), ("after the entry", 2), ("before the sync", 2), ("after all", 2)]
)
def test_a_killed_process_leaves_the_batch_whole_or_not_at_all(tmp_path: Path, step: str, at: int) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    absorb(table, writer, 1)
    tests = str(__import__("pathlib").Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), step, tests], check=False)
    assert done.returncode == 9
    assert_exactly(reopened(tmp_path), at)


@pytest.mark.parametrize("written", [True, False])
def test_an_unknown_outcome_is_settled_by_looking(
    tmp_path: Path, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    absorb(table, writer, 1)
    whole = Table._write_entry

    def broken(self: Table, *rest: Any) -> bool:
        if written:
            whole(self, *rest)
        raise StorageError("the answer got lost")

    files = table.write(bronze_rows(2))
    with monkeypatch.context() as patch:
        patch.setattr(Table, "_write_entry", broken)
        if written:
            assert not table.commit(writer, batch=2, add=files).already
        else:
            with pytest.raises(StorageError, match="got lost"):
                table.commit(writer, batch=2, add=files)
    if not written:
        table.commit(writer, batch=2, add=files)
    assert_exactly(table, 2)
    assert_exactly(reopened(tmp_path), 2)


def test_after_a_failed_write_of_the_entry_the_next_commit_is_made(tmp_path: Path) -> None:
    storage = FaultyStorage(tmp_path)
    writer, [table] = owned(Lake(storage), SPEC)
    files = table.write(bronze_rows(1))
    for operation in ("create", "sync", "link"):
        storage.fail_on = operation
        with pytest.raises(StorageError):
            table.commit(writer, batch=1, add=files)
    storage.fail_on = None
    table.commit(writer, batch=1, add=files)
    assert_exactly(reopened(tmp_path), 1)


def test_after_a_failed_sync_of_the_name_the_table_takes_no_more_commits(tmp_path: Path) -> None:
    storage = FaultyStorage(tmp_path)
    writer, [table] = owned(Lake(storage), SPEC)
    files = table.write(bronze_rows(1))
    storage.fail_on = "sync_folder"
    with pytest.raises(StorageError):
        table.commit(writer, batch=1, add=files)
    storage.fail_on = None
    with pytest.raises(StorageError):
        table.commit(writer, batch=1, add=files)
    assert_exactly(reopened(tmp_path), 1)


def test_our_own_upkeep_in_between_is_no_conflict(tmp_path: Path) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    other = open_lake(tmp_path).table(SPEC.name)
    assert other is not None
    for batch in range(1, 6):
        absorb(other if batch % 2 else table, writer, batch)
    table.refresh()
    assert_exactly(table, 5)


def test_a_rival_that_commits_between_our_look_and_our_entry_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    files = table.write(bronze_rows(1))
    whole = Table._write_entry

    def late(self: Table, *rest: Any) -> bool:
        monkeypatch.setattr(Table, "_write_entry", whole)
        rival = open_lake(tmp_path).table(SPEC.name)
        assert rival is not None
        take_over("p", [rival])
        return whole(self, *rest)

    monkeypatch.setattr(Table, "_write_entry", late)
    with pytest.raises(Fenced, match="taken over by writer 2"):
        table.commit(writer, batch=1, add=files)
    assert reopened(tmp_path).files() == []


def test_files_to_replace_must_still_be_live(tmp_path: Path) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    absorb(table, writer, 1)
    old = table.files()
    table.commit(writer, batch=None, add=table.write(bronze_rows(1)), remove=old, data_change=False)
    with pytest.raises(TransientError, match="not live any more"):
        table.commit(writer, batch=2, add=table.write(bronze_rows(2)), remove=old)
    assert_exactly(table, 1)


def test_a_file_that_is_gone_is_not_committed(tmp_path: Path) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    files = table.write(bronze_rows(1))
    (tmp_path / SPEC.name / files[0].path).unlink()
    with pytest.raises(InvariantBroken, match="not there"):
        table.commit(writer, batch=1, add=files)
    assert table.txn("p/batch") is None


def test_threads_commit_to_one_table_without_losing_anything(tmp_path: Path) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    problems: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for number in range(start, 40, 4):
                table.commit(writer, batch=None, add=table.write(bronze_rows(number + 1)), txns={f"t/{number}": 1})
                table.files()
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert column(list(table.read()), "_offset") == list(range(120))
    assert len(open_lake(tmp_path).table(SPEC.name).files()) == 40  # type: ignore[union-attr]


def test_commits_stay_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, asserts no time: an append does not grow slower with the log."""
    writer, [table] = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    row = layout.contracts_spec("p").schema.empty_table().slice(0, 0)
    taken = []
    for number in range(1, 121):
        start = time.perf_counter()
        table.commit(writer, batch=number, add=table.write(row))
        taken.append((time.perf_counter() - start) * 1000)
    with capsys.disabled():
        print(f" commit 1-20: {sum(taken[:20]) / 20:.1f} ms, 101-120: {sum(taken[-20:]) / 20:.1f} ms", end="")
    assert len(list((tmp_path / "contracts/p/_delta_log").glob("*.checkpoint.parquet"))) == 2
    assert table.txn("p/batch") == 120


@pytest.mark.integration
def test_a_thousand_commits_stay_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    taken = []
    for batch in range(1, 1001):
        rows = bronze_rows(batch)
        start = time.perf_counter()
        table.commit(writer, batch=batch, add=table.write(rows))
        taken.append((time.perf_counter() - start) * 1000)
    with capsys.disabled():
        print([round(sum(taken[at : at + 100]) / 100, 1) for at in range(0, 1000, 100)], "ms a commit", end="")
    assert_exactly(reopened(tmp_path), 1000)


def test_a_writer_that_slept_while_the_log_was_cleaned_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    absorb(table, writer, 1)
    slept, files = table.version, table.write(bronze_rows(2))
    rival, [other] = owned(open_lake(tmp_path), SPEC)
    for batch in range(2, 5):
        absorb(other, rival, batch)
    other.checkpoint()
    for version in range(other.version):
        (tmp_path / SPEC.name / f"_delta_log/{version:020d}.json").unlink()
    woke = boot_seconds() + 90_000
    monkeypatch.setattr("penstock.lake.table.boot_seconds", lambda: woke)
    with pytest.raises(Fenced):
        table.commit(writer, batch=2, add=files)
    assert not (tmp_path / SPEC.name / f"_delta_log/{slept + 1:020d}.json").exists()
    assert_exactly(reopened(tmp_path), 4)


def test_nothing_is_built_on_an_entry_that_is_not_whole(tmp_path: Path) -> None:
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    absorb(table, writer, 1)
    entry = tmp_path / SPEC.name / f"_delta_log/{table.version:020d}.json"
    whole = entry.read_bytes()
    entry.write_bytes(whole[: whole.index(b"\n") + 1])  # delta-rs reads this as an entry without actions
    fresh = open_lake(tmp_path).table(SPEC.name)
    assert fresh is not None
    with pytest.raises(LakeCorrupt, match="incomplete or altered"):
        take_over("p", [fresh])
    assert not (tmp_path / SPEC.name / f"_delta_log/{table.version + 1:020d}.json").exists()
