"""A pipeline to do harm to, the events pushed to it, and what must come of them, worked out in plain Python.

`Truth` is a second, naive implementation of this one declaration. `assert_sound` is what every test ends with: the audit
is clean, everything acknowledged is in bronze once, and the tables are what the truth says of bronze's rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.lake.lake import Lake

PIPELINE = """
pipeline: meters
source:
  SOURCE
  format: json
  where: kind <> 'noise'
silver:
  table: readings
  key: [id]
  unique_within: 1 day
  event_time: at
  order: [id]
  late_after: 30 seconds
  columns:
    id: {type: int64}
    site: {type: string, required: true}
    at: {type: timestamp, unit: ms}
    value: {type: "decimal(12,3)", required: true}
  rules:
    sane: {check: value >= 0}
    small: {check: value < 90, otherwise: flag}
gold:
  minutes:
    window: 1 minute
    by: [site]
    measures: {n: count(), total: sum(value), latest: last(value)}
  sites:
    window: 5 minutes
    measures: {sites: count_distinct(site), median: "quantile(value, 0.5)"}
"""
START = 1_750_000_000_000
"""The first event's time, in milliseconds since the epoch; every event lies within one day of UTC."""

STEPS = ("bronze-written", "bronze", "forget", "refine", "silver-written", "rejects", "silver", "gold", "ledger")

