"""kill -9, any number of times: at the named steps, before any storage operation, at any moment, and while a run that
recovers from a kill is under way; the client that pushes is killed as well.

A *life* is one lake that is killed again and again and then looked at as a whole. Everything about it is drawn from
(seed, number of the life), so a failure names both, and `python tools/kills.py --seed S --life N` does it again.
`tools/kills.py` is the command, `test_kills.py` does a part of it in CI.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import penstock
from faults import forks, world
from penstock.lake.storage import LocalStorage
from penstock.sources.push_log import PushLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]

KILLS_PER_LIFE = 12
OPERATIONS_MAX = 170
"""A run of three batches on a lake that exists does about so many storage operations, and fewer to be recovered."""
RUN_SECONDS_MAX = 0.9
AUDIT_EVERY = 4
"""Runs killed between two audits of what is left; the end of a life is audited always."""
BEFORE_REFINE = ("bronze-written", "bronze", "forget")
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""What a process has written stays when it is killed, on any file system: one in memory only makes syncs quick."""


# -- one blow ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blow:
    """When a process dies: after a step of a batch (`silver:3`), before its nth storage operation, or after a time."""

    place: str = ""
    operation: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.place or (f"operation {self.operation}" if self.operation else f"{self.seconds:.3f} s")

    @property
    def kind(self) -> str:
        return self.place.split(":")[0] or ("any operation" if self.operation else "any moment")

    def strike_before(self) -> Callable[[str], None]:
        """A function to call before each operation, by its name. For the child's threads."""
        count, lock = 0, threading.Lock()

        def before(what: str) -> None:
            nonlocal count
            with lock:
                count += 1
                if count == self.operation:
                    forks.die()

        return before


@contextlib.contextmanager
def watched(before: Callable[[str], None]) -> Iterator[None]:
    """Call `before` ahead of every storage operation, and at the ends of every transaction of the push log."""
    plain, writing = LocalStorage._before, PushLog._writing

    @contextlib.contextmanager
    def transaction(self: PushLog) -> Iterator[None]:
        before("begin of the push log")
        with writing(self):
            yield
            before("commit of the push log")
        before("after the push log's commit")

    LocalStorage._before = lambda self, operation, path: before(f"{operation} {path}")  # type: ignore[method-assign]
    PushLog._writing = transaction  # type: ignore[method-assign]
    try:
        yield
    finally:
        LocalStorage._before, PushLog._writing = plain, writing  # type: ignore[method-assign]


def runner(folder: Path, rows: int, blow: Blow) -> Callable[[Say], None]:
    """A run that says each step it has taken, and dies at the blow."""

    def work(say: Say) -> None:
        def after_step(name: str, batch: int) -> None:
            say(f"{name}:{batch}")
            if blow.place == f"{name}:{batch}":
                forks.die()

        with watched(blow.strike_before()):
            world.run(folder, rows=rows, after_step=after_step)

    return work


def client(folder: Path, first: int, end: int, blow: Blow) -> Callable[[Say], None]:
    """Pushes events in small requests, and says what was acknowledged as soon as it was."""

    def work(say: Say) -> None:
        with watched(blow.strike_before()), penstock.open(folder).pusher("meters") as pusher:
            for start in range(first, end, 7):
                values = world.events(start, min(start + 7, end))
                say(json.dumps({"sent": start + len(values)}))
                places = [offset for one in pusher.values(values).ranges for offset in range(one.start, one.end)]
                say(json.dumps({"first": start, "offsets": places}))

    return work


