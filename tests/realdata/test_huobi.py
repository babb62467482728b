"""A recorded Huobi session: trades in lists inside the messages, reached with `records`, `where` and `^.`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import pytest

from realdata.recordings import by, data_file, make_project, received, rows, run_and_audit, unpacked

if TYPE_CHECKING:
    from pathlib import Path

RECORDING = "cryptofeed/HUOBI_SWAP.ws.1.0.gz"

TRADES = """
pipeline: trades
source:
  files: {path: incoming}
  format: json
  records: tick.data
  where: ^.ch like 'market.%.trade.detail'
silver:
  table: trades
  key: [channel, trade_id]
  event_time: at
  columns:
    channel: {type: string, from: ^.ch, required: true}
    trade_id: {type: int64, from: id}
    at: {type: timestamp, from: ts, unit: ms}
    sent: {type: timestamp, from: ^.ts, unit: ms}
    tick: {type: int64, from: ^.tick.id}
    price: {type: "decimal(20,10)", required: true}
    amount: {type: int64, required: true}
    coins: {type: float64, from: quantity}
    direction: {type: string}
    delay: {type: int64, sql: "date_diff('millisecond', at, sent)"}
gold:
  flow:
    window: 5 seconds
    by: [channel, direction]
    measures: {trades: count(), amount: sum(amount), coins: sum(coins), last_price: last(price), slowest: max(delay)}
"""

DEPTH = """
pipeline: depth
source:
  files: {path: incoming}
  format: json
  where: ch like 'market.%.depth.step0'
silver:
  table: depth
  key: [channel, version]
  event_time: at
  late_after: 1 second
  columns:
    channel: {type: string, from: ch}
    version: {type: int64, from: tick.version}
    at: {type: timestamp, from: tick.ts, unit: ms}
    bid: {type: "decimal(20,10)", from: "tick.bids[0][0]"}
    ask: {type: "decimal(20,10)", from: "tick.asks[0][0]"}
    bid_size: {type: int64, from: "tick.bids[0][1]"}
    middle: {type: float64, sql: (bid + ask) / 2}
  rules:
    uncrossed: {check: bid < ask}
gold:
  quotes:
    window: 10 seconds
    by: [channel]
    measures:
      quotes: count()
      best: max(bid)
      mean: avg(bid)
      spread: stddev(bid)
      median: quantile(bid, 0.5)
      p90: quantile(bid_size, 0.9)
      prices: count_distinct(bid)
"""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Every message as the exchange sent it, unpacked."""
    return [unpacked(payload) for _, payload in received(data_file(RECORDING))]


@pytest.fixture(scope="module")
def messages(texts: list[str]) -> list[dict[str, Any]]:
    return [json.loads(text, parse_float=Decimal) for text in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    half = len(texts) // 2
    return make_project(
        tmp_path_factory.mktemp("real") / "huobi",
        {
            "incoming/0.ndjson": "".join(f"{text}\n" for text in texts[:half]).encode(),
            "incoming/1.ndjson": "".join(f"{text}\n" for text in texts[half:]).encode(),
        },
        trades=TRADES,
        depth=DEPTH,
    )


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[str, Any]:
    return run_and_audit(folder, batch_rows=400)


def instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


def window(milliseconds: int, seconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000 // seconds * seconds, UTC)


def test_trades(folder: Path, counted: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """A message without the list is malformed for a pipeline over its elements; one of another channel too."""
    sent = [(message, trade) for message in messages for trade in (message.get("tick") or {}).get("data") or []]
    assert counted["trades"]["records"] == len(messages)
    assert counted["trades"]["accepted"] == len(sent) > 0
    silver = by(rows(folder, "select * from silver.trades"), "channel", "trade_id")
    assert silver.keys() == {(message["ch"], trade["id"]) for message, trade in sent}
    for message, trade in sent:
        row = silver[message["ch"], trade["id"]]
        assert (row["at"], row["sent"]) == (instant(trade["ts"]), instant(message["ts"]))
        assert row["tick"] == message["tick"]["id"]
        assert (row["price"], row["amount"]) == (Decimal(trade["price"]), trade["amount"])
        assert row["coins"] == float(trade["quantity"])
        assert row["direction"] == trade["direction"]
        assert row["delay"] == message["ts"] - trade["ts"]
    windows: dict[Any, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for message, trade in sent:
        windows[window(trade["ts"], 5), message["ch"], trade["direction"]].append((message, trade))
    flow = by(rows(folder, "select * from gold.flow"), "window_start", "channel", "direction")
    assert flow.keys() == windows.keys()
    for key, members in windows.items():
        row = flow[key]
        assert row["trades"] == row["_rows"] == len(members)
        assert row["amount"] == sum(trade["amount"] for _, trade in members)
        assert row["coins"] == pytest.approx(math.fsum(float(trade["quantity"]) for _, trade in members), rel=1e-9)
        assert row["slowest"] == max(message["ts"] - trade["ts"] for message, trade in members)


def test_depth(folder: Path, counted: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    books = [message for message in messages if ".depth." in message.get("ch", "")]
    assert counted["depth"]["records"] == len(messages)
    assert counted["depth"]["skipped"] == len(messages) - len(books)
    first: dict[Any, dict[str, Any]] = {}
    crossed = 0
    for book in books:
        if book["tick"]["bids"][0][0] < book["tick"]["asks"][0][0]:
            first.setdefault((book["ch"], book["tick"]["version"]), book)
        else:
            crossed += 1
    assert counted["depth"]["accepted"] == len(first)
    assert counted["depth"]["quarantined"] == crossed
    assert counted["depth"]["duplicate"] == len(books) - len(first) - crossed
    silver = by(rows(folder, "select * from silver.depth"), "channel", "version")
    assert silver.keys() == first.keys()
    windows: dict[Any, list[tuple[Decimal, int]]] = defaultdict(list)
    for key, book in first.items():
        price, size = book["tick"]["bids"][0]
        row = silver[key]
        assert (row["bid"], row["bid_size"], row["ask"]) == (price, size, book["tick"]["asks"][0][0])
        assert row["middle"] == pytest.approx(float((price + row["ask"]) / 2), rel=1e-12)
        assert row["at"] == instant(book["tick"]["ts"])
        windows[window(book["tick"]["ts"], 10), book["ch"]].append((Decimal(price), size))
    quotes = by(rows(folder, "select * from gold.quotes"), "window_start", "channel")
    assert quotes.keys() == windows.keys()
    for key, members in windows.items():
        row, prices, sizes = quotes[key], [price for price, _ in members], [size for _, size in members]
        mean = sum(prices) / len(prices)
        assert row["quotes"] == len(members)
        assert row["best"] == max(prices)
        assert row["prices"] == len(set(prices))
        assert row["mean"] == pytest.approx(float(mean), rel=1e-12)
        if len(members) == 1:
            assert row["spread"] is None
            continue
        variance = sum((price - mean) ** 2 for price in prices) / (len(prices) - 1)
        assert row["spread"] == pytest.approx(math.sqrt(variance), rel=1e-9, abs=1e-12)
        assert row["median"] == pytest.approx(quantiles(map(float, prices), n=2, method="inclusive")[0], rel=1e-12)
        assert row["p90"] == pytest.approx(quantiles(sizes, n=10, method="inclusive")[8], rel=1e-12)
