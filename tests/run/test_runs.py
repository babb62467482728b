"""Whole runs through the facade: what changes between two runs, and what the bounds of memory must not change."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

import penstock
from penstock.errors import (
    DeclarationError,
    LakeCorrupt,
    RuleStopped,
    SourceLost,
    StorageError,
    TransientError,
    UsageError,
)
from penstock.lake.compaction import compact
from penstock.lake.fence import Writer
from penstock.model.columns import nonce_txn, writer_txn
from penstock.run.goldfiles import parted
from penstock.sources.push import PushLogSource
from pipelines import cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIPELINE = """
pipeline: ticks
source:
  files: {path: incoming}
references:
  instruments: {file: instruments.csv, key: id}
silver:
  table: ticks
  key: [id, at]
  event_time: at
  late_after: 10 seconds
  columns:
    id: {type: string, required: true}
    at: {type: timestamp, required: true}
    price: {type: "decimal(12,4)", required: true}
    currency: {lookup: instruments.currency}
  rules:
    positive: price > 0
gold:
  bars:
    window: 1 minute
    by: [id]
    measures: {low: min(price), last_price: last(price), n: count()}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "incoming").mkdir()
    (tmp_path / "penstock.yaml").write_text("lake: lake\n")
    (tmp_path / "pipelines" / "ticks.yaml").write_text(PIPELINE)
    (tmp_path / "instruments.csv").write_text("id,currency\nA,USD\nB,EUR\n")
    return tmp_path


def tick(second: int, price: float, name: str = "A") -> str:
    return f'{{"id": "{name}", "at": "2024-01-01T00:{second // 60:02d}:{second % 60:02d}Z", "price": {price}}}\n'


def drop(folder: Path, name: str, *lines: str) -> None:
    """Put a file into the incoming folder, old enough to be taken at once."""
    path = folder / "incoming" / name
    path.write_text("".join(lines))
    os.utime(path, (1_700_000_000, 1_700_000_000))


def declare(folder: Path, old: str, new: str) -> None:
    path = folder / "pipelines" / "ticks.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def bars(folder: Path) -> list[tuple[Any, ...]]:
    rows = penstock.open(folder).sql("select * from gold.bars order by window_start, id").to_pylist()
    return [
        (str(row["window_start"])[14:16], row["id"], float(row["low"]), float(row["last_price"]), row["n"])
        for row in rows
    ]


def clean(folder: Path) -> bool:
    return cases.violations(folder) == []


def test_rows_after_a_drain_correct_gold(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(30, 4), tick(70, 7))
    penstock.open(folder).run_once()
    assert bars(folder) == [("00", "A", 4, 4, 2), ("01", "A", 7, 7, 1)]
    drop(folder, "2.ndjson", tick(45, 3), tick(130, 9), tick(20, 8, "B"))
    penstock.open(folder).run_once()
    assert bars(folder) == [("00", "A", 3, 3, 3), ("00", "B", 8, 8, 1), ("01", "A", 7, 7, 1), ("02", "A", 9, 9, 1)]
    assert clean(folder)


