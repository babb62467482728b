"""A project under attack: records that are wrong stand between records that are right, and go through all of it.

`absorb` runs everything and audits it; `Ends` says where each record ended. `measured` does the same in a child whose
memory is known afterwards. Nothing here knows what is expected of a record: that is in the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import penstock
from penstock.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PIPELINE = """
pipeline: p
source: {files: {path: incoming}, format: json}
silver:
  table: t
  key: [id]
  event_time: at
  columns:
    id: {type: int64}
    at: {type: timestamp, unit: ms}
    price: {type: "decimal(12,4)", required: true}
    note: {type: string}
gold:
  minutes: {window: 1 minute, measures: {n: count(), total: sum(price)}}
"""
START = 1_750_000_000_000

_CHILD = """
import re, sys
from penstock.cli.main import run
code = run(sys.argv[1:])
print("peak", re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(code)
"""


def make(folder: Path, declaration: str = PIPELINE, files: Mapping[str, bytes] | None = None, **limits: object) -> Path:
    """A project with one pipeline; `files` by their path in the project."""
    (folder / "pipelines").mkdir(parents=True, exist_ok=True)
    (folder / "incoming").mkdir(exist_ok=True)
    bounds = "".join(f"  {name}: {value}\n" for name, value in {"threads": 2, **limits}.items())
    (folder / "penstock.yaml").write_text(f"lake: lake\nlimits:\n{bounds}")
    (folder / "pipelines" / "p.yaml").write_text(declaration)
    for name, content in (files or {}).items():
        put(folder, name, content)
    return folder


def put(folder: Path, name: str, content: bytes) -> Path:
    """A file that has not changed for a minute."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    age(path)
    return path


def age(path: Path) -> None:
    """A file that has just changed would be waited for."""
    old = time.time() - 60
    os.utime(path, (old, old))


def good(number: int) -> bytes:
    """A record of PIPELINE with nothing wrong."""
    return b'{"id":%d,"at":%d,"price":"%d.25","note":"n%d"}' % (number, START + number * 1_000, number, number)


def between(bad: Sequence[bytes]) -> list[bytes]:
    """Each bad record stands between two good ones: good ones have the even offsets."""
    found = [good(0)]
    for number, record in enumerate(bad):
        found += [record, good(2 * number + 2)]
    return found


def lines(records: Sequence[bytes]) -> bytes:
    return b"".join(record + b"\n" for record in records)


# -- where they ended -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ends:
    """Rows of silver and of the rejects by (offset, index). Every event is in exactly one of them."""

    accepted: dict[tuple[int, int], dict[str, Any]]
    rejected: dict[tuple[int, int], dict[str, Any]]

    def of(self, offset: int) -> list[str]:
        """The end of a record that is one event: `accepted`, `duplicate`, or the names of the rules that failed."""
        if (offset, 0) in self.accepted:
            return ["accepted"]
        row = self.rejected[offset, 0]
        return ["duplicate"] if row["disposition"] == "duplicate" else row["failed"]

    @property
    def all(self) -> dict[int, list[str]]:
        return {offset: self.of(offset) for offset, _ in sorted({**self.accepted, **self.rejected})}


def ends(folder: Path) -> Ends:
    project = penstock.open(folder)
    silver = project.pipelines[0].silver.table

    def rows(table: str) -> dict[tuple[int, int], dict[str, Any]]:
        found = project.sql(f"select * from {table}", verify=True).to_pylist()
        by_place = {(row["_offset"], row["_index"]): row for row in found}
        assert len(by_place) == len(found), f"{table} has an event twice"
        return by_place

    accepted, rejected = rows(f"silver.{silver}"), rows("rejects.p")
    assert not accepted.keys() & rejected.keys()
    return Ends(accepted, rejected)


def absorb(folder: Path, **options: Any) -> Ends:
    """Run everything there is; the audit is clean; where each event ended."""
    penstock.open(folder).run(once=True, **options)
    assert violations(folder) == []
    return ends(folder)


def violations(folder: Path) -> list[Any]:
    found: list[Any] = penstock.open(folder).audit().as_json()["pipelines"]["p"]["violations"]
    return found


def assert_neighbours(found: Ends, offsets: Sequence[int]) -> None:
    """The good records at these offsets were accepted as they are."""
    for offset in offsets:
        row = found.accepted.get((offset, 0))
        assert row is not None, f"record {offset} ended as {found.rejected.get((offset, 0))}"
        assert (row["id"], str(row["price"]), row["note"]) == (offset, f"{offset}.2500", f"n{offset}"), row
        assert row["_extra"] is None


# -- the command line -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Called:
    """What a call of the command line said, and the most memory it had, in MiB."""

    code: int
    out: str
    err: str
    peak_mib: int = 0

    def json(self) -> Any:
        return json.loads(self.out)


def call(folder: Path, *arguments: str, seconds: float = 120, **environment: str) -> Called:
    """A call of the command line in a process of its own, which is ended after `seconds`."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **environment},
    )
    out, _, peak = done.stdout.rpartition("peak ")
    assert "Traceback" not in done.stderr, done.stderr
    return Called(done.returncode, out, done.stderr, int(peak or 0) * 1_024 // MIB)
