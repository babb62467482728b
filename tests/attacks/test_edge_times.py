"""Events at both ends of the calendar, in windows of local days that reach beyond it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import penstock

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """
pipeline: p
source: {files: {path: incoming}, format: json}
silver:
  table: t
  event_time: at
  columns:
    at: {type: timestamp}
gold:
  day: {window: {size: 1 day, timezone: America/New_York}, measures: {events: count()}}
  week: {window: {size: 7 days, timezone: Asia/Kathmandu}, measures: {events: count()}}
  days: {window: {size: 3 days, every: 1 day, timezone: Australia/Lord_Howe}, measures: {events: count()}}
  century: {window: 36500 days, measures: {events: count()}}
"""
TIMES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00.000001Z",
    "0001-01-02T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "9999-12-30T23:59:59Z",
    "9999-12-31T23:59:59.999999Z",
)


def test_the_ends_of_the_calendar(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "incoming").mkdir()
    (tmp_path / "penstock.yaml").write_text("lake: lake\n")
    (tmp_path / "pipelines" / "p.yaml").write_text(PIPELINE)
    (tmp_path / "incoming" / "a.ndjson").write_text("".join(f'{{"at":"{time}"}}\n' for time in TIMES))
    project = penstock.open(tmp_path)
    project.run(once=True)
    report = project.audit().as_json()["pipelines"]["p"]
    assert report["violations"] == []
    assert report["accepted"] == len(TIMES)
    for name, windows in (("day", 1), ("week", 1), ("days", 3), ("century", 1)):
        total = project.sql(f"select sum(events) as events from gold.{name}").to_pylist()[0]["events"]
        assert total == windows * len(TIMES), name
