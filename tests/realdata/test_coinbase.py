"""A recorded Coinbase session as it was recorded: three pipelines over one file, against plain Python."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realdata.recordings import by, data_file, make_project, received, rows, run_and_audit, text_of

if TYPE_CHECKING:
    from pathlib import Path

RECORDING = "cryptofeed/COINBASE.ws.28.0.gz"

SOURCE = r"""
source:
  files: {path: incoming}
  format: {text: {pattern: '^(?P<received>[0-9]+\.[0-9]+): (?P<payload>\{.*\})$', json: payload}}
"""

MATCHES = f"""
pipeline: matches
{SOURCE}
  where: type = 'match' or type = 'last_match'
silver:
  table: matches
  key: [product, trade_id]
  event_time: at
  order: [sequence]
  late_after: 1 second
  columns:
    product: {{type: string, from: product_id, required: true}}
    trade_id: {{type: int64}}
    sequence: {{type: int64, from: payload.sequence}}
    at: {{type: timestamp, from: time}}
    price: {{type: "decimal(18,8)", required: true}}
    size: {{type: "decimal(20,8)", required: true}}
    side: {{type: string}}
    received: {{type: "decimal(18,7)"}}
    notional: {{type: "decimal(38,16)", sql: price * size}}
gold:
  bars:
    window: 5 seconds
    by: [product]
    measures:
      open: first(price)
      high: max(price)
      low: min(price)
      close: last(price)
      volume: sum(size)
      notional: sum(notional)
      vwap: sum(price * size) / sum(size)
      trades: count()
  sides:
    window: 1 minute
    by: [side]
    measures: {{products: count_distinct(product), trades: count()}}
"""

TICKERS = f"""
pipeline: tickers
{SOURCE}
  where: type = 'ticker'
silver:
  table: tickers
  key: [product, sequence]
  event_time: at
  columns:
    product: {{type: string, from: product_id}}
    sequence: {{type: int64}}
    at: {{type: timestamp, from: time}}
    arrived: {{type: timestamp, from: received, unit: s}}
    price: {{type: "decimal(18,8)"}}
    bid: {{type: "decimal(18,8)", from: best_bid}}
    ask: {{type: "decimal(18,8)", from: best_ask}}
    spread: {{type: "decimal(19,8)", sql: ask - bid}}
  rules:
    within: {{check: price between bid and ask, otherwise: flag}}
gold:
  spreads:
    window: 1 minute
    by: [product]
    measures: {{widest: max(spread), mean: avg(spread), last_price: last(price)}}
"""

BOOK = f"""
pipeline: book
{SOURCE}
  where: type = 'l2update'
silver:
  table: book
  event_time: at
  late_after: 2 seconds
  columns:
    product: {{type: string, from: product_id}}
    at: {{type: timestamp, from: time}}
    side: {{type: string, from: "changes[0][0]"}}
    price: {{type: "decimal(24,10)", from: "changes[0][1]"}}
    size: {{type: "decimal(24,10)", from: "changes[0][2]"}}
  rules:
    kept: {{check: size > 0, otherwise: flag}}
