"""`sql` reads the cut it is given, exactly, and nothing else on the machine."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.errors import LakeCorrupt, QueryError, UsageError
from penstock.serving.catalog import parse_as_of
from penstock.serving.query import QueryBounds, query
from penstock.serving.relations import Relation, RelationFile

COLUMNS = pa.schema(
    [
        ("id", pa.int32()),
        ("price", pa.decimal128(18, 8)),
        ("added", pa.string()),
        ("_batch", pa.int64()),
        ("_month", pa.string()),
    ]
)


@pytest.fixture
def catalog(tmp_path: Path):
    old = pa.table({"id": pa.array([1, 2], pa.int32()), "_batch": pa.array([1, 2], pa.int64())})
    new = pa.table(
        {
            "id": pa.array([3], pa.int32()),
            "price": pa.array([Decimal("12345678.12345678")], pa.decimal128(18, 8)),
            "added": ["yes"],
            "_batch": pa.array([3], pa.int64()),
        }
    )
    files = []
    for name, month, table in (("it's old", "2024-01", old), ("new", "2024-02", new)):
        path = str(tmp_path / f"{name}.parquet")
        pq.write_table(table, path)
        files.append(RelationFile(path, month))
    ticks = Relation("silver", "ticks", COLUMNS, tuple(files), "_month", "_batch", 2)
    everything = Relation("silver", "everything", COLUMNS, tuple(files), "_month")
    places = Relation("references", "places", pa.schema([("name", pa.string())]), ())
    return {relation.qualified: lambda relation=relation: relation for relation in (ticks, everything, places)}


def rows(sql, catalog, **options):
    with query(sql, catalog, **options) as result:
        return result.table().to_pylist()


def test_batches_after_the_cut_are_left_out(catalog):
    assert rows("select id, _month from silver.ticks order by id", catalog) == [
        {"id": 1, "_month": "2024-01"},
        {"id": 2, "_month": "2024-01"},
    ]


def test_columns_added_later_are_null_and_keep_their_type(catalog):
    found = rows("select id, price, added from silver.everything order by id", catalog)
    assert found[0] == {"id": 1, "price": None, "added": None}
    assert found[2] == {"id": 3, "price": Decimal("12345678.12345678"), "added": "yes"}


def test_a_table_without_files_is_empty_and_references_needs_no_quotes(catalog):
    assert rows("select count(*) n from References . places", catalog) == [{"n": 0}]
    assert rows("select 'references.x' as t -- references.y", catalog) == [{"t": "references.x"}]


def test_names_are_found_in_any_case_and_anywhere_in_the_statement(catalog):
    sql = 'with t as (from SILVER."ticks") select (select count(*) from silver.Everything) n from t limit 1'
    assert rows(sql, catalog) == [{"n": 3}]


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) n from silver.ticks join silver.everything using (id)",
        "select count(*) n from SILVER.ticks natural join (select id from silver.everything)",
        "with t as (from silver.ticks) select count(*) n from silver.everything semi join t using (id, _batch)",
        "select (select count(*) from silver.ticks join references.places on true right join silver.ticks using (id)) n",
        "select count(*) n from (unpivot silver.ticks on id, _batch into name k value v) where k = 'id'",
    ],
)
def test_columns_may_be_named_where_tables_are_joined(sql, catalog):
    assert rows(sql, catalog) == [{"n": 2}]


def test_a_column_that_a_join_lacks_is_the_users_error(catalog):
    with pytest.raises(QueryError, match="nothere"):
        rows("select * from silver.ticks join silver.everything using (nothere)", catalog)
    with pytest.raises(QueryError, match=r"there is no table silver\.tick") as raised:
        rows("select * from silver.ticks join silver.tick using (id)", catalog)
    assert "silver.ticks" in raised.value.hint


def test_another_name_for_a_table_of_a_kind_is_answered_with_those_of_the_kind(catalog):
    with pytest.raises(QueryError, match=r"there is no table silver\.orders_of_the_shop") as raised:
        rows("select * from silver.orders_of_the_shop", catalog)
    silver = ", ".join(sorted(name for name in catalog if name.startswith("silver.")))
    assert raised.value.hint == f"In silver there are: {silver}. `penstock tables` lists them all."


@pytest.mark.parametrize(
    "sql",
    [
        "drop view silver.ticks",
        "select 1; select 2",
        "",
        "copy silver.ticks to 'out.csv'",
        "pragma threads=1",
        "attach 'x.db'",
        "install httpfs",
        "set threads=1",
        "create table t (a int)",
        "explain analyze copy (select 1) to 'x'",
        "call checkpoint()",
    ],
)
def test_only_one_select_statement_runs(sql, catalog):
    with pytest.raises(QueryError, match="only one SELECT"):
        rows(sql, catalog)


@pytest.mark.parametrize(
    "source",
    [
        "'{}'",
        "read_text('{}')",
        "read_csv('{}')",
        "read_blob('{}')",
        "glob('{}')",
        "parquet_metadata('{}')",
        "sniff_csv('{}')",
    ],
)
def test_files_outside_the_cut_cannot_be_read(source, catalog, tmp_path):
    secret = tmp_path / "secret.parquet"
    pq.write_table(pa.table({"a": [1]}), secret)
    with pytest.raises(QueryError):
        rows(f"select * from {source.format(secret)}", catalog)
    with pytest.raises(QueryError):
        rows(f"select * from query('select * from {source.format(secret)}')".replace("''", "'"), catalog)


def test_variables_of_the_program_are_not_tables(catalog):
    hidden = pa.table({"a": [1]})
    with pytest.raises(QueryError, match="hidden"):
        rows("select * from hidden", catalog)
    assert hidden.num_rows == 1


@pytest.mark.parametrize("name", ["nothing", "contracts.market_ticks", "manifests.market_ticks"])
def test_a_name_that_is_no_table_of_the_lake_says_what_tables_are_called(catalog, name):
    with pytest.raises(QueryError, match="does not exist") as caught:
        query(f"select * from {name}", catalog).table()
    assert "KIND.NAME" in caught.value.hint
    assert "pg_" not in str(caught.value)


def test_an_unknown_table_names_the_nearest(catalog):
    with pytest.raises(QueryError) as raised:
        rows("select * from silver.tick", catalog)
    assert "silver.ticks" in raised.value.hint


def test_an_error_in_the_sql_is_the_users(catalog):
    with pytest.raises(QueryError, match="nothere"):
        rows("select nothere from silver.ticks", catalog)
    with pytest.raises(QueryError, match="syntax"):
        rows("selec 1", catalog)


def test_an_error_on_the_way_is_the_users_too(catalog):
    with (
        query("select cast(if(i < 100000, '1', 'x') as int) v from range(100001) t(i)", catalog) as result,
        pytest.raises(QueryError, match="Could not convert"),
    ):
        list(result)


def test_a_file_that_was_deleted_is_named(catalog):
    gone = Path(catalog["silver.ticks"]().files[1].path)
    gone.unlink()
    with pytest.raises(QueryError, match=r"new\.parquet is gone") as raised:
        rows("select * from silver.ticks", catalog)
    assert "kept_days" in raised.value.hint


def test_memory_is_bounded(catalog):
    bounds = QueryBounds(memory_bytes=20_000_000, spill_bytes=1_000_000, threads=1)
    with pytest.raises(QueryError):
        rows("select list(i) from range(100000000) t(i)", catalog, bounds=bounds)


def test_verify_checks_the_relations_a_query_names_and_no_others(catalog):
    def broken():
        raise LakeCorrupt("silver/ticks: a page is not what was written")

    relation = catalog["silver.ticks"]()
    bad = Relation(relation.schema, relation.name, relation.columns, relation.files, "_month", verify=broken)
    catalog["silver.ticks"] = lambda: bad
    assert rows("select count(*) n from silver.ticks", catalog) == [{"n": 3}]
    assert rows("select count(*) n from silver.everything", catalog, verify=True) == [{"n": 3}]
    with pytest.raises(LakeCorrupt):
        rows("select count(*) n from silver.ticks", catalog, verify=True)


def test_times_are_read_and_shown_in_utc(catalog, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with query("select timestamptz '2024-01-01 00:00:00' t", catalog) as result:
        table = result.table()
    assert table.column("t").type == pa.timestamp("us", "UTC")
    assert table.column("t").cast(pa.int64()).to_pylist() == [1704067200000000]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (None, (None, None)),
        ("12", (12, None)),
        ("ticks:12", (12, "ticks")),
        ("2026-01-31", (datetime(2026, 1, 31), None)),  # noqa: DTZ001 - as typed, without a zone
        ("2026-01-31T12:00:00Z", (datetime(2026, 1, 31, 12, tzinfo=UTC), None)),
    ],
)
def test_as_of_takes_a_batch_or_a_time(text, meaning):
    assert parse_as_of(text) == meaning


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "12:34", "a b:3"])
def test_as_of_refuses_anything_else(text):
    with pytest.raises(UsageError, match="neither a batch nor a time"):
        parse_as_of(text)
