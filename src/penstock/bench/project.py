"""Makes the projects that workloads run on: a declaration, a reference, simulated ticks, and what must come of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import SIMULATED_ROWS_PER_STEP
from penstock.sources.worlds import CURRENCIES, INSTRUMENTS, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.sources.worlds import Sent, World

PIPELINE = """\
pipeline: ticks
description: Five rules, one lookup, unique within a day, one-minute bars.
source:
  SOURCE
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

FILES = "files: {path: incoming}"
PUSH = "push: {}"
"""What a project may read from."""

INPUT = "incoming"
"""The folder of a project that its input files lie in."""

RATE = 10_000
"""Records a second of event time, where a workload does not say otherwise."""

SEED = 7
FAULT_SHARE = 0.02


@dataclass
class Planted:
    """What was put into a project: bytes, records by planted fault, and by the disposition they must get."""

    events: int = 0
    bytes: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)

    @property
    def bytes_per_event(self) -> float:
        return self.bytes / self.events

    def add(self, sent: Sent) -> None:
        """Count records that are put in, each with the line feed that ends it in a file."""
        self.events += sent.block.num_rows
        self.bytes += pc.sum(pc.binary_length(sent.block["value"])).as_py() + sent.block.num_rows
        _count(self.faults, sent.truth["fault"].drop_null())
        _count(self.expected, sent.truth["expected"])


def declare(folder: Path, source: str, **limits: int) -> None:
    """Write the project: settings (`limits` where they are not the default), the ticks pipeline, its reference."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / INPUT).mkdir()
    set_limits = "".join(f"  {name}: {value}\n" for name, value in limits.items())
    (folder / "penstock.yaml").write_text("lake: lake\n" + ("limits:\n" + set_limits if limits else ""))
    (folder / "pipelines" / "ticks.yaml").write_text(PIPELINE.replace("SOURCE", source))
    rows = "".join(f"INST-{at:05d},{CURRENCIES[at % len(CURRENCIES)]}\n" for at in range(INSTRUMENTS))
    (folder / "instruments.csv").write_text("instrument_id,currency\n" + rows)


def put_lake(folder: Path, uri: str) -> None:
    """Let the project's lake be a new one below `uri`."""
    file = folder / "penstock.yaml"
    others = file.read_text().partition("\n")[2]
    file.write_text(f"lake: {uri.rstrip('/')}/{uuid.uuid4().hex}\n{others}")


def market(rate: int = RATE) -> World:
    """The world that all ticks come from; the same rate gives the same bytes."""
    return open_world("market", seed=SEED, rate=rate, faults=FAULT_SHARE)


def ticks(events: int, rate: int = RATE) -> Iterator[Sent]:
    """The first `events` records of the world, in steps."""
    world = market(rate)
    for first in range(0, events, SIMULATED_ROWS_PER_STEP):
        yield world.make(first, min(SIMULATED_ROWS_PER_STEP, events - first))


def one_file(folder: Path, events: int) -> Planted:
    """A project with all its ticks in one file, in the order of their arrival."""
    declare(folder, FILES)
    planted = Planted()
    with (folder / INPUT / "ticks.ndjson").open("wb") as file:
        for sent in ticks(events):
            file.write(lines(sent.block["value"]))
            planted.add(sent)
    return planted


def lines(values: pa.Array | pa.ChunkedArray) -> bytes:
    """Records as the lines of a file."""
    return b"".join(value + b"\n" for value in values.to_pylist())


def _count(totals: dict[str, int], values: pa.ChunkedArray) -> None:
    for entry in pc.value_counts(values).to_pylist():
        name = str(entry["values"])
        totals[name] = totals.get(name, 0) + entry["counts"]
