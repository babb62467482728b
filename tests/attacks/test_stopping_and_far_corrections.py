"""A query that never ends can be stopped, and late rows far apart do not cost a query each."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import penstock
from penstock.run.silverwindows import SilverWindows

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


PIPELINE = """
pipeline: p
source: {files: {path: incoming}, format: json}
silver:
  table: t
  event_time: at
  columns:
    at: {type: timestamp}
    n: {type: int64}
gold:
  minutes: {window: 1 minute, measures: {events: count(), kinds: count_distinct(n)}}
  days: {window: {size: 2 days, every: 1 day, timezone: Europe/Paris}, measures: {events: count(), kinds: count_distinct(n)}}
"""
ENDLESS = "with recursive r as (select 1 a union all select a + 1 from r) select max(a) from r"


def make(folder: Path) -> Path:
    (folder / "pipelines").mkdir()
    (folder / "incoming").mkdir()
    (folder / "penstock.yaml").write_text("lake: lake\n")
    (folder / "pipelines" / "p.yaml").write_text(PIPELINE)
    return folder


def test_ctrl_c_ends_a_query(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "penstock", "-C", str(make(tmp_path)), "sql", ENDLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        time.sleep(6)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode not in (0, 1)
    assert said.strip() == "stopped"


def test_late_rows_far_apart_are_computed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[int] = []
    aggregate = SilverWindows._aggregate

    def counted(self: SilverWindows, plan: Any, sql: str, batch: int, ranges: Any, spread: Any) -> Any:
        queries.append(len(ranges))
        return aggregate(self, plan, sql, batch, ranges, spread)

    project = penstock.open(make(tmp_path))
    times = [f"20{year:02d}-{month:02d}-03T04:05:06Z" for year in range(4) for month in range(1, 13)]
    for part in range(2):
        rows = "".join(f'{{"at":"{time}","n":{part}}}\n' for time in times)
        (tmp_path / "incoming" / f"{part}.ndjson").write_text(rows)
        if part:
            monkeypatch.setattr(SilverWindows, "_aggregate", counted)
        project.run(once=True)
    assert project.audit().as_json()["pipelines"]["p"]["violations"] == []
    assert max(queries) > len(times) // 2
    assert len(queries) <= 6
    for name, windows in (("minutes", 1), ("days", 2)):
        found = project.sql(f"select distinct events, kinds, count(*) over () as rows from gold.{name}").to_pylist()
        assert found == [{"events": 2, "kinds": 2, "rows": windows * len(times)}]
