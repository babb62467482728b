"""Runs projects on either engine, and compares what they made: everything but `_batch` and the time of ingestion."""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import penstock
from conformance import plants as planting
from penstock.engines.spark.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.plants import Plants
    from penstock.run.context import BatchDone

ENGINES = ("embedded", "spark")
VARYING = ("_batch", "_ingested_at", "_date")
"""What may differ between two runs. `_date` is the day of `_ingested_at`."""
COUNTS = ("records", "events", "accepted", "quarantined", "duplicate", "skipped", "flagged")
TOLERANCE = 1e-9


class Killed(Exception):
    """The process is gone, as far as the lake can tell."""


@contextmanager
def started(master: str, plants: Plants, **options: str) -> Iterator[Session]:
    """A Spark context of this process with planted workers; sessions that are opened meanwhile share it."""
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH", ""))))
    with patch.dict(os.environ, {"PYTHONPATH": path, planting.FOLDER: str(plants.folder)}):
        session = Session(master, {"spark.python.daemon.module": planting.__name__, **options}, 2)
    try:
        yield session
    finally:
        session.close()


# -- running ----------------------------------------------------------------------------------------------------------


def run(folder: Path, engine: str, rows: int = 1_000, **options: Any) -> None:
    """Absorb everything there is."""
    penstock.open(folder, engine=engine).run(once=True, batch_rows=rows, **options)


def run_killed(folder: Path, engine: str, step: str, batch: int, rows: int) -> bool:
    """Run until after a step of a batch, and no further; False when it never came there."""

    def after_step(name: str, number: int) -> None:
        if (name, number) == (step, batch):
            raise Killed

    try:
        run(folder, engine, rows, after_step=after_step)
    except Killed:
        return True
    return False


def run_batches(folder: Path, engine: str, rows: int, count: int) -> None:
    """Run until so many batches are in the ledger, and end as an operator would end it."""
    stop, done = threading.Event(), []

    def progress(batch: BatchDone) -> None:
        done.append(batch.batch)
        if len(done) >= count:
            stop.set()

    run(folder, engine, rows, stop=stop, progress=progress)


def batches(folder: Path) -> int:
    """How many batches the ledger has."""
    project = penstock.open(folder)
    ledger = [table.name for table in project.tables() if table.name.startswith("ledger.")]
    return sum(project.sql(f"select count(*) as n from {name}").to_pylist()[0]["n"] for name in ledger)


# -- comparing --------------------------------------------------------------------------------------------------------

Answer = dict[str, list[dict[str, Any]]]


def answer(folder: Path, as_of: int | None = None, varying: tuple[str, ...] = VARYING) -> Answer:
    """Every row of every table, or of those as of a batch, without the columns that may vary, in a fixed order; of the
    ledger what its batches add up to."""
    project = penstock.open(folder)
    found: Answer = {}
    for table in sorted(project.tables(), key=lambda one: one.name):
        kind = table.name.partition(".")[0]
        if kind in ("bronze", "silver", "rejects", "gold"):
            rows = project.sql(f"select * from {table.name}", as_of=as_of, verify=True).to_pylist()
            rows = [_comparable(row, varying) for row in rows]
            found[table.name] = sorted(rows, key=_order)
        elif kind == "ledger":
            rows = project.sql(f"select * from {table.name} order by _batch", as_of=as_of).to_pylist()
            found[table.name] = [_total(rows)]
    return found


def assert_same(found: Answer, wanted: Answer) -> None:
    """Equal, but for sums of floats: to 1e-9 of the sum of absolute values."""
    assert found.keys() == wanted.keys()
    for name, rows in found.items():
        assert len(rows) == len(wanted[name]), f"{name}: {len(rows)} rows, not {len(wanted[name])}"
        loose = _absolute(wanted) * TOLERANCE if name.startswith("gold.") else 0.0
        for row, expected in zip(rows, wanted[name], strict=True):
            differing = [column for column in row if not _same(row[column], expected.get(column), loose)]
            assert row.keys() == expected.keys(), name
            assert not differing, f"{name}: {[(one, row[one], expected[one]) for one in differing]} in {expected}"


def _comparable(row: dict[str, Any], varying: tuple[str, ...]) -> dict[str, Any]:
    if "future" in (row.get("failed") or []):
        row = {**row, "detail": "names the time of ingestion"}
    return {name: value for name, value in row.items() if name not in varying}


def _order(row: dict[str, Any]) -> str:
    plain = {name: str(value) for name, value in row.items() if not isinstance(value, float)}
    return json.dumps(plain, sort_keys=True)


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a split into other batches must not change of the ledger."""
    ends: dict[tuple[int, int], tuple[int, int]] = {}
    rules: Counter[str] = Counter()
    for row in rows:
        for one in row["ranges"]:
            place = one["source"], one["partition"]
            start, end = ends.get(place, (one["start_offset"], one["start_offset"]))
            assert one["start_offset"] == end, f"the ledger leaves out {place} from {end} on"
            ends[place] = start, one["end_offset"]
        rules.update({one["rule"]: one["rows"] for one in row["rules"]})
    last = {name: rows[-1][name] for name in ("contract", "refine", "references", "watermark", "closed_until")}
    return {name: sum(row[name] for row in rows) for name in COUNTS} | {"rules": rules, "ends": ends} | last


def _absolute(wanted: Answer) -> float:
    """The sum of the absolute values of silver's floats: no window's sum is larger."""
    silver = [row for name, rows in wanted.items() if name.startswith("silver.") for row in rows]
    return sum(
        abs(value) for row in silver for value in row.values() if isinstance(value, float) and math.isfinite(value)
    )


def _same(found: Any, wanted: Any, loose: float) -> bool:
    if isinstance(found, float) and isinstance(wanted, float) and loose:
        return math.isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=loose) or (found != found and wanted != wanted)
    return bool(found == wanted) or (found != found and wanted != wanted)
