"""A folder under seeded chaos: files come, change, break and return, the process dies anywhere, rounds are of any size.

Bronze is played by a dictionary that, like the real one, moves its position and its records in one step. A failure names
its seed.
"""

from __future__ import annotations

import gzip
import os
import random
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from penstock.model.pipeline import JsonFormat
from penstock.sources.contract import FILE_PATH, Bounds
from penstock.sources.files import FolderSource
from penstock.testing.manifests import MemoryManifest

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 60
PACKS = {"": bytes, ".gz": gzip.compress, ".zst": lambda body: pa.Codec("zstd").compress(body).to_pybytes()}


class Play:
    """One run: the folder, the manifest, bronze, and what must have been delivered."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.manifest = MemoryManifest()
        self.now = 1_700_000_000_000_000
        self.bronze: dict[int, tuple[str, bytes]] = {}
        self.position: dict[int, int] = {}
        self.prints: dict[int, int] = {}
        self.versions: dict[str, list[bytes]] = {}
        self.bodies: dict[tuple[str, bytes], list[bytes]] = {}
        self.written: dict[str, int] = {}
        self.counter = 0
        self.source = self.opened()

    def opened(self) -> FolderSource:
        source = FolderSource(
            self.folder,
            name="incoming",
            declared=JsonFormat(),
            incarnation=1,
            manifest=self.manifest,
            clock=lambda: self.now,
        )
        source.resume(self.position, self.prints)
        return source

    def write(self, name: str, disk: bytes) -> None:
        self.now += 1_000_000
        (self.folder / name).write_bytes(disk)
        self.written[name] = self.now
        os.utime(self.folder / name, ns=(self.now * 1_000, self.now * 1_000))
        self.now += 3_000_000

    def add(self) -> None:
        suffix = self.rng.choice(list(PACKS))
        name = f"{self.rng.choice('abc')}{len(self.versions):04d}.json{suffix}"
        self.replace(name)

    def replace(self, name: str) -> None:
        """New content; unique lines, so that each can be told from all others."""
        count = self.rng.choice([0, 1, 2, 5, 40])
        lines = [b"%d %s" % (self.counter + i, b"x" * self.rng.randrange(30)) for i in range(count)]
        self.counter += count + 1
        # A file without records is told from other such files by its blank lines.
        body = self.rng.choice([b"\n", b"\r\n", b"\n\n"]).join(lines) + b"\n" * self.counter
        disk = PACKS[os.path.splitext(name)[1] if not name.endswith(".json") else ""](body)
        self.write(name, disk)
        self.versions.setdefault(name, []).append(disk)
        self.bodies[name, disk] = lines

    def finished(self) -> list[str]:
        """Paths whose present content was seen and taken: what replaces it sooner makes it as if it had never been."""
        rows = {row["path"]: row for row in self.manifest.entries().to_pylist()}
        reached = self.position.get(0, 0)
        return [
            path
            for path, row in rows.items()
            if row["state"] in ("complete", "repeated")
            and row["first_offset"] + row["records"] <= reached
            and row["mtime_us"] == self.written[path]
        ]

    def change(self) -> None:
        if done := self.finished():
            self.replace(self.rng.choice(done))

    def rewrite(self) -> None:
        """The same content as once before: nothing may come of it."""
        if done := self.finished():
            name = self.rng.choice(done)
            self.write(name, self.rng.choice(self.versions[name]))

    def crash(self) -> None:
        if self.rng.random() < 0.5:
            self.source.plan(self.position, self.bounds())
        self.source = self.opened()

    def bounds(self) -> Bounds:
        return Bounds(self.rng.choice([1, 3, 20, 1_000]), self.rng.choice([60, 500, 100_000]))

    def round(self) -> None:
        ranges = self.source.plan(self.position, self.bounds())
        if not ranges:
            return
        table = (self.source if self.rng.random() < 0.8 else self.opened()).read(ranges)
        position = {0: ranges[-1].end}
        for offset, value, pairs in zip(
            *(table[name].to_pylist() for name in ("offset", "value", "headers")), strict=True
        ):
            assert offset not in self.bronze
            self.bronze[offset] = ({pair["key"]: pair["value"] for pair in pairs}[FILE_PATH].decode(), value)
        self.position, self.prints = position, dict(self.source.fingerprint(position))
        if self.rng.random() < 0.5:
            self.source.forget(position)

    def drain(self) -> None:
        while True:
            before = dict(self.position)
            self.round()
            if before == self.position and self.source.exhausted(self.position):
                return

    def check(self) -> None:
        """Every content that ever lay settled under a path was delivered once, whole and in order."""
        assert sorted(self.bronze) == list(range(len(self.bronze)))
        expected = sorted((name, line) for (name, _), lines in self.bodies.items() for line in lines)
        assert sorted(self.bronze.values()) == expected
        for row in self.manifest.entries().to_pylist():
            if row["state"] == "complete":
                lines = [self.bronze[row["first_offset"] + index][1] for index in range(row["records"])]
                assert lines in [found for (name, _), found in self.bodies.items() if name == row["path"]]


@pytest.mark.parametrize("seed", range(40))
def test_each_content_is_delivered_once_whatever_happens(tmp_path: Path, seed: int) -> None:
    play = Play(tmp_path, seed)
    steps = [play.add, play.round, play.round, play.round, play.change, play.rewrite, play.crash]
    for _ in range(STEPS):
        play.rng.choice(steps)()
    play.drain()
    play.check()
