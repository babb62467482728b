"""Makes the project a workload runs on: a file of simulated ticks, a reference, a declaration, what must come out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.sources.simulate import produce
from penstock.sources.worlds import CURRENCIES, INSTRUMENTS, open_world

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """\
pipeline: ticks
description: Five rules, one lookup, unique within a day, one-minute bars.
source:
  files: {path: incoming}
  format: json
references:
  instruments: {file: instruments.csv, key: instrument_id}
silver:
  table: ticks
  key: [instrument_id, venue, sequence]
  unique_within: 1 day
  event_time: event_time
  order: [sequence]
  late_after: 10 seconds
  columns:
    instrument_id: {type: string, required: true}
    venue: {type: string, required: true}
    sequence: {type: int64, required: true}
    event_time: {type: timestamp, from: ts, unit: ms, required: true}
    price: {type: "decimal(18,8)", required: true}
    quantity: {type: float64}
    side: string
    condition: string
    order_id: string
    currency: {lookup: instruments.currency}
    notional: {type: float64, sql: price * quantity}
  rules:
    known_instrument: {check: currency is not null}
    sane_price: {check: price between -500 and 1e6}
    sane_quantity: {check: quantity > 0}
    known_venue: {check: "venue in ('XNAS', 'XNYS', 'BATS', 'IEXG')"}
    big_trade: {check: notional < 1e9, otherwise: flag}
gold:
  bars_1m:
    window: 1 minute
    by: [instrument_id]
    measures:
      open: first(price)
      high: max(price)
      low: min(price)
      close: last(price)
      volume: sum(quantity)
      vwap: sum(price * quantity) / sum(quantity)
      trades: count()
"""

RATE = 10_000
"""Records a second of event time."""


@dataclass(frozen=True)
class Workload:
    """A project folder and what was put into it: records by planted fault, and by the disposition they must get."""

    folder: Path
    events: int
    bytes: int
    planted: dict[str, int]
    expected: dict[str, int]

    @property
    def bytes_per_event(self) -> float:
        return self.bytes / self.events


def make(folder: Path, events: int, *, seed: int = 7, faults: float = 0.02) -> Workload:
    """Write the project; the same arguments give the same bytes."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / "incoming").mkdir()
    (folder / "penstock.yaml").write_text("lake: lake\n")
    (folder / "pipelines" / "ticks.yaml").write_text(PIPELINE)
    rows = "".join(f"INST-{at:05d},{CURRENCIES[at % len(CURRENCIES)]}\n" for at in range(INSTRUMENTS))
    (folder / "instruments.csv").write_text("instrument_id,currency\n" + rows)
    world = open_world("market", seed=seed, rate=RATE, faults=faults)
    planted: dict[str, int] = {}
    expected: dict[str, int] = {}
    path = folder / "incoming" / "ticks.ndjson"
    with path.open("wb") as file:
        for sent in produce(world, rate=None, events=events):
            file.write(b"\n".join(sent.block["value"].to_pylist()))
            file.write(b"\n")
            _count(planted, sent.truth["fault"])
            _count(expected, sent.truth["expected"])
    planted.pop("None", None)
    return Workload(folder, events, path.stat().st_size, planted, expected)


def _count(totals: dict[str, int], values: pa.ChunkedArray) -> None:
    for entry in pc.value_counts(values).to_pylist():
        name = str(entry["values"])
        totals[name] = totals.get(name, 0) + entry["counts"]


def lake_bytes(folder: Path) -> dict[str, int]:
    """Bytes on disk by layer."""
    sizes: dict[str, int] = {}
    lake = folder / "lake"
    for path in lake.rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            layer = path.relative_to(lake).parts[0]
            sizes[layer] = sizes.get(layer, 0) + path.stat().st_size
    return sizes


def versions() -> dict[str, str]:
    """The versions a figure depends on."""
    return {name: version(name) for name in ("penstock", "duckdb", "deltalake", "pyarrow", "numpy")} | {
        "arrow": pa.cpp_version
    }
