"""Casts against the oracle: a value is taken exactly or not at all."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from plan import oracle
from plan.refining import Refinery, column, pipeline, records

COLUMNS = (
    column("s", "string"),
    column("i8", "int8"),
    column("i16", "int16"),
    column("i32", "int32"),
    column("i64", "int64"),
    column("d", "decimal(10,2)"),
    column("wide", "decimal(38,28)"),
    column("whole", "decimal(38,0)"),
    column("tiny", "decimal(4,4)"),
    column("f", "float64"),
    column("f32", "float32"),
    column("b", "boolean"),
    column("day", "date"),
    column("t", "timestamp"),
    column("sec", "timestamp", unit="s"),
    column("ms", "timestamp", unit="ms"),
    column("us", "timestamp", unit="us"),
    column("ns", "timestamp", unit="ns"),
    column("berlin", "timestamp", timezone="Europe/Berlin"),
    column("later", "timestamp", timezone="America/New_York", fold="later"),
    column("bin", "binary"),
    column("j", "json"),
)

digits = st.text("0123456789", min_size=0, max_size=24)
number_texts = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.integers(-300, 300).map(str),
    st.sampled_from([2**bits + step for bits in (7, 15, 31, 63, 64) for step in (-1, 0)]).map(str),
    st.sampled_from([-(2**bits) - step for bits in (7, 15, 31, 63, 64) for step in (0, 1)]).map(str),
    st.builds(
        lambda sign, whole, fraction, exponent: f"{sign}{whole}{fraction}{exponent}",
        st.sampled_from(["", "-"]),
        st.one_of(st.just("0"), st.integers(1, 10**20).map(str)),
        st.one_of(st.just(""), digits.map(lambda text: f".{text}0")),
        st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from(["e", "E", "e+", "e-"]), st.integers(0, 45))),
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr).filter(lambda text: "inf" not in text),
    st.sampled_from(["-0", "0.0", "-0.0", "9007199254740993.0", "1e400", "1e-400", "3.4028235e38", "3.4028236e38"]),
    st.integers(0, 2 * 10**9).map(lambda seconds: f"{seconds}.061845"),
)
odd_texts = st.sampled_from(
    ["", " 12", "12 ", "1_000", "0x10", "+7", "+.5", "5.", ".", "-", "1e", "e5", "nan", "NaN", "inf", "Infinity",
     "-inf", "true", "false", "TRUE", "null", "007", "1,5", "１２", "YWJj", "YWJ=", "YWI=", "YQ==", "Y Q=", "epoch"]
)  # fmt: skip
time_texts = st.one_of(
    st.builds(
        "{}{}{}{}{}".format,
        st.one_of(
            st.dates().map(str), st.sampled_from(["2026-02-30", "0000-01-01", "2026-1-2", "10000-01-01", "2026-03-29"])
        ),
        st.sampled_from(["T", " ", "t", "  ", ""]),
        st.sampled_from(["00:00:00", "23:59:59", "24:00:00", "12:34", "23:60:00", "10:20:60", "01:02:03"]),
        st.sampled_from(["", ".1", ".123456", ".1234560", ".1234567", ".000000000", "."]),
        st.sampled_from(["", "Z", "z", "+02:00", "-00:30", "+0530", "-08", "+23:59", "+24:00", " Z", "UTC"]),
    ),
    st.datetimes().map(str),
    st.builds(
        "{} 0{}:{:02}:00".format,
        st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01"]),
        st.integers(0, 4),
        st.integers(0, 59),
    ),
    st.dates().map(str),
)
strings = st.one_of(st.text(max_size=20), number_texts, odd_texts, time_texts)
scalars = st.one_of(
    number_texts,
    strings.map(lambda text: json.dumps(text, ensure_ascii=False)),
    strings.map(json.dumps),
    st.sampled_from(["true", "false", "null", "[]", "{}"]),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
    st.lists(scalars, max_size=3).map(
        lambda items: '{"a" : ' + (items or ["1"])[0] + ', "b":[' + ",".join(items) + "]}"
    ),
)
names = st.sampled_from([item.name for item in COLUMNS])
extras = st.dictionaries(st.sampled_from(["x", "y", "é", 'q"', "S", ""]), values, max_size=2)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """An object with some columns' fields, of any kind, written in one of several styles."""
    members = draw(st.dictionaries(names, values, max_size=6)) | draw(extras)
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]))
    inside = comma.join(f"{json.dumps(name)}{colon}{value}" for name, value in members.items())
    return draw(st.sampled_from(["{%s}", " {%s}\r\n"])).replace("%s", inside).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def refinery() -> Refinery:
    return Refinery(pipeline(*COLUMNS))


def check(row: dict[str, Any], value: bytes) -> None:
    try:
        members = oracle.parse(value)
    except oracle.Malformed:
        assert row["_failed"] == ["malformed"], value
        return
    expected, failed = {}, []
    for item in COLUMNS:
        try:
            expected[item.name] = oracle.cast(members.get(item.name), item)
        except oracle.Misfit:
            expected[item.name] = None
            failed.append(f"type:{item.name}")
    undeclared = {name: member for name, member in members.items() if name not in expected}
    assert row["_failed"] == failed, (value, row["_detail"])
    assert row["_status"] == (1 if failed else 0)
    for name, wanted in expected.items():
        got = row[name]
        if isinstance(wanted, float):
            assert oracle.same_bits(got, wanted), (name, value)
        else:
            assert got == wanted, (name, value)
    assert row["_extra"] == (oracle.write(undeclared) if undeclared else None), value


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(documents(), min_size=10, max_size=25))
def test_documents_mean_what_the_oracle_says(refinery: Refinery, batch: list[bytes]) -> None:
    table = refinery.table(records(batch))
    times = [item.name for item in COLUMNS if item.type is not None and item.type.kind == "timestamp"]
    for name in times:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
    rows = table.to_pylist()
    assert [row["_row"] for row in rows] == list(range(len(batch)))
    for row, value in zip(rows, batch, strict=True):
        check(row, value)
