"""Reference files: exact values, errors that name their place, keys that are unique."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import limits
from penstock.errors import UsageError
from penstock.lake import referencefile
from penstock.lake.exactcast import BadValue, cast_arrow, cast_values
from penstock.lake.referencefile import change_signature, load_reference_file
from penstock.model.pipeline import Reference
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, file: str, content: bytes | str, key: tuple[str, ...] = ("id",), **types: str) -> pa.Table:
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    columns = tuple((name, ColumnType.parse(text)) for name, text in types.items())
    return load_reference_file(Reference("instruments", file, key, columns), folder)


def test_csv_is_text_until_declared(tmp_path: Path) -> None:
    text = '\ufeffid,name,lot,note\r\n001,"a ""b"", c",12.0,\r\n\r\n2,"two\r\nlines",1e3,""\r\n'
    table = load(tmp_path, "r.csv", text, lot="int32")
    assert table.to_pylist() == [
        {"id": "001", "name": 'a "b", c', "lot": 12, "note": None},
        {"id": "2", "name": "two\r\nlines", "lot": 1000, "note": None},
    ]
    assert table.schema.field("lot").type == pa.int32()


def test_a_bad_csv_value_names_file_line_column_and_value(tmp_path: Path) -> None:
    text = 'id,note,lot\n1,"two\nlines",5\n\n2,x,12.7\n'
    with pytest.raises(UsageError, match=r"r\.csv, line 5, column lot: '12\.7' does not fit int32"):
        load(tmp_path, "r.csv", text, lot="int32")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("id,id\n1,2\n", "'id' occurs twice"),
        ("id,ID\n1,2\n", "occurs twice"),
        ("id,unit price\n1,2\n", "'unit price'"),
        ("id,\n1,2\n", "column ''"),
        ("other\n1\n", "has no column id"),
        ("id,a\n1\n", "broken"),
        ("id,a\n,2\n", "row 1: the key column id is NULL"),
        ("id,a\n1,1\n2,1\n1,2\n", "1 keys occur more than once, e.g. 1"),
        (b"id,a\n1,\xff\n", "utf-8"),
    ],
)
def test_a_broken_csv_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path, "r.csv", text)


def test_ndjson_is_what_its_values_are(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "x": 1, "s": "2020-01-01", "b": true, "o": {"a": [1.50, null]}, "d": 12345678901234.12345678}',
        "",
        '{"id": 9007199254740993, "x": 2.5, "s": null, "d": 1, "late": "y", "late": "z"}',
    ]
    table = load(tmp_path, "r.ndjson", "\n".join(lines), d="decimal(30,8)")
    assert table.to_pylist() == [
        {
            "id": 1,
            "x": 1.0,
            "s": "2020-01-01",
            "b": True,
            "o": '{"a":[1.50,null]}',
            "d": Decimal("12345678901234.12345678"),
            "late": None,
        },
        {"id": 9007199254740993, "x": 2.5, "s": None, "b": None, "o": None, "d": Decimal(1), "late": "y"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 1}\n{"id": }', "line 2"),
        ('{"id": 1}\n[1]', "line 2: '\\[1\\]' is not an object"),
        ('{"id": 1, "a": NaN}', "line 1: NaN"),
        ('{"id": 1, "a": 1}\n\n{"id": 2, "a": "x"}', r"column a holds int64 \(line 1\) and string \(line 3\)"),
        ('{"id": 1e0}\n{"id": 1}', "1 keys"),
        ("\n", "empty"),
    ],
)
def test_broken_ndjson_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path, "r.ndjson", text)


def test_compressed_files_are_read(tmp_path: Path) -> None:
    assert load(tmp_path, "r.csv.gz", gzip.compress(b"id\n1\n")).to_pylist() == [{"id": "1"}]
    zst = pa.Codec("zstd").compress(b'{"id": 1}', asbytes=True)
    assert load(tmp_path, "r.ndjson.zst", zst).to_pylist() == [{"id": 1}]
    with pytest.raises(UsageError):
        load(tmp_path, "s.csv.gz", b"not gzip")


def test_parquet_and_delta_keep_values_exactly(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "id": pa.array([1, 2], pa.uint32()),
            "at": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("ms")),
            "name": pa.array(["a", "b"]).dictionary_encode(),
            "nested": [{"a": 1}, None],
            "lot": [1.0, 2.0],
        }
    )
    expected = [
        {"id": 1, "at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "name": "a", "nested": '{"a":1}', "lot": 1},
        {"id": 2, "at": None, "name": "b", "nested": None, "lot": 2},
    ]
    pq.write_table(rows, tmp_path / "r.parquet")
    reference = Reference("r", "r.parquet", ("id",), (("lot", ColumnType("int8")),))
    assert load_reference_file(reference, tmp_path).to_pylist() == expected
    plain = rows.set_column(0, "id", rows["id"].cast(pa.int64())).set_column(2, "name", rows["name"].cast(pa.string()))
    write_deltalake(str(tmp_path / "delta"), plain)
    reference = Reference("r", "delta", ("id",), (("lot", ColumnType("int8")),))
    before = change_signature(reference, tmp_path)
    assert load_reference_file(reference, tmp_path).to_pylist() == expected
    assert before == change_signature(reference, tmp_path)
    write_deltalake(str(tmp_path / "delta"), plain, mode="overwrite")
    assert before != change_signature(reference, tmp_path)


def test_a_bad_parquet_value_names_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], "lot": [1.0, None, 2.5]}), tmp_path / "r.parquet")
    with pytest.raises(UsageError, match=r"r\.parquet, row 3, column lot: Decimal\('2\.5'\) does not fit int64"):
        load_reference_file(Reference("r", "r.parquet", ("id",), (("lot", ColumnType("int64")),)), tmp_path)
    times = pa.array([0, 1000, 1001], pa.timestamp("ns"))
    pq.write_table(pa.table({"id": [1, 2, 3], "at": times}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"row 3, column at"):
        load_reference_file(Reference("r", "t.parquet", ("id",)), tmp_path)


def test_files_that_cannot_be_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cannot read gone\.csv"):
        load_reference_file(Reference("r", "gone.csv", ("id",)), tmp_path)
    with pytest.raises(UsageError, match="not a reference file by its name"):
        load_reference_file(Reference("r", "x.xlsx", ("id",)), tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="not a Delta table"):
        load_reference_file(Reference("r", "folder", ("id",)), tmp_path)
    with pytest.raises(UsageError, match="broken"):
        load(tmp_path, "r.parquet", b"PAR1 no")
    monkeypatch.setattr(referencefile, "REFERENCE_BYTES_MAX", 5)
    assert limits.REFERENCE_BYTES_MAX > 5
    with pytest.raises(UsageError, match="more than"):
        load(tmp_path, "r.csv", "id\n12345\n")


def test_a_changed_file_has_another_signature(tmp_path: Path) -> None:
    reference = Reference("r", "r.csv", ("id",))
    assert change_signature(reference, tmp_path) == ()
    load(tmp_path, "r.csv", "id\n1\n")
    first = change_signature(reference, tmp_path)
    (tmp_path / "new").write_text("id\n2\n")
    (tmp_path / "new").rename(tmp_path / "r.csv")
    assert first != change_signature(reference, tmp_path) != ()


ACCEPTED = [
    ("int8", "-128", -128),
    ("int64", "1e3", 1000),
    ("int64", Decimal("12.0"), 12),
    ("float64", "0.1", 0.1),
    ("float64", 3, 3.0),
    ("decimal(5,2)", "1.50", Decimal("1.50")),
    ("decimal(5,2)", Decimal("999.990"), Decimal("999.99")),
    ("boolean", "TRUE", True),
    ("date", "2024-02-29", dt.date(2024, 2, 29)),
    ("timestamp", "2024-01-01T00:00:00.123456000+02:00", dt.datetime(2023, 12, 31, 22, 0, 0, 123456, dt.UTC)),
    ("timestamp", "2024-01-01 10:00", dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)),
    ("timestamp", "2024-01-01", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    ("binary", "AP8=", b"\x00\xff"),
    ("string", 7, "7"),
    ("json", '{"a": 1}', '{"a": 1}'),
]
REFUSED = [
    ("int8", "128"),
    ("int64", "12.7"),
    ("int64", True),
    ("int64", "0x10"),
    ("int64", "1_0"),
    ("int64", " 1"),
    ("int64", "1e9999"),
    ("float64", "1e400"),
    ("float32", "1e39"),
    ("float64", "nan"),
    ("decimal(5,2)", "1.005"),
    ("decimal(5,2)", "1000"),
    ("decimal(38,0)", "1e99"),
    ("boolean", 1),
    ("date", "20240101"),
    ("date", "2024-02-30"),
    ("timestamp", "2024-01-01T00:00:00.1234567"),
    ("timestamp", 5),
    ("binary", "A"),
    ("string", Decimal("1.50")),
    ("string", True),
    ("json", "{a: 1}"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), ACCEPTED)
def test_values_that_fit(kind: str, value: object, expected: object) -> None:
    assert cast_values([None, value], ColumnType.parse(kind)).to_pylist() == [None, expected]


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_values_that_do_not_fit(kind: str, value: object) -> None:
    with pytest.raises(BadValue) as caught:
        cast_values([None, value], ColumnType.parse(kind))
    assert caught.value.row == 1


@settings(max_examples=200)
@given(st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(["int32", "int64", "decimal(20,6)"]))
def test_a_number_is_kept_exactly_or_refused(value: Decimal, kind: str) -> None:
    try:
        cast = cast_values([value], ColumnType.parse(kind))[0].as_py()
    except BadValue:
        return
    assert Decimal(cast) == value


@settings(max_examples=200)
@given(st.floats())
def test_an_arrow_float_is_kept_exactly_or_refused(value: float) -> None:
    column = pa.chunked_array([[value]], pa.float64())
    try:
        cast = cast_arrow(column, ColumnType("int64"))[0].as_py()
    except BadValue:
        assert not math.isfinite(value) or value != int(value) or not -(2**63) <= value < 2**63
    else:
        assert cast == value


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_nested_json_comes_back(value: object) -> None:
    text = cast_values([{"v": value}], ColumnType("json"))[0].as_py()
    assert json.loads(text) == {"v": value}