def test_gold_is_not_rewritten_as_a_whole_for_late_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a minute of twenty instruments, and a late row of the minute but one before."""
    monkeypatch.setattr("penstock.run.gold.parted", functools.partial(parted, run_rows=100))
    lines = []
    for minute in range(30):
        lines += [tick(60 * minute + 50, 5, f"I{number:02d}") for number in range(20)]
        lines.append(tick(max(0, 60 * (minute - 2)) + 10, 3, "I07"))
    drop(folder, "1.ndjson", *lines)
    project = penstock.open(folder)
    project.run(once=True, batch_rows=21)
    corrected = {(minute, 7) for minute in range(28)}
    assert bars(folder) == [
        (f"{minute:02d}", f"I{number:02d}", *((3, 5, 2) if (minute, number) in corrected else (5, 5, 1)))
        for minute in range(30)
        for number in range(20)
    ]
    files = [pq.read_metadata(path).num_rows for path in (folder / "lake" / "gold" / "bars").rglob("*.parquet")]
    assert max(files) <= 100 + 4 * 20
    assert clean(folder)


def test_kept_open_windows_are_closed_by_a_later_drain(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(75, 7))
    penstock.open(folder).run_once(keep_open=True)
    assert bars(folder) == [("00", "A", 5, 5, 1)]
    assert clean(folder)
    penstock.open(folder).run_once()
    assert bars(folder) == [("00", "A", 5, 5, 1), ("01", "A", 7, 7, 1)]
    assert clean(folder)


def test_a_run_without_anything_new_makes_no_batch(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    first = penstock.open(folder).run_once()[0]
    assert first.batches == 2
    assert penstock.open(folder).run_once()[0].batches == 0


def test_a_new_gold_table_is_filled_from_history(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(30, 4), tick(70, 7))
    penstock.open(folder).run_once()
    declare(
        folder,
        "gold:\n",
        "gold:\n  hours:\n    window: 1 hour\n    measures: {n: count()}\n  wide:\n    window: {size: 2 minutes, every: 1 minute}\n"
        "    measures: {ids: count_distinct(id), spread: stddev(price)}\n",
    )
    drop(folder, "2.ndjson", tick(80, 6), tick(4000 % 3600, 1))
    penstock.open(folder).run_once()
    project = penstock.open(folder)
    assert project.sql("select n from gold.hours order by window_start").to_pylist() == [{"n": 5}]
    assert project.sql("select count(*) as n from gold.wide").to_pylist() == [{"n": 5}]
    assert clean(folder)


def test_a_changed_rule_holds_from_the_next_batch_on(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    penstock.open(folder).run_once()
    declare(folder, "positive: price > 0", "positive: price > 10")
    drop(folder, "2.ndjson", tick(1, 5), tick(2, 11))
    penstock.open(folder).run_once()
    project = penstock.open(folder)
    assert project.sql("select count(*) as n from silver.ticks").to_pylist() == [{"n": 2}]
    assert project.sql("select contract from rejects.ticks").to_pylist() == [{"contract": 2}]
    assert clean(folder)


def test_a_column_at_the_end_is_added(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    penstock.open(folder).run_once()
    declare(folder, "  rules:", "    note: string\n  rules:")
    drop(folder, "2.ndjson", tick(1, 5)[:-2] + ', "note": "x"}\n')
    penstock.open(folder).run_once()
    rows = penstock.open(folder).sql("select note from silver.ticks order by _offset").to_pylist()
    assert rows == [{"note": None}, {"note": "x"}]
    assert clean(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key: [id, at]", "key: [id]"),
        ("decimal(12,4)", "decimal(14,4)"),
        ("window: 1 minute", "window: 2 minutes"),
        ("path: incoming", "path: elsewhere"),
        ("    currency: {lookup: instruments.currency}\n", ""),
    ],
)
def test_a_change_of_meaning_is_refused(folder: Path, old: str, new: str) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    penstock.open(folder).run_once()
    before = bars(folder)
    declare(folder, old, new)
    with pytest.raises(DeclarationError):
        penstock.open(folder).run_once()
    assert bars(folder) == before


def test_a_mistaken_path_can_be_corrected(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    declare(folder, "path: incoming", "path: incomming")
    with pytest.raises(SourceLost):
        penstock.open(folder).run_once()
    assert not penstock.open(folder).tables()
    declare(folder, "path: incomming", "path: incoming")
    assert penstock.open(folder).run_once()[0].counts.accepted == 1
    assert clean(folder)


def test_a_changed_reference_is_a_new_version(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5, "C"))
    penstock.open(folder).run_once()
    (folder / "instruments.csv").write_text("id,currency\nA,USD\nC,CHF\n")
    drop(folder, "2.ndjson", tick(1, 5, "C"))
    penstock.open(folder).run_once()
    rows = penstock.open(folder).sql("select currency from silver.ticks order by _offset").to_pylist()
    assert rows == [{"currency": None}, {"currency": "CHF"}]
    assert clean(folder)


def test_a_broken_reference_keeps_the_last_good_version(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    penstock.open(folder).run_once()
    (folder / "instruments.csv").write_text("id,currency\nA,USD\nA,EUR\n")
    drop(folder, "2.ndjson", tick(1, 5))
    summary = penstock.open(folder).run_once()[0]
    assert any("instruments" in report for report in summary.reports)
    assert penstock.open(folder).sql("select distinct currency from silver.ticks").to_pylist() == [{"currency": "USD"}]
    assert clean(folder)


def test_a_run_without_an_end_tells_at_once_what_it_goes_on_with(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    penstock.open(folder).run_once()
    (folder / "instruments.csv").write_text("id,currency\nA,USD\nA,EUR\n")
    drop(folder, "2.ndjson", tick(1, 5))
    stop, told = threading.Event(), []

    def tell(sentence: str) -> None:
        told.append(sentence)
        stop.set()

    [summary] = penstock.open(folder).run(stop=stop, tell=tell)
    assert "version 1 stays in use" in told[0]
    assert told == [f"ticks: {report}" for report in summary.reports]


def test_a_run_that_fails_tells_what_it_would_have_summed_up(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5))
    penstock.open(folder).run_once()
    (folder / "instruments.csv").write_text("id,currency\nA,USD\nA,EUR\n")
    drop(folder, "2.ndjson", tick(1, 5))
    told: list[str] = []
    with pytest.raises(RuntimeError):
        penstock.open(folder).run(once=True, tell=told.append, after_step=crash_after("bronze", 3))
    assert any("version 1 stays in use" in sentence for sentence in told)


def test_a_broken_first_reference_stops_before_anything_is_read(folder: Path) -> None:
    (folder / "instruments.csv").write_text("id,currency\nA,USD\nA,EUR\n")
    drop(folder, "1.ndjson", tick(0, 5))
    with pytest.raises(UsageError):
        penstock.open(folder).run_once()


def test_a_stop_rule_stops_until_the_rule_changes(folder: Path) -> None:
    declare(folder, "positive: price > 0", "positive: {check: price > 0, otherwise: stop}")
    drop(folder, "1.ndjson", tick(0, 5), tick(1, -1))
    for _ in range(2):
        with pytest.raises(RuleStopped, match="positive"):
            penstock.open(folder).run_once()
    assert penstock.open(folder).lake.table("silver/ticks").txn("ticks/batch") is None
    declare(folder, "otherwise: stop", "otherwise: quarantine")
    penstock.open(folder).run_once()
    assert penstock.open(folder).sql("select count(*) as n from rejects.ticks").to_pylist() == [{"n": 1}]
    assert clean(folder)


def crash_after(step: str, batch: int) -> Callable[[str, int], None]:
    def after_step(name: str, number: int) -> None:
        if (name, number) == (step, batch):
            raise RuntimeError("crash")

    return after_step


@pytest.mark.parametrize("is_stopped", [True, False])
def test_what_a_stop_has_left_half_done_is_no_failure(folder: Path, is_stopped: bool) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(1, -1))
    stop, places = threading.Event(), []

    def after_step(name: str, number: int) -> None:
        if name == places[-1]:
            if is_stopped:
                stop.set()
            raise TransientError(f"planted after {name}")

    for place in ("rejects", "silver"):  # in the loop, and where the next start takes the batch up
        places.append(place)
        stop.clear()
        with nullcontext() if is_stopped else pytest.raises(TransientError, match=f"planted after {place}"):
            penstock.open(folder).run(stop=stop, after_step=after_step)
        assert stop.is_set(), "the place was not reached"
    penstock.open(folder).run_once()
    assert clean(folder)


def ledger(folder: Path, column: str) -> list[str]:
    """A time of each batch, as minutes and seconds."""
    rows = penstock.open(folder).sql(f"select {column} from ledger.ticks order by _batch").to_pylist()
    return [str(row[column])[14:19] for row in rows]


def test_a_batch_is_finished_with_the_late_after_of_its_own_contract(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(150, 4))
    with pytest.raises(RuntimeError):
        penstock.open(folder).run(once=True, after_step=crash_after("silver", 1))
    declare(folder, "late_after: 10 seconds", "late_after: 2 minutes")
    drop(folder, "2.ndjson", tick(200, 3))
    penstock.open(folder).run_once(keep_open=True)
    assert ledger(folder, "watermark") == ["02:20", "02:20"]
    assert clean(folder)
    drop(folder, "3.ndjson", tick(300, 3))
    penstock.open(folder).run_once(keep_open=True)
    assert ledger(folder, "watermark") == ["02:20", "02:20", "03:00"]
    assert clean(folder)


def test_a_drain_is_finished_with_the_windows_of_its_own_contract(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(150, 4))
    with pytest.raises(RuntimeError):
        penstock.open(folder).run(once=True, after_step=crash_after("silver", 2))
    declare(folder, "gold:\n", "gold:\n  halves:\n    window: 30 minutes\n    measures: {n: count()}\n")
    penstock.open(folder).run_once(keep_open=True)
    assert ledger(folder, "closed_until") == ["02:20", "03:00"]
    assert penstock.open(folder).sql("select n from gold.halves").num_rows == 0
    assert clean(folder)
    penstock.open(folder).run_once()
    assert ledger(folder, "closed_until") == ["02:20", "03:00", "30:00"]
    assert penstock.open(folder).sql("select n from gold.halves").to_pylist() == [{"n": 2}]
    assert clean(folder)


def test_a_batch_is_finished_with_its_own_columns_and_read_by_new_gold(folder: Path) -> None:
    drop(folder, "1.ndjson", tick(0, 5), tick(1, -1), tick(150, 4))
    with pytest.raises(RuntimeError):
        penstock.open(folder).run(once=True, after_step=crash_after("rejects", 1))
    declare(folder, "instruments.currency}\n", "instruments.currency}\n    size: {type: int64}\n")
    declare(folder, "gold:\n", "gold:\n  sizes:\n    window: 1 minute\n    measures: {n: count(), total: sum(size)}\n")
    penstock.open(folder).run_once()
    rows = penstock.open(folder).sql("select n, total from gold.sizes order by window_start").to_pylist()
    assert rows == [{"n": 1, "total": None}, {"n": 1, "total": None}]
    assert clean(folder)


def test_provisional_rejects_are_replaced_where_upkeep_has_merged_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between rejects and silver, and an upgrade that derives the batch differently."""
    drop(folder, "1.ndjson", tick(0, 5), tick(1, -1))
    drop(folder, "2.ndjson", tick(2, 5), tick(3, -1))
    with pytest.raises(RuntimeError):
        penstock.open(folder).run(once=True, batch_rows=2, after_step=crash_after("rejects", 2))
    lake = penstock.open(folder).lake
    rejects = lake.table("rejects/ticks")
    assert rejects is not None
    owner = Writer("ticks", rejects.txn(writer_txn("ticks")) or 0, rejects.txn(nonce_txn("ticks")) or 0)
    assert compact(rejects, owner) is not None
    monkeypatch.setattr("penstock.run.protocol.same_rows", lambda *_: False)
    penstock.open(folder).run_once()
    rows = penstock.open(folder).sql("select _batch, count(*) as n from rejects.ticks group by 1 order by 1")
    assert rows.to_pylist() == [{"_batch": 1, "n": 1}, {"_batch": 2, "n": 1}]
    assert clean(folder)


