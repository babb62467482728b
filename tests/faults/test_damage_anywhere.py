"""A bit flipped, a cut, zeros or a deletion anywhere in any kind of file: run, audit, trace and verified queries give the
right answer or a loud error. What `test_damage.py` does at chosen places, this does at any, by seed.

PENSTOCK_DAMAGES=2000 does so many to each lake.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from faults import powerloss, world
from penstock.errors import LakeCorrupt, LawBroken, SourceLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(0)]

EVENTS, WAITING = 120, 40
DAMAGES = int(os.environ.get("PENSTOCK_DAMAGES", "0"))
LOUD = (LakeCorrupt, LawBroken, SourceLost)
TABLES = ("bronze/meters", "silver/readings", "rejects/meters", "gold/minutes", "gold/sites", "ledger/meters")
WRITTEN_AHEAD = "push log, written ahead"
"""SQLite takes a damaged frame of its write-ahead log for the end of it: what came later was never there (docs/faults.md)."""


def answers(folder: Path) -> dict[str, Callable[[], Any]]:
    """What a person can ask, by name."""
    project = penstock.open(folder)
    found: dict[str, Callable[[], Any]] = {
        f"sql --verify of {table}": lambda table=table: sorted(world.by_sql(folder, table), key=repr)
        for table in TABLES
    }
    found["trace of gold"] = lambda: project.trace("gold.minutes", where="site = 'a'", limit=2)
    found["trace of silver"] = lambda: project.trace("silver.readings", limit=2)
    found["trace of a record"] = lambda: project.trace_forward("meters:1/0/7")
    return found


def asked(ask: Callable[[], Any]) -> Any:
    """The answer, or the loud error."""
    try:
        return ask()
    except LOUD as error:
        return error


@pytest.fixture(scope="module", params=[powerloss.PUSH, powerloss.FILES], ids=["push", "files"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A lake with checkpoints, entries behind them, records that wait, and in the push log's case its write-ahead file."""
    folder = world.make_project(tmp_path_factory.mktemp("anywhere") / "shop", request.param, threads=1)

    def feed(first: int, end: int) -> None:
        if request.param == powerloss.PUSH:
            world.push(folder, first, end)
        else:
            world.drop(folder, f"{first:04d}.ndjson", world.events(first, end))

    feed(0, EVENTS // 2)
    world.run(folder, rows=30)
    for name in world.lake(folder).tables():
        table = world.lake(folder).table(name)
        assert table is not None
        table.checkpoint()
    feed(EVENTS // 2, EVENTS)
    world.run(folder, rows=30)
    copy = folder.with_name("copy")
    if request.param == powerloss.PUSH:
        with penstock.open(folder).pusher("meters") as pusher:
            pusher.values(world.events(EVENTS, EVENTS + WAITING))
            shutil.copytree(folder, copy)
    else:
        feed(EVENTS, EVENTS + WAITING)
        shutil.copytree(folder, copy)
    return copy, {name: ask() for name, ask in answers(copy).items()}


def kinds(folder: Path) -> dict[str, list[Path]]:
    """The files of the lake by what they are; without locks, which hold nothing, and the shared index, made anew."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in world.files_of(folder, "**/*"):
        part, name = path.relative_to(folder / "lake").parts[0], path.name
        if part == "push" and not name.endswith("-shm"):
            found["push log" if name.endswith(".db") else WRITTEN_AHEAD].append(path)
        elif name == "_last_checkpoint":
            found[f"{part}: name of the last checkpoint"].append(path)
        elif ".checkpoint." in name:
            found[f"{part}: checkpoint"].append(path)
        elif name.endswith(".json"):
            found[f"{part}: log entry"].append(path)
        elif name.endswith(".parquet"):
            found[f"{part}: data"].append(path)
    return dict(found)


def harm(path: Path, draw: random.Random) -> str:
    """Damage a file somehow; what was done."""
    content = bytearray(path.read_bytes())
    at = draw.randrange(len(content))
    kind = draw.choices(["bit", "cut", "zeros", "deleted"], [6, 2, 1, 1])[0]
    if kind == "deleted":
        path.unlink()
        return "deleted"
    if kind == "bit":
        content[at] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[at:]
    else:
        end = min(len(content), at + 512)
        content[at:end] = bytes(end - at)
    path.write_bytes(content)
    return f"{kind} at {at} of {len(content)}"


def problem_of(folder: Path, kind: str, right: dict[str, Any], source: str, *, newest_entry_is_gone: bool) -> str:
    """What is wrong with what the damaged lake says and does; "" if it is right, or loud."""
    refused = []
    for name, ask in answers(folder).items():
        answer = asked(ask)
        if isinstance(answer, LOUD):
            refused.append(name)
        elif answer != right[name] and not newest_entry_is_gone:
            return f"a wrong answer from {name}"
    found = asked(lambda: world.violations(folder))
    if refused and found == []:
        return f"the audit is clean, and refused are {refused}"
    whole = dict(enumerate(world.events(0, EVENTS + WAITING)))

    def go_on() -> list[Any]:
        if source == powerloss.FILES:
            world.drop(folder, "9999.ndjson", world.events(EVENTS + WAITING, EVENTS + WAITING + 20))
        else:
            world.push(folder, EVENTS + WAITING, EVENTS + WAITING + 20)
        world.run(folder, rows=60)
        return world.violations(folder)

    if asked(go_on) == []:
        if kind == WRITTEN_AHEAD:
            world.assert_kept(folder, dict(enumerate(world.events(0, EVENTS))), world.by_files)
        else:
            world.assert_kept(folder, whole, world.by_files)
    return ""


def test_any_damage(
    sound: tuple[Path, dict[str, Any]], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder, right = sound
    source = powerloss.PUSH if (folder / "lake" / "push").exists() else powerloss.FILES
    there = kinds(folder)
    seed = 5 if source == powerloss.PUSH else 6
    draw = random.Random(seed)
    problems, done = [], Counter[str]()
    for number in range(DAMAGES or len(there)):
        kind = sorted(there)[number % len(there)]
        original = draw.choice(there[kind])
        copy = shutil.copytree(folder, tmp_path / "shop")
        path = copy / original.relative_to(folder)
        what = harm(path, draw)
        gone = kind == "ledger: log entry" and what == "deleted" and original == there[kind][-1]
        try:
            problem = problem_of(copy, kind, right, source, newest_entry_is_gone=gone)
        except Exception as error:  # noqa: BLE001 - an error that is not loud in our way is a finding too
            problem = repr(error)[:600]
        if problem:
            problems.append(f"seed {seed}, number {number}: {path.relative_to(copy)}: {what}: {problem}")
        done[kind] += 1
        shutil.rmtree(copy)
    record_property("faults: seed", seed)
    record_property("faults: files damaged anywhere", done.total())
    assert problems == [], "\n".join(problems)
