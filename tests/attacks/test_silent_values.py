"""Values that do not fit their type, in places where the event's own object looks perfect: never silently NULL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import penstock

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """
pipeline: p
source: {{files: {{path: incoming}}, format: {format}{records}}}
silver:
  table: t
  columns:
    name: {{type: string}}
{columns}
"""


def run(folder: Path, text: str, files: dict[str, bytes]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run the pipeline over the files once: its silver rows, and its rejects."""
    for name, content in {"penstock.yaml": b"lake: lake\n", "pipelines/p.yaml": text.encode(), **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    project = penstock.open(folder)
    project.run(once=True)
    assert project.audit().as_json()["pipelines"]["p"]["violations"] == []
    silver = project.sql("select * from silver.t order by _offset, _index").to_pylist()
    return silver, project.sql("select * from rejects.p order by _offset, _index").to_pylist()


@pytest.mark.parametrize(
    ("columns", "records", "value"),
    [
        pytest.param(
            "    n: {type: int64, from: ^.n}", ", records: data", {"n": "bad", "data": [{"name": "x"}]}, id="envelope"
        ),
        pytest.param("    n: {type: int64, from: _file}", "", {"name": "x"}, id="file-name"),
        pytest.param(
            "    payload: {type: json}\n    n: {type: int64, from: payload.n}",
            "",
            {"name": "x", "payload": {"n": "bad"}},
            id="inside-a-json-column",
        ),
    ],
)
def test_a_misfit_beside_an_exact_object_is_quarantined(
    tmp_path: Path, columns: str, records: str, value: dict[str, Any]
) -> None:
    content = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    text = PIPELINE.format(format="json", records=records, columns=columns)
    silver, rejects = run(tmp_path, text, {"incoming/a.ndjson": content})
    assert silver == []
    assert [row["failed"] for row in rejects] == [["type:n"]]


def test_a_misfit_time_of_the_envelope_is_quarantined(tmp_path: Path) -> None:
    """It was accepted without an event time, and the run died of that at every start."""
    text = PIPELINE.format(
        format="json", records=", records: data", columns="    at: {type: timestamp, unit: s, from: ^.at}"
    ).replace("  table: t\n", "  table: t\n  event_time: at\n")
    content = b'{"at":"bad","data":[{"name":"x"}]}\n{"at":7,"data":[{"name":"y"}]}\n'
    silver, rejects = run(tmp_path, text, {"incoming/a.ndjson": content})
    assert [row["name"] for row in silver] == ["y"]
    assert [row["failed"] for row in rejects] == [["type:at"]]


def test_odd_but_fitting_values_of_the_envelope_are_taken(tmp_path: Path) -> None:
    text = PIPELINE.format(format="json", records=", records: data", columns="    n: {type: int64, from: ^.n}")
    content = b'{"n":"12","data":[{"name":"x"}]}\n{"n":1e3,"data":[{"name":"y"}]}\n{"n":12.0,"data":[{"name":"z"}]}\n'
    silver, rejects = run(tmp_path, text, {"incoming/a.ndjson": content})
    assert [row["n"] for row in silver] == [12, 1000, 12]
    assert rejects == []


def test_far_times_stay_exact_beside_a_row_without_one(tmp_path: Path) -> None:
    """The watermark of a far time is exact to the microsecond, whatever else the batch holds."""
    text = PIPELINE.format(format="json", records="", columns="    at: {type: timestamp, unit: us}").replace(
        "  table: t\n", "  table: t\n  event_time: at\n  late_after: 0 seconds\n"
    )
    last = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z
    content = f'{{"name":"x","at":{last}}}\n{{"name":"y","at":{last - 1}}}\n{{"name":"z"}}\n'.encode()
    silver, rejects = run(tmp_path, text, {"incoming/a.ndjson": content})
    assert [row["failed"] for row in rejects] == [["required:at"]]
    assert len(silver) == 2
    rows = penstock.open(tmp_path).sql("select epoch_us(watermark) as us from ledger.p").to_pylist()
    assert [row["us"] for row in rows if row["us"] is not None][-1] == last
