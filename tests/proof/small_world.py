"""A small, consistent lake for tests of the witness: ticks with every disposition, two batches of bronze each, bars.

Everything is worked out here in plain Python, row by row, from the raw records: neither the code under test nor the
code that writes lakes has a part in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.lake import layout
from penstock.lake.ledger import to_arrow
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.columns import batch_txn, closed_until_txn, offset_txn
from penstock.model.fields import FieldPath
from penstock.model.pipeline import (
    Action,
    Column,
    Expression,
    Gold,
    Measure,
    Pipeline,
    PushSource,
    Reference,
    Rule,
    Silver,
    Source,
    Span,
    SpanUnit,
    Window,
)
from penstock.model.position import Range
from penstock.model.types import ColumnType
from proof.plain_lake import PlainLake, PlainTable

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z."""
TEXT = "pipeline: ticks\n"


def minutes(count: int) -> Span:
    return Span(count * MINUTE, SpanUnit.MICROSECOND)


def column(name: str, kind: str, **more: object) -> Column:
    path = FieldPath(tuple(more.pop("path", (name,))))  # type: ignore[arg-type]
    return Column(name, ColumnType.parse(kind), path=path, **more)  # type: ignore[arg-type]


def pipeline() -> Pipeline:
    return Pipeline(
        name="ticks",
        text=TEXT,
        source=Source(PushSource(), where=Expression("type = 'trade'")),
        references=(Reference("instruments", "instruments.csv", ("id",)),),
        silver=Silver(
            table="ticks",
            columns=(
                column("instrument", "string", required=True),
                column("sequence", "int64", required=True),
                column("event_time", "timestamp", path=("ts",), unit="ms", required=True),
                column("price", "decimal(18,4)", required=True),
                column("quantity", "float64"),
            ),
            key=("instrument", "sequence"),
            unique_within=24 * 60 * MINUTE,
            event_time="event_time",
            order=("sequence",),
            late_after=10 * SECOND,
            future_after=5 * MINUTE,
            rules=(
                Rule("sane", Expression("price > 0")),
                Rule("big", Expression("quantity < 90"), Action.FLAG),
            ),
        ),
        gold=(
            Gold(
                "bars",
                Window(minutes(1), minutes(1)),
                ("instrument",),
                tuple(
                    Measure(name, Expression(sql))
                    for name, sql in {
                        "open": "first(price)",
                        "high": "max(price)",
                        "close": "last(price)",
                        "volume": "sum(quantity)",
                        "vwap": "sum(price * quantity) / sum(quantity)",
                        "trades": "count()",
                        "spread": "high - min(price)",
                    }.items()
                ),
                where=Expression("not list_contains(_flags, 'big')"),
            ),
        ),
    )


