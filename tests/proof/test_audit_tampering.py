"""Each way of tampering with a lake is found, and named as a break of the right law."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.model.columns import batch_txn, offset_txn
from penstock.proof.audit import audit
from penstock.proof.report import Law, PipelineReport
from proof.small_world import World, small_world

if TYPE_CHECKING:
    from proof.plain_lake import PlainTable

Tamper = Callable[[World], None]


def audited(world: World, **options: object) -> PipelineReport:
    return audit(world.lake, world.parse, **options).pipelines["ticks"]  # type: ignore[arg-type]


def found(report: PipelineReport) -> set[tuple[int, str]]:
    return {(int(one.law), one.table) for one in report.violations}


def edit(table: str, change: Callable[[list[dict]], object]) -> Tamper:  # type: ignore[type-arg]
    return lambda world: world.table(table).edit(change)


def damage(table: PlainTable, change: Callable[[bytearray], bytearray | None]) -> None:
    path = Path(table.path(table.files()[0]))
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.write_bytes(data if changed is None else changed)


def flip(data: bytearray) -> None:
    """Flip a bit of the first column's data: the last byte of its last page."""
    chunk = pq.read_metadata(pa.BufferReader(bytes(data))).row_group(0).column(0)
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    data[first + chunk.total_compressed_size - 1] ^= 0x10


def flip_footer(data: bytearray) -> None:
    data[-40] ^= 0x10


def removed(row: int) -> Callable[[list[dict]], object]:  # type: ignore[type-arg]
    return lambda rows: rows[:row] + rows[row + 1 :]


def doubled(row: int) -> Callable[[list[dict]], object]:  # type: ignore[type-arg]
    return lambda rows: [*rows, rows[row]]


def removed_all(rows: list[dict]) -> list[dict]:  # type: ignore[type-arg]
    return []


def setting(row: int, **values: object) -> Callable[[list[dict]], object]:  # type: ignore[type-arg]
    return lambda rows: rows[row].update(values)


def among(disposition: str, **values: object) -> Callable[[list[dict]], object]:  # type: ignore[type-arg]
    """Change the first reject of a disposition."""
    return lambda rows: next(row for row in rows if row["disposition"] == disposition).update(values)


def into_both(world: World) -> None:
    row = world.table("silver/ticks").rows().slice(5, 1).to_pylist()[0]
    place = {name: row[name] for name in ("_source", "_partition", "_offset", "_index", "_batch", "_ingested_at")}
    reject = {**place, "disposition": "quarantined", "failed": ["sane"], "contract": 1}
    world.table("rejects/ticks").edit(lambda rows: [*rows, reject])


def skipped_into_silver(world: World) -> None:
    """A quote, which `where` does not select, turns up in silver."""
    silver = world.table("silver/ticks")
    silver.edit(lambda rows: [*rows, {**rows[0], "_offset": 3, "sequence": 3}])


def selected_vanishes(world: World) -> None:
    """A trade is treated as if it had been skipped: the counts agree, the bytes do not."""
    gone = {}

    def change(rows: list[dict]) -> list[dict]:  # type: ignore[type-arg]
        gone.update(next(row for row in rows if not row["_flags"]))
        return [row for row in rows if row["_offset"] != gone["_offset"]]

    world.table("silver/ticks").edit(change)
    batch = gone["_batch"]
    world.table("ledger/ticks").edit(
        lambda rows: rows[batch - 1].update(
            accepted=rows[batch - 1]["accepted"] - 1, skipped=rows[batch - 1]["skipped"] + 1
        )
    )


def unclosed_window(world: World) -> None:
    world.table("gold/bars").edit(
        lambda rows: [
            *rows,
            {
                **rows[-1],
                "window_start": rows[-1]["window_end"] + timedelta(hours=1),
                "window_end": rows[-1]["window_end"] + timedelta(hours=1, minutes=1),
            },
        ]
    )


def position(table: str, **changes: int) -> Tamper:
    return lambda world: world.table(table).positions.update(
        {key.replace("__", "/"): at for key, at in changes.items()}
    )


