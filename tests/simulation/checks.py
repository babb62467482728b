"""What must hold after every action: the audit finds nothing, and the tables are what the model says of bronze."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.lake.contracts import Contracts
from penstock.lake.ledger import Ledger
from penstock.lake.references import References
from penstock.model.columns import batch_txn
from simulation.clockwork import running
from simulation.model import Derived, Record, Refused, expected_after, gold_of

if TYPE_CHECKING:
    from penstock.lake.lake import Lake
    from penstock.lake.table import DataFile, Table
    from penstock.model.batch import LedgerRow
    from simulation.shop import Shop, Stream


def check(shop: Shop, *, complete: tuple[str, ...] = ()) -> None:
    """Raise AssertionError where something does not hold, at the end of a life. `complete` are pipelines that have
    absorbed all there is."""
    missed = shop.missed_files()
    assert not missed, f"a reader within the kept period misses {missed[:3]}"
    with running(shop.clock):
        report = shop.open().audit().as_json()
    found = {name: part["violations"] for name, part in report["pipelines"].items() if part["violations"]}
    assert not found, f"the audit found {json.dumps(found, indent=1)[:3_000]}"
    lake = shop.lake()
    note_life(shop, lake)
    _check_references(shop, lake)
    for name, stream in shop.streams.items():
        if lake.table(f"ledger/{name}") is not None:
            _check_pipeline(shop, lake, stream, complete=name in complete)


def _check_references(shop: Shop, lake: Lake) -> None:
    """Versions never change, and the newest one is what the file said."""
    if lake.table("references/places") is None:
        return
    store = References(lake)
    for version in range(1, store.latest_version("places") + 1):
        rows = store.read("places", version).select(["site", "factor"]).to_pylist()
        sites = {row["site"]: row["factor"] for row in rows}
        if version > len(shop.sites_seen):
            assert sites == shop.sites, f"reference version {version} is {sites}, the file said {shop.sites}"
            shop.sites_seen.append(sites)
        assert sites == shop.sites_seen[version - 1], f"reference version {version} changed"


def _check_pipeline(shop: Shop, lake: Lake, stream: Stream, *, complete: bool) -> None:
    name = stream.declared.name
    rows = _ledger_rows(lake, name)
    assert rows[: len(stream.ledger)] == stream.ledger, "rows of the ledger changed"
    stream.ledger = rows
    _check_contracts(shop, lake, stream)
    bronze = _rows(_table(lake, f"bronze/{name}"))
    _check_delivered(stream, bronze, complete=complete)
    _check_pins(stream, rows)
    stream.states = expected_after(_derived(shop, stream, rows, bronze))
    for row, state in zip(rows, stream.states, strict=True):
        counts = {what: getattr(row.counts, what) for what in state.counts}
        assert counts == state.counts, f"batch {row.batch} counts {counts}, not {state.counts}"
        times, wanted = (row.watermark, row.closed_until), (state.watermark, state.closed_until)
        assert times == wanted, f"batch {row.batch}: watermark and closed_until are {times}, not {wanted}"
    if rows:
        _check_tables(lake, stream, rows[-1])
    if complete:
        position = max((row["_batch"] for row in bronze), default=0)
        assert len(rows) >= position, f"bronze has batch {position}, the ledger {len(rows)}"


def _table(lake: Lake, name: str) -> Table:
    table = lake.table(name)
    assert table is not None, f"{name} is not there"
    table.refresh()
    return table


def _rows(table: Table, files: list[DataFile] | None = None) -> list[dict[str, Any]]:
    """Every row, times as microseconds."""
    found: list[dict[str, Any]] = []
    for part in table.read(files=files):
        for index, column in enumerate(part.schema):
            if pa.types.is_timestamp(column.type):
                part = part.set_column(index, column.name, part.column(index).cast(pa.int64()))
        found += part.to_pylist()
    return found


def _place(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["_source"], row["_partition"], row["_offset"]


def _ledger_rows(lake: Lake, name: str) -> list[LedgerRow]:
    return list(Ledger(_table(lake, f"ledger/{name}")).rows())


# -- what went in -----------------------------------------------------------------------------------------------------


def _check_contracts(shop: Shop, lake: Lake, stream: Stream) -> None:
    """Contracts are declarations that somebody wrote, in the order they were in force, and never change."""
    applied = Contracts(_table(lake, f"contracts/{stream.declared.name}")).all()
    found = [shop.texts[contract.text] for contract in applied]
    assert found[: len(stream.contracts)] == stream.contracts, "applied contracts changed"
    added = found[len(stream.contracts) :]
    assert added in ([], [stream.declared]), f"contracts were added that were not declared: {added}"
    stream.contracts = found


def note_life(shop: Shop, lake: Lake) -> None:
    """Remember what was in force in the life that has just ended, and how far bronze and silver came in it."""
    reference = References(lake).latest_version("places")
    for name, stream in shop.streams.items():
        tables = [lake.table(f"bronze/{name}"), lake.table(f"silver/{stream.declared.silver}")]
        bronze, silver = (0 if table is None else table.txn(batch_txn(name)) or 0 for table in tables)
        contracts = lake.table(f"contracts/{name}")
        in_force = 0 if contracts is None else len(Contracts(contracts).all())
        stream.lives.append(((in_force, reference), bronze, silver))


def _check_pins(stream: Stream, rows: list[LedgerRow]) -> None:
    """A batch is derived with what was in force in some life from that which made it to that which derived it."""
    for row in rows:
        made = next(at for at, life in enumerate(stream.lives) if life[1] >= row.batch)
        derived = next(at for at, life in enumerate(stream.lives) if life[2] >= row.batch)
        possible = {life[0] for life in stream.lives[made : derived + 1]}
        pinned = (row.pins.contract, dict(row.pins.references)["places"])
        assert pinned in possible, f"batch {row.batch} has the pins {pinned}, in force were {possible}"


def _check_delivered(stream: Stream, bronze: list[dict[str, Any]], *, complete: bool) -> None:
    """Bronze holds what was sent, each record once, in order, with nothing missing below the position."""
    bronze.sort(key=_place)
    if stream.declared.origin == "files":
        _check_files(stream, bronze, complete=complete)
        return
    for number, sent in enumerate(stream.sent, start=1):
        mine = [row for row in bronze if row["_source"] == number]
        offsets = [row["_offset"] for row in mine]
        assert offsets == list(range(len(mine))), f"source {number}: bronze has the offsets {offsets}"
        values = [row["value"] for row in mine]
        assert values == sent[: len(values)], f"source {number}: bronze holds other bytes than were acknowledged"
        missing = len(sent) - len(values)
        assert not missing or not (complete or number < len(stream.sent)), f"{missing} acknowledged records are missing"
        stream.in_bronze = len(values)


def _check_files(stream: Stream, bronze: list[dict[str, Any]], *, complete: bool) -> None:
    offsets = [row["_offset"] for row in bronze]
    assert offsets == list(range(len(bronze))), f"bronze has the offsets {offsets}"
    waiting = {path: [content for content in contents if content] for path, contents in stream.files.items()}
    at = 0
    while at < len(bronze):
        path = next(one["value"] for one in bronze[at]["headers"] if one["key"] == "file.path").decode()
        assert waiting[path], f"more came of {path} than was in it"
        content = waiting[path].pop(0)
        values = [row["value"] for row in bronze[at : at + len(content)]]
        assert values == content[: len(values)], f"bronze holds other lines than {path}"
        at += len(content)
    assert at == len(bronze) or not complete, "a file was taken in part only"
    left = {path: len(contents) for path, contents in waiting.items() if contents}
    assert not (complete and left), f"files were not taken: {left}"
    stream.in_bronze = len(bronze)


# -- what came of it --------------------------------------------------------------------------------------------------


def _derived(shop: Shop, stream: Stream, rows: list[LedgerRow], bronze: list[dict[str, Any]]) -> list[Derived]:
    bronze.sort(key=lambda row: row["_batch"])
    by_batch = {
        batch: [Record(_place(row), row["value"], row["_ingested_at"]) for row in members]
        for batch, members in groupby(bronze, key=lambda row: row["_batch"])
    }
    return [
        Derived(
            by_batch.get(row.batch, []),
            stream.contracts[row.pins.contract - 1],
            shop.sites_seen[dict(row.pins.references)["places"] - 1],
            is_drain=not row.ranges,
        )
        for row in rows
    ]


def _check_tables(lake: Lake, stream: Stream, last: LedgerRow) -> None:
    state, name = stream.states[-1], stream.declared.name
    silver = [row for row in _rows(_table(lake, f"silver/{stream.declared.silver}")) if row["_batch"] <= last.batch]
    found = {_place(row): row for row in silver}
    assert len(found) == len(silver), "silver has a place twice"
    assert found.keys() == state.silver.keys(), f"silver differs in {sorted(found.keys() ^ state.silver.keys())}"
    for place, wanted in state.silver.items():
        got = {column: found[place].get(column) for column in wanted}
        got["_extra"] = json.loads(got["_extra"]) if got["_extra"] else {}
        assert got == wanted, f"silver row {place} is {got}, not {wanted}"
    rejects = [row for row in _rows(_table(lake, f"rejects/{name}")) if row["_batch"] <= last.batch]
    refused = {_place(row): _refused(row) for row in rejects}
    assert len(refused) == len(rejects), "rejects have a place twice"
    places = refused.keys() | state.rejects.keys()
    differing = sorted(place for place in places if refused.get(place) != state.rejects.get(place))
    shown = [(place, refused.get(place), state.rejects.get(place)) for place in differing[:3]]
    assert not differing, f"rejects differ (place, found, expected): {shown}"
    versions = dict(last.versions)
    for gold in stream.declared.gold:
        if f"gold/{name}_{gold}" in versions:
            table = _table(lake, f"gold/{name}_{gold}")
            compare_gold(stream, gold, _rows(table, table.files(versions[table.name])), last.batch)


def _refused(row: dict[str, Any]) -> Refused:
    winner = (row["winner_source"], row["winner_partition"], row["winner_offset"])
    return Refused(row["disposition"], tuple(row["failed"]), None if winner[0] is None else winner)


def compare_gold(stream: Stream, gold: str, rows: list[dict[str, Any]], batch: int) -> None:
    """Rows of a gold table as of a batch are what the model says; times are microseconds."""
    wanted = gold_of(stream.states[batch - 1], gold)
    keys = {"minutes": ["site"], "hours": ["factor"]}.get(gold, [])
    found = {(row["window_start"], *[row[key] for key in keys]): row for row in rows}
    assert len(found) == len(rows), f"{gold} has a window twice"
    for key in found.keys() | wanted.keys():
        got = {measure: _plain(found.get(key, {}).get(measure)) for measure in wanted.get(key, {"_rows": None})}
        assert got == wanted.get(key), f"as of batch {batch}, {gold} has {got} for {key}, not {wanted.get(key)}"


def _plain(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value
