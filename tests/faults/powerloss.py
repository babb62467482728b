"""Whole stories of a lake, recorded operation by operation, and a try of each folder that a power loss may leave.

The steps run one after the other here, so that each state belongs to one step. In the story of the push log SQLite's
own writes and syncs are recorded too: nothing is taken for durable that was not synced.
"""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import penstock
from faults import world
from penstock.errors import PenstockError
from penstock.lake.lake import Lake
from penstock.lake.storage import LocalStorage
from penstock.lake.vacuum import clean_log
from penstock.ops import maintaining
from penstock.run.context import SystemClock
from penstock.sources import push_log
from penstock.testing.powerloss import PowerLossStorage, State, distinct_states
from penstock.testing.sqlitedisk import watch_sqlite
from simulation.crashing import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pytest

STATES_PER_MOMENT = 3
DAY_MICROSECONDS = 86_400_000_000
PUSH, FILES = "push: {}", "files: {path: incoming}"
LIMITS = {"compact_every_batches": 2}


class Quick(LocalStorage):
    """Without syncs: nothing fails here any more."""

    def sync(self, path: str) -> None: ...

    def sync_folder(self, folder: str) -> None: ...


def run_on(folder: Path, storage: LocalStorage, rows: int, **options: Any) -> None:
    project = penstock.open(folder)
    project.lake = Lake(storage)
    project.run(once=True, batch_rows=rows, **options)


# -- the stories ------------------------------------------------------------------------------------------------------


@contextmanager
def watched(storage: PowerLossStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything in one thread, checkpoints often, and the syncs of the push log told to the storage."""
    sync_folder = push_log._sync_folder

    def told(folder: Path) -> None:
        sync_folder(folder)
        if folder.is_relative_to(storage.root):
            storage.look("what came before the push log synced a folder")
            storage.synced_folder("" if folder == storage.root else str(folder.relative_to(storage.root)))

    with monkeypatch.context() as patch, watch_sqlite(storage), in_turn():
        patch.setattr("penstock.lake.table.COMMITS_PER_CHECKPOINT", 5)
        patch.setattr(push_log, "_sync_folder", told)
        yield


def recorded(
    folder: Path, source: str, monkeypatch: pytest.MonkeyPatch, *, ignore_syncs: bool = False
) -> PowerLossStorage:
    """A lake's story: created, run, declared anew, run, optimized, vacuumed, its logs cleaned, run again.

    The mark is how many records were acknowledged: told to the client that pushed them.
    """
    world.make_project(folder, source, **LIMITS)
    declaration = folder / "pipelines" / "meters.yaml"
    whole = declaration.read_text()
    declaration.write_text(whole[: whole.index("  sites:")])
    storage = PowerLossStorage(folder / "lake", ignore_syncs=ignore_syncs, mark=0)
    sent = 0

    def feed(count: int) -> None:
        nonlocal sent
        if source == PUSH:
            world.push(folder, sent, sent + count)
            storage.mark = sent + count
        else:
            world.drop(folder, f"{sent:04d}.ndjson", world.events(sent, sent + count))
        sent += count

    def pushed_meanwhile(step: str, batch: int) -> None:
        if (step, batch) == ("silver", 1):
            feed(10)

    with watched(storage, monkeypatch):
        feed(20)
        run_on(folder, storage, rows=10, after_step=pushed_meanwhile)
        declaration.write_text(whole)
        feed(10)
        run_on(folder, storage, rows=10)
        tidy(Lake(storage))
        feed(10)
        run_on(folder, storage, rows=10)
    storage.look()
    return storage


def tidy(lake: Lake) -> None:
    """Optimize, vacuum and clean the logs as if ten days had passed."""
    later = SystemClock().now() + 10 * DAY_MICROSECONDS
    maintaining.optimize_tables(lake, (), zorder=(), report=print)
    for name in lake.tables():
        table = lake.table(name)
        assert table is not None
        table.checkpoint()
    maintaining.vacuum_tables(lake, (), kept_days=1, now=later, dry_run=False, report=print)
    ledger = lake.table("ledger/meters")
    assert ledger is not None
    absorbed = ledger.txn("meters/batch") or 0
    for name in lake.tables():
        table = lake.table(name)
        assert table is not None
        clean_log(table, log_kept_days=1, kept_days=1, now=later, absorbed=("meters", absorbed))


# -- the states -------------------------------------------------------------------------------------------------------


def kind_of(state: State) -> str:
    """What was being written or deleted when the power failed: a table's data or log, a checkpoint, the push log."""
    path = state.moment.operation.split(" ")[-1]
    operation = state.moment.operation
    if "SQLite" in operation or "push" in operation:
        return "push log"
    if "checkpoint" in path:
        return "checkpoints"
    if " delete " in operation or operation.startswith("delete"):
        return "vacuum and log cleaning"
    return path.split("/")[0] or "lake"


def chosen(storage: PowerLossStorage, count: int, seed: int) -> list[State]:
    """States of the whole story, of each kind as many as there are of the others, as far as there are."""
    by_kind: defaultdict[str, list[State]] = defaultdict(list)
    limit = max(STATES_PER_MOMENT, 2 * count // len(storage.moments))
    for state in distinct_states(storage.moments, seed=seed, limit=limit):
        by_kind[kind_of(state)].append(state)
    draw = random.Random(seed)
    for found in by_kind.values():
        draw.shuffle(found)
    picked: list[State] = []
    while len(picked) < count and any(by_kind.values()):
        picked += [found.pop() for found in by_kind.values() if found]
    return picked[:count]


def tried(state: State, folder: Path, source: str, *, audited: bool) -> str:
    """Build the state, run, look; "" or what went wrong. Silver, rejects, gold and every acknowledged record are looked
    at always, the audit runs too where `audited`."""
    world.make_project(folder, source, **LIMITS)
    if source == FILES:
        for first in (0, 20, 30, 40):
            world.drop(folder, f"{first:04d}.ndjson", world.events(first, first + (20 if first == 0 else 10)))
    state.build(folder / "lake")
    acknowledged = 50 if source == FILES else state.moment.mark
    assert isinstance(acknowledged, int)
    try:
        run_on(folder, Quick(folder / "lake"), rows=20)
        values = dict(enumerate(world.events(0, acknowledged)))
        world.assert_kept(folder, values, world.by_files)
        if audited:
            assert world.violations(folder) == []
    except (AssertionError, PenstockError) as error:
        return f"{state}: {error!r}"
    finally:
        shutil.rmtree(folder)
    return ""


def problems(states: Iterable[State], folder: Path, source: str, *, audit_every: int = 4) -> list[str]:
    found = []
    for number, state in enumerate(states):
        found.append(tried(state, folder / f"state{number}", source, audited=number % audit_every == 0))
    return [problem for problem in found if problem]