_RUN = """
import contextlib, json, signal, sys, threading
import penstock
from penstock.errors import PenstockError
from penstock.lake.storage import LocalStorage

from penstock.sources.push_log import PushLog

told = json.loads(sys.argv[1])
operations = 0
trimming = threading.RLock()

def act(signal_name):
    print("there", flush=True)
    if signal_name == "SIGKILL":
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL)
    with trimming:  # a process that is stopped inside a transaction of the push log would stop the others too
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

@contextlib.contextmanager
def writing(self, inner=PushLog._writing):
    with trimming, inner(self):
        yield

if told["signal"] == "SIGSTOP":
    PushLog._writing = writing

def after_step(name, batch):
    if f"{name}:{batch}" in told["places"]:
        act(told["signal"])

def before(self, operation, path):
    global operations
    operations += 1
    if operations == told["operation"]:
        act(told["signal"])

LocalStorage._before = before
print("running", flush=True)
try:
    penstock.open(told["folder"]).run(once=True, batch_rows=told["rows"], after_step=after_step)
except PenstockError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def event(number: int) -> bytes:
    """Event `number`: mostly sound; some are broken, refused by a rule, skipped, doubled or late."""
    draw = random.Random(number)
    chance = draw.random()
    if chance < 0.05:
        return b'{"id": %d, "site":' % number
    document: dict[str, object] = {
        "kind": "noise" if chance < 0.1 else "reading",
        "id": max(0, number - draw.randrange(60)) if chance < 0.25 else number,
        "site": draw.choice("abc"),
        "at": START + number * 700 - (draw.randrange(400_000) if chance > 0.9 else 0),
        "value": f"{draw.uniform(-10, 100):.3f}",
    }
    return json.dumps(document).encode()


def events(first: int, end: int) -> list[bytes]:
    return [event(number) for number in range(first, end)]


def make_project(folder: Path, source: str = "push: {}", lake: str = "lake", **limits: object) -> Path:
    """A project with the pipeline; `lake` is where its tables lie."""
    (folder / "pipelines").mkdir(parents=True)
    bounds = "".join(f"  {name}: {value}\n" for name, value in {"threads": 2, **limits}.items())
    (folder / "penstock.yaml").write_text(f"lake: {lake}\nlimits:\n{bounds}")
    (folder / "pipelines" / "meters.yaml").write_text(PIPELINE.replace("SOURCE", source))
    return folder


def push(folder: Path, first: int, end: int) -> dict[int, bytes]:
    """Push events; what is acknowledged, by offset."""
    values = events(first, end)
    done = penstock.open(folder).ingest("meters", values)
    offsets = [offset for one in done.ranges for offset in range(one.start, one.end)]
    return dict(zip(offsets, values, strict=True))


def drop(folder: Path, name: str, values: Sequence[bytes]) -> None:
    """Put a file of events into the folder that a files source reads."""
    path = folder / "incoming" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(value + b"\n" for value in values))
    old = time.time() - 60  # a file that has just changed would be waited for
    os.utime(path, (old, old))


# -- running and killing ----------------------------------------------------------------------------------------------


def run(folder: Path, rows: int = 40, **options: Any) -> None:
    """Absorb everything there is, in this process."""
    penstock.open(folder).run(once=True, batch_rows=rows, **options)


def start_run(
    folder: Path, rows: int = 40, places: Sequence[str] = (), operation: int = 0, signal: str = "SIGKILL"
) -> subprocess.Popen[str]:
    """Run in a child that sends itself a signal after a step (`silver:2`) or before a file operation, counted from 1.

    It prints `running`, and `there` before the signal; it exits as the command line would.
    """
    told = {"folder": str(folder), "rows": rows, "places": list(places), "operation": operation, "signal": signal}
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, json.dumps(told)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run_killed(folder: Path, rows: int = 40, places: Sequence[str] = (), operation: int = 0) -> bool:
    """`start_run` to its end; whether it was killed. Any other failure is one of the test."""
    child = start_run(folder, rows, places, operation)
    _, errors = child.communicate(timeout=120)
    assert child.returncode in (0, -9), errors
    return child.returncode == -9


@dataclass
class Client:
    """Pushes events one small request after the other, from a thread, and keeps what was acknowledged."""

    folder: Path
    next_event: int = 0
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    failure: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def pushing(self, last: int, pause_seconds: float = 0.002) -> Iterator[None]:
        thread = threading.Thread(target=self._push, args=(last, pause_seconds))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)
            self._stop.clear()
        if self.failure is not None:
            raise self.failure

    def _push(self, last: int, pause_seconds: float) -> None:
        try:
            with penstock.open(self.folder).pusher("meters") as pusher:
                while self.next_event < last and not self._stop.wait(pause_seconds):
                    values = events(self.next_event, min(last, self.next_event + 7))
                    self.next_event += len(values)
                    done = pusher.values(values)
                    offsets = [offset for one in done.ranges for offset in range(one.start, one.end)]
                    self.acknowledged.update(zip(offsets, values, strict=True))
        except BaseException as error:  # noqa: BLE001 - carried to the test's thread
            self.failure = error


# -- the truth --------------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What the declaration makes of values in their order; `offset` everywhere is the value's place."""

    accepted: dict[int, dict[str, Any]] = field(default_factory=dict)
    rejected: dict[int, tuple[str, int | None]] = field(default_factory=dict)  # disposition, the winner of a duplicate
    skipped: set[int] = field(default_factory=set)

    @staticmethod
    def of(values: dict[int, bytes]) -> Truth:
        truth = Truth()
        winners: dict[int, int] = {}
        for offset, value in sorted(values.items()):
            try:
                document = json.loads(value)
            except ValueError:
                truth.rejected[offset] = ("quarantined", None)
                continue
            if document["kind"] == "noise":
                truth.skipped.add(offset)
            elif Decimal(document["value"]) < 0:
                truth.rejected[offset] = ("quarantined", None)
            elif document["id"] in winners:
                truth.rejected[offset] = ("duplicate", winners[document["id"]])
            else:
                winners[document["id"]] = offset
                truth.accepted[offset] = document
        return truth

    def minutes(self) -> dict[tuple[datetime, str], tuple[int, Decimal, Decimal]]:
        found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for _, row in sorted(self.accepted.items()):
            found[_window(row["at"], 60_000), row["site"]].append(row)
        result = {}
        for key, members in found.items():
            latest = max(members, key=lambda row: (row["at"], row["id"]))
            total = sum((Decimal(row["value"]) for row in members), Decimal(0))
            result[key] = (len(members), total, Decimal(latest["value"]))
        return result

    def sites(self) -> dict[datetime, int]:
        found: dict[datetime, set[str]] = defaultdict(set)
        for row in self.accepted.values():
            found[_window(row["at"], 300_000)].add(row["site"])
        return {start: len(sites) for start, sites in found.items()}


