"""The layout of tables: types there and back, partitions of extreme times, what may be added."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvariantBroken, LakeCorrupt, UsageError
from penstock.lake import layout
from penstock.model.types import SIMPLE_KINDS, ColumnType

kinds = st.one_of(
    st.sampled_from(SIMPLE_KINDS).map(ColumnType),
    st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: ColumnType("decimal", p, s))),
)


@given(kinds)
def test_a_type_comes_back_from_arrow(kind: ColumnType) -> None:
    expected = ColumnType("string") if kind.kind == "json" else kind
    assert layout.column_type(layout.arrow_type(kind)) == expected


def test_a_foreign_arrow_type_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="uint64"):
        layout.column_type(pa.uint64())


@pytest.mark.parametrize(
    ("time", "month", "day"),
    [
        (0, "1970-01", "1970-01-01"),
        (-1, "1969-12", "1969-12-31"),
        (951782400_000000, "2000-02", "2000-02-29"),
        (253402300800_000000, "10000-01", "10000-01-01"),
        (-62167219200_000001, "-0001-12", "-0001-12-31"),
        (None, None, None),
    ],
)
def test_partitions_are_cut_from_times(time: int | None, month: str | None, day: str | None) -> None:
    times = pa.table({"t": pa.array([time], layout.TIME), "_ingested_at": pa.array([time], layout.TIME)})
    silver = layout.silver_spec("s", [("t", ColumnType("timestamp"))], "t")
    assert silver.partition_values(times).to_pylist() == [month]
    assert layout.bronze_spec("p").partition_values(times).to_pylist() == [day]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1))))
def test_every_month_sorts_within_its_times(times: list[int | None]) -> None:
    column = pa.table({"t": pa.array(times, layout.TIME)})
    months = layout.silver_spec("s", [("t", ColumnType("timestamp"))], "t").partition_values(column).to_pylist()
    for time, month in zip(times, months, strict=True):
        assert (time is None) == (month is None)
        if month is not None:
            year, _, number = month.rpartition("-")
            assert (int(year), int(number)) == _civil(time // 86_400_000_000)


def _civil(days: int) -> tuple[int, int]:
    """Year and month of a day since 1970, by Howard Hinnant's algorithm: nothing shared with numpy's."""
    days += 719_468
    era, day = divmod(days, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    return year + era * 400 + (month >= 10), month + 3 if month < 10 else month - 9


def test_partition_is_the_last_column_and_not_in_files() -> None:
    for spec in (layout.bronze_spec("p"), layout.rejects_spec("p"), layout.gold_spec("g", [], [])):
        assert spec.partition_columns == (spec.schema.names[-1],)
        assert spec.schema.names[-1] not in spec.file_schema.names


def test_a_spec_survives_the_tables_configuration() -> None:
    for spec in (layout.bronze_spec("p"), layout.ledger_spec("p"), layout.silver_spec("s", [], "_timestamp")):
        assert layout.TableSpec.stored(spec.name, spec.schema, spec.properties()) == spec
    with pytest.raises(UsageError, match="silver/s"):
        layout.TableSpec.stored("silver/s", spec.schema, {})


def test_a_flipped_bit_of_the_configuration_is_told() -> None:
    """A partition column by another name would read as null."""
    spec = layout.silver_spec("s", [], "_timestamp")
    properties = spec.properties()
    for name, text in properties.items():
        for changed in (
            {**properties, name: chr(ord(text[0]) ^ 1) + text[1:]},
            {**properties, name: text[:-3] + chr(ord(text[-3]) ^ 1) + text[-2:]},
            {other: kept for other, kept in properties.items() if other != name},
        ):
            with pytest.raises(LakeCorrupt, match="silver/s"):
                layout.TableSpec.stored("silver/s", spec.schema, changed)


def test_additions_are_new_columns_only() -> None:
    old = layout.silver_spec("s", [("a", ColumnType("int64"))], "_timestamp")
    new = layout.silver_spec("s", [("a", ColumnType("int64")), ("b", ColumnType("date"))], "_timestamp")
    assert old.additions(new) == (pa.field("b", pa.date32()),)
    assert new.additions(old) == ()
    with pytest.raises(UsageError, match="column a is stored as int64"):
        old.additions(layout.silver_spec("s", [("a", ColumnType("int32"))], "_timestamp"))


def test_columns_without_an_order_have_no_statistics() -> None:
    columns = [("raw", ColumnType("binary")), ("id", ColumnType("string")), ("at", ColumnType("timestamp"))]
    stats = layout.silver_spec("s", columns, "at", ("raw", "id", "at")).stats
    assert stats[:2] == ("at", "id")
    assert "raw" not in stats


@pytest.mark.parametrize("name", ["bronze", "tin/x", "gold/a/b", "gold/", "/gold"])
def test_other_names_are_no_tables(name: str) -> None:
    with pytest.raises(UsageError, match="not a table"):
        layout.split_name(name)


def test_rows_take_the_tables_order_and_types() -> None:
    spec = layout.manifest_spec("p")
    rows = layout.spec_order(pa.table({"path": ["a"], "source": pa.array([1], pa.int64())}), spec)
    assert rows.schema.types == spec.schema.types
    assert rows.column("source").to_pylist() == [1]
    with pytest.raises(InvariantBroken, match="no column"):
        layout.spec_order(pa.table({"nope": [1]}), spec)
    with pytest.raises(InvariantBroken, match="source"):
        layout.spec_order(pa.table({"source": [1 << 40]}), spec)
