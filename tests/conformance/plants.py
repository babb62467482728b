"""Spark's Python daemon for tests: its workers fail as the files in a folder say.

A file `settle-die` there lets the worker that comes to this place first die; it takes the file away, so that a plant
acts once, in one worker. With `hold` all of them wait there, until the test takes the file away. Places are before and
after each stage and after each of its writes. `Plants` is the test's side.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = "PENSTOCK_TEST_PLANTS"
HOUR_SECONDS = 3_600
SLOW_SECONDS = 3.0
STUCK_SECONDS = 20.0
"""Longer than any task of the tests takes, by whose time Spark decides which of them is run a second time."""
STAGES = ("refine", "settle")


class Plants:
    """The folder of plants; also what the workers say they were called for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def plant(self, place: str, action: str, times: int = 1) -> None:
        for number in range(times):
            (self.folder / f"{place}-{action}.{number}").touch()

    @property
    def left(self) -> list[str]:
        """Plants that nobody has come to."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != "calls")

    def calls(self, stage: str) -> int:
        """How often workers were called for a stage (`refine`), or for that of a batch (`refine:2`), since `clear`."""
        path = self.folder / "calls"
        return path.read_text().split().count(stage) if path.exists() else 0

    # -- in a worker --------------------------------------------------------------------------------------------------

    def called(self, stage: str, batch: int) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(f"{stage} {stage}:{batch}\n")

    def claim(self, place: str, action: str) -> bool:
        """Whether this worker is the one to do it."""
        for path in sorted(self.folder.glob(f"{place}-{action}.*")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                return True
        return False

    def act(self, place: str) -> None:
        if self.claim(place, "die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.claim(place, "fail"):
            raise RuntimeError(f"planted: {place}")
        if self.claim(place, "slow"):
            time.sleep(SLOW_SECONDS)
        if self.claim(place, "stuck"):
            time.sleep(STUCK_SECONDS)
        while any(self.folder.glob(f"{place}-hold.*")):
            time.sleep(0.02)


@functools.cache
def install(folder: Path) -> None:
    """Let this process's stages look for plants: once, however many tasks it is given."""
    plants = Plants(folder)
    from penstock.engines.spark.worker import Room  # noqa: PLC0415 - not before the daemon has forked

    at: list[str] = []
    write = Room._write

    def written(self: Room, *arguments: Any) -> Any:
        files = write(self, *arguments)
        plants.act(f"{at[-1]}-written")
        return files

    Room._write = written  # type: ignore[method-assign]
    for name in STAGES:
        setattr(Room, name, _planted(plants, name, getattr(Room, name), at))


def _planted(plants: Plants, name: str, inner: Callable[..., Any], at: list[str]) -> Callable[..., Any]:
    def stage(self: Any, share: Any, pinned: Any) -> Any:
        plants.called(name, share.batch)
        plants.act(name)
        at.append(name)
        try:
            with contextlib.ExitStack() as stack:
                if plants.claim(name, "full"):
                    stack.enter_context(_full_disk())
                if plants.claim(name, "clock"):
                    stack.enter_context(_clock_ahead())
                if plants.claim(name, "forget") and share.part.cache is not None:
                    for path in Path(share.part.cache).parent.glob(Path(share.part.cache).name + "*"):
                        path.unlink()
                if plants.claim(name, "twice"):
                    inner(self, share, pinned)
                found = inner(self, share, pinned)
        finally:
            at.pop()
        plants.act(f"{name}-done")
        return found

    return stage


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    from penstock.lake.storage import LocalStorage  # noqa: PLC0415

    def before(self: LocalStorage, operation: str, path: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plain, LocalStorage._before = LocalStorage._before, before  # type: ignore[method-assign]
    try:
        yield
    finally:
        LocalStorage._before = plain  # type: ignore[method-assign]


@contextlib.contextmanager
def _clock_ahead() -> Iterator[None]:
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + HOUR_SECONDS
    time.time_ns = lambda: nanoseconds() + HOUR_SECONDS * 1_000_000_000
    try:
        yield
    finally:
        time.time, time.time_ns = seconds, nanoseconds


def main() -> None:
    """What Spark starts instead of its own daemon."""
    start = daemon.worker

    def worker(*arguments: Any) -> int:
        install(Path(os.environ[FOLDER]))
        return start(*arguments)

    daemon.worker = worker
    daemon.manager()


if __name__ == "__main__":
    main()
