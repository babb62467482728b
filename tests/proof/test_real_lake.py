"""Lakes that real runs wrote: they audit clean, damage in them is found, and a trace ends at the line of a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import penstock
from penstock.errors import LakeCorrupt

if TYPE_CHECKING:
    from penstock.proof.report import PipelineReport

PIPELINE = """
pipeline: readings
source:
  files: {path: incoming}
  format: json
  records: list
  where: kind = 'reading' and ^.site <> 'test'
references:
  sites: {file: sites.csv, key: site, columns: {height: int32}}
silver:
  table: readings
  key: [site, sensor, at]
  unique_within: 1 day
  event_time: at
  late_after: 1 minute
  columns:
    sensor: {type: string, required: true}
    at: {type: timestamp, required: true}
    site: {type: string, from: ^.site}
    value: {type: float64}
    exact: {type: "decimal(38,4)", from: value}
    height: {lookup: sites.height}
  rules:
    plausible: {check: value between -90 and 90}
    hot: {check: value < 35, otherwise: flag}
gold:
  daily:
    window: 1 day
    by: [site]
    measures:
      least: min(value)
      mean: avg(value)
      deviation: stddev(value)
      middle: quantile(value, 0.5)
      sensors: count_distinct(sensor)
      total: sum(exact)
      warmest: last(value)
  sliding:
    window: {size: 3 hours, every: 1 hour}
    by: [sensor, height]
    where: not list_contains(_flags, 'hot')
    measures: {rows: count(), up: last(value) - first(value)}
"""


def document(day: int, site: str) -> bytes:
    """One record: a list of readings of one day, with odd ones among them."""
    items: list[object] = [
        {
            "kind": "reading",
            "sensor": f"s{hour % 3}",
            "at": f"2026-03-{day:02d}T{hour:02d}:15:00Z",
            "value": round(hour * 1.7, 1),
        }
        for hour in range(0, 24, 2)
    ]
    items += [items[3], {"kind": "note", "text": "x"}, 5, {"kind": "reading", "sensor": "s9", "at": "soon", "value": 1}]
    items.append({"kind": "reading", "sensor": "s1", "at": f"2026-03-{day:02d}T05:00:00Z", "value": 900})
    return json.dumps({"site": site, "list": items}).encode()


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "shop"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "shop"
    for name in ("pipelines", "incoming"):
        (folder / name).mkdir(parents=True)
    (folder / "penstock.yaml").write_text("lake: lake\n")
    (folder / "pipelines" / "readings.yaml").write_text(PIPELINE)
    (folder / "sites.csv").write_text("site,height\nnorth,12\nsouth,\n")
    lines = [document(day, site) for day in (1, 2, 3) for site in ("north", "south", "test", "west")]
    (folder / "incoming" / "a.ndjson").write_bytes(b"\n".join([*lines, b"broken", b'{"site":"x","list":[]}', b""]))
    run(folder)
    (folder / "incoming" / "b.ndjson").write_bytes(document(2, "late") + b"\n" + document(5, "north") + b"\n")
    run(folder)
    return folder


def run(folder: Path) -> None:
    penstock.open(folder).run(once=True, batch_rows=5)


def audited(folder: Path) -> PipelineReport:
    return penstock.open(folder).audit().pipelines["readings"]


def files(folder: Path, table: str) -> list[Path]:
    """The live files of a table."""
    lake = penstock.open(folder).lake
    found = lake.table(table)
    assert found is not None
    return [Path(found.path(file)) for file in found.files()]


def test_a_real_lake_is_clean_after_every_run(project: Path) -> None:
    report = audited(project)
    assert report.violations == []
    assert report.records == 16
    assert min(report.accepted, report.quarantined, report.duplicate, report.skipped, report.flagged) > 0
    assert report.batches > 4


def test_a_trace_ends_at_the_file(project: Path) -> None:
    opened = penstock.open(project)
    (window,) = opened.trace("gold.daily", where="site = 'late'").windows
    assert {event.record.file for event in window.events if event.record} == {"b.ndjson"}
    assert window.row is not None
    assert window.events_total == window.row["_rows"] == 12
    first = window.events[0]
    assert first.record is not None
    assert first.record.value == document(2, "late")
    trace = opened.trace_forward(f"readings:{first.place}")
    assert [event.disposition for event in trace.events] == [
        *["accepted"] * 12,
        *("duplicate", "skipped", "quarantined", "quarantined", "quarantined"),
    ]
    daily = [one for one in trace.events[0].windows if one.table == "gold.daily"]
    assert [one.row["sensors"] for one in daily if one.row] == [3]
    assert len([one for one in trace.events[0].windows if one.table == "gold.sliding"]) == 3


@pytest.mark.parametrize("table", ["bronze/readings", "silver/readings", "rejects/readings", "gold/sliding"])
def test_a_flipped_bit_is_found_and_never_traced(project: Path, table: str) -> None:
    path = files(project, table)[0]
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    report = audited(project)
    assert (8, table) in {(int(one.law), one.table) for one in report.violations}
    if not table.startswith("bronze"):
        with pytest.raises(LakeCorrupt):
            penstock.open(project).trace(table)


@pytest.mark.parametrize("table", ["bronze/readings", "silver/readings", "ledger/readings", "manifests/readings"])
def test_a_lost_file_is_found(project: Path, table: str) -> None:
    files(project, table)[-1].unlink()
    assert (8, table) in {(int(one.law), one.table) for one in audited(project).violations}


def test_a_lost_log_entry_is_found(project: Path) -> None:
    entries = sorted((project / "lake/silver/readings/_delta_log").glob("*.json"))
    entries[-1].unlink()
    laws = {(int(one.law), one.table) for one in audited(project).violations}
    assert any(table in ("silver/readings", "ledger/readings") for _, table in laws), laws


def test_nothing_is_written_by_looking(project: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in (project / "lake").rglob("*")
            if path.is_file()
        }

    before = state()
    opened = penstock.open(project)
    opened.audit()
    opened.trace("gold.daily")
    opened.trace_forward("readings:1/0/0")
    opened.rejects()
    assert state() == before
