"""Data files: every row in the right one, in order, with statistics that never lie, and damage always noticed."""

from __future__ import annotations

import datetime
import math
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.faults import FaultyStorage, bronze_rows
from lake.lakes import open_lake, owned
from penstock.errors import LakeCorrupt, StorageError
from penstock.lake import layout
from penstock.lake.datafile import DataFile
from penstock.lake.parquet import delta_statistics, is_sorted, shortened_maximum, statistics_of, write_files
from penstock.lake.reading import read_files
from penstock.lake.storage import LocalStorage
from penstock.limits import STATISTICS_STRING_CHARACTERS_MAX
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from pathlib import Path

SPEC = layout.silver_spec(
    "s",
    [
        ("at", ColumnType("timestamp")),
        ("name", ColumnType("string")),
        ("price", ColumnType.parse("decimal(38,10)")),
        ("day", ColumnType("date")),
        ("level", ColumnType("float64")),
        ("raw", ColumnType("binary")),
    ],
    "at",
    ["name", "price", "day", "level"],
)


def silver(rows: list[dict[str, Any]]) -> pa.Table:
    fields = [SPEC.schema.field(name) for name in ("at", "name", "price", "day", "level", "raw", "_batch", "_offset")]
    columns = [
        pa.array([row.get(field.name) for row in rows], pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array([row.get(field.name) for row in rows], field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


YEAR = 365 * 86_400_000_000
TIMES = st.one_of(
    st.none(),
    st.integers(-2 * YEAR, 2 * YEAR),
    st.integers(-4000 * YEAR, 12_000 * YEAR),
    st.just(1_700_000_000_000_000),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(TIMES, max_size=30), presorted=st.booleans())
def test_rows_go_to_their_month_in_order_and_none_is_lost(
    tmp_path: Path, times: list[int | None], presorted: bool
) -> None:
    if presorted:
        times = sorted(time for time in times if time is not None)
    storage = LocalStorage(tmp_path / "lake")
    storage.make_folder(SPEC.name)
    rows = [{"at": time, "_offset": number, "_batch": 7} for number, time in enumerate(times)]
    files = write_files(storage, SPEC.name, SPEC, silver(rows))
    found: list[tuple[int, int | None]] = []
    for file in files:
        [stored] = read_files(storage, SPEC, [file])
        offsets, ats = stored["_offset"].to_pylist(), stored["at"].cast(pa.int64()).to_pylist()
        found += zip(offsets, ats, strict=True)
        months = {
            None if at is None else int(np.datetime64(at, "us").astype("datetime64[M]").astype(int)) for at in ats
        }
        assert len(months) == 1
        [month] = months
        assert file.partition == (None if month is None else layout.month_text(month))
        assert set(stored["_month"].to_pylist()) == {file.partition}
        known = [at for at in ats if at is not None]
        assert known == sorted(known)
        assert file.rows == len(ats)
        assert file.stats["_batch"] == (7, 7)
        if "at" in file.stats:
            assert file.stats["at"] == (min(known), max(known))
    assert sorted(found) == [(number, time) for number, time in enumerate(times)]
    assert len({file.partition for file in files}) == len(files)


TEXT = st.text(st.sampled_from("ab\u00ff\uffff\U0010ffff"), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from(["", "x" * (STATISTICS_STRING_CHARACTERS_MAX - 2)]),
    texts=st.lists(TEXT, min_size=1, max_size=5),
)
def test_shortened_bounds_of_texts_hold_all_of_them(head: str, texts: list[str]) -> None:
    values = [head + text for text in texts]
    low, high = statistics_of(SPEC, silver([{"name": value} for value in values])).bounds["name"]
    for value in values:
        assert low.encode() <= value.encode() <= high.encode()
        assert shortened_maximum(value).encode() >= value.encode()


def test_statistics_are_exact_where_the_log_can_say_them_and_absent_where_not(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    writer, [table] = owned(lake, SPEC)
    price = Decimal("1234567890123456789012345678.0123456789")
    day = datetime.date(2024, 2, 29)
    at = -1_234_567_890_123_457
    rows = [
        {"at": at, "name": "ä", "price": price, "day": day, "level": 0.1, "raw": b"x", "_batch": 1},
        {"at": at, "name": None, "price": -price, "day": None, "level": -3.5, "raw": None, "_batch": 1},
    ]
    [file] = table.write(silver(rows))
    table.commit(writer, batch=1, add=[file])
    adds = pa.table(DeltaTable(table.storage.uri(table.name)).get_add_actions()).to_pylist()
    assert adds[0]["min"]["price"] == -price
    assert adds[0]["max"]["price"] == price
    assert adds[0]["max"]["day"] == day
    assert adds[0]["max"]["level"] == 0.1
    stored = adds[0]["max"]["at"]
    assert (stored - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1) == at
    assert adds[0]["null_count"]["name"] == 1
    assert adds[0]["num_records"] == 2
    [known] = open_lake(tmp_path).table(SPEC.name).files()  # type: ignore[union-attr]
    assert known == file
    assert known.stats == file.stats
    assert known.statistics.nulls == file.statistics.nulls
    assert file.stats["at"] == (at, at)


@pytest.mark.parametrize(
    ("column", "value"),
    [("level", math.nan), ("level", math.inf), ("at", 9000 * YEAR), ("at", -3000 * YEAR), ("name", None)],
)
def test_what_the_log_cannot_say_has_no_bounds(column: str, value: object) -> None:
    found = statistics_of(SPEC, silver([{column: value, "_batch": 1}, {column: value, "_batch": 2}]))
    assert column not in found.bounds
    assert found.bounds["_batch"] == (1, 2)


def test_a_file_is_what_any_reader_expects(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    spec = layout.bronze_spec("p")
    [file] = write_files(storage, spec.name, spec, bronze_rows(1, rows=1000))
    with pq.ParquetFile(storage.uri(f"{spec.name}/{file.path}")) as parquet:
        assert "_date" not in parquet.schema_arrow.names
        chunks = {
            parquet.metadata.row_group(0).column(i).path_in_schema: parquet.metadata.row_group(0).column(i)
            for i in range(parquet.metadata.num_columns)
        }
        assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}
        assert "RLE_DICTIONARY" not in chunks["value"].encodings
        assert chunks["_batch"].statistics.max == 1
        assert chunks["_offset"].statistics.max == 999
        assert "isAdjustedToUTC=true, timeUnit=microseconds" in str(parquet.schema)
        assert "Int96" not in str(parquet.schema)


def test_large_values_make_small_row_groups(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    spec = layout.bronze_spec("p")
    [file] = write_files(storage, spec.name, spec, bronze_rows(1, rows=20, value=b"x" * (8 << 20)))
    with pq.ParquetFile(storage.uri(f"{spec.name}/{file.path}")) as parquet:
        assert parquet.num_row_groups >= 2


@pytest.mark.parametrize("operation", ["make_folder", "create", "sync", "rename", "sync_folder"])
def test_a_write_that_fails_leaves_no_file(tmp_path: Path, operation: str) -> None:
    storage = FaultyStorage(tmp_path)
    storage.make_folder(SPEC.name)
    storage.fail_on = operation
    with pytest.raises(StorageError, match="No space left"):
        write_files(storage, SPEC.name, SPEC, silver([{"at": 0}, {"at": YEAR}]))
    assert [file.path for file in storage.files("")] == []


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    rows = [
        {"at": n * 1000, "name": f"name {n % 7}", "level": n / 7, "raw": str(n).encode(), "_batch": 1}
        for n in range(500)
    ]
    files = write_files(storage, SPEC.name, SPEC, silver(rows))
    path = tmp_path / SPEC.name / files[0].path
    whole = path.read_bytes()
    expected = pa.concat_tables(read_files(storage, SPEC, files))
    draw = random.Random(5)
    noticed = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        problem = ""
        try:
            found = pa.concat_tables(read_files(storage, SPEC, files))
        except LakeCorrupt as error:
            problem = error.message
            noticed += 1
        if problem:
            assert SPEC.name in problem
            assert files[0].path in problem
        else:
            assert found.equals(expected)
    assert noticed > 250


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_cut_or_missing_file_is_named(tmp_path: Path, keep: int) -> None:
    storage = LocalStorage(tmp_path)
    files = write_files(storage, SPEC.name, SPEC, silver([{"at": 5, "_batch": 1}]))
    path = tmp_path / SPEC.name / files[0].path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LakeCorrupt, match=rf"{SPEC.name}: .*{path.name} has \d+ bytes, the log says"):
        list(read_files(storage, SPEC, files))
    path.unlink()
    with pytest.raises(LakeCorrupt, match="is missing"):
        list(read_files(storage, SPEC, files))


def test_rows_in_order_are_seen_without_a_sort() -> None:
    def table(*pairs: tuple[int, int]) -> pa.Table:
        return pa.table({"a": [a for a, _ in pairs], "b": [b for _, b in pairs]})

    assert is_sorted(table((1, 2), (1, 3), (2, 0)), ["a", "b"])
    assert is_sorted(table((1, 2), (2, 1)), ["a", "b"])
    assert not is_sorted(table((1, 3), (1, 2), (2, 0)), ["a", "b"])
    assert not is_sorted(table((2, 0), (1, 0)), ["a"])
    assert is_sorted(table(), ["a"])


def test_statistics_as_text_are_valid_json_of_the_protocol() -> None:
    rows = silver([{"at": 1_700_000_000_000_001, "name": 'quote " and \\', "_batch": 3}])
    file = DataFile("x", 1, 1, None, 0, statistics_of(SPEC, rows))
    text = delta_statistics(file, SPEC.schema)
    assert '"at":"2023-11-14T22:13:20.000001Z"' in text
    assert '"numRecords":1' in text