def random_ticks(folder: Path, count: int = 400) -> None:
    """Ticks over an hour, in an order that makes most of them late."""
    lines = [tick((at * 1_117) % 3_600, 1 + (at * 7) % 13, "ABC"[at % 3]) for at in range(count)]
    for number in range(4):
        drop(folder, f"{number}.ndjson", *lines[number::4])


@pytest.mark.parametrize(
    ("module", "bound", "value"),
    [
        ("penstock.run.windows", "OPEN_WINDOWS_MAX", 5),
        ("penstock.run.windows", "CLOSED_WINDOWS_CACHED_MAX", 4),
        ("penstock.run.silverwindows", "RECOMPUTE_ROWS_MAX", 10),
        ("penstock.run.opening", "KEY_INDEX_BYTES_MAX", 1),
        ("penstock.run.windows", "MERGE_ROWS_MIN", 1),
    ],
)
def test_bounds_of_memory_change_no_row(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    bound: str,
    value: int,
) -> None:
    random_ticks(folder)
    penstock.open(folder).run_once(batch_rows=60)
    wanted = cases.tables(folder)
    assert clean(folder)
    subprocess.run(["rm", "-r", folder / "lake"], check=True)
    monkeypatch.setattr(f"{module}.{bound}", value)
    penstock.open(folder).run_once(batch_rows=60)
    assert cases.tables(folder) == wanted
    assert clean(folder)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
