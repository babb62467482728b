"""A clock that a test moves: weeks pass between two actions, and it also steps back.

Penstock reads the time through Python's `time` module; what the file system and delta-rs stamp on files and log entries
comes from the machine. So the simulated time is the machine's plus an offset, and a stamp of the machine is read as
what the simulated clock showed when it was made: the moments at which the offset changed are kept.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from penstock.lake import log, table
from penstock.lake.storage import LocalStorage, StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1_000_000
DAY = 86_400 * SECOND
STARTS_AHEAD = 60 * DAY
"""delta-rs forgets removed files by the machine's clock: the simulated one stays ahead of it, whatever it steps back."""

_machine_ns = time.time_ns
_boot_seconds = table.boot_seconds


@dataclass
class Clock:
    """Microseconds since the epoch. `highest` is the latest time it ever showed; `stepped_back` how far it went back."""

    scratch: Path
    offset: int = STARTS_AHEAD
    stepped_back: int = 0
    asleep: int = 0
    _machine: list[int] = field(default_factory=lambda: [0])
    _offsets: list[int] = field(default_factory=lambda: [STARTS_AHEAD])

    def now(self) -> int:
        return _machine_ns() // 1_000 + self.offset

    def jump(self, micros: int) -> None:
        """Let time pass (the machine sleeps), or step back; never to before the machine's own time."""
        micros = max(micros, -self.offset)
        if micros < 0:
            self.stepped_back -= micros
        else:
            self.asleep += micros
        self._pass_a_tick()
        self.offset += micros
        self._machine.append(_machine_ns() // 1_000)
        self._offsets.append(self.offset)
        self._pass_a_tick()

    def shown_at(self, machine: int) -> int:
        """What this clock showed at a time of the machine's."""
        return machine + self._offsets[bisect_right(self._machine, machine) - 1]

    def _pass_a_tick(self) -> None:
        """Files are stamped by a coarser clock: a jump must not fall into one of its ticks."""
        stamp = self.scratch / "tick"
        begin = _machine_ns()
        while True:
            stamp.touch()
            if os.stat(stamp).st_mtime_ns > begin:
                return


@contextmanager
def running(clock: Clock) -> Iterator[None]:
    """Inside, everything that Penstock asks for the time, and every stamp it reads, is by `clock`."""
    files, parse_entry = LocalStorage.files, log.parse_entry

    def shifted_files(self: LocalStorage, folder: str) -> Iterator[StoredFile]:
        for file in files(self, folder):
            yield replace(file, modified=clock.shown_at(file.modified * 1000 + 999) // 1000)

    def shifted_entry(version: int, data: bytes) -> Any:
        entry = parse_entry(version, data)
        return replace(entry, timestamp=clock.shown_at(entry.timestamp)) if entry.timestamp else entry

    with (
        patch.object(time, "time_ns", lambda: clock.now() * 1_000),
        patch.object(time, "time", lambda: clock.now() / SECOND),
        patch.object(table, "boot_seconds", lambda: _boot_seconds() + clock.asleep / SECOND),
        patch.object(LocalStorage, "files", shifted_files),
        patch.object(log, "parse_entry", shifted_entry),
    ):
        yield
