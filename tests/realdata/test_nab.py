"""Sensor series of the Numenta benchmark: many gzipped CSV files, hourly and daily statistics, doubled times."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import quantiles, stdev
from typing import TYPE_CHECKING, Any

import pytest

from realdata.recordings import by, data_file, make_project, rows, run_and_audit, text_of

if TYPE_CHECKING:
    from pathlib import Path

SERIES = (
    "realAWSCloudwatch/ec2_network_in_5abac7",
    "realAdExchange/exchange-2_cpc_results",
    "realKnownCause/machine_temperature_system_failure",
    "realKnownCause/nyc_taxi",
    "realTraffic/speed_t4013",
    "realTweets/Twitter_volume_AAPL",
)
"""Some with doubled times, one of whole numbers, one that starts in the middle of an hour."""

PIPELINE = r"""
pipeline: sensors
source:
  files: {path: incoming}
  format: csv
silver:
  table: sensors
  key: [series, at]
  event_time: at
  columns:
    series: {type: string, from: _file}
    at: {type: timestamp, from: timestamp}
    value: {type: float64, required: true}
  rules:
    busy: {check: value > 0, otherwise: flag}
gold:
  hourly:
    window: 1 hour
    by: [series]
    measures:
      n: count(value)
      mean: avg(value)
      deviation: stddev(value)
      low: min(value)
      high: max(value)
      opened: first(value)
      closed: last(value)
      total: sum(value)
  daily:
    window: 1 day
    by: [series]
    measures:
      median: quantile(value, 0.5)
      p99: quantile(value, 0.99)
      values: count_distinct(value)
      deviation: stddev(value)
      range: max(value) - min(value)
  weekly_busy:
    window: 1 week
    by: [series]
    where: not list_contains(_flags, 'busy')
    measures: {n: count(), mean: avg(value)}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = {f"incoming/{name}.csv.gz": data_file(f"nab/data/{name}.csv.gz").read_bytes() for name in SERIES}
    return make_project(tmp_path_factory.mktemp("real") / "nab", inputs, sensors=PIPELINE)


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[str, Any]:
    return run_and_audit(folder, batch_rows=10_000)


@pytest.fixture(scope="module")
def readings() -> list[tuple[str, datetime, float]]:
    """Every line of every file in the order they are read in: series, time, value."""
    found = []
    for name in sorted(SERIES):
        lines = csv.DictReader(io.StringIO(text_of(data_file(f"nab/data/{name}.csv.gz"))))
        for line in lines:
            found.append((f"{name}.csv.gz", datetime.fromisoformat(line["timestamp"] + "+00:00"), float(line["value"])))
    return found


def accepted(readings: list[tuple[str, datetime, float]]) -> dict[tuple[str, datetime], float]:
    first: dict[tuple[str, datetime], float] = {}
    for series, at, value in readings:
        first.setdefault((series, at), value)
    return first


def grouped(readings: list[tuple[str, datetime, float]], start: Any) -> dict[Any, list[float]]:
    """The values of the accepted readings by window and series, in order of time."""
    windows: dict[Any, list[float]] = defaultdict(list)
    for (series, at), value in sorted(accepted(readings).items()):
        windows[start(at), series].append(value)
    return windows


def test_doubled_times_are_duplicates(
    folder: Path, counted: dict[str, Any], readings: list[tuple[str, datetime, float]]
) -> None:
    kept = accepted(readings)
    report = counted["sensors"]
    assert report["records"] == len(readings)
    assert report["accepted"] == len(kept)
    assert report["duplicate"] == len(readings) - len(kept) >= 15
    assert report["flagged"] == sum(not value > 0 for value in kept.values()) > 0
    silver = by(rows(folder, 'select series, "at", value from silver.sensors'), "series", "at")
    assert {key: row["value"] for key, row in silver.items()} == kept


def test_hourly(folder: Path, counted: dict[str, Any], readings: list[tuple[str, datetime, float]]) -> None:
    windows = grouped(readings, lambda at: at.replace(minute=0, second=0))
    hourly = by(rows(folder, "select * from gold.hourly"), "window_start", "series")
    assert hourly.keys() == windows.keys()
    for key, values in windows.items():
        row = hourly[key]
        size = math.fsum(map(abs, values))
        assert row["n"] == row["_rows"] == len(values)
        assert (row["low"], row["high"]) == (min(values), max(values))
        assert (row["opened"], row["closed"]) == (values[0], values[-1])
        assert abs(row["total"] - math.fsum(values)) <= 1e-9 * size
        assert abs(row["mean"] - math.fsum(values) / len(values)) <= 1e-9 * size
        if len(values) == 1:
            assert row["deviation"] is None
        else:
            assert row["deviation"] == pytest.approx(stdev(values), rel=1e-9, abs=1e-9 * size)


def test_daily(folder: Path, counted: dict[str, Any], readings: list[tuple[str, datetime, float]]) -> None:
    windows = grouped(readings, lambda at: at.replace(hour=0, minute=0, second=0))
    daily = by(rows(folder, "select * from gold.daily"), "window_start", "series")
    assert daily.keys() == windows.keys()
    for key, values in windows.items():
        row = daily[key]
        assert row["window_end"] - row["window_start"] == timedelta(days=1)
        assert row["values"] == len(set(values))
        assert row["range"] == max(values) - min(values)
        if len(values) > 1:
            assert row["median"] == pytest.approx(quantiles(values, n=2, method="inclusive")[0], rel=1e-12)
            assert row["p99"] == pytest.approx(quantiles(values, n=100, method="inclusive")[98], rel=1e-12)
            assert row["deviation"] == pytest.approx(stdev(values), rel=1e-9, abs=1e-12)


def test_weeks_start_on_monday(
    folder: Path, counted: dict[str, Any], readings: list[tuple[str, datetime, float]]
) -> None:
    def monday(at: datetime) -> datetime:
        day = datetime(at.year, at.month, at.day, tzinfo=UTC)
        return day - timedelta(days=day.weekday())

    windows = grouped([], monday)
    for key, values in grouped(readings, monday).items():
        busy = [value for value in values if value > 0]
        if busy:
            windows[key] = busy
    weekly = by(rows(folder, "select * from gold.weekly_busy"), "window_start", "series")
    assert weekly.keys() == windows.keys()
    for key, values in windows.items():
        assert weekly[key]["n"] == len(values)
        assert weekly[key]["mean"] == pytest.approx(math.fsum(values) / len(values), rel=1e-9)