def _window(milliseconds: int, size: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // size * size / 1000, UTC)


def query(folder: Path, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = penstock.open(folder).sql(sql, verify=True).to_pylist()
    return found


def by_sql(folder: Path, table: str) -> list[dict[str, Any]]:
    """Every row of a table, as a user asks for it."""
    return query(folder, f"select * from {table.replace('/', '.')}")


def by_files(folder: Path, table: str) -> list[dict[str, Any]]:
    """Every row of a table, from its files, with their checksums; a tenth of the time where thousands are read."""
    found = lake(folder).table(table)
    assert found is not None, f"there is no {table}"
    return [row for part in found.read() for row in part.to_pylist()]


Read = Callable[["Path", str], list[dict[str, Any]]]


def bronze(folder: Path, read: Read = by_sql) -> dict[int, bytes]:
    """Bronze's values by offset; fails where an offset is there twice or missing."""
    found = sorted(read(folder, "bronze/meters"), key=lambda row: row["_offset"])
    offsets = [row["_offset"] for row in found]
    assert offsets == list(range(len(offsets))), "bronze has gaps or doubled places"
    return {row["_offset"]: row["value"] for row in found}


def violations(folder: Path) -> list[Any]:
    report = penstock.open(folder).audit().as_json()
    found: list[Any] = report["pipelines"].get("meters", {"violations": []})["violations"]
    return found


def assert_tables(folder: Path, values: dict[int, bytes], read: Read = by_sql) -> None:
    """Silver, rejects and gold are what the truth says of these values (after a drain: every window is closed)."""
    truth = Truth.of(values)
    silver = sorted(read(folder, "silver/readings"), key=lambda row: row["_offset"])
    assert [row["_offset"] for row in silver] == sorted(truth.accepted)
    for row in silver:
        document = truth.accepted[row["_offset"]]
        assert (row["id"], row["site"], row["value"]) == (document["id"], document["site"], Decimal(document["value"]))
        assert row["_flags"] == (["small"] if row["value"] >= 90 else [])
    refused = read(folder, "rejects/meters")
    assert len(refused) == len(truth.rejected)
    assert {row["_offset"]: (row["disposition"], row["winner_offset"]) for row in refused} == truth.rejected
    minutes = read(folder, "gold/minutes")
    assert len(minutes) == len(truth.minutes())
    found = {(row["window_start"], row["site"]): (row["n"], row["total"], row["latest"]) for row in minutes}
    assert found == truth.minutes()
    sites = read(folder, "gold/sites")
    assert len(sites) == len(truth.sites())
    assert {row["window_start"]: row["sites"] for row in sites} == truth.sites()


def assert_sound(folder: Path, acknowledged: dict[int, bytes]) -> None:
    """Everything the laws promise of a pipeline that has absorbed all there is."""
    assert violations(folder) == []
    assert_kept(folder, acknowledged)


def assert_kept(folder: Path, acknowledged: dict[int, bytes], read: Read = by_sql) -> None:
    """Everything acknowledged is in bronze, once and as it was, and the tables are what the truth says of bronze."""
    values = bronze(folder, read)
    missing = {offset: value for offset, value in acknowledged.items() if values.get(offset) != value}
    assert not missing, f"acknowledged, and not in bronze as it was: {missing}"
    assert_tables(folder, values, read)


def lake(folder: Path) -> Lake:
    """The project's lake, opened anew."""
    return penstock.open(folder).lake


def files_of(folder: Path, pattern: str) -> list[Path]:
    """Files of the lake that match, sorted."""
    return sorted(path for path in (folder / "lake").glob(pattern) if path.is_file())