# -- a life -----------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was done, and what came of it."""

    lives: int = 0
    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    in_recovery: int = 0
    clients_killed: int = 0
    audits: int = 0
    acknowledged: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        for name in ("lives", "runs", "in_recovery", "clients_killed", "audits", "acknowledged", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kills.update(other.kills)

    def as_json(self) -> dict[str, object]:
        return {**vars(self), "kills": dict(sorted(self.kills.items())), "killed": self.kills.total()}


class Life:
    """One lake and its deaths."""

    def __init__(self, seed: int, number: int, folder: Path) -> None:
        self.name = f"seed {seed}, life {number}"
        self.tally = Tally(lives=1)
        self.history: list[str] = []
        self._draw = random.Random(f"{seed}/{number}")
        self._said = folder / "said"
        self._takes_files = number % 3 == 2
        source = "files: {path: incoming}" if self._takes_files else "push: {}"
        every = self._draw.choice([2, 3, 64])
        self.folder = world.make_project(folder / "shop", source, compact_every_batches=every, threads=1)
        self._acknowledged: dict[int, bytes] = {}
        self._sent = 0
        self._in_bronze = self._in_ledger = 0
        self._steps: list[str] = []

    def live(self, kills: int) -> Tally:
        """Be killed so often, then run to the end and be looked at.

        Raises:
            AssertionError: a law is broken, something acknowledged is gone, or a run failed; with the seed.
        """
        started = time.monotonic()
        try:
            while self.tally.kills.total() < kills:
                self._die_once()
            self._feed(20)
            self._done(lambda say: world.run(self.folder))
            acknowledged = self._acknowledged
            self._done(lambda say: world.assert_sound(self.folder, acknowledged))
        except AssertionError as error:
            raise AssertionError(f"{self.name}: after {' | '.join(self.history)}\n{error}") from error
        self.tally.audits += 1
        self.tally.acknowledged = len(self._acknowledged)
        self.tally.seconds = time.monotonic() - started
        return self.tally

    def _die_once(self) -> None:
        rows = self._draw.choice([7, 20, 45])
        blow = self._blow()
        pusher = self._start_client(3 * rows)
        to_recover = self._in_bronze
        child = forks.start(runner(self.folder, rows, blow), self._said)
        if blow.seconds:
            time.sleep(blow.seconds)
            child.kill()
        code = child.wait()
        steps = child.said()
        assert code in (0, -9), "\n".join(steps[-30:])
        self.tally.runs += 1
        self._note(steps)
        self.history.append(f"{blow}{'' if child.was_killed else ' (not reached)'}")
        if child.was_killed:
            self.tally.kills[blow.kind] += 1
            self.tally.in_recovery += self._in_ledger < to_recover
        self._end_client(pusher)
        if self.tally.runs % AUDIT_EVERY == 0:
            self._done(self._audit)
            self.tally.audits += 1

    def _blow(self) -> Blow:
        """Where the next run dies: half of them at a step, drawn like cards so that each one comes up."""
        kind = self._draw.random()
        if kind < 0.3:
            return Blow(operation=self._draw.randrange(1, OPERATIONS_MAX))
        if kind < 0.5:
            return Blow(seconds=self._draw.uniform(0.02, RUN_SECONDS_MAX))
        recovering = self._in_bronze > self._in_ledger and self._draw.random() < 0.7
        if not self._steps:
            self._steps = self._draw.sample(world.STEPS, len(world.STEPS))
        step = self._steps.pop()
        if step in BEFORE_REFINE:
            return Blow(place=f"{step}:{self._in_bronze + 1}")
        if recovering:
            return Blow(place=f"{step}:{self._draw.randint(self._in_ledger + 1, self._in_bronze)}")
        return Blow(place=f"{step}:{self._in_bronze + 1}")

    def _note(self, steps: list[str]) -> None:
        for said in steps:
            step, _, batch = said.partition(":")
            if step == "bronze":
                self._in_bronze = max(self._in_bronze, int(batch))
            elif step == "ledger":
                self._in_ledger = max(self._in_ledger, int(batch))

    # -- what comes in ------------------------------------------------------------------------------------------------

    def _feed(self, count: int) -> None:
        self._end_client(self._start_client(count, whole=True))

    def _start_client(self, count: int, *, whole: bool = False) -> forks.Child | None:
        """New events: a file that is complete, or a client that pushes beside the run and may be killed."""
        first, end = self._sent, self._sent + count
        if self._takes_files:
            values = world.events(first, end)
            world.drop(self.folder, f"{first:08d}.ndjson", values)
            self._acknowledged.update(enumerate(values, start=first))
            self._sent = end
            return None
        blow = Blow()
        if not whole and self._draw.random() < 0.4:
            blow = Blow(operation=self._draw.randrange(2, 3 * count // 7 + 2))
        pusher = forks.start(client(self.folder, first, end, blow), self._said.with_name("client"))
        if whole or self._draw.random() < 0.5:
            pusher.wait()
        return pusher

    def _end_client(self, pusher: forks.Child | None) -> None:
        """What it was told is acknowledged. What it sent and never heard of is pushed again, or not, as people do."""
        if pusher is None:
            return
        code, said = pusher.wait(), pusher.said()
        assert code in (0, -9), "\n".join(said[-30:])
        self.tally.clients_killed += pusher.was_killed
        heard = self._sent
        for line in map(json.loads, said):
            if "sent" in line:
                self._sent = line["sent"]
            else:
                heard = line["first"] + len(line["offsets"])
                values = world.events(line["first"], heard)
                assert not self._acknowledged.keys() & set(line["offsets"]), "a place was given twice"
                self._acknowledged.update(zip(line["offsets"], values, strict=True))
        if self._draw.random() < 0.5:
            self._sent = heard

    # -- looking ------------------------------------------------------------------------------------------------------

    def _audit(self, say: Say) -> None:
        found = world.violations(self.folder)
        assert found == [], found

    def _done(self, work: Callable[[Say], None]) -> None:
        forks.done(work, self._said)


def lives(
    seed: int, kills: int, *, first_life: int = 0, told: Callable[[Life, Tally], None] = lambda *_: None
) -> Tally:
    """Lives from `first_life` on until so many runs were killed; `told` hears of each one."""
    forks.single_threaded()
    total = Tally()
    number = first_life
    while total.kills.total() < kills:
        folder = Path(tempfile.mkdtemp(prefix="penstock-kills-", dir=SCRATCH))
        try:
            life = Life(seed, number, folder)
            total.add(life.live(min(KILLS_PER_LIFE, kills - total.kills.total())))
            told(life, total)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        number += 1
    return total
