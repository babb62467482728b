"""The power fails during a whole run: from every folder that may be found then, a normal run gives the expected tables.

The push log is SQLite's business (`trusted`): what it has written counts as written. Everything else is durable only
where Penstock synced it. The steps run one after the other here, so that each state belongs to one step.
"""

from __future__ import annotations

import random
import shutil
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from faults import world
from penstock.errors import PenstockError
from penstock.lake.lake import Lake
from penstock.lake.storage import LocalStorage
from penstock.testing.powerloss import PowerLossStorage, State, distinct_states

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration

EVENTS = 60
STATES_MAX = 32
STATES_PER_MOMENT = 6


class Inline:
    """A pool that does everything at once, in the caller's thread."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - carried by the future, as a pool does
            done.set_exception(error)
        return done


class Quick(LocalStorage):
    """Without syncs: nothing fails here any more."""

    def sync(self, path: str) -> None: ...

    def sync_folder(self, folder: str) -> None: ...


def run_on(folder: Path, storage: LocalStorage) -> None:
    project = penstock.open(folder)
    project.lake = Lake(storage)
    project.run(once=True, batch_rows=20)


def recorded(folder: Path, monkeypatch: pytest.MonkeyPatch, *, ignore_syncs: bool = False) -> PowerLossStorage:
    """A run of three batches and a drain, and everything it did to the disk."""
    world.make_project(folder)
    world.push(folder, 0, EVENTS)
    monkeypatch.setattr("penstock.run.service.ThreadPoolExecutor", Inline)
    storage = PowerLossStorage(
        folder / "lake", trusted=lambda path: path.startswith("push/"), ignore_syncs=ignore_syncs
    )
    storage.look("the start")
    run_on(folder, storage)
    storage.look()
    monkeypatch.undo()
    return storage


def tried(state: State, folder: Path) -> str:
    """Build the state, run, look; "" or what went wrong."""
    world.make_project(folder)
    state.build(folder / "lake")
    (folder / "lake" / "push").mkdir(exist_ok=True)
    try:
        run_on(folder, Quick(folder / "lake"))
        world.assert_sound(folder, dict(enumerate(world.events(0, EVENTS))))
    except (AssertionError, PenstockError) as error:
        return f"{state}: {error!r}"
    finally:
        shutil.rmtree(folder)
    return ""


def chosen(storage: PowerLossStorage, count: int, seed: int) -> list[State]:
    """States of moments spread over the whole run."""
    found = list(distinct_states(storage.moments[1:], seed=seed, limit=STATES_PER_MOMENT))
    return sorted(random.Random(seed).sample(found, min(count, len(found))), key=found.index)


@pytest.mark.parametrize("seed", [1])
def test_every_state_is_put_right_by_a_normal_run(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = recorded(tmp_path / "shop", monkeypatch)
    world.assert_sound(tmp_path / "shop", {})
    states = chosen(storage, STATES_MAX, seed)
    assert len(states) == STATES_MAX
    problems = [tried(state, tmp_path / f"state{number}") for number, state in enumerate(states)]
    assert [problem for problem in problems if problem] == []


def test_without_syncs_it_would_lose_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator can show a loss: the same run with its syncs ignored."""
    storage = recorded(tmp_path / "shop", monkeypatch, ignore_syncs=True)
    late = storage.moments[len(storage.moments) // 2 :]
    states = random.Random(1).sample(list(distinct_states(late, seed=1, limit=2)), 12)
    assert any(tried(state, tmp_path / f"state{number}") for number, state in enumerate(states))
