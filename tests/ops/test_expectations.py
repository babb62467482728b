"""`penstock test` must fail when a row differs, and show which value does."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from penstock.declare.testfile import ExpectedRow
from penstock.model.finding import Mark
from penstock.ops.expectations import actual_rows, differences, same

TABLE = pa.table(
    {
        "id": ["a", "b", "b"],
        "price": pa.array([Decimal("12.50"), Decimal("1.00"), None], pa.decimal128(18, 2)),
        "at": pa.array([datetime(2025, 1, 6, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
        "flags": [["big"], [], None],
    }
)


def expect(*rows):
    return [ExpectedRow(row, Mark("tests/t.yaml", number + 1, 5)) for number, row in enumerate(rows)]


def test_rows_in_any_order_with_only_the_columns_that_matter():
    rows = expect(
        {"id": "b"}, {"id": "b", "price": Decimal(1)}, {"id": "a", "price": Decimal("12.5"), "flags": ["big"]}
    )
    assert differences("accepted", rows, actual_rows(TABLE), in_order=False) == []


def test_a_vague_row_does_not_take_the_place_of_an_exact_one():
    rows = expect({"id": "b"}, {"id": "b", "price": None}, {})
    assert differences("accepted", rows, actual_rows(TABLE), in_order=False) == []


def test_a_wrong_value_is_shown_beside_the_right_one():
    rows = expect({"id": "a", "price": Decimal("12.51")}, {"id": "b"}, {"id": "b"})
    (text,) = differences("accepted", rows, actual_rows(TABLE), in_order=False)
    assert text.splitlines() == [
        "accepted: not as expected, tests/t.yaml:1:5:",
        '    id: "a"',
        "  - price: 12.51",
        "  + price: 12.50",
    ]


def test_missing_and_surplus_rows():
    (missing,) = differences(
        "gold.x", expect({"id": "a"}, {"id": "b"}, {"id": "b"}, {"id": "c"}), actual_rows(TABLE), in_order=False
    )
    assert missing == 'gold.x: missing, tests/t.yaml:4:5: {id: "c"}'
    (surplus,) = differences("gold.x", expect({"id": "b"}, {"id": "b"}), actual_rows(TABLE), in_order=False)
    assert surplus == 'gold.x: a row that is not expected: {id: "a"}'
    assert len(differences("gold.x", [], actual_rows(TABLE), in_order=False)) == 3


def test_order_counts_where_it_is_asked_for():
    rows = expect({"id": "b"}, {"id": "a"}, {"id": "b"})
    assert differences("accepted", rows, actual_rows(TABLE), in_order=False) == []
    assert len(differences("accepted", rows, actual_rows(TABLE), in_order=True)) == 2


def test_a_column_that_is_not_there_names_the_nearest():
    (text,) = differences("accepted", expect({"prise": 1}), actual_rows(TABLE), in_order=False)
    assert "prise" in text
    assert "but price" in text


@pytest.mark.parametrize(
    ("expected", "actual", "kind", "equal"),
    [
        ("2025-01-06T01:00:00+01:00", "2025-01-06T00:00:00.000000Z", pa.timestamp("us", "UTC"), True),
        ("2025-01-06", "2025-01-06T00:00:00.000000Z", pa.timestamp("us", "UTC"), True),
        ("2025-01-06T00:00:01Z", "2025-01-06T00:00:00.000000Z", pa.timestamp("us", "UTC"), False),
        (Decimal("0.3"), Decimal("0.30000000000000004"), pa.float64(), True),
        (Decimal("0.3"), Decimal("0.30001"), pa.float64(), False),
        (Decimal("0.3"), Decimal("0.30000000000000004"), pa.decimal128(38, 17), False),
        (1, True, pa.bool_(), False),
        (True, True, pa.bool_(), True),
        ("1", 1, pa.int64(), False),
        (None, 0, pa.int64(), False),
        (None, None, pa.int64(), True),
        ({"a": [1]}, '{"a":[1]}', pa.string(), True),
        ({"a": [1]}, '{"a":[2]}', pa.string(), False),
        ("hi", "aGk=", pa.binary(), True),
        ("aGk=", "aGk=", pa.binary(), True),
        ("ho", "aGk=", pa.binary(), False),
        (["x", None], ["x", None], pa.list_(pa.string()), True),
        (["x"], ["y"], pa.list_(pa.string()), False),
    ],
)
def test_values(expected, actual, kind, equal):
    assert same(expected, actual, kind) is equal