def late_batch_in_silver(world: World) -> None:
    """Silver holds a row of a batch that it says it has not absorbed."""
    world.table("silver/ticks").edit(lambda rows: [*rows, {**rows[-1], "_batch": 9, "_offset": 9999, "sequence": 9999}])


def ranges(row: int, **values: object) -> Tamper:
    def change(rows: list[dict]) -> None:  # type: ignore[type-arg]
        rows[row]["ranges"][0].update(values)

    return edit("ledger/ticks", change)


BATCH = batch_txn("ticks").replace("/", "__")
OFFSET = offset_txn("ticks", 1, 0).replace("/", "__")

CASES: dict[str, tuple[Tamper, Law, str]] = {
    "a silver row removed": (edit("silver/ticks", removed(7)), Law.CONSERVATION, "silver/ticks"),
    "a silver row doubled": (edit("silver/ticks", doubled(7)), Law.CONSERVATION, "silver/ticks"),
    "a reject removed": (edit("rejects/ticks", removed(3)), Law.CONSERVATION, "silver/ticks"),
    "a reject doubled": (edit("rejects/ticks", doubled(3)), Law.CONSERVATION, "rejects/ticks"),
    "a row in silver and in rejects": (into_both, Law.CONSERVATION, "rejects/ticks"),
    "a skipped event in silver": (skipped_into_silver, Law.CONSERVATION, "silver/ticks"),
    "a selected event called skipped": (selected_vanishes, Law.CONSERVATION, "silver/ticks"),
    "an unknown disposition": (
        edit("rejects/ticks", setting(0, disposition="lost")),
        Law.CONSERVATION,
        "rejects/ticks",
    ),
    "a silver row moved to another batch": (
        edit("silver/ticks", setting(0, _batch=3)),
        Law.CONSERVATION,
        "silver/ticks",
    ),
    "an index no event has": (edit("silver/ticks", setting(0, _index=4)), Law.CONSERVATION, "silver/ticks"),
    "a bronze row missing": (edit("bronze/ticks", removed(11)), Law.CONSERVATION, "bronze/ticks"),
    "a bronze row doubled": (edit("bronze/ticks", doubled(11)), Law.CONSERVATION, "bronze/ticks"),
    "a bronze row in the wrong batch": (edit("bronze/ticks", setting(0, _batch=2)), Law.CONSERVATION, "bronze/ticks"),
    "a bronze value changed": (
        edit("bronze/ticks", setting(0, value=b'{"type": "quote"}')),
        Law.CONSERVATION,
        "silver/ticks",
    ),
    "a wrong count": (edit("ledger/ticks", setting(1, records=41)), Law.CONSERVATION, "ledger/ticks"),
    "wrong counts that add up": (
        edit(
            "ledger/ticks",
            lambda rows: rows[0].update(skipped=rows[0]["skipped"] + 1, accepted=rows[0]["accepted"] - 1),
        ),
        Law.CONSERVATION,
        "ledger/ticks",
    ),
    "a wrong count of a rule": (
        edit("ledger/ticks", lambda rows: rows[0]["rules"][0].update(rows=99)),
        Law.CONSERVATION,
        "ledger/ticks",
    ),
    "a ledger row removed": (edit("ledger/ticks", removed(1)), Law.CONSERVATION, "ledger/ticks"),
    "a gap between ranges": (ranges(1, start_offset=42), Law.CONSERVATION, "ledger/ticks"),
    "a position that goes back": (ranges(1, start_offset=38), Law.POSITION, "ledger/ticks"),
    "a watermark that goes back": (
        edit("ledger/ticks", lambda rows: rows[2].update(watermark=rows[0]["watermark"])),
        Law.POSITION,
        "ledger/ticks",
    ),
    "silver ahead of bronze": (position("silver/ticks", **{BATCH: 4}), Law.ORDER, "silver/ticks"),
    "gold ahead of silver": (position("gold/bars", **{BATCH: 5}), Law.ORDER, "gold/bars"),
    "a row above the position": (late_batch_in_silver, Law.POSITION, "silver/ticks"),
    "rows behind a position that fell back": (position("silver/ticks", **{BATCH: 2}), Law.POSITION, "silver/ticks"),
    "records above the next offset": (position("bronze/ticks", **{OFFSET: 100}), Law.POSITION, "bronze/ticks"),
    "a next offset too high": (position("bronze/ticks", **{OFFSET: 200}), Law.POSITION, "bronze/ticks"),
    "a ledger without its last row": (edit("ledger/ticks", removed(2)), Law.POSITION, "ledger/ticks"),
    "a wrong gold value": (edit("gold/bars", setting(2, high=Decimal("99.25"))), Law.GOLD, "gold/bars"),
    "a gold float off by a millionth": (
        edit("gold/bars", lambda rows: rows[2].update(volume=rows[2]["volume"] * 1.000001)),
        Law.GOLD,
        "gold/bars",
    ),
    "a wrong number of rows in gold": (edit("gold/bars", setting(2, _rows=1)), Law.GOLD, "gold/bars"),
    "a NULL measure": (edit("gold/bars", setting(2, close=None)), Law.GOLD, "gold/bars"),
    "a missing window": (edit("gold/bars", removed(4)), Law.GOLD, "gold/bars"),
    "a doubled window": (edit("gold/bars", doubled(4)), Law.GOLD, "gold/bars"),
    "a window of another group": (edit("gold/bars", setting(4, instrument="Z")), Law.GOLD, "gold/bars"),
    "a window that is not closed": (unclosed_window, Law.GOLD, "gold/bars"),
    "a wrong end of a window": (
        edit("gold/bars", lambda rows: rows[1].update(window_end=rows[1]["window_end"] + timedelta(seconds=1))),
        Law.GOLD,
        "gold/bars",
    ),
    "a silver value changed": (edit("silver/ticks", setting(9, price=Decimal(1000))), Law.GOLD, "gold/bars"),
    "the same key twice": (
        edit(
            "silver/ticks", lambda rows: rows[4].update(instrument=rows[6]["instrument"], sequence=rows[6]["sequence"])
        ),
        Law.DETERMINISM,
        "silver/ticks",
    ),
    "a winner that is not in silver": (
        edit("rejects/ticks", among("duplicate", winner_offset=3)),
        Law.DETERMINISM,
        "rejects/ticks",
    ),
    "no winner": (edit("rejects/ticks", among("duplicate", winner_offset=None)), Law.DETERMINISM, "rejects/ticks"),
    "a winner with another key": (
        edit("rejects/ticks", among("duplicate", winner_offset=0)),
        Law.DETERMINISM,
        "rejects/ticks",
    ),
    "a winner that came later": (
        edit("rejects/ticks", among("duplicate", winner_offset=12)),
        Law.DETERMINISM,
        "rejects/ticks",
    ),
    "a required value missing": (edit("silver/ticks", setting(3, price=None)), Law.DETERMINISM, "silver/ticks"),
    "a flag that is no rule": (edit("silver/ticks", setting(3, _flags=["odd"])), Law.DETERMINISM, "silver/ticks"),
    "an event from the future": (
        edit("silver/ticks", lambda rows: rows[3].update(event_time=rows[3]["_ingested_at"] + timedelta(hours=1))),
        Law.LATE,
        "silver/ticks",
    ),
    "an unknown contract": (edit("ledger/ticks", setting(1, contract=2)), Law.DETERMINISM, "ledger/ticks"),
    "an unknown reference version": (edit("references/instruments", removed_all), Law.DETERMINISM, "ledger/ticks"),
    "a changed contract": (edit("contracts/ticks", setting(0, hash="0" * 64)), Law.DETERMINISM, "contracts/ticks"),
    "an unknown incarnation": (
        edit("contracts/ticks", lambda rows: [row for row in rows if row["kind"] == "contract"]),
        Law.DETERMINISM,
        "ledger/ticks",
    ),
    "a reject of another contract": (edit("rejects/ticks", setting(0, contract=3)), Law.DETERMINISM, "rejects/ticks"),
    "a flipped bit in bronze": (lambda world: damage(world.table("bronze/ticks"), flip), Law.LOUD, "bronze/ticks"),
    "a flipped bit in silver": (lambda world: damage(world.table("silver/ticks"), flip), Law.LOUD, "silver/ticks"),
    "a flipped bit in gold": (lambda world: damage(world.table("gold/bars"), flip), Law.LOUD, "gold/bars"),
    "a flipped bit in a footer": (
        lambda world: damage(world.table("bronze/ticks"), flip_footer),
        Law.LOUD,
        "bronze/ticks",
    ),
    "a cut file": (
        lambda world: damage(world.table("bronze/ticks"), lambda data: data[:-200]),
        Law.LOUD,
        "bronze/ticks",
    ),
    "an emptied file": (
        lambda world: damage(world.table("rejects/ticks"), lambda data: bytearray(len(data))),
        Law.LOUD,
        "rejects/ticks",
    ),
    "a missing file": (
        lambda world: os.unlink(world.table("silver/ticks").path(world.table("silver/ticks").files()[1])),
        Law.LOUD,
        "silver/ticks",
    ),
    "a missing table": (lambda world: world.lake.held.pop("gold/bars") and None, Law.LOUD, "gold/bars"),
    "a damaged ledger": (lambda world: damage(world.table("ledger/ticks"), flip), Law.LOUD, "ledger/ticks"),
    "damaged contracts": (lambda world: damage(world.table("contracts/ticks"), flip), Law.LOUD, "contracts/ticks"),
}


