"""Rows are followed back to the bytes they were made from, records forward to their windows, and rejects listed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from penstock.errors import LakeCorrupt, QueryError, UsageError
from penstock.model.position import Place
from penstock.proof import rejects
from penstock.proof.trace import trace_back, trace_forward
from proof.small_world import World, small_world

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory.mktemp("lake"), drain=True)


def values(world: World) -> list[bytes]:
    return [value for batch in world.batches for value in batch]


def test_a_bar_goes_back_to_exactly_the_bytes_it_was_made_from(world: World) -> None:
    trace = trace_back(
        world.lake, world.parse, "gold.bars", "instrument = 'B' and window_start = '2026-01-01 00:01:00'"
    )
    (window,) = trace.windows
    assert window.row is not None
    assert window.events_total == window.row["_rows"] == len(window.events) > 1
    prices = []
    for event in window.events:
        assert event.record is not None
        assert event.record.value == values(world)[event.place.offset]
        raw = json.loads(event.record.value)
        assert raw["instrument"] == "B"
        prices.append(Decimal(raw["price"]))
    assert (prices[0], max(prices), prices[-1]) == tuple(window.row[name] for name in ("open", "high", "close"))
    batch = trace.batches[0]
    assert (batch.batch, batch.contract, batch.references) == (1, 1, (("instruments", 1),))
    assert batch.sources[0].identity.kind == "push"
    assert batch.ranges == ("1/0/0..40",)
    assert json.loads(json.dumps(trace.as_json()))["windows"][0]["events"][0]["record"]["value"].startswith("{")


def test_a_late_row_is_in_its_window_and_both_batches_are_named(world: World) -> None:
    trace = trace_back(world.lake, world.parse, "gold.bars", "instrument = 'A' and window_start = '2026-01-01'")
    assert {event.batch for event in trace.windows[0].events} == {1, 3}
    assert [batch.batch for batch in trace.batches] == [1, 3]


def test_a_limit_shortens_the_events_of_a_window_not_their_number(world: World) -> None:
    trace = trace_back(world.lake, world.parse, "gold.bars", "trades > 2", limit=2)
    assert len(trace.windows) == 2
    assert all(len(window.events) == 2 < window.events_total for window in trace.windows)


def test_silver_and_rejects_go_back_too(world: World) -> None:
    trace = trace_back(world.lake, world.parse, "silver/ticks", "sequence = 4")
    assert [event.record.value for event in trace.events if event.record] == [values(world)[4]]
    trace = trace_back(world.lake, world.parse, "rejects.ticks", "disposition = 'duplicate' and _batch = 1")
    assert {event.winner for event in trace.events} == {"1/0/1#0", "1/0/11#0", "1/0/21#0", "1/0/31#0"}
    assert trace_back(world.lake, world.parse, "silver.ticks", "price > 1e9").events == ()


def test_records_of_a_time_that_python_does_not_have_are_followed(tmp_path: Path) -> None:
    far = 1_764_000_000_000_000_000  # in the year 57869: microseconds that were sent as milliseconds
    made = small_world(tmp_path)
    for name in ("bronze/ticks", "rejects/ticks"):
        table = made.table(name)
        rows = table.rows()
        times = pa.array([far] * rows.num_rows, pa.int64()).cast(rows.schema.field("_timestamp").type)
        table.replace(rows.set_column(rows.column_names.index("_timestamp"), "_timestamp", times))
    back = trace_back(made.lake, made.parse, "rejects.ticks", "disposition = 'duplicate'")
    assert {event.record.timestamp for event in back.events if event.record} == {far}
    assert json.loads(json.dumps(back.as_json()))["events"][0]["row"]["_timestamp"] == far
    forward = trace_forward(made.lake, made.parse, "ticks", back.events[0].place)
    assert forward.record is not None
    assert forward.record.timestamp == far


@pytest.mark.parametrize(
    "where",
    [
        "no_such_column = 1",
        "price >",
        "price = 1; drop table x",
        "1 = 1) or (1 = 1",
        "(select count(*) from read_text('/etc/passwd')) > 0",
        "price > 1 order by price",
        "price > 1 limit 1",
        "price > 1 from silver",
        "true, true",
        "*",
        "price::date = 1",
        "",
    ],
)
def test_a_condition_that_is_none_is_refused(world: World, where: str) -> None:
    with pytest.raises(QueryError) as error:
        trace_back(world.lake, world.parse, "silver.ticks", where)
    assert error.value.hint


@pytest.mark.parametrize("table", ["gold.nothing", "silver.nothing", "bronze.ticks", "ticks", "rejects.nothing"])
def test_a_table_that_is_none_is_refused(world: World, table: str) -> None:
    with pytest.raises(UsageError):
        trace_back(world.lake, world.parse, table, "true")


def test_a_record_goes_forward_to_its_window(world: World) -> None:
    trace = trace_forward(world.lake, world.parse, "ticks", Place(1, 0, 4))
    assert trace.record is not None
    assert trace.record.value == values(world)[4]
    (event,) = trace.events
    assert (event.disposition, event.reasons) == ("accepted", ())
    (window,) = event.windows
    assert window.table == "gold.bars"
    assert window.row is not None
    assert window.row["window_start"] == window.start <= event.row["event_time"] < window.end  # type: ignore[index]
    assert trace.batches[0].counts["records"] == 40


@pytest.mark.parametrize(
    ("offset", "disposition", "reasons", "winner"),
    [
        (3, "skipped", (), None),
        (5, "quarantined", ("malformed",), None),
        (6, "quarantined", ("sane",), None),
        (7, "duplicate", (), "1/0/1#0"),
        (8, "accepted", ("big",), None),
    ],
)
def test_a_record_goes_forward_to_where_it_ended(
    world: World, offset: int, disposition: str, reasons: tuple[str, ...], winner: str | None
) -> None:
    (event,) = trace_forward(world.lake, world.parse, "ticks", Place(1, 0, offset)).events
    assert (event.disposition, event.reasons, event.winner) == (disposition, reasons, winner)
    assert event.windows == ()


def test_a_window_that_is_not_closed_has_no_row_yet(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    (event,) = trace_forward(world.lake, world.parse, "ticks", Place(1, 0, 119)).events
    assert [window.row for window in event.windows] == [None]


def test_a_place_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(UsageError):
        trace_forward(world.lake, world.parse, "ticks", Place(1, 0, 5000))
    with pytest.raises(UsageError):
        trace_forward(world.lake, world.parse, "tocks", Place(1, 0, 5))


def test_an_event_that_vanished_is_missing_and_one_in_flight_is_said_to_be(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    silver = world.table("silver/ticks")
    silver.edit(lambda rows: [row for row in rows if row["_offset"] != 4])
    assert [event.disposition for event in trace_forward(world.lake, world.parse, "ticks", Place(1, 0, 4)).events] == [
        "missing"
    ]
    bronze = world.table("bronze/ticks")
    row = {**bronze.rows().slice(0, 1).to_pylist()[0], "_batch": 4, "_offset": 122}
    bronze.append(pa.Table.from_pylist([row], schema=bronze.spec.file_schema))
    assert [
        event.disposition for event in trace_forward(world.lake, world.parse, "ticks", Place(1, 0, 122)).events
    ] == ["in flight"]


def test_a_trace_never_shows_damaged_bytes(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    bronze = world.table("bronze/ticks")
    path = bronze.root / bronze.name / bronze.files()[0].path
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(LakeCorrupt):
        trace_back(world.lake, world.parse, "silver.ticks", "sequence = 4")


def test_rejects_are_counted_by_rule(world: World) -> None:
    found = {(one.disposition, one.rule): one for one in rejects.summary(world.lake)}
    assert {key: one.rows for key, one in found.items()} == {
        ("quarantined", "malformed"): 12,
        ("quarantined", "sane"): 12,
        ("duplicate", "duplicate"): 13,
    }
    assert found["quarantined", "sane"].example.event == "1/0/6#0"
    assert json.loads(json.dumps(found["quarantined", "malformed"].as_json()))["example"]["value"] == "{broken"
    assert [one.rule for one in rejects.summary(world.lake, rule="sane")] == ["sane"]
    assert rejects.summary(world.lake, since=1 << 60) == ()


def test_rejects_are_shown_with_bytes_and_reasons(world: World) -> None:
    found = rejects.rows(world.lake, rule="duplicate", limit=3)
    assert [(one.event, one.winner) for one in found] == [
        ("1/0/7#0", "1/0/1#0"),
        ("1/0/17#0", "1/0/11#0"),
        ("1/0/27#0", "1/0/21#0"),
    ]
    assert found[0].value == values(world)[7]
    assert rejects.rows(world.lake, pipelines=["ticks"], rule="sane", limit=1)[0].reasons == ("sane",)
    with pytest.raises(UsageError):
        rejects.rows(world.lake, pipelines=["tocks"])