def micros(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


@dataclass
class World:
    """The lake, and what it was made from. `events` are the records' values, batch by batch."""

    lake: PlainLake
    batches: list[list[bytes]]
    pipeline: Pipeline = field(default_factory=pipeline)

    def parse(self, text: str) -> Pipeline:
        assert text == TEXT
        return self.pipeline

    def table(self, name: str) -> PlainTable:
        table = self.lake.table(name)
        assert table is not None
        return table


def record(
    sequence: int, at: int, *, kind: str = "trade", instrument: str = "A", price: object = "10.5", quantity: float = 2.5
) -> bytes:
    value = {"type": kind, "instrument": instrument, "sequence": sequence, "ts": (START + at) // 1000, "price": price}
    return json.dumps({**value, "quantity": quantity}).encode()


def some_batches() -> list[list[bytes]]:
    """Three batches: trades in two instruments over eight minutes, quotes, broken ones, duplicates, a late one."""
    batches = []
    for number in range(3):
        values = []
        for step in range(40):
            sequence = number * 40 + step
            at = sequence * 4 * SECOND
            instrument = "AB"[step % 2]
            if step % 10 == 3:
                values.append(record(sequence, at, kind="quote"))
            elif step % 10 == 5:
                values.append(b"{broken")
            elif step % 10 == 6:
                values.append(record(sequence, at, price="-1"))
            elif step % 10 == 7:
                values.append(values[step - 6])
            else:
                quantity = 95.0 if step % 10 == 8 else sequence / 4
                values.append(
                    record(sequence, at, instrument=instrument, price=f"{10 + sequence % 7}.25", quantity=quantity)
                )
        batches.append(values)
    batches[2].append(record(1000, 5 * SECOND))
    batches[2].append(batches[0][0])
    return batches


class Builder:
    """Derives every table from the records, one event at a time."""

    def __init__(self, root: Path, batches: list[list[bytes]], *, drain: bool = False) -> None:
        self.world = World(PlainLake(root), batches)
        declared = self.world.pipeline
        lake = self.world.lake
        self.bronze = lake.create(layout.bronze_spec("ticks"))
        columns = [(one.name, one.type) for one in declared.silver.columns]
        self.silver = lake.create(layout.silver_spec("ticks", columns, "event_time", declared.silver.key))
        self.rejects = lake.create(layout.rejects_spec("ticks"))
        measure_types = {
            "open": pa.decimal128(18, 4),
            "trades": pa.int64(),
            "volume": pa.float64(),
            "vwap": pa.float64(),
        }
        measures = [
            pa.field(one.name, measure_types.get(one.name, pa.decimal128(18, 4))) for one in declared.gold[0].measures
        ]
        measures[-1] = pa.field("spread", pa.decimal128(19, 4))
        self.gold = lake.create(layout.gold_spec("bars", [pa.field("instrument", pa.string())], measures))
        self.ledger = lake.create(layout.ledger_spec("ticks"))
        self.contracts = lake.create(layout.contracts_spec("ticks"))
        self.references = lake.create(layout.reference_spec("instruments", pa.schema([("id", pa.string())])))
        self.drain = drain
        self.winners: dict[tuple[object, ...], tuple[int, int, int, int]] = {}
        self.accepted: list[dict[str, object]] = []
        self.offset = 0

    def build(self) -> World:
        self._prepare()
        watermark = None
        for batch, values in enumerate(self.world.batches, 1):
            counts = self._batch(batch, values)
            latest = max((row["event_time"] for row in self.accepted), default=None)
            watermark = None if latest is None else latest - timedelta(seconds=10)
            closed = watermark
            if self.drain and batch == len(self.world.batches) and latest is not None:
                closed = micros(((latest - EPOCH) // timedelta(microseconds=1) // MINUTE + 1) * MINUTE)
            self._gold(batch, closed)
            self._ledger(batch, len(values), counts, watermark, closed)
        return self.world

    def _prepare(self) -> None:
        digest = hashlib.sha256(TEXT.encode()).hexdigest()
        self.contracts.append(
            pa.Table.from_pylist(
                [
                    {"kind": "contract", "version": 1, "hash": digest, "text": TEXT},
                    {"kind": "source", "version": 1, "source_kind": "push", "source_name": "ticks", "source_id": "x"},
                ],
                schema=self.contracts.spec.schema,
            )
        )
        self.references.append(pa.table({"id": ["A", "B"], "_version": pa.array([1, 1], pa.int64())}))

    def _batch(self, batch: int, values: list[bytes]) -> dict[str, int]:
        base = micros(START + 3600 * SECOND)
        bronze, silver, rejects = [], [], []
        counts = dict.fromkeys(("accepted", "quarantined", "duplicate", "skipped", "flagged"), 0)
        rules: dict[str, int] = {}
        for value in values:
            place = {"_source": 1, "_partition": 0, "_offset": self.offset}
            common = {**place, "_timestamp": base, "_ingested_at": base, "_batch": batch}
            bronze.append({**common, "value": value})
            event = {**common, "_index": 0}
            self.offset += 1
            row, failed = self._judge(value)
            if row is None and not failed:
                counts["skipped"] += 1
                continue
            if failed:
                counts["quarantined"] += 1
                rejects.append({**event, "disposition": "quarantined", "failed": failed, "value": value, "contract": 1})
            else:
                assert row is not None
                key = (row["event_time"].date(), row["instrument"], row["sequence"])
                winner = self.winners.setdefault(key, (1, 0, place["_offset"], 0))
                if winner[2] != place["_offset"]:
                    counts["duplicate"] += 1
                    named = zip(("source", "partition", "offset", "index"), winner, strict=True)
                    rejects.append(
                        {**event, "disposition": "duplicate", "failed": [], "value": value, "contract": 1}
                        | {f"winner_{name}": part for name, part in named}
                    )
                    continue
                counts["accepted"] += 1
                flags = ["big"] if row["quantity"] >= 90 else []
                counts["flagged"] += bool(flags)
                failed = flags
                silver.append({**event, **row, "_flags": flags})
            for rule in failed:
                rules[rule] = rules.get(rule, 0) + 1
        self.bronze.append(pa.Table.from_pylist(bronze, schema=self.bronze.spec.file_schema))
        self.bronze.positions.update({batch_txn("ticks"): batch, offset_txn("ticks", 1, 0): self.offset})
        self.rejects.append(pa.Table.from_pylist(rejects, schema=self.rejects.spec.file_schema))
        self.rejects.positions[batch_txn("ticks")] = batch
        silver.sort(key=lambda one: one["event_time"])
        self.silver.append(pa.Table.from_pylist(silver, schema=self.silver.spec.file_schema))
        self.silver.positions[batch_txn("ticks")] = batch
        self.accepted += silver
        return {**counts, "rules": tuple(sorted(rules.items()))}  # type: ignore[dict-item]

    def _judge(self, value: bytes) -> tuple[dict[str, object] | None, list[str]]:
        try:
            event = json.loads(value)
        except ValueError:
            return None, ["malformed"]
        if event.get("type") != "trade":
            return None, []
        row = {
            "instrument": event["instrument"],
            "sequence": event["sequence"],
            "event_time": micros(event["ts"] * 1000),
            "price": Decimal(event["price"]),
            "quantity": event["quantity"],
        }
        return row, [] if row["price"] > 0 else ["sane"]

    def _gold(self, batch: int, closed: datetime | None) -> None:
        groups: dict[tuple[int, str], list[dict[str, object]]] = {}
        for row in self.accepted:
            if "big" not in row["_flags"]:
                start = (row["event_time"] - EPOCH) // timedelta(microseconds=1) // MINUTE * MINUTE
                groups.setdefault((start, row["instrument"]), []).append(row)
        bars = []
        for (start, instrument), rows in sorted(groups.items()):
            if closed is None or micros(start + MINUTE) > closed:
                continue
            rows.sort(key=lambda one: (one["event_time"], one["sequence"], one["_offset"]))
            prices = [row["price"] for row in rows]
            volume = sum(row["quantity"] for row in rows)
            amount = sum(float(row["price"]) * row["quantity"] for row in rows)
            bars.append(
                {
                    "window_start": micros(start),
                    "window_end": micros(start + MINUTE),
                    "instrument": instrument,
                    "open": prices[0],
                    "high": max(prices),
                    "close": prices[-1],
                    "volume": volume,
                    "vwap": amount / volume if volume else None,
                    "trades": len(rows),
                    "spread": max(prices) - min(prices),
                    "_rows": len(rows),
                    "_batch": batch,
                }
            )
        self.gold.replace(pa.Table.from_pylist(bars, schema=self.gold.spec.file_schema))
        self.gold.positions[batch_txn("ticks")] = batch
        if closed is not None:
            self.gold.positions[closed_until_txn("bars")] = (closed - EPOCH) // timedelta(microseconds=1)

    def _ledger(
        self, batch: int, records: int, counts: dict[str, int], watermark: datetime | None, closed: datetime | None
    ) -> None:
        def at(time: datetime | None) -> int | None:
            return None if time is None else (time - EPOCH) // timedelta(microseconds=1)

        row = LedgerRow(
            batch=batch,
            ranges=(Range(1, 0, self.offset - records, self.offset),),
            counts=BatchCounts(records=records, events=records, **counts),  # type: ignore[arg-type]
            pins=Pins(1, 7, (("instruments", 1),)),
            watermark=at(watermark),
            closed_until=at(closed),
            versions=(("gold/bars", self.gold.version),),
        )
        self.ledger.append(to_arrow([row]))
        self.ledger.positions[batch_txn("ticks")] = batch


def small_world(root: Path, *, drain: bool = False) -> World:
    return Builder(root, some_batches(), drain=drain).build()
