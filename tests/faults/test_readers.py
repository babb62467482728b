"""Readers beside a writer: each answer is one cut and right, whatever is merged, moved and deleted meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

import penstock
from faults import shortdays, world
from faults.readers import Readers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SECONDS = 3 * shortdays.DAY_SECONDS
SECONDS_MAX = 150
"""On a machine so busy that few answers came by then."""
KINDS = ("cut", "past", "audit", "back", "forward")
TESTS = Path(__file__).parents[1]


@contextmanager
def beside(module: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A child that works until the block ends; what it printed is there afterwards."""
    paths = os.pathsep.join([str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    child = subprocess.Popen(
        [sys.executable, "-m", module, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    told: dict[str, Any] = {}
    try:
        yield told
        out, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
        told.update(json.loads(out))
    finally:
        child.kill()
        child.communicate()


def test_every_answer_is_one_cut(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    folder = world.make_project(tmp_path / "shop", **shortdays.LIMITS)
    acknowledged = world.push(folder, 0, 200)
    world.run(folder, keep_open=True)
    client = world.Client(folder, next_event=200)
    here = Readers(lambda: penstock.open(folder))
    with (
        shortdays.short_days(),
        beside("faults.shortdays", folder) as cleared,
        client.pushing(1_000_000, pause_seconds=0.06),
        beside("faults.readers", folder) as there,
        here.looking(),
    ):
        began = time.monotonic()
        while not here.failures and (passed := time.monotonic() - began) < SECONDS_MAX:
            if passed > SECONDS and min(here.found[kind] for kind in KINDS) >= 4:
                break
            time.sleep(0.2)
    acknowledged.update(client.acknowledged)
    failures = here.failures + there["failures"]
    assert not failures, "\n".join(failures)
    for batch, state in here.states.items():
        assert there["states"].get(str(batch), state) == state, f"batch {batch}"
    world.assert_sound(folder, acknowledged)
    # All of it happened while they looked.
    assert min(cleared["compactions"], cleared["files"] + cleared["files by hand"], cleared["entries"]) > 0, cleared
    for kind in KINDS:
        assert min(here.found[kind] - 2, there["found"][kind]) > 0, (here.found, there["found"])
        record_property(f"faults: answers beside a writer, {kind}", here.found[kind] + there["found"][kind])
    record_property("faults: files deleted beside readers", cleared["files"] + cleared["files by hand"])
    record_property("faults: log entries moved beside readers", cleared["entries"])


def test_gold_is_of_the_cut_while_its_next_batch_is_under_way(tmp_path: Path) -> None:
    """Also where the files that the ledger means were merged, and deleted long ago."""
    folder = world.make_project(tmp_path / "shop", kept_days=1)
    acknowledged = world.push(folder, 0, 400)
    world.run(folder)
    merged = {one.table: one.files_before - one.files_after for one in penstock.open(folder).optimize()}
    assert merged["gold.minutes"] > 0
    with patch("penstock.lake.vacuum.DAY_MICROSECONDS", 1):
        assert sum(one.files for one in penstock.open(folder).vacuum()) > 20
    looked = []

    def look(step: str, batch: int) -> None:
        if step != "gold":
            return
        rows = world.query(folder, "select * from gold.minutes order by window_start, site")
        windows = penstock.open(folder).trace("gold.minutes", limit=1_000).windows
        traced = [window.row for window in windows if window.row is not None]
        traced.sort(key=lambda row: (row["window_start"], row["site"]))
        assert [{**row, **found} for row, found in zip(rows, traced, strict=True)] == rows
        assert [window.events_total for window in windows] == [window.row["n"] for window in windows if window.row]
        assert world.violations(folder) == []
        looked.append(batch)

    look("gold", 0)
    acknowledged.update(world.push(folder, 400, 520))
    world.run(folder, after_step=look)
    assert len(looked) >= 7
    world.assert_sound(folder, acknowledged)
