"""Any user of Spark reads the tables, and what Spark writes can be a reference: with delta-spark, which is not ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from tools import servers

import penstock
from conformance import delta_spark, engines
from pipelines import cases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.conformance

CASE = "market_ticks"
TABLES = ("bronze.market_ticks", "silver.market_ticks", "rejects.market_ticks", "gold.bars_1m", "ledger.market_ticks")
REFERENCE = "references/instruments"


@dataclass(frozen=True)
class Spoken:
    """A project that has run, what delta-spark says of its tables, and a project whose reference it has written."""

    project: Path
    found: dict[str, pa.Table]
    other: Path


def speak(tasks: Sequence[dict[str, str]], folder: Path) -> None:
    """Let delta-spark do what the tasks say."""
    try:
        jars = ",".join(map(str, servers.jars("spark")))
    except servers.ServerMissing as error:
        if os.environ.get("PENSTOCK_TEST_SERVERS") == "required":
            raise
        pytest.skip(f"needs the jars of delta-spark: {error}")
    (folder / "tasks.json").write_text(json.dumps(tasks))
    command = [sys.executable, delta_spark.__file__, jars, str(folder / "tasks.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    """All in one process of Spark, which takes long to start."""
    folder = tmp_path_factory.mktemp("delta")
    project = cases.make_project(CASE, folder / "project")
    engines.run(project, "embedded", rows=6)
    other = cases.make_project(CASE, folder / "other")
    header, *rows = (other / f"{REFERENCE}.csv").read_text().split()
    tasks = [
        {"sql": f"select * from delta.`{project / 'lake' / name.replace('.', '/')}`", "into": str(folder / name)}
        for name in TABLES
    ]
    as_of = penstock.open(project).sql("select versions from ledger.market_ticks where _batch = 3").to_pylist()[0]
    version = next(one["version"] for one in as_of["versions"] if one["table"] == "gold/bars_1m")
    gold = f"delta.`{project / 'lake' / 'gold' / 'bars_1m'}` version as of {version}"
    tasks.append({"sql": f"select * from {gold}", "into": str(folder / "as of 3")})
    reference = f"delta.`{other / REFERENCE}`"
    columns = ", ".join(f"{name} {'int' if name == 'lot' else 'string'}" for name in header.split(","))
    cells = [[repr(cell) if cell else "null" for cell in row.split(",")] for row in rows]
    values = ", ".join(f"({', '.join(row)})" for row in cells)
    tasks += [
        {"sql": f"create table {reference} ({columns}) using delta"},
        {"sql": f"insert into {reference} values {values}"},
        {"sql": f"insert into {reference} values {values}"},
        {"sql": f"insert overwrite {reference} values {values}"},
    ]
    speak(tasks, folder)
    found = {}
    for name in (*TABLES, "as of 3"):
        with pa.memory_map(str(folder / name)) as file:
            found[name] = pa.ipc.open_stream(file).read_all()
    return Spoken(project, found, other)


@pytest.mark.parametrize("name", TABLES)
def test_delta_spark_reads_what_penstock_tells(name: str, spoken: Spoken) -> None:
    told = penstock.open(spoken.project).sql(f"select * from {name}")
    found = spoken.found[name]
    assert found.schema.names == told.schema.names
    assert len(found) > 0
    assert in_order(found) == in_order(told)


def test_delta_spark_travels_in_time_to_what_the_ledger_names(spoken: Spoken) -> None:
    told = penstock.open(spoken.project).sql("select * from gold.bars_1m", as_of=3)
    assert in_order(spoken.found["as of 3"]) == in_order(told)
    assert len(told) < len(spoken.found["gold.bars_1m"])


def test_what_delta_spark_wrote_is_a_reference(spoken: Spoken, tmp_path: Path) -> None:
    folder = shutil.copytree(spoken.other, tmp_path / "project")
    (folder / f"{REFERENCE}.csv").unlink()
    declaration = folder / "pipelines" / f"{CASE}.yaml"
    text = declaration.read_text()
    as_csv = f"{{file: {REFERENCE}.csv, key: instrument_id, columns: {{lot: int32}}}}"
    assert as_csv in text
    declaration.write_text(text.replace(as_csv, f"{{file: {REFERENCE}, key: instrument_id}}"))
    engines.run(folder, "embedded")
    assert cases.tables(folder) == cases.expected(CASE)
    assert cases.violations(folder) == []


def in_order(table: pa.Table) -> list[str]:
    """Every row with the values as they are, whatever Arrow calls their types."""
    return sorted(repr(sorted(row.items())) for row in map(plain, table.to_pylist()))


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if hasattr(value, "tzinfo") and value.tzinfo is not None:
        return value.timestamp()
    return value
