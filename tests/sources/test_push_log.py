"""The push log: what an acknowledgement means, over processes, crashes, full logs and damage."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sqlite3
import threading
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from penstock import limits
from penstock.errors import SourceLost, StorageError, TransientError, UsageError
from penstock.sources.contract import Bounds
from penstock.sources.push import PushLogSource
from penstock.sources.push_log import PushLog
from penstock.testing.source_contract import after, drain

if TYPE_CHECKING:
    from pathlib import Path

ALL = Bounds(1_000_000, 1 << 30)


def records(*bodies: bytes, keys: list[bytes | None] | None = None) -> pa.Table:
    columns = {"value": pa.array(bodies, pa.binary())}
    if keys is not None:
        columns["key"] = pa.array(keys, pa.binary())
    return pa.table(columns)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "push" / "ticks.db"


def open_source(path: Path, **options: object) -> PushLogSource:
    return PushLogSource(PushLog(path), pipeline="ticks", incarnation=1, **options)  # type: ignore[arg-type]


def damage(path: Path, statement: str, *arguments: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, arguments)
    connection.commit()
    connection.close()


def test_places_are_given_in_order_and_never_twice(path: Path) -> None:
    log = PushLog(path)
    first = log.append(records(b"a", b"b"))
    assert first.ranges(7)[0].__class__.__name__ == "Range"
    assert [(span.source, span.partition, span.start, span.end) for span in first.ranges(7)] == [(7, 0, 0, 2)]
    log.trim(0, 2)
    assert log.entries(0, 0) == []
    log.close()
    second = PushLog(path).append(records(b"c"))
    assert second.offsets.tolist() == [2]


def test_acknowledgement_times_never_go_back(path: Path) -> None:
    times = iter([5, 5, 100, 100, 40, 40, 200, 200])
    log = PushLog(path, clock=lambda: next(times))
    found = [log.append(records(b"x")).ingested_at for _ in range(3)]
    assert found == sorted(found)
    assert max(found) == found[-1] >= 100


def test_records_of_a_key_share_a_partition_and_those_without_take_the_first(path: Path) -> None:
    log = PushLog(path, partitions=4)
    keys: list[bytes | None] = [None if number % 5 == 0 else b"k%d" % (number % 13) for number in range(5_000)]
    appended = log.append(records(*(b"%d" % number for number in range(5_000)), keys=keys))
    partitions = appended.partitions.tolist()
    assert len(set(partitions)) == 4
    assert {partition for partition, key in zip(partitions, keys, strict=True) if key is None} == {0}
    by_key: dict[bytes | None, set[int]] = {}
    for partition, key in zip(partitions, keys, strict=True):
        by_key.setdefault(key, set()).add(partition)
    assert all(len(found) == 1 for found in by_key.values())
    source = PushLogSource(log, pipeline="ticks", incarnation=1)
    table = source.read(drain(source, {})[0])
    for partition, offset, value in zip(
        *(table[name].to_pylist() for name in ("partition", "offset", "value")), strict=True
    ):
        ordinal = int(value)
        assert (partition, offset) == (partitions[ordinal], appended.offsets[ordinal])


def test_partitions_are_planned_evenly_in_time(path: Path) -> None:
    clock = iter(range(1, 10_000))
    log = PushLog(path, partitions=2, clock=lambda: next(clock))
    keys = [b"a", b"b", b"c", b"d", b"e", b"f"]
    for number in range(50):
        log.append(records(b"%d" % number, keys=[keys[number % 6]]))
    source = PushLogSource(log, pipeline="ticks", incarnation=1)
    position: dict[int, int] = {}
    latest = 0
    while ranges := source.plan(position, Bounds(10, 1 << 20)):
        times = source.read(ranges)["ingested_at"].cast(pa.int64()).to_numpy()
        assert times.min() > latest
        latest = int(times.max())
        position = after(position, ranges)
    assert sum(position.values()) == 50


def test_a_record_over_the_limit_is_refused_and_nothing_is_kept(path: Path) -> None:
    log = PushLog(path, record_bytes_max=10)
    with pytest.raises(UsageError, match=r"record 1 .* 11 bytes"):
        log.append(records(b"ok", b"x" * 11))
    with pytest.raises(UsageError):
        log.append(records(b"x" * 6, keys=[b"y" * 5]))
    assert log.partitions() == {}
    assert log.append(records(b"x" * 10)).offsets.tolist() == [0]


def test_large_records_get_rows_of_their_own(path: Path) -> None:
    log = PushLog(path)
    bodies = [b"x" * (limits.PUSH_BLOCK_BYTES_MAX - 10), b"y" * 100, b"z" * (limits.PUSH_BLOCK_BYTES_MAX + 1), b"end"]
    log.append(records(*bodies))
    assert [entry.rows for entry in log.entries(0, 0)] == [1, 1, 1, 1]
    source = PushLogSource(log, pipeline="ticks", incarnation=1)
    assert source.read(source.plan({}, ALL))["value"].to_pylist() == bodies


def test_a_full_log_waits_and_then_says_so(path: Path) -> None:
    log = PushLog(path, log_bytes_max=1_000)
    log.append(records(b"x" * 900))
    with pytest.raises(TransientError, match="full"):
        log.append(records(b"y" * 200), timeout_seconds=0.05)
    other = PushLog(path)
    timer = threading.Timer(0.1, other.trim, (0, 1))
    timer.start()
    assert log.append(records(b"y" * 200), timeout_seconds=10).offsets.tolist() == [1]
    timer.join()
    log.trim(0, 2)
    # One append that is larger than the whole log is let into an empty one, or it could never be sent.
    assert log.append(records(b"z" * 5_000), timeout_seconds=0.05).offsets.tolist() == [2]


def append_many(path: Path, name: int, count: int) -> None:
    log = PushLog(path)
    for number in range(count):
        log.append(records(*(b"%d/%d/%d" % (name, number, index) for index in range(3))))
    log.close()


def test_several_processes_append_while_another_reads_and_trims(path: Path) -> None:
    PushLog(path).close()
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=append_many, args=(path, name, 40)) for name in range(2)]
    for worker in workers:
        worker.start()
    source = open_source(path)
    position: dict[int, int] = {}
    found: list[bytes] = []
    while any(worker.is_alive() for worker in workers) or not source.exhausted(position):
        ranges = source.plan(position, Bounds(50, 1 << 20))
        found += source.read(ranges)["value"].to_pylist()
        position = after(position, ranges)
        source.forget(position)
        source.wait(position, 0.05)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert sorted(found) == sorted(b"%d/%d/%d" % (n, i, k) for n in range(2) for i in range(40) for k in range(3))
    assert source.backlog(position).records == 0


def append_until_killed(path: Path, acknowledged: str) -> None:
    log = PushLog(path)
    with open(acknowledged, "w", buffering=1) as told:
        while True:
            told.write(f"{int(log.append(records(b'x' * 1_000)).offsets[0])}\n")


def test_what_was_acknowledged_survives_a_kill(path: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    worker = multiprocessing.get_context("spawn").Process(target=append_until_killed, args=(path, str(told)))
    worker.start()
    while not told.exists() or told.stat().st_size < 200:
        assert worker.is_alive()
    os.kill(worker.pid, signal.SIGKILL)  # type: ignore[arg-type]
    worker.join()
    acknowledged = [int(line) for line in told.read_text().split()]
    source = open_source(path)
    offsets = source.read(drain(source, {})[0])["offset"].to_pylist()
    assert offsets == list(range(len(offsets)))
    assert set(acknowledged) <= set(offsets)


def test_damaged_rows_stop_or_are_noted(path: Path) -> None:
    log = PushLog(path)
    for name in (b"a", b"b", b"c"):
        log.append(records(name + b"1", name + b"2"))
    body = sqlite3.connect(path).execute("SELECT body FROM block WHERE id = 2").fetchone()[0]
    spoiled = bytes(body).replace(b"b1", b"b9")
    damage(path, "UPDATE block SET body = ? WHERE id = 2", spoiled)
    source = open_source(path)
    with pytest.raises(SourceLost, match=r"0/2\.\.4"):
        source.read(source.plan({}, ALL))
    lenient = open_source(path, on_data_loss="record")
    ranges = lenient.plan({}, ALL)
    assert [(span.start, span.end) for span in ranges] == [(0, 2), (4, 6)]
    assert lenient.read(ranges)["value"].to_pylist() == [b"a1", b"a2", b"c1", b"c2"]
    assert len(lenient.notices()) == 1
    assert lenient.notices() == ()
    assert lenient.exhausted({0: 6})


def test_a_damaged_end_does_not_keep_the_source_busy(path: Path) -> None:
    log = PushLog(path)
    log.append(records(b"a"))
    log.append(records(b"b"))
    damage(path, "UPDATE block SET crc = crc + 1 WHERE id = 1")
    lenient = open_source(path, on_data_loss="record")
    ranges, end = drain(lenient, {})
    assert [(span.start, span.end) for span in ranges] == [(0, 1)]
    assert lenient.exhausted(end)


def test_missing_rows_are_a_loss(path: Path) -> None:
    log = PushLog(path)
    for _ in range(3):
        log.append(records(b"a"))
    source = PushLogSource(log, pipeline="ticks", incarnation=1)
    ranges = source.plan({}, ALL)
    damage(path, "DELETE FROM block WHERE id = 1")
    with pytest.raises(SourceLost, match=r"0/1\.\.2"):
        source.read(ranges)


@pytest.mark.parametrize(("row", "lost"), [(0, r"0/0\.\.1"), (1, r"0/1\.\.2"), (2, r"0/2\.\.3")])
def test_rows_that_are_missing_before_they_are_planned_are_a_loss(path: Path, row: int, lost: str) -> None:
    """Neither passed over in silence nor waited for without an end."""
    log = PushLog(path)
    for value in (b"a", b"b", b"c"):
        log.append(records(value))
    damage(path, "DELETE FROM block WHERE id = ?", row)
    source = open_source(path)
    with pytest.raises(SourceLost, match=f"{lost} are missing"):
        drain(source, {})
    lenient = open_source(path, on_data_loss="record")
    ranges, end = drain(lenient, {})
    assert [offset for span in ranges for offset in range(span.start, span.end)] == [
        offset for offset in range(3) if offset != row
    ]
    assert lenient.exhausted(end)
    assert re.search(f"{lost} are missing", *lenient.notices())


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM partition WHERE partition = 0", "UPDATE partition SET next_offset = 1 WHERE partition = 1"],
)
def test_rows_beyond_their_partition_are_told_at_the_start(path: Path, statement: str) -> None:
    log = PushLog(path, partitions=2)
    log.append(pa.table({"value": [b"a", b"b"] * 8, "key": [b"%d" % key for key in range(16)]}))
    open_source(path).resume({}, {})
    damage(path, statement)
    with pytest.raises(SourceLost, match="holds records"):
        open_source(path).resume({}, {})


def test_a_log_that_was_trimmed_beyond_bronze_is_a_loss(path: Path) -> None:
    log = PushLog(path)
    log.append(records(b"a", b"b", b"c"))
    log.trim(0, 2)
    source = PushLogSource(log, pipeline="ticks", incarnation=1)
    with pytest.raises(SourceLost, match=r"0/0\.\.2"):
        source.resume({0: 0}, {})
    with pytest.raises(SourceLost, match=r"0/0\.\.2"):
        source.plan({}, ALL)
    lenient = PushLogSource(log, pipeline="ticks", incarnation=1, on_data_loss="record")
    lenient.resume({0: 0}, {})
    assert lenient.read(lenient.plan({}, ALL))["value"].to_pylist() == [b"c"]


def test_a_log_older_than_the_lake_is_a_loss(path: Path) -> None:
    log = PushLog(path)
    log.append(records(b"a"))
    with pytest.raises(SourceLost, match="older than the lake"):
        PushLogSource(log, pipeline="ticks", incarnation=1).resume({0: 9}, {})


def test_a_new_log_is_another_source(tmp_path: Path) -> None:
    one, other = open_source(tmp_path / "a.db"), open_source(tmp_path / "b.db")
    assert one.identity != other.identity
    assert one.identity == open_source(tmp_path / "a.db").identity


@pytest.mark.parametrize(
    "body", [b"not a database at all, only text " * 40, b"SQLite format 3\x00" + os.urandom(4_000)]
)
def test_a_file_that_is_no_log_is_refused_by_name(path: Path, body: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(body)
    with pytest.raises((SourceLost, StorageError), match=r"ticks\.db"):
        PushLog(path)


def test_another_program_s_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    damage(path, "CREATE TABLE shopping (item)")
    with pytest.raises(StorageError, match="not a push log"):
        PushLog(path)


def read_everything(path: Path) -> None:
    source = open_source(path)
    source.read(drain(source, {})[0])


def test_a_torn_file_is_told(path: Path) -> None:
    log = PushLog(path)
    for _ in range(50):
        log.append(records(os.urandom(30_000)))
    log.close()
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])
    with pytest.raises(SourceLost, match=r"ticks\.db"):
        read_everything(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "push").write_text("a file")
    with pytest.raises(StorageError, match="push"):
        PushLog(tmp_path / "push" / "ticks.db")


def test_trimming_goes_on_over_many_rows(path: Path) -> None:
    log = PushLog(path)
    count = 3 * limits.PUSH_TRIM_BLOCKS_MAX + 5
    for _ in range(count):
        log.append(records(b"x"))
    log.trim(0, count - 1)
    assert [entry.first_offset for entry in log.entries(0, 0)] == [count - 1]
    assert log.partitions()[0].waiting_bytes == 1


def test_an_append_of_many_groups_keeps_the_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PUSH_COMMIT_BYTES_MAX", 10_000)
    log = PushLog(path)
    bodies = [b"%05d" % number for number in range(5_500)]
    appended = log.append(records(*bodies))
    assert np.array_equal(appended.offsets, np.arange(5_500))
    source = PushLogSource(log, pipeline="ticks", incarnation=1)
    assert source.read(source.plan({}, ALL))["value"].to_pylist() == bodies
