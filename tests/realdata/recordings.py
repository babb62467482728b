"""Real data for whole-product tests: where it is, projects over it, and what comes out as plain Python values.

The data lies beside the repository, or where PENSTOCK_TEST_DATA says. The tests compute every expected number from the
raw files themselves, in plain Python, so that nothing of Penstock is used to check Penstock.
"""

from __future__ import annotations

import ast
import gzip
import os
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARIABLE = "PENSTOCK_TEST_DATA"
BESIDE = Path(__file__).parents[2].parent / "shared" / "data"
SETTLED_SECONDS = 60


def data_file(name: str) -> Path:
    """A file of the real data; skips the test where it is not there."""
    path = Path(os.environ.get(VARIABLE, BESIDE)) / name
    if not path.is_file():
        pytest.skip(f"no real data: {path} is missing; set {VARIABLE} to the folder that holds {name}")
    return path


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def received(recording: Path) -> Iterator[tuple[str, str]]:
    """The messages of a recording: the time of arrival as written, and the payload. Sent lines are left out."""
    for line in text_of(recording).splitlines():
        if line[:1].isdigit():
            at, payload = line.split(": ", 1)
            yield at, payload


def unpacked(payload: str) -> str:
    """A payload that was recorded as the Python text of gzipped bytes."""
    return zlib.decompressobj(wbits=31).decompress(ast.literal_eval(payload)).decode()


def make_project(folder: Path, inputs: dict[str, bytes], **pipelines: str) -> Path:
    """A project with input files (`incoming/a.csv.gz` -> bytes) and pipelines (name -> YAML)."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / "penstock.yaml").write_text("lake: lake\n")
    for name, content in inputs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        old = time.time() - SETTLED_SECONDS  # a file that has just changed would be waited for
        os.utime(path, (old, old))
    for name, text in pipelines.items():
        (folder / "pipelines" / f"{name}.yaml").write_text(text)
    return folder


def run_and_audit(folder: Path, *, batch_rows: int | None = None) -> dict[str, Any]:
    """Absorb everything; what the audit counts, by pipeline. Fails on any violation."""
    project = penstock.open(folder)
    assert [str(finding) for finding in project.check()] == []
    project.run(once=True, batch_rows=batch_rows)
    counted: dict[str, Any] = project.audit().as_json()["pipelines"]
    assert {name: report["violations"] for name, report in counted.items()} == {name: [] for name in counted}
    return counted


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    """The rows of a query, its files checked against their checksums."""
    found: list[dict[str, Any]] = penstock.open(folder).sql(sql, verify=True).to_pylist()
    return found


def by(found: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by the values of columns; fails when two have the same."""
    listed = list(found)
    result = {tuple(row[name] for name in names): row for row in listed}
    assert len(result) == len(listed)
    return result
