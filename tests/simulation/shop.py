"""The project that a simulation acts on, and all that is known of it from outside: what was sent, declared, acknowledged."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING
from unittest.mock import patch

import penstock
from penstock.declare import load_pipeline
from penstock.lake.lake import Lake
from penstock.lake.storage import LocalStorage
from penstock.ops.contexts import contexts
from penstock.run.context import RunOptions
from penstock.run.service import run_pipeline
from simulation import declared as declaring
from simulation.clockwork import Clock, running
from simulation.crashing import Crash, Life, in_turn, living
from simulation.events import SITES, Sender

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from penstock.declare.pipeline import Loaded
    from penstock.model.batch import LedgerRow
    from penstock.wire import Project
    from simulation.declared import Declared
    from simulation.model import Expected, Sites

SMALL_BOUNDS = (
    ("penstock.run.windows.OPEN_WINDOWS_MAX", (6, 500_000, 500_000)),
    ("penstock.run.windows.CLOSED_WINDOWS_CACHED_MAX", (2, 200_000, 200_000)),
    ("penstock.run.windows.MERGE_ROWS_MIN", (1, 100_000)),
    ("penstock.run.silverwindows.RECOMPUTE_ROWS_MAX", (40, 2_000_000, 2_000_000)),
    ("penstock.run.opening.KEY_INDEX_BYTES_MAX", (1, 268_435_456)),
    ("penstock.lake.maintenance.UPKEEP_EVERY_VERSIONS", (4, 7)),
    ("penstock.lake.vacuum.CHECKPOINT_SPACING_VERSIONS", (2, 20)),
    ("penstock.lake.table.COMMITS_PER_CHECKPOINT", (2, 5, 50)),
)
"""Bounds that a short life would not meet are made small, as the seed decides; none of them may change a row."""


@dataclass
class Stream:
    """One pipeline from outside. `sent` is by incarnation of its source, `files` by path: every content it had."""

    declared: Declared
    sender: Sender
    sent: list[list[bytes]] = field(default_factory=lambda: [[]])
    files: dict[str, list[list[bytes]]] = field(default_factory=dict)
    contracts: list[Declared] = field(default_factory=list)
    ledger: list[LedgerRow] = field(default_factory=list)
    states: list[Expected] = field(default_factory=list)
    in_bronze: int = 0
    """Records of the open incarnation in bronze, by the last look."""
    lives: list[tuple[tuple[int, int], int, int]] = field(default_factory=list)
    """Per life the contract and reference version in force, and the batches that bronze and silver had at its end."""


@dataclass
class Shop:
    """A project in `folder`. `texts` leads from a declaration's text to what it says."""

    folder: Path
    draw: random.Random
    clock: Clock
    streams: dict[str, Stream] = field(default_factory=dict)
    texts: dict[str, Declared] = field(default_factory=dict)
    sites: Sites = field(default_factory=dict)
    sites_seen: list[Sites] = field(default_factory=list)
    kept_days: int = 1
    log_kept_days: int = 1
    in_turn: bool = True
    readers: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """Since when somebody reads a cut, and the files of it."""
    files_made: int = 0
    batches: int = 0
    living: int = 0
    """Lives under way: a rival's lies within the one that it overtakes."""

    # -- the project's files ------------------------------------------------------------------------------------------

    @property
    def lake_folder(self) -> Path:
        return self.folder / "lake"

    def lake(self) -> Lake:
        """The lake, opened anew."""
        return Lake(LocalStorage(self.lake_folder))

    def open(self) -> Project:
        return penstock.open(self.folder)

    def declare(self, declared: Declared) -> None:
        """Write a declaration into the project."""
        text = declared.yaml()
        self.texts[text] = declared
        self.streams[declared.name].declared = declared
        (self.folder / "pipelines" / f"{declared.name}.yaml").write_text(text)

    def write_sites(self, sites: Sites) -> None:
        self.sites = sites
        rows = "".join(f"{site},{factor}\n" for site, factor in sites.items())
        self._replace("places.csv", f"site,factor\n{rows}".encode())

    def break_sites(self) -> None:
        """Two rows for one key: the last good version stays in force."""
        self._replace("places.csv", b"site,factor\na,1\nb,2\na,3\n")

    def drop(self, name: str, path: str, values: list[bytes]) -> None:
        """Put a file of lines into a pipeline's folder. Its time lies in the past: a fresh file is waited for."""
        target = self._replace(f"{name}_incoming/{path}", b"".join(value + b"\n" for value in values))
        self.files_made += 1
        os.utime(target, (1_700_000_000 + self.files_made, 1_700_000_000 + self.files_made))
        self.streams[name].files.setdefault(path, []).append([value for value in values if value])

    def _replace(self, path: str, content: bytes) -> Path:
        target, scratch = self.folder / path, self.folder / "next"
        scratch.write_bytes(content)
        target.parent.mkdir(exist_ok=True)
        scratch.replace(target)
        return target

    # -- living -------------------------------------------------------------------------------------------------------

    def push(self, name: str, values: list[bytes]) -> None:
        with running(self.clock):
            done = self.open().ingest(name, values)
        offsets = [offset for one in done.ranges for offset in range(one.start, one.end)]
        held = len(self.streams[name].sent[-1])
        assert offsets == list(range(held, held + len(values))), f"places of {len(values)} records: {done.ranges}"
        self.streams[name].sent[-1] += values

    def run(
        self,
        life: Life,
        *,
        names: tuple[str, ...] = (),
        rows: int = 1_000,
        keep_open: bool = False,
        new_incarnation: bool = False,
        stop_after: int = 0,
        in_turn_always: bool = False,
    ) -> bool:
        """One life of `penstock run --once`; False when it crashed. With `stop_after` it is told to stop after so many
        batches. What a run raises is raised."""
        stop = threading.Event()
        done = 0

        def progress(_: object) -> None:
            nonlocal done
            done += 1
            self.batches += 1
            if done == stop_after:
                stop.set()

        with running(self.clock), self._clean_end():
            project = self.open()
            chosen = tuple(pipeline for pipeline in project.pipelines if not names or pipeline.name in names)
            options = RunOptions(once=True, keep_open=keep_open, batch_rows=rows, new_incarnation=new_incarnation)
            with living(life), in_turn() if self.in_turn or in_turn_always else nullcontext():
                try:
                    with contexts(
                        chosen, self.folder, project.lake, project.settings, after_step=life.after_step
                    ) as made:
                        for context in made:
                            run_pipeline(context, options, stop, progress)
                except Crash:
                    return False
        return not life.crashed

    def keep(self, life: Life, work: Callable[[Project], object]) -> bool:
        """One life of `optimize` or `vacuum`; False when it crashed."""
        with running(self.clock), self._clean_end(), living(life):
            try:
                work(self.open())
            except Crash:
                return False
        return not life.crashed

    @contextmanager
    def _clean_end(self) -> Iterator[None]:
        """A life leaves no thread and no open file of the lake, however it ends: no real process could."""
        before = set(threading.enumerate())
        self.living += 1
        try:
            yield
        finally:
            self.living -= 1
            left = [thread.name for thread in threading.enumerate() if thread not in before and thread.is_alive()]
            assert self.living or not left, f"threads that outlived their process: {left}"

    # -- looking ------------------------------------------------------------------------------------------------------

    def begin_reading(self) -> None:
        """Somebody takes a cut now and goes on reading its files."""
        lake = self.lake()
        files = []
        for name in lake.tables():
            table = lake.table(name)
            assert table is not None
            table.refresh()
            files += table.paths(table.files())
        self.readers.append((self.clock.now(), tuple(files)))

    def missed_files(self) -> list[str]:
        """Files that a reader within the kept period misses."""
        now, slack = self.clock.now(), self.clock.stepped_back
        kept = self.kept_days * declaring.HOUR * 24 * 1_000_000
        self.readers = [reader for reader in self.readers if now - reader[0] + slack < kept]
        return [path for _, files in self.readers for path in files if not os.path.exists(path)]


