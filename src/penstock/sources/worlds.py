"""Made-up worlds, market ticks and sensor readings: JSON records as a function of (seed, ordinal), built in columns.

`faults.py` says what goes wrong; `simulate.py` delivers the records as a source or sends them somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import UsageError
from penstock.sources.contract import HEADERS_TYPE, UTC_MICROSECONDS
from penstock.sources.faults import Fault, Planted, plant
from penstock.sources.noise import Draws, below, draw, unit
from penstock.sources.records import BLOCK_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

START_US = 1_736_121_600_000_000
"""2025-01-06 00:00 UTC, a Monday: event time of the first record. In the past, so that no record is too far ahead."""

RECORD_BYTES = 512
"""More than any simulated record holds, key included."""

Fields = dict[str, pa.Array]
"""Field name -> its JSON text for each record, in the order of the record."""

INSTRUMENTS = 1_000
VENUES = ("XNAS", "XNYS", "BATS", "IEXG")
CURRENCIES = ("USD", "EUR", "GBP", "JPY", "CHF")
SECTORS = ("energy", "metals", "grain", "power", "equity", "rates", "credit")
CONDITIONS = ("regular", "opening", "closing", "odd_lot")

DEVICES = 500
SITES = ("harbour", "mill", "tower", "depot")
METRICS = ("temperature", "humidity", "pressure", "co2")
METRIC_CENTRES = np.array([21.0, 45.0, 1013.0, 600.0])
METRIC_SPREADS = np.array([6.0, 20.0, 15.0, 250.0])
FIRMWARES = ("1.4.2", "1.5.0", "2.0.1")


@dataclass(frozen=True)
class Sent:
    """Records in BLOCK_SCHEMA and, row by row, what was planted in them (TRUTH_SCHEMA)."""

    block: pa.Table
    truth: pa.Table


@dataclass(frozen=True)
class World:
    """A world with its seed. `faults` is the share of faulty records, `tick_us` the event time between two records.

    Records before `first` may have been made by another world, or by nobody: none of them is doubled.
    """

    name: str
    seed: int
    faults: float
    tick_us: int
    start_us: int = START_US
    first: int = 0

    def make(self, start: int, count: int) -> Sent:
        """Records [start, start + count): always the same for the same world."""
        planted = plant(self.seed, self.faults, start, count, self.first)
        event_us = self.start_us + planted.events * self.tick_us - planted.back_us(self.seed)
        about = _About(self.seed, planted, event_us)
        keys, fields = WORLDS[self.name](about)
        sent_us = pa.array(self.start_us + planted.ordinals * self.tick_us).view(UTC_MICROSECONDS)
        columns = {
            "timestamp": sent_us,
            "key": keys,
            "value": _broken(about, _objects(fields)),
            "headers": pa.nulls(count, HEADERS_TYPE),
        }
        block = pa.Table.from_arrays([columns[name] for name in BLOCK_SCHEMA.names], schema=BLOCK_SCHEMA)
        return Sent(block, planted.truth())


def open_world(name: str, *, seed: int, rate: int, faults: float, start_us: int = START_US, first: int = 0) -> World:
    """The world `name` in which `rate` records a second of event time are sent, from ordinal `first` on.

    Raises:
        UsageError: there is no such world, or a number is out of its range.
    """
    if name not in WORLDS:
        raise UsageError(f"no world is called {name!r}", hint=f"The worlds are {', '.join(sorted(WORLDS))}.")
    if not 0 <= faults <= 1:
        raise UsageError(f"a share of {faults} faulty records", hint="faults: from 0 to 1, for example 0.02")
    if rate < 1:
        raise UsageError(f"a rate of {rate} records a second", hint="rate: at least 1")
    return World(name, seed, faults, max(1, 1_000_000 // rate), start_us, first)


@dataclass(frozen=True)
class _About:
    """What a world needs to know of some records: seed, faults, event times."""

    seed: int
    planted: Planted
    event_us: NDArray[np.int64]

    def draw(self, stream: str) -> Draws:
        """Random numbers of the events: equal for a double and its original."""
        return draw(self.seed, stream, self.planted.events)

    def pick(self, stream: str, names: pa.Array | tuple[str, ...]) -> pa.Array:
        options = pa.array(names, pa.binary()) if isinstance(names, tuple) else names
        return options.take(pa.array(below(self.draw(stream), len(options))))

    def where(self, fault: Fault, faulty: pa.Array | bytes, sound: pa.Array) -> pa.Array:
        """`faulty` in the records with the fault, `sound` in the others."""
        chosen = self.planted.is_(fault)
        if not chosen.any():
            return sound
        other = pa.scalar(faulty, pa.binary()) if isinstance(faulty, bytes) else faulty
        return pc.if_else(pa.array(chosen), other, sound)


# -- the market -------------------------------------------------------------------------------------------------------


def _market(about: _About) -> tuple[pa.Array, Fields]:
    number = below(about.draw("instrument"), INSTRUMENTS)
    names = _names("INST-", 5, INSTRUMENTS).take(pa.array(number))
    instrument = about.where(Fault.UNKNOWN, _joined(b"GHOST-", names), names)
    # A price of its own per instrument, a slow wave for all, and a little noise; in hundredths.
    base = 500 + (number * 7919) % 49_500
    wave = 1 + 0.05 * np.sin(about.event_us / 6e8 + number) + 0.01 * (unit(about.draw("price")) - 0.5)
    price = _hundredths((base * wave).astype(np.int64))
    price = about.where(Fault.VIOLATION, b"2000000.5", about.where(Fault.WRONG_TYPE, b'"n/a"', price))
    fields = {
        "instrument_id": _quoted(instrument),
        "venue": _quoted(about.pick("venue", VENUES)),
        "sequence": _integers(about.planted.events),
        "ts": _integers(about.event_us // 1_000),
        "price": price,
        "quantity": _integers(1 + below(about.draw("quantity"), 500)),
        "side": _quoted(about.pick("side", ("buy", "sell"))),
        "condition": _quoted(about.pick("condition", CONDITIONS)),
        "order_id": _quoted(_hexadecimal(about.draw("order"))),
    }
    return names, _with_extra(about, fields)


def instruments() -> pa.Table:
    """The reference of the market world: instrument_id, currency, lot, sector."""
    number = np.arange(INSTRUMENTS)
    return pa.table(
        {
            "instrument_id": _names("INST-", 5, INSTRUMENTS).cast(pa.string()),
            "currency": pa.array([CURRENCIES[index % len(CURRENCIES)] for index in number]),
            "lot": pa.array(10 ** (number % 3), pa.int32()),
            "sector": pa.array([SECTORS[index % len(SECTORS)] for index in number]),
        }
    )


# -- the sensors ------------------------------------------------------------------------------------------------------


def _iot(about: _About) -> tuple[pa.Array, Fields]:
    number = below(about.draw("device"), DEVICES)
    names = _names("dev-", 4, DEVICES).take(pa.array(number))
    device = about.where(Fault.UNKNOWN, _joined(b"ghost-", names), names)
    metric = below(about.draw("metric"), len(METRICS))
    wave = np.sin(about.event_us / 1.4e10 + number) + 0.1 * (unit(about.draw("value")) - 0.5)
    value = _hundredths(((METRIC_CENTRES[metric] + METRIC_SPREADS[metric] * wave) * 100).astype(np.int64))
    value = about.where(Fault.VIOLATION, b"99999.9", about.where(Fault.WRONG_TYPE, b'"overflow"', value))
    times = pa.array(about.event_us // 1_000).view(pa.timestamp("ms")).cast(pa.string()).cast(pa.binary())
    location = _joined(
        b'{"lat":', _hundredths(4_700 + number % 500), b',"lon":', _hundredths(700 + number % 900), b',"site":',
        _quoted(pa.array(SITES, pa.binary()).take(pa.array(number % len(SITES)))), b"}",
    )  # fmt: skip
    fields = {
        "device_id": _quoted(device),
        "metric": _quoted(pa.array(METRICS, pa.binary()).take(pa.array(metric))),
        "value": value,
        "ts": _joined(b'"', pc.replace_substring(times, b" ", b"T"), b'Z"'),
        "sequence": _integers(about.planted.events),
        "battery": _integers(20 + below(about.draw("battery"), 81)),
        "firmware": _quoted(pa.array(FIRMWARES, pa.binary()).take(pa.array(number % len(FIRMWARES)))),
        "location": location,
    }
    return names, _with_extra(about, fields)


def devices() -> pa.Table:
    """The reference of the sensor world: device_id, site, model, installed."""
    number = np.arange(DEVICES)
    return pa.table(
        {
            "device_id": _names("dev-", 4, DEVICES).cast(pa.string()),
            "site": pa.array([SITES[index % len(SITES)] for index in number]),
            "model": pa.array([f"PS-{100 + index % 7}" for index in number]),
            "installed": pa.array(18_000 + number % 1_500, pa.int32()).cast(pa.date32()),
        }
    )


WORLDS: Mapping[str, Callable[[_About], tuple[pa.Array, Fields]]] = {"market": _market, "iot": _iot}
"""World name -> keys and fields of its records."""


# -- text in columns --------------------------------------------------------------------------------------------------


def _joined(*parts: pa.Array | bytes) -> pa.Array:
    texts = [pa.scalar(part, pa.binary()) if isinstance(part, bytes) else part for part in parts]
    return pc.binary_join_element_wise(*texts, pa.scalar(b"", pa.binary()), null_handling="skip")


def _quoted(text: pa.Array) -> pa.Array:
    return _joined(b'"', text, b'"')


def _integers(numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array(numbers).cast(pa.string()).cast(pa.binary())


_TWO_DIGITS = pa.array([f".{number:02d}".encode() for number in range(100)], pa.binary())


def _hundredths(numbers: NDArray[np.int64]) -> pa.Array:
    """Non-negative hundredths as decimal text."""
    numbers = np.abs(numbers)
    return _joined(_integers(numbers // 100), _TWO_DIGITS.take(pa.array(numbers % 100)))


_HEX = np.array([list(f"{number:02x}".encode()) for number in range(256)], np.uint8)


def _hexadecimal(draws: Draws) -> pa.Array:
    digits = _HEX[draws.view(np.uint8)]
    offsets = np.arange(len(draws) + 1, dtype=np.int32) * 16
    return pa.Array.from_buffers(pa.binary(), len(draws), [None, pa.py_buffer(offsets), pa.py_buffer(digits)])


def _names(prefix: str, digits: int, count: int) -> pa.Array:
    return pa.array([f"{prefix}{number:0{digits}d}".encode() for number in range(count)], pa.binary())


def _with_extra(about: _About, fields: Fields) -> Fields:
    """One more field in the records whose fault that is; null in the others, which leaves it out."""
    chosen = about.planted.is_(Fault.EXTRA)
    if chosen.any():
        note = pa.scalar(b'"a field that nobody declared"', pa.binary())
        fields["note"] = pc.if_else(pa.array(chosen), note, pa.scalar(None, pa.binary()))
    return fields


def _objects(fields: Fields) -> pa.Array:
    """JSON objects; a field that is null is left out (never the first one)."""
    parts: list[pa.Array | bytes] = []
    for index, (name, text) in enumerate(fields.items()):
        lead = (b"," if index else b"{") + b'"' + name.encode() + b'":'
        parts += [_joined_or_null(lead, text)] if text.null_count else [lead, text]
    return _joined(*parts, b"}")


def _joined_or_null(lead: bytes, text: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(lead), text, pa.scalar(b"", pa.binary()), null_handling="emit_null")


def _broken(about: _About, values: pa.Array) -> pa.Array:
    """The records whose fault it is, made unreadable in one of five ways."""
    chosen = about.planted.is_(Fault.BROKEN)
    if not chosen.any():
        return values
    victims = values.filter(pa.array(chosen))
    inside = pc.binary_slice(victims, 1, -1)
    ways = [
        pc.binary_slice(victims, 0, 60),
        _joined(b"{", inside, b",}"),
        _joined(b'{"\xff":1,', inside, b"}"),
        _joined(b'{"odd":NaN,', inside, b"}"),
        _joined(b"no JSON: ", inside),
    ]
    which = below(draw(about.seed, "way", about.planted.ordinals[chosen]), len(ways))
    rows = np.arange(len(victims))
    broken = pa.concat_arrays(ways).take(pa.array(which * len(victims) + rows))
    return pc.replace_with_mask(values, pa.array(chosen), broken)