def test_the_machine_s_time_zone_changes_no_row(folder: Path, zone: str) -> None:
    random_ticks(folder, 50)
    penstock.open(folder).run_once()
    wanted = cases.tables(folder)
    subprocess.run(["rm", "-r", folder / "lake"], check=True)
    code = "import sys, penstock; penstock.open(sys.argv[1]).run_once(batch_rows=20)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env={**os.environ, "TZ": zone})
    assert cases.tables(folder) == wanted


@pytest.mark.integration
def test_sigterm_stops_cleanly_and_the_next_run_goes_on(folder: Path) -> None:
    random_ticks(folder, 40)
    process = subprocess.Popen([sys.executable, "-m", "penstock", "-C", str(folder), "run"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while penstock.open(folder).lake.table("ledger/ticks") is None or not _rows(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert clean(folder)
    drop(folder, "z.ndjson", tick(3599, 2))
    penstock.open(folder).run_once()
    assert penstock.open(folder).sql("select sum(n)::bigint as n from gold.bars").to_pylist() == [{"n": _rows(folder)}]
    assert clean(folder)


def _rows(folder: Path) -> int:
    return penstock.open(folder).sql("select count(*) as n from silver.ticks").to_pylist()[0]["n"]


def test_damage_that_a_correction_comes_upon_is_named(folder: Path) -> None:
    """Silver is read by a query then, which would say something of its own."""
    (folder / "incoming" / "1.ndjson").write_text("".join(tick(second, 1.5 + second) for second in range(0, 600, 20)))
    penstock.open(folder).run(once=True)
    [path] = (folder / "lake" / "silver" / "ticks").glob("*/*.parquet")
    group = pq.read_metadata(path).row_group(0)
    column = next(group.column(at) for at in range(group.num_columns) if group.column(at).path_in_schema == "price")
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    (folder / "incoming" / "2.ndjson").write_text(tick(31, 7.0))
    with pytest.raises(LakeCorrupt, match="silver/ticks"):
        penstock.open(folder).run(once=True)


@pytest.mark.parametrize("step", ["choose_incarnation", "_gold_keepers"])
def test_a_source_is_closed_when_the_opening_fails(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "pipelines" / "ticks.yaml"
    path.write_text(PIPELINE.replace("files: {path: incoming}", "push: {}\n  format: json"))
    closed: list[PushLogSource] = []
    close = PushLogSource.close

    def closing(self: PushLogSource) -> None:
        closed.append(self)
        close(self)

    def fail(*_: object, **__: object) -> None:
        raise StorageError("the disk had a bad moment")

    monkeypatch.setattr(PushLogSource, "close", closing)
    monkeypatch.setattr(f"penstock.run.opening.{step}", fail)
    with pytest.raises(StorageError, match="bad moment"):
        penstock.open(folder).run(once=True)
    assert len(closed) == 1
