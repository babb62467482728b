"""Compaction and optimize: the same rows in fewer files, for every reader, whenever it stops."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.lakes import open_lake, owned
from penstock.errors import Fenced, LakeCorrupt, StorageError, UsageError
from penstock.lake import compaction, layout, optimizing
from penstock.lake.compaction import chains, compact, plan_groups, plan_whole, rewrite
from penstock.lake.datafile import DataFile, Statistics
from penstock.lake.optimizing import optimize
from penstock.lake.storage import LocalStorage
from penstock.limits import FILE_BYTES_TARGET
from penstock.model.columns import BATCH
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.lake.fence import Writer
    from penstock.lake.table import Table

MIB = 1 << 20
DAY = 86_400_000_000
SPEC = layout.silver_spec(
    "s", [("at", ColumnType("timestamp")), ("id", ColumnType("string")), ("n", ColumnType("int64"))], "at", ("id",)
)


def add_batch(table: Table, writer: Writer, batch: int, rows: int = 20, months: int = 2, seed: int = 0) -> None:
    """A batch with event times somewhat out of order, over some months, the first one null."""
    choice = random.Random(seed * 1000 + batch)
    times = [choice.randrange(months) * 31 * DAY + batch * 1000 + choice.randrange(5000) for _ in range(rows)]
    data = pa.table(
        {
            "at": pa.array([None, *times[1:]], layout.TIME),
            "id": [choice.choice("abcdefg") for _ in range(rows)],
            "n": [choice.randrange(1000) for _ in range(rows)],
            BATCH: pa.repeat(pa.scalar(batch, pa.int64()), rows),
            "_flags": [["f"] if choice.random() < 0.1 else [] for _ in range(rows)],
        }
    )
    table.commit(writer, batch=batch, add=table.write(data))


def content(table: Table) -> list[str]:
    """Every row of a table, as text, sorted."""
    return sorted(str(row) for part in table.read() for row in part.to_pylist())


def is_sorted(table: Table, column: str = "at") -> bool:
    for file in table.files():
        rows = pa.concat_tables(list(table.read(columns=[column], files=[file]))).column(column)
        values = rows.cast(pa.int64()).fill_null(2**62).to_numpy()
        if (np.diff(values) < 0).any():
            return False
    return True


@pytest.fixture
def silver(tmp_path: Path) -> tuple[Writer, Table]:
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    for batch in range(1, 9):
        add_batch(table, writer, batch)
    return writer, table


# -- compaction of a table --------------------------------------------------------------------------------------------


def test_rows_stay_and_files_become_few(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = silver
    before, version, txns = content(table), table.version, dict(table.txns())
    done = compact(table, writer, txns={"p/vacuumed": 5})
    assert done is not None
    assert (done.files_before, done.files_after) == (24, 3)
    assert table.version == version + 1
    assert table.txns() == {**txns, "p/vacuumed": 5}
    assert is_sorted(table)
    again = open_lake(tmp_path).table("silver/s")
    assert content(again) == before
    table.verify(table.files())
    assert sorted(again.txns().items()) == sorted(table.txns().items())
    by_deltalake = DeltaTable(table.storage.uri("silver/s")).to_pyarrow_table().select(table.schema.names)
    by_polars = polars.read_delta(table.storage.uri("silver/s")).select(table.schema.names)
    assert sorted(str(row) for row in by_deltalake.to_pylist()) == before
    assert by_polars.height == len(before)
    assert by_polars["n"].sum() == sum(part["n"].to_numpy().sum() for part in again.read())


def test_statistics_of_a_merged_file_are_those_of_its_rows(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = silver
    compact(table, writer)
    for file in open_lake(tmp_path).table("silver/s").files():
        rows = pa.concat_tables(list(table.read(files=[file])))
        assert file.rows == rows.num_rows
        for name, (low, high) in file.stats.items():
            values = rows.column(name)
            values = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
            present = [value for value in values.to_pylist() if value is not None]
            assert (min(present), max(present)) == (low, high)
        assert file.statistics.nulls["at"] == rows.column("at").null_count
        assert file.stats[BATCH] == (1, 8)


def test_the_log_says_that_no_data_changed(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    compact(table, writer)
    entry = next(iter(table.past.entries()))
    assert len(entry.adds) == 3
    assert len(entry.removes) == 24
    assert not any(action["dataChange"] for action in (*entry.adds, *entry.removes))


def test_older_versions_and_held_files_stay_readable(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    version, held, before = table.version, table.files(), content(table)
    compact(table, writer)
    assert sorted(str(row) for part in table.read(files=held) for row in part.to_pylist()) == before
    assert table.files(version) == held


def test_nothing_is_done_for_too_little(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    version = table.version
    assert compact(table, writer, saved_min=22) is None
    assert compact(table, writer, target_bytes=2) is None  # every file is finished
    assert table.version == version
    assert compact(table, writer, saved_min=21) is not None
    assert compact(table, writer) is None


def test_a_batch_is_found_again_in_merged_files(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    before = sorted(str(row) for part in table.read(batches=(3, 4)) for row in part.to_pylist())
    compact(table, writer)
    assert sorted(str(row) for part in table.read(batches=(3, 4)) for row in part.to_pylist()) == before


def test_a_column_that_was_added_later_is_null_in_old_rows(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = silver
    wider = layout.silver_spec(
        "s",
        [
            ("at", ColumnType("timestamp")),
            ("id", ColumnType("string")),
            ("n", ColumnType("int64")),
            ("later", ColumnType("date")),
        ],
        "at",
    )
    table.evolve(writer, wider)
    add_batch(table, writer, 9)
    before = content(table)
    compact(table, writer)
    assert content(open_lake(tmp_path).table("silver/s")) == before
    assert "later" in table.schema.names


def test_a_damaged_file_stops_a_compaction_and_changes_nothing(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    file, version = table.files()[5], table.version
    data = bytearray(table.storage.read(f"{table.name}/{file.path}"))
    data[100] ^= 1
    table.storage.write(f"{table.name}/{file.path}", bytes(data))
    with pytest.raises(LakeCorrupt, match=file.path[-20:]):
        compact(table, writer)
    assert table.refresh() == version


def test_a_writer_that_was_replaced_compacts_nothing(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    old, table = silver
    owned(open_lake(tmp_path), SPEC)
    before = content(table)
    with pytest.raises(Fenced):
        compact(table, old)
    assert content(open_lake(tmp_path).table("silver/s")) == before


class FailingStorage(LocalStorage):
    """Fails the n-th change from now on, as a full disk or a kill does."""

    left = 1_000_000

    def _before(self, operation: str, path: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")


def test_a_stop_at_any_step_leaves_unreferenced_files_at_worst(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    for batch in range(1, 5):
        add_batch(table, writer, batch)
    before = content(table)
    steps = 0
    while True:
        storage = FailingStorage(tmp_path)
        lake = type(open_lake(tmp_path))(storage)
        broken = lake.table("silver/s")
        assert len(broken.files()) == 12
        storage.left = steps
        try:
            compact(broken, writer)
            break
        except StorageError:
            fresh = open_lake(tmp_path).table("silver/s")
            assert content(fresh) == before
            if len(fresh.files()) < 12:  # committed, but not known to be durable
                assert steps > 10
                break
            steps += 1
    assert steps > 10
    assert content(open_lake(tmp_path).table("silver/s")) == before


def test_every_kind_of_table_can_be_compacted(tmp_path: Path) -> None:
    time = pa.array([5 * DAY], layout.TIME)
    row = {"_source": [1], "_partition": [0], "_timestamp": time, "_ingested_at": time, "window_start": time}
    specs = (
        layout.bronze_spec("p"),
        layout.rejects_spec("p"),
        layout.gold_spec("g", [pa.field("by", pa.string())], [pa.field("m", pa.float64())]),
        layout.ledger_spec("p"),
        layout.manifest_spec("p"),
        layout.contracts_spec("p"),
        layout.reference_spec("r", pa.schema([("id", pa.string())])),
    )
    writer, tables = owned(open_lake(tmp_path), *specs)
    for table in tables:
        names = set(table.schema.names)
        for number in range(6):
            data = {name: value for name, value in row.items() if name in names}
            for name, field in (("_offset", "_offset"), ("_batch", "_batch"), ("_version", "_version")):
                if field in names:
                    data[name] = [6 - number]
            if "sequence" in names:
                one = {field.name: [number if field.type != pa.string() else "x"] for field in table.schema}
                data = one
            if "kind" in names:
                data = {"kind": ["contract"], "version": [number]}
            table.commit(writer, batch=None, add=table.write(pa.table(data)))
        before = content(table)
        assert compact(table, writer) is not None, table.name
        assert len(table.files()) == 1
        assert content(table) == before


# -- levels, without a disk -------------------------------------------------------------------------------------------


def a_file(number: int, size: int, batches: tuple[int, int], partition: str | None = None) -> DataFile:
    stats = Statistics({BATCH: batches}, {BATCH: 0})
    return DataFile(f"{number:09d}", size, size, partition, number, stats)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 64),
    st.integers(1, 3),
    st.integers(10_000, 40 * MIB),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_a_table_keeps_few_files_and_rewrites_each_row_seldom(
    every: int, partitions: int, size: int, month_batches: int, seed: int
) -> None:
    """Time goes on: the newest partitions get files, each for some batches; now and then an old one gets a late row."""
    choice = random.Random(seed)
    live: list[DataFile] = []
    number = written = rewritten = 0
    for batch in range(1, 1200):
        month = batch // (month_batches * 10)
        for offset in range(partitions):
            number += 1
            own = choice.randrange(size // 2, size)
            written += own
            live.append(a_file(number, own, (batch, batch), str(month - offset)))
        if choice.random() < 0.05:
            number += 1
            live.append(a_file(number, 100, (batch, batch), str(choice.randint(-2, month))))
        groups = plan_groups(live, target_bytes=FILE_BYTES_TARGET, cold_batches=every)
        if sum(len(group) - 1 for group in groups) < every - 1:
            continue
        for group in groups:
            total = sum(file.size for file in group)
            assert total <= FILE_BYTES_TARGET
            assert len({file.partition for file in group}) == 1
            rewritten += total
            number += 1
            bounds = (min(f.stats[BATCH][0] for f in group), max(f.stats[BATCH][1] for f in group))
            live = [file for file in live if file not in group]
            live.append(a_file(number, total, bounds, group[0].partition))
    finished = [file for file in live if file.size >= FILE_BYTES_TARGET // 2]
    months = len({file.partition for file in live})
    doublings = 14
    assert len(live) - len(finished) <= (compaction.COLD_FILES_MAX + 1) * months + partitions * doublings + 2 * every
    assert rewritten <= written * doublings


def test_an_older_larger_file_is_left_alone_and_an_equal_one_is_not() -> None:
    sizes = [900, 400, 100, 100, 100]
    files = [a_file(number, size, (number, number)) for number, size in enumerate(sizes)]
    (group,) = plan_groups(files, target_bytes=10_000)
    assert [file.size for file in group] == [100, 100, 100]
    (group,) = plan_groups([*files, a_file(9, 100, (9, 9))], target_bytes=10_000)
    assert [file.size for file in group] == [900, 400, 100, 100, 100, 100][1:]


def test_a_group_ends_at_the_target_and_the_next_begins() -> None:
    files = [a_file(number, 400, (number, number)) for number in range(7)]
    groups = plan_groups(files, target_bytes=1000)
    assert [[file.stats[BATCH][0] for file in group] for group in groups] == [[5, 6], [3, 4], [1, 2]]


def test_large_pieces_are_merged_few_at_a_time() -> None:
    files = [a_file(number, 30 * MIB, (number, number)) for number in range(12)]
    groups = plan_groups(files, target_bytes=1 << 40)
    assert {len(group) for group in groups} == {4}


def test_rows_that_compress_well_are_merged_few_at_a_time() -> None:
    files = [replace(a_file(number, 1_000, (number, number)), rows=200_000) for number in range(10)]
    assert {len(group) for group in plan_groups(files, target_bytes=1 << 40)} == {5}


def test_a_cold_partition_is_merged_whatever_the_sizes() -> None:
    sizes = [800, 400, 200, 90]
    cold = [a_file(number, size, (number, number), "old") for number, size in enumerate(sizes)]
    warm = [a_file(100, 50, (200, 200), "new")]
    assert plan_groups([*cold, *warm], target_bytes=10_000) == []
    (group,) = plan_groups([*cold, *warm], target_bytes=10_000, cold_batches=64)
    assert [file.size for file in group] == sizes
    assert plan_groups([*cold[1:], *warm], target_bytes=10_000, cold_batches=64) == []
    assert plan_groups([*cold, *warm], target_bytes=10_000, cold_batches=500) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=8))
def test_a_chain_is_sorted_as_a_whole(spans: list[tuple[int, int, bool]]) -> None:
    files = [
        DataFile(str(number), 1, 1, None, 0, Statistics({} if unknown else {"at": (low, low + length)}, {"at": 0}))
        for number, (low, length, unknown) in enumerate(spans)
    ]
    found = chains(files, ("at",))
    assert sorted(file.path for chain in found for file in chain) == sorted(file.path for file in files)
    for chain in found:
        for one, following in itertools.pairwise(chain):
            assert one.stats["at"][1] <= following.stats["at"][0]
    known = [file.stats["at"] for file in files if file.stats]
    deepest = max((sum(low <= at < high or low == at == high for low, high in known) for at in range(20)), default=0)
    assert len(found) >= (deepest > 0)


def test_disjoint_files_are_one_chain_and_a_null_key_ends_none() -> None:
    files = [DataFile(str(n), 1, 9, None, 0, Statistics({"at": (n, n + 1)}, {"at": n == 3})) for n in range(5)]
    assert [[file.path for file in chain] for chain in chains(files, ("at",))] == [["0", "1", "2", "4"], ["3"]]


# -- optimize ---------------------------------------------------------------------------------------------------------


def test_optimize_makes_one_file_of_a_partition(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = silver
    rewrite(table, writer, [tuple(table.files())[:2]])
    before = content(table)
    done = optimize(table, writer)
    assert (done.files_before, done.files_after) == (23, 3)
    assert done.bytes_after < done.bytes_before
    assert content(open_lake(tmp_path).table("silver/s")) == before
    assert is_sorted(table)
    version = table.version
    assert optimize(table, writer).files_after == 3
    assert table.version == version


def test_optimize_ends_where_targets_allow_no_more(silver: tuple[Writer, Table]) -> None:
    writer, table = silver
    before = content(table)
    size = max(file.size for file in table.files())
    optimize(table, writer, target_bytes=3 * size)
    assert content(table) == before
    assert plan_whole(table.files(), target_bytes=3 * size) == []


@pytest.mark.parametrize("memory", [1 << 30, 20_000])
def test_zorder_clusters_by_every_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """In memory, and through temporary files."""
    monkeypatch.setattr(optimizing, "MERGE_BYTES_MAX", memory)
    spec = layout.silver_spec(
        "s",
        [("x", ColumnType("int64")), ("y", ColumnType("string")), ("at", ColumnType("timestamp"))],
        "at",
        ("x", "y"),
    )
    writer, (table,) = owned(open_lake(tmp_path), spec)
    choice = np.random.default_rng(7)
    for batch in (1, 2):
        rows = pa.table(
            {
                "x": choice.integers(0, 1000, 4000),
                "y": pa.array([f"{value:04d}" for value in choice.integers(0, 1000, 4000)]),
                "at": pa.array(choice.integers(0, DAY, 4000), layout.TIME),
                BATCH: np.full(4000, batch),
            }
        )
        table.commit(writer, batch=batch, add=table.write(rows))
    before = content(table)
    size = sum(file.size for file in table.files())
    optimize(table, writer, zorder=["x", "y"], target_bytes=size // 64)
    assert content(open_lake(tmp_path).table("silver/s")) == before
    files = table.files()
    assert 50 <= len(files) <= 80
    for column, value in (("x", 300), ("y", "0300")):
        hit = [file for file in files if file.stats[column][0] <= value <= file.stats[column][1]]
        assert len(hit) <= len(files) * 0.4, column


def test_zorder_takes_columns_with_nulls_and_partitions(silver: tuple[Writer, Table], tmp_path: Path) -> None:
    writer, table = silver
    before = content(table)
    done = optimize(table, writer, zorder=["at", "id", "_extra"])
    assert done.files_after == 3
    assert content(open_lake(tmp_path).table("silver/s")) == before


@pytest.mark.parametrize("columns", [["nope"], ["_month"], ["_flags"], ["n", "n"], list("abcdefghi")])
def test_zorder_refuses_columns_without_an_order(silver: tuple[Writer, Table], columns: list[str]) -> None:
    writer, table = silver
    version = table.version
    with pytest.raises(UsageError):
        optimize(table, writer, zorder=columns)
    assert table.refresh() == version


def test_an_empty_table_is_optimized_already(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), SPEC)
    assert optimize(table, writer, zorder=["n"]).files_after == 0
    assert optimize(table, writer).files_after == 0
    assert compact(table, writer) is None
