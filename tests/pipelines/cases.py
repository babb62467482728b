"""Pipelines as test cases: a declaration, input files and the tables that must come of them.

A case is a folder beside this file. Its golden answer is `expected/<table>.ndjson`, rows without what may differ between
runs (`_batch`, `_ingested_at`, `_timestamp`, Delta versions), in a fixed order. `make golden` writes it anew; read the
difference before committing it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import penstock

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/pipeline.yaml"))
VARYING = ("_batch", "_ingested_at", "_timestamp", "_date", "_month", "contract")
STEPS = ("bronze-written", "bronze", "forget", "refine", "silver-written", "rejects", "silver", "gold", "ledger")

_KILLED = """
import os, signal, sys
import penstock
folder, step, batch, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def after_step(name, number):
    if name == step and number == batch:
        os.kill(os.getpid(), signal.SIGKILL)
penstock.open(folder).run(once=True, batch_rows=rows, after_step=after_step)
"""


def make_project(case: str, folder: Path) -> Path:
    """A project folder that holds the case."""
    source = HERE / case
    (folder / "pipelines").mkdir(parents=True)
    (folder / "penstock.yaml").write_text("lake: lake\n")
    shutil.copy(source / "pipeline.yaml", folder / "pipelines" / f"{case}.yaml")
    for name in ("incoming", "references"):
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
    return folder


def run(folder: Path, rows: int = 1_000) -> None:
    """Run everything there is, in this process."""
    penstock.open(folder).run(once=True, batch_rows=rows)


def run_killed(folder: Path, step: str, batch: int, rows: int) -> bool:
    """Run in a child that kills itself after a step of a batch; False when it never came there."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(folder), step, str(batch), str(rows)], capture_output=True, text=True
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


def tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table a reader sees, comparable between runs."""
    project = penstock.open(folder)
    result = {}
    for table in sorted(project.tables(), key=lambda item: item.name):
        layer = table.name.split(".")[0]
        if layer in ("silver", "rejects", "gold"):
            rows = [_comparable(row) for row in project.sql(f"select * from {table.name}").to_pylist()]
            result[table.name] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
    return result


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    if "future" in (row.get("failed") or []):
        row = {**row, "detail": "names the time of ingestion"}
    return {name: _plain(value) for name, value in row.items() if name not in VARYING}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return float(f"{value:.9e}")  # sums of floats agree to 1e-9, whatever the order of adding
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | bool) or value is None:
        return value
    return str(value)


def expected(case: str) -> dict[str, list[dict[str, Any]]]:
    """The golden answer."""
    folder = HERE / case / "expected"
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.ndjson"))
    }


def explained(folder: Path) -> str:
    """What `penstock explain` prints of the project."""
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "-C", str(folder), "explain"], capture_output=True, text=True, check=True
    )
    return done.stdout


def expected_explanation(case: str) -> str:
    """The golden text of `penstock explain`."""
    return (HERE / case / "expected" / "explain.txt").read_text()


def write_expected(case: str, answer: dict[str, list[dict[str, Any]]], explanation: str) -> None:
    """Make `answer` and `explanation` the golden ones."""
    folder = HERE / case / "expected"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "explain.txt").write_text(explanation)
    for name, rows in answer.items():
        text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.ndjson").write_text(text)


def violations(folder: Path) -> list[Any]:
    """What the audit finds, over all pipelines."""
    report = penstock.open(folder).audit().as_json()
    return [found for pipeline in report["pipelines"].values() for found in pipeline["violations"]]
