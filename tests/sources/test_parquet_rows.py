"""Parquet rows as JSON text: the values survive exactly, whatever their type, nesting and slice."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.sources.file_blocks import FileDamaged
from penstock.sources.parquet_rows import json_rows


def rows(column: pa.Array, name: str = "v") -> list[str]:
    return [row.decode() for row in json_rows(pa.RecordBatch.from_arrays([column], names=[name])).to_pylist()]


def parsed(column: pa.Array) -> list[object]:
    return [json.loads(row, parse_float=Decimal)["v"] for row in rows(column)]


integers = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=6)


@given(integers, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_integers_keep_every_digit(numbers: list[int | None], skip: int) -> None:
    assert parsed(pa.array(numbers, pa.int64()).slice(skip)) == numbers[skip:]


@given(
    st.lists(st.none() | st.integers(-(10**30) + 1, 10**30 - 1), max_size=6),
    st.integers(-4, 30),
    st.sampled_from([128, 256]),
    st.integers(0, 2),
)
@settings(max_examples=200, deadline=None)
def test_decimals_keep_every_digit_without_an_exponent(
    unscaled: list[int | None], scale: int, width: int, skip: int
) -> None:
    kind = pa.decimal128(38, scale) if width == 128 else pa.decimal256(60, scale)
    expected = [None if number is None else Decimal(f"{number}E{-scale}") for number in unscaled]
    column = pa.array(expected, kind).slice(skip)
    assert not any("E" in row for row in rows(column))
    found = [None if value is None else Decimal(value) for value in parsed(column)]  # type: ignore[arg-type]
    assert found == expected[skip:]


@given(st.lists(st.none() | st.text(max_size=8), max_size=6), st.integers(0, 2))
@settings(max_examples=200, deadline=None)
def test_text_survives(texts: list[str | None], skip: int) -> None:
    texts = [None if text is None else text.encode("utf-8", "replace").decode() for text in texts]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        assert parsed(pa.array(texts, kind).slice(skip)) == texts[skip:]


@given(st.lists(st.none() | st.binary(max_size=9), max_size=8), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_binary_is_base64(values: list[bytes | None], skip: int) -> None:
    expected = [None if value is None else base64.b64encode(value).decode() for value in values]
    assert parsed(pa.array(values, pa.binary()).slice(skip)) == expected[skip:]


@given(st.lists(st.none() | st.floats(), max_size=8))
@settings(max_examples=100, deadline=None)
def test_floats_come_back_equal(numbers: list[float | None]) -> None:
    for number, row in zip(numbers, rows(pa.array(numbers, pa.float64())), strict=True):
        value = json.loads(row)["v"]
        if number is None:
            assert value is None
        elif math.isfinite(number):
            assert value == number
        else:
            assert isinstance(value, str)
            assert float(value) == number or math.isnan(float(value))


@given(
    st.lists(
        st.none() | st.lists(st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=3), max_size=3), max_size=5
    ),
    st.integers(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_nested_lists(values: list[object], skip: int) -> None:
    column = pa.array(values, pa.list_(pa.list_(pa.int32())))
    assert parsed(column.slice(skip)) == values[skip:]


@given(
    st.lists(
        st.none()
        | st.fixed_dictionaries(
            {"a": st.none() | st.booleans(), "b": st.none() | st.lists(st.text('x"\\\n', max_size=3), max_size=2)}
        ),
        max_size=5,
    ),
    st.integers(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_structs(values: list[object], skip: int) -> None:
    column = pa.array(values, pa.struct({"a": pa.bool_(), "b": pa.list_(pa.string())}))
    assert parsed(column.slice(skip)) == values[skip:]


@given(
    st.lists(
        st.none() | st.dictionaries(st.text('ab"', max_size=2), st.none() | st.integers(0, 5), max_size=3), max_size=5
    ),
    st.integers(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_maps_are_objects(values: list[dict[str, int | None] | None], skip: int) -> None:
    column = pa.array(
        [None if value is None else list(value.items()) for value in values], pa.map_(pa.string(), pa.int32())
    )
    assert parsed(column.slice(skip)) == values[skip:]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([1_700_000_000_123_456], pa.timestamp("us", "Asia/Tokyo")), '"2023-11-14T22:13:20.123456Z"'),
        (pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")), '"2023-11-14T22:13:20.123456789"'),
        (pa.array([0], pa.timestamp("s", "UTC")), '"1970-01-01T00:00:00Z"'),
        (pa.array([dt.date(1, 1, 1)]), '"0001-01-01"'),
        (pa.array([86_399_999_999], pa.time64("us")), '"23:59:59.999999"'),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array([True]), "true"),
        (pa.nulls(1), "null"),
        (pa.array(["x"]).dictionary_encode(), '"x"'),
        (pa.array([b"ab"], pa.binary(2)), '"YWI="'),
        (pa.array([[(1, "a")]], pa.map_(pa.int32(), pa.string())), '{"1":"a"}'),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), "[1,2]"),
    ],
)
def test_each_type(column: pa.Array, text: str) -> None:
    assert rows(column) == ['{"v":' + text + "}"]


def test_odd_names_and_rows_without_columns() -> None:
    assert json.loads(rows(pa.array([1]), 'a"b\n')[0]) == {'a"b\n': 1}
    empty = pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([])))
    assert json_rows(empty).to_pylist() == [b"{}", b"{}"]


def test_a_type_without_a_json_form_is_told() -> None:
    with pytest.raises(FileDamaged, match="month_day_nano"):
        rows(pa.array([(1, 2, 3)], pa.month_day_nano_interval()))