gold:
  flow:
    window: {{size: 10 seconds, every: 5 seconds}}
    by: [product, side]
    measures: {{changes: count(), removed: "count() filter (where size = 0)", size: sum(size), top: max(price)}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = data_file(RECORDING)
    return make_project(
        tmp_path_factory.mktemp("real") / "coinbase",
        {"incoming/session.log.gz": recording.read_bytes()},
        matches=MATCHES,
        tickers=TICKERS,
        book=BOOK,
    )


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[str, Any]:
    return run_and_audit(folder, batch_rows=3000)


@pytest.fixture(scope="module")
def messages() -> list[dict[str, Any]]:
    """Every received message, with its time of arrival as `received`."""
    return [{**json.loads(payload), "received": at} for at, payload in received(data_file(RECORDING))]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def window(at: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)


def unique(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The first of each product and `name`, as a key chooses."""
    first: dict[Any, dict[str, Any]] = {}
    for message in found:
        first.setdefault((message["product_id"], message[name]), message)
    return list(first.values())


def test_every_line_is_accounted_for(counted: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    lines = [line for line in text_of(data_file(RECORDING)).splitlines() if line]  # blank lines are no records
    sent = len(lines) - len(messages)
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in messages:
        kinds[message["type"]].append(message)
    matches = kinds["match"] + kinds["last_match"]
    seven_digits = [m for m in kinds["ticker"] if len(m["received"].split(".")[1]) > 6]
    expected = {
        "matches": (len(unique(matches, "trade_id")), sent, len(matches)),
        "tickers": (len(kinds["ticker"]) - len(seven_digits), sent + len(seven_digits), len(kinds["ticker"])),
        "book": (len(kinds["l2update"]), sent, len(kinds["l2update"])),
    }
    assert seven_digits, "the recording has times that microseconds do not hold"
    for name, (accepted, quarantined, selected) in expected.items():
        report = counted[name]
        assert report["records"] == len(lines)
        assert report["accepted"] == accepted
        assert report["quarantined"] == quarantined
        assert report["skipped"] == len(messages) - selected
        assert report["accepted"] + report["quarantined"] + report["duplicate"] + report["skipped"] == len(lines)


def test_matches(folder: Path, counted: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    matches = unique([m for m in messages if m["type"] in ("match", "last_match")], "trade_id")
    silver = by(rows(folder, "select * from silver.matches"), "product", "trade_id")
    assert len(silver) == len(matches)
    for match in matches:
        row = silver[match["product_id"], match["trade_id"]]
        assert row["price"] == Decimal(match["price"])
        assert row["size"] == Decimal(match["size"])
        assert row["at"] == instant(match["time"])
        assert row["received"] == Decimal(match["received"])
        assert row["notional"] == Decimal(match["price"]) * Decimal(match["size"])
        undeclared = json.loads(row["_extra"])
        assert undeclared["maker_order_id"] == match["maker_order_id"]
        assert undeclared["type"] == match["type"]

    windows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for match in matches:
        windows[window(instant(match["time"]), 5), match["product_id"]].append(match)
    bars = by(rows(folder, "select * from gold.bars"), "window_start", "product")
    assert bars.keys() == windows.keys()
    for key, members in windows.items():
        members.sort(key=lambda m: (instant(m["time"]), m["sequence"]))
        prices = [Decimal(m["price"]) for m in members]
        sizes = [Decimal(m["size"]) for m in members]
        bar = bars[key]
        assert (bar["open"], bar["close"]) == (prices[0], prices[-1])
        assert (bar["high"], bar["low"]) == (max(prices), min(prices))
        assert bar["volume"] == sum(sizes)
        notional = sum(price * size for price, size in zip(prices, sizes, strict=True))
        assert bar["notional"] == notional
        assert bar["vwap"] == pytest.approx(float(notional / sum(sizes)), rel=1e-12)
        assert bar["trades"] == bar["_rows"] == len(members)

    sides = by(rows(folder, "select * from gold.sides"), "window_start", "side")
    for (start, side), row in sides.items():
        members = [m for m in matches if (window(instant(m["time"]), 60), m["side"]) == (start, side)]
        assert row["trades"] == len(members)
        assert row["products"] == len({m["product_id"] for m in members})
    assert sum(row["trades"] for row in sides.values()) == len(matches)


def test_tickers(folder: Path, counted: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """An arrival that microseconds do not hold is refused with its reason, never rounded."""
    tickers = [m for m in messages if m["type"] == "ticker"]
    kept = [m for m in tickers if len(m["received"].split(".")[1]) <= 6]
    silver = by(rows(folder, "select * from silver.tickers"), "product", "sequence")
    assert silver.keys() == {(m["product_id"], m["sequence"]) for m in kept}
    for ticker in kept:
        row = silver[ticker["product_id"], ticker["sequence"]]
        price, bid, ask = (Decimal(ticker[name]) for name in ("price", "best_bid", "best_ask"))
        assert (row["price"], row["bid"], row["ask"], row["spread"]) == (price, bid, ask, ask - bid)
        assert row["arrived"] == instant_of_epoch(ticker["received"])
        assert row["_flags"] == ([] if bid <= price <= ask else ["within"])
    refused = rows(folder, "select failed from rejects.tickers")
    assert sum(row["failed"] == ["type:arrived"] for row in refused) == len(tickers) - len(kept)
    assert sum(row["failed"] == ["malformed"] for row in refused) == len(refused) - (len(tickers) - len(kept))

    windows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for ticker in kept:
        windows[window(instant(ticker["time"]), 60), ticker["product_id"]].append(ticker)
    spreads = by(rows(folder, "select * from gold.spreads"), "window_start", "product")
    assert spreads.keys() == windows.keys()
    for key, members in windows.items():
        found = [Decimal(m["best_ask"]) - Decimal(m["best_bid"]) for m in members]
        assert spreads[key]["widest"] == max(found)
        assert spreads[key]["mean"] == pytest.approx(float(sum(found) / len(found)), rel=1e-12)


def instant_of_epoch(text: str) -> datetime:
    seconds, fraction = text.split(".")
    return datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(fraction.ljust(6, "0")))


def test_book(folder: Path, counted: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    updates = [m for m in messages if m["type"] == "l2update"]
    assert {len(m["changes"]) for m in updates} == {1}
    windows: dict[Any, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for update in updates:
        side, price, size = update["changes"][0]
        first = window(instant(update["time"]), 5)
        for start in (first, datetime.fromtimestamp(first.timestamp() - 5, UTC)):
            windows[start, update["product_id"], side].append((Decimal(price), Decimal(size)))
    flow = by(rows(folder, "select * from gold.flow"), "window_start", "product", "side")
    assert flow.keys() == windows.keys()
    for key, members in windows.items():
        row = flow[key]
        assert row["changes"] == row["_rows"] == len(members)
        assert row["removed"] == sum(size == 0 for _, size in members)
        assert row["size"] == sum(size for _, size in members)
        assert row["top"] == max(price for price, _ in members)
    flagged = rows(folder, "select count(*) as n from silver.book where list_contains(_flags, 'kept')")
    assert flagged[0]["n"] == sum(Decimal(m["changes"][0][2]) == 0 for m in updates) == counted["book"]["flagged"]
