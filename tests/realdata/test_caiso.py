"""Californian power prices of 2024: hours as local texts, negative prices, days of 23, 24 and 25 hours."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import cycle
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from realdata.recordings import by, data_file, make_project, rows, run_and_audit, text_of

if TYPE_CHECKING:
    from pathlib import Path

ZONE = ZoneInfo("America/Los_Angeles")
PRICES = "caiso/price_data.csv.gz"
SPRING, AUTUMN = datetime(2024, 3, 10), datetime(2024, 11, 3)  # noqa: DTZ001 - local days, as in the file

PIPELINE = """
pipeline: power
source:
  files: {path: incoming}
  format: csv
silver:
  table: power
  key: [node, market, hour]
  event_time: hour
  late_after: 1 day
  columns:
    node: {type: string, from: NODE_ID, required: true}
    market: {type: string, from: name, required: true}
    hour: {type: timestamp, from: time, timezone: America/Los_Angeles, required: true, fold: FOLD}
    day: {type: date, from: OPR_DT}
    price: {type: "decimal(26,20)", from: "\\"$ Price Per MW\\"", required: true}
  rules:
    paid: {check: price >= 0, otherwise: flag}
gold:
  daily:
    window: {size: 1 day, timezone: America/Los_Angeles}
    by: [node, market]
    measures: {hours: count(), low: min(price), high: max(price), total: sum(price), first_price: first(price)}
  weekly:
    window: {size: 1 week, timezone: America/Los_Angeles}
    by: [market]
    measures: {hours: count(), mean: avg(price), negative: "count() filter (where price < 0)"}
"""


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def local(text: str, fold: int = 0) -> datetime | None:
    """The instant a local text means; None for one in the gap."""
    instant = datetime.fromisoformat(text).replace(tzinfo=ZONE, fold=fold).astimezone(UTC)
    there_and_back = instant.astimezone(ZONE).replace(tzinfo=None)
    return instant if there_and_back == datetime.fromisoformat(text) else None


def day_of(instant: datetime) -> datetime:
    return instant.astimezone(ZONE).replace(hour=0, fold=0)


def check_against(folder: Path, counted: dict[str, Any], lines: list[dict[str, str]], fold: int) -> None:
    """Everything Penstock says about the lines, against plain Python."""
    kept: dict[tuple[str, str, datetime], Decimal] = {}
    in_gap = 0
    for line in lines:
        instant = local(line["time"], fold)
        if instant is None:
            in_gap += 1
        else:
            kept.setdefault((line["NODE_ID"], line["name"], instant), Decimal(line["$ Price Per MW"]))
    report = counted["power"]
    assert report["records"] == len(lines)
    assert report["quarantined"] == in_gap
    assert report["accepted"] == len(kept)
    assert report["duplicate"] == len(lines) - in_gap - len(kept)
    assert report["flagged"] == sum(price < 0 for price in kept.values()) > 0
    silver = by(rows(folder, "select node, market, hour, price from silver.power"), "node", "market", "hour")
    assert {key: row["price"] for key, row in silver.items()} == kept

    days: dict[Any, dict[datetime, Decimal]] = defaultdict(dict)
    weeks: dict[Any, list[Decimal]] = defaultdict(list)
    for (node, market, hour), price in kept.items():
        day = day_of(hour)
        days[day.astimezone(UTC), node, market][hour] = price
        monday = (day.replace(tzinfo=None) - timedelta(days=day.weekday())).replace(tzinfo=ZONE)
        weeks[monday.astimezone(UTC), market].append(price)
    daily = by(rows(folder, "select * from gold.daily"), "window_start", "node", "market")
    assert daily.keys() == days.keys()
    for key, prices in days.items():
        row, start = daily[key], key[0].astimezone(ZONE).replace(tzinfo=None)
        assert row["window_end"] == (start + timedelta(days=1)).replace(tzinfo=ZONE).astimezone(UTC)
        length = timedelta(hours={SPRING: 23, AUTUMN: 25}.get(start, 24))
        assert row["window_end"] - row["window_start"] == length
        assert row["hours"] == row["_rows"] == len(prices)
        assert (row["low"], row["high"]) == (min(prices.values()), max(prices.values()))
        assert row["total"] == sum(prices.values())
        assert row["first_price"] == prices[min(prices)]
    weekly = by(rows(folder, "select * from gold.weekly"), "window_start", "market")
    assert weekly.keys() == weeks.keys()
    for key, found in weeks.items():
        assert weekly[key]["hours"] == len(found)
        assert weekly[key]["negative"] == sum(price < 0 for price in found)
        assert weekly[key]["mean"] == pytest.approx(float(sum(found) / len(found)), rel=1e-12)


def test_prices_of_a_year(tmp_path: Path) -> None:
    """The file as it is. Its hours 1 to 9 were lost when somebody made it, so it has no gap and no overlap."""
    raw = data_file(PRICES)
    folder = make_project(
        tmp_path / "caiso", {"incoming/prices.csv.gz": raw.read_bytes()}, power=PIPELINE.replace("FOLD", "earlier")
    )
    counted = run_and_audit(folder, batch_rows=15_000)
    lines = lines_of(text_of(raw))
    assert len(lines) == 43_888
    check_against(folder, counted, lines, fold=0)


@pytest.mark.parametrize(("fold", "number"), [("earlier", 0), ("later", 1)])
def test_every_hour_of_the_days_when_clocks_change(fold: str, number: int, tmp_path: Path) -> None:
    """Real prices under all 24 local hours of the weeks around both changes, the doubled hour twice."""
    lines = lines_of(text_of(data_file(PRICES)))
    chosen = []
    for change in (SPRING, AUTUMN):
        for node, market in sorted({(line["NODE_ID"], line["name"]) for line in lines}):
            near = [line for line in lines if (line["NODE_ID"], line["name"]) == (node, market)]
            prices = cycle(line["$ Price Per MW"] for line in near if abs(at(line) - change) < timedelta(days=4))
            for hour in range(5 * 24):
                time = change + timedelta(days=-2, hours=hour)
                times = 2 if time == AUTUMN + timedelta(hours=1) else 1
                chosen += [[node, str(time), market, next(prices), str(time.date())] for _ in range(times)]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([["NODE_ID", "time", "name", "$ Price Per MW", "OPR_DT"], *chosen])
    folder = make_project(
        tmp_path / "dst", {"incoming/a.csv": out.getvalue().encode()}, power=PIPELINE.replace("FOLD", fold)
    )
    counted = run_and_audit(folder, batch_rows=500)
    assert (counted["power"]["quarantined"], counted["power"]["duplicate"]) == (8, 8)
    check_against(folder, counted, lines_of(out.getvalue()), number)
    refused = rows(folder, "select failed, decode(value) as line from rejects.power where disposition = 'quarantined'")
    assert {(tuple(row["failed"]), "2024-03-10 02:00:00" in row["line"]) for row in refused} == {(("type:hour",), True)}


def at(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["time"])