@pytest.mark.parametrize("name", CASES)
def test_tampering_is_found_and_named(name: str, tmp_path: Path) -> None:
    tamper, law, table = CASES[name]
    world = small_world(tmp_path)
    tamper(world)
    report = audited(world)
    assert (int(law), table) in found(report), report.violations


@pytest.mark.parametrize("drain", [False, True])
def test_a_right_lake_is_clean(tmp_path: Path, drain: bool) -> None:
    world = small_world(tmp_path, drain=drain)
    report = audited(world)
    assert report.violations == []
    events = report.accepted + report.quarantined + report.duplicate + report.skipped
    assert (report.records, report.batches, events) == (122, 3, 122)
    assert min(report.accepted, report.quarantined, report.duplicate, report.skipped, report.flagged) > 5


def test_an_audit_from_a_batch_looks_only_at_later_ones(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    world.table("silver/ticks").edit(removed(7))
    assert audited(world).violations
    later = audited(world, from_batch=3)
    assert later.records == 42
    assert {(law, table) for law, table in found(later) if table == "silver/ticks"} == set()


def test_batches_after_the_last_ledger_row_are_in_flight(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    bronze = world.table("bronze/ticks")
    row = bronze.rows().slice(0, 1).to_pylist()[0]
    row.update(_batch=4, _offset=122)
    bronze.append(pa.Table.from_pylist([row], schema=bronze.spec.file_schema))
    bronze.positions.update({batch_txn("ticks"): 4, offset_txn("ticks", 1, 0): 123})
    assert audited(world).violations == []


def test_a_gold_that_went_on_is_read_at_the_version_of_the_ledger(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    for name in ("bronze/ticks", "silver/ticks", "gold/bars"):
        world.table(name).positions[batch_txn("ticks")] = 4
    world.table("gold/bars").edit(setting(0, trades=77))
    report = audited(world)
    assert found(report) <= {(int(Law.POSITION), "bronze/ticks")}, report.violations


def test_examples_are_few_and_totals_are_whole(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    world.table("silver/ticks").edit(lambda rows: rows[30:])
    gone = next(one for one in audited(world).violations if "neither" in one.message)
    assert gone.total == 30
    assert len(gone.places) == 5
    assert gone.places[0].startswith("1/0/")
    assert set(gone.as_json()) == {"law", "table", "message", "total", "places"}
