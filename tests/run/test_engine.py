"""The embedded engine: what its settings must guarantee to the plan's SQL."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest

from penstock.engines.embedded.engine import EmbeddedEngine
from penstock.engines.embedded.prepared import PreparedQuery
from penstock.errors import QueryError, StorageError
from plan.refining import Refinery, column, pipeline, records

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    made = EmbeddedEngine(threads=2, memory_bytes=256 << 20)
    yield made
    made.close()


def test_expressions_that_share_a_failing_part_stay_inside_their_try(engine: EmbeddedEngine) -> None:
    rows = pa.table({"note": ["5", "five"]})
    sql = "SELECT TRY(CAST(note AS BIGINT) > 3) AS a, TRY(CAST(note AS BIGINT) < 7) AS b FROM rows"
    assert engine.query(sql, {"rows": rows}).to_pylist() == [{"a": True, "b": True}, {"a": None, "b": None}]


def test_the_time_zone_is_utc_whatever_the_machine_s(engine: EmbeddedEngine) -> None:
    sql = "SELECT CAST(TIMESTAMPTZ '2024-07-01 12:00:00' AS VARCHAR) AS t"
    assert engine.query(sql, {}).to_pylist() == [{"t": "2024-07-01 12:00:00+00"}]


def test_calls_from_several_threads_see_their_own_relations(engine: EmbeddedEngine) -> None:
    found: dict[int, list[int]] = {}

    def work(number: int) -> None:
        rows = pa.table({"x": [number]})
        found[number] = [engine.query("SELECT x FROM rows", {"rows": rows})["x"][0].as_py() for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [number] * 20 for number in range(4)}


def test_schema_tells_types_and_refuses_what_does_not_fit(engine: EmbeddedEngine) -> None:
    schema = pa.schema([("x", pa.int32()), ("s", pa.string())])
    assert engine.schema("SELECT x + 1.5 AS y FROM rows", {"rows": schema}).names == ["y"]
    with pytest.raises(QueryError):
        engine.schema("SELECT x + [s] FROM rows", {"rows": schema})


def test_files_and_the_network_are_out_of_reach_of_extensions(engine: EmbeddedEngine) -> None:
    settings = engine.query(
        "SELECT current_setting('autoinstall_known_extensions') AS a, current_setting('autoload_known_extensions') AS b",
        {},
    )
    assert settings.to_pylist() == [{"a": False, "b": False}]


def test_records_that_need_too_much_memory_together_are_refined_apart(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is halved, and wherever a slice ends by its bytes: the same events in the same order."""
    plan = Refinery(pipeline(column("n", "int64"))).plan
    rows = records([b'{"n":%d}' % number for number in range(40)]).drop_columns(["_row"])
    expected = engine.refine(plan, rows, {})
    run, sizes = PreparedQuery.run, []

    def limited(self: PreparedQuery, relations: dict[str, pa.Table]) -> pa.Table:
        sizes.append(relations["records"].num_rows)
        if sizes[-1] > 2:
            raise duckdb.OutOfMemoryException("too much")
        return run(self, relations)

    monkeypatch.setattr(PreparedQuery, "run", limited)
    monkeypatch.setattr("penstock.engines.embedded.refining.REFINE_BYTES_MAX", 100)
    assert engine.refine(plan, rows, {}) == expected
    assert expected["n"].to_pylist() == list(range(40))
    assert max(sizes) < 40
    assert min(sizes) <= 2


def test_one_record_that_needs_too_much_memory_is_told(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: PreparedQuery, relations: dict[str, pa.Table]) -> pa.Table:
        raise duckdb.OutOfMemoryException("too much")

    monkeypatch.setattr(PreparedQuery, "run", never)
    plan = Refinery(pipeline(column("n", "int64"))).plan
    with pytest.raises(StorageError, match=r"the record 1/0/0 of 2 bytes alone needs more memory"):
        engine.refine(plan, records([b"{}", b"{}"]).drop_columns(["_row"]), {})
