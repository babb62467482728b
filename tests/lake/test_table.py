"""A table: created once, recoverable without its declaration, read exactly, and open to new columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.faults import SPEC, FaultyStorage, bronze_rows, column
from lake.lakes import open_lake, owned
from penstock.errors import LakeCorrupt, StorageError, UsageError
from penstock.lake import layout
from penstock.lake.compaction import compact
from penstock.lake.handle import Handle
from penstock.lake.lake import Lake
from penstock.lake.layout import Grain, PartitionRule, TableSpec
from penstock.lake.reading import Condition
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from pathlib import Path

ALL = [
    (f"c{n}", ColumnType.parse(kind))
    for n, kind in enumerate(
        (
            "string",
            "int8",
            "int16",
            "int32",
            "int64",
            "float32",
            "float64",
            "decimal(18,8)",
            "boolean",
            "date",
            "timestamp",
            "binary",
            "json",
        )
    )
]
SPECS = [
    layout.bronze_spec("p"),
    layout.silver_spec("s", [*ALL, ("at", ColumnType("timestamp"))], "at", ["c0", "c4"]),
    layout.rejects_spec("p"),
    layout.gold_spec("g", [pa.field("by", pa.string())], [pa.field("m", pa.decimal128(38, 2))]),
    layout.ledger_spec("p"),
    layout.contracts_spec("p"),
    layout.manifest_spec("p"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_stored_table_tells_its_spec_and_takes_empty_columns(tmp_path: Path, spec: TableSpec) -> None:
    lake = open_lake(tmp_path)
    writer, [table] = owned(lake, spec)
    assert lake.create(spec) is table
    again = open_lake(tmp_path)
    stored = again.table(spec.name)
    assert stored is not None
    assert stored.spec == spec
    assert again.tables() == [spec.name]
    if not all(field.nullable for field in spec.schema):
        return
    empty = pa.table({field.name: pa.nulls(2, field.type) for field in spec.file_schema})
    files = table.write(empty)
    table.commit(writer, batch=1, add=files)
    [rows] = open_lake(tmp_path).table(spec.name).read()  # type: ignore[union-attr]
    assert rows.schema.names == spec.schema.names
    assert rows.schema.types == spec.schema.types
    assert all(rows[name].null_count == 2 for name in rows.column_names)
    delta = DeltaTable(table.storage.uri(spec.name))
    assert (delta.protocol().min_reader_version, delta.protocol().min_writer_version) == (1, 2)
    configuration = delta.metadata().configuration
    assert "delta.setTransactionRetentionDuration" not in configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert delta.to_pyarrow_table().num_rows == 2


def test_a_created_table_is_durable_and_a_failed_creation_is_repeated(tmp_path: Path) -> None:
    storage = FaultyStorage(tmp_path / "lake")
    storage.fail_on = "sync"
    with pytest.raises(StorageError):
        Lake(storage).create(SPEC)
    storage.fail_on = None
    lake = Lake(storage)
    table = lake.create(SPEC)
    assert table.version == 0
    entry = f"{SPEC.name}/_delta_log/{0:020d}.json"
    assert ("sync", entry) in storage.operations


def test_tables_that_are_not_there_or_not_ours_are_refused(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    assert lake.table("silver/nowhere") is None
    with pytest.raises(UsageError, match="not a table's name"):
        lake.table("nowhere")
    DeltaTable.create(str(tmp_path / "silver/foreign"), pa.schema([("a", pa.int64())]))
    foreign = lake.table("silver/foreign")
    assert foreign is not None
    with pytest.raises(UsageError, match="not one that Penstock wrote"):
        _ = foreign.spec


def test_later_columns_are_null_in_older_files_and_stand_at_the_end(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    old = layout.silver_spec("s", [("at", ColumnType("timestamp"))], "at")
    new = layout.silver_spec("s", [("at", ColumnType("timestamp")), *ALL], "at")
    writer, [table] = owned(lake, old)
    table.commit(writer, batch=1, add=table.write(pa.table({"at": pa.array([0], layout.TIME), "_batch": [1]})))
    before = table.version
    assert table.evolve(writer, new)
    assert not table.evolve(writer, new)
    assert table.version == before + 1
    assert table.schema.names == [*old.schema.names, *(name for name, _ in ALL)]
    rows = pa.table(
        {"at": pa.array([1], layout.TIME), "_batch": [2], "c0": ["x"], "c11": pa.array([b"y"], pa.binary())}
    )
    table.commit(writer, batch=2, add=table.write(rows))
    fresh = open_lake(tmp_path).table("silver/s")
    assert fresh is not None
    read = pa.concat_tables(fresh.read()).sort_by("_batch")
    assert read["c0"].to_pylist() == [None, "x"]
    assert read["_month"].to_pylist() == ["1970-01"] * 2
    assert [piece["c4"].to_pylist() for piece in fresh.read(columns=["c4"], batches=(1, 1))] == [[None]]
    assert pa.concat_tables(fresh.read(condition=Condition(("c0",), pc.field("c0") == "x")))["_batch"].to_pylist() == [
        2
    ]
    assert pa.concat_tables(fresh.read(condition=Condition(("c0",), pc.field("c0").is_null())))[
        "_batch"
    ].to_pylist() == [1]
    assert DeltaTable(table.storage.uri("silver/s")).protocol().min_writer_version == 2
    with pytest.raises(UsageError, match="stored as"):
        table.evolve(
            writer, layout.silver_spec("s", [("at", ColumnType("timestamp")), ("c0", ColumnType("int64"))], "at")
        )


NUMBERS = TableSpec(
    "gold/numbers",
    pa.schema(
        [("n", pa.int64()), ("t", pa.string()), ("at", layout.TIME), ("_batch", pa.int64()), ("_month", pa.string())]
    ),
    PartitionRule("_month", "at", Grain.MONTH),
    ("n",),
    ("n", "t", "_batch"),
)
ROW = st.tuples(st.one_of(st.none(), st.integers(-5, 5)), st.sampled_from([None, "a", "b"]), st.integers(0, 3))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=4),
    low=st.integers(0, 5),
    span=st.integers(0, 3),
    bound=st.integers(-6, 6),
)
def test_reads_are_exact_whatever_is_pruned(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int | None, str | None, int]]],
    low: int,
    span: int,
    bound: int,
) -> None:
    lake = open_lake(tmp_path_factory.mktemp("lake"))
    writer, [table] = owned(lake, NUMBERS)
    everything = []
    month = 31 * 86_400_000_000
    for number, rows in enumerate(batches, 1):
        data = pa.table(
            {
                "n": pa.array([n for n, _, _ in rows], pa.int64()),
                "t": pa.array([t for _, t, _ in rows], pa.string()),
                "at": pa.array([m * month for _, _, m in rows], layout.TIME),
                "_batch": pa.array([number] * len(rows), pa.int64()),
            }
        )
        everything += [(number, *row) for row in rows]
        table.commit(writer, batch=number, add=table.write(data))
    key = ["_batch", "n", "t", "_month"]

    def found(**options: object) -> list[str]:
        pieces = table.read(columns=key, **options)  # type: ignore[arg-type]
        return sorted(repr(tuple(row.values())) for piece in pieces for row in piece.to_pylist())

    def wanted(kept: object) -> list[str]:
        return sorted(repr((b, n, t, layout.month_text(_month(m)))) for b, n, t, m in everything if kept(b, n, t, m))  # type: ignore[operator]

    for _ in range(2):  # a file for each batch, then one for many
        assert found() == wanted(lambda b, n, t, m: True)
        assert found(batches=(low, low + span)) == wanted(lambda b, n, t, m: low <= b <= low + span)
        assert found(condition=Condition(("n",), pc.field("n") > bound)) == wanted(
            lambda b, n, t, m: n is not None and n > bound
        )
        assert found(condition=Condition(("n",), pc.field("n").is_null())) == wanted(lambda b, n, t, m: n is None)
        both = (pc.field("t") == "a") & (pc.field("_month") == "1970-02")
        assert found(condition=Condition(("t", "_month"), both), batches=(2, 9)) == wanted(
            lambda b, n, t, m: b >= 2 and t == "a" and m == 1
        )
        compact(table, writer)


def _month(m: int) -> int:
    return (31 * m) // 30 if m < 2 else {2: 2, 3: 3}[m]


def test_files_are_known_without_asking_again_and_always_the_same(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    writer, [table] = owned(lake, SPEC)
    for batch in range(1, 8):
        table.commit(writer, batch=batch, add=table.write(bronze_rows(batch, day=batch)))
        assert table.files() == open_lake(tmp_path).table(SPEC.name).files()  # type: ignore[union-attr]
    at_seven, version = table.files(), table.version
    merged = pa.concat_tables(table.read(files=at_seven[:3]))
    table.commit(writer, batch=None, add=table.write(merged), remove=at_seven[:3], data_change=False)
    fresh = open_lake(tmp_path).table(SPEC.name)
    assert fresh is not None
    assert table.files() == fresh.files()
    assert [file.stats for file in table.files()] == [file.stats for file in fresh.files()]
    assert table.files(version) == at_seven
    assert table.paths(at_seven[:1]) == [str(tmp_path / SPEC.name / at_seven[0].path)]
    assert column(list(table.read()), "_offset") == list(range(21))
    table.verify(at_seven)
    with pytest.raises(UsageError, match="no version 99"):
        table.files(99)
    last = next(iter(table.past.entries(1)))
    assert len(last.removes) == 3
    assert all(add["dataChange"] is False for add in last.adds)
    assert abs(last.timestamp - max(file.modified for file in table.files()) * 1000) < 60_000_000


def test_versions_of_batches_are_found_again(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    writer, [table] = owned(lake, SPEC)
    versions = {batch: table.commit(writer, batch=batch).version for batch in (1, 2, 5)}
    table.commit(writer, batch=None)
    assert [table.past.version_at("p", batch) for batch in (0, 1, 2, 3, 4, 5, 6)] == [
        0,
        *(versions[at] for at in (1, 2, 2, 2, 5, 5)),
    ]
    assert len(list(table.past.entries())) == table.version + 1
    table.checkpoint()
    for version in range(versions[2] + 1):
        (tmp_path / SPEC.name / f"_delta_log/{version:020d}.json").unlink()
    assert table.past.version_at("p", 5) == versions[5]


def test_positions_are_those_delta_rs_knows(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    writer, [table] = owned(lake, SPEC)
    for batch in range(1, 5):
        table.commit(writer, batch=batch, txns={"p/1/0": batch * 10, f"p/1/{batch}": 1})
        if batch == 2:
            table.checkpoint()
    fresh = open_lake(tmp_path).table(SPEC.name)
    assert fresh is not None
    assert fresh.txns() == table.txns()
    assert table.txn("p/1/0") == 40
    assert table.txn("nothing") is None
    delta = DeltaTable(table.storage.uri(table.name))
    assert {name: delta.transaction_version(name) for name in table.txns()} == table.txns()
    entry = json.loads((tmp_path / SPEC.name / f"_delta_log/{table.version:020d}.json").read_text().splitlines()[-1])
    assert entry["txn"]["lastUpdated"] > 1_600_000_000_000


def test_a_file_with_columns_of_another_table_is_corrupt(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    writer, [table, other] = owned(lake, SPEC, layout.rejects_spec("p"))
    table.commit(writer, batch=1, add=(files := table.write(bronze_rows(1))))
    other.storage.make_folder(f"{other.name}/_date=1970-01-02")
    source, target = tmp_path / table.name / files[0].path, tmp_path / other.name / files[0].path
    target.write_bytes(source.read_bytes())
    with pytest.raises(LakeCorrupt, match="columns the table has not"):
        list(other.read(files=files))


def test_a_handle_tells_of_the_version_it_knows_and_of_no_later_one(tmp_path: Path) -> None:
    """A rival's entry, which nobody has made durable yet, must not get into a checkpoint."""
    writer, [table] = owned(open_lake(tmp_path), SPEC)
    handle = Handle.open(table.storage, SPEC.name)
    for batch in (1, 2):
        table.commit(writer, batch=batch, add=table.write(bronze_rows(batch)))
    handle.advance(table.version - 1)
    assert len(pa.table(handle.adds())) == 1
    assert handle.version == table.version - 1
    handle.refresh()
    assert len(pa.table(handle.adds())) == 2