@contextmanager
def opened(folder: Path, draw: random.Random) -> Iterator[Shop]:
    """A new project whose nature (pipelines, limits, threads) `draw` decides."""
    shop = Shop(folder, draw, Clock(folder))
    shop.kept_days, shop.log_kept_days = draw.choice((1, 2, 7)), draw.choice((1, 1, 3))
    shop.in_turn = draw.random() < 0.7
    (folder / "pipelines").mkdir()
    bounds = {
        "threads": 1 if shop.in_turn else 2,
        "kept_days": shop.kept_days,
        "log_kept_days": shop.log_kept_days,
        "compact_every_batches": draw.choice((2, 3, 8, 64)),
    }
    limits = "".join(f"  {name}: {value}\n" for name, value in bounds.items())
    (folder / "penstock.yaml").write_text(f"lake: lake\nlimits:\n{limits}")
    for name in ("meters", "probes")[: 2 if draw.random() < 0.05 else 1]:
        declared = declaring.first(name, draw)
        shop.streams[name] = Stream(declared, Sender(draw))
        (folder / f"{name}_incoming").mkdir()
        shop.declare(declared)
    shop.write_sites({site: draw.randrange(1, 4) for site in SITES[: draw.randrange(2, len(SITES) + 1)]})
    with ExitStack() as stack:
        for name, values in SMALL_BOUNDS:
            stack.enter_context(patch(name, draw.choice(values)))
        for name in ("penstock.ops.contexts.load_pipeline", "penstock.declare.project.load_pipeline"):
            stack.enter_context(patch(name, _load_once))
        stack.enter_context(patch("os.fsync", lambda descriptor: None))
        yield shop


@cache
def _loaded(text: str, file: str) -> Loaded:
    return load_pipeline(text, file, {})


def _load_once(text: str, file: str, environment: Mapping[str, str]) -> Loaded:
    """Parsing YAML takes most of a short life, and gives the same for the same text."""
    return _loaded(text, file)
