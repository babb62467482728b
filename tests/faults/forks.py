"""Children that cost little to start and to kill: forked from a process that has imported everything and started nothing.

A process that has threads must not fork, so this is for programs of their own (`kills.py`), not for pytest's process:
whatever opens a table, a database or a log is done in a child.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import penstock.wire  # noqa: F401 - imported once here, so that no child has to

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def single_threaded() -> None:
    """Fail where this process has threads of its own: a child would have their locks, held by nobody."""
    names = [thread.name for thread in threading.enumerate()]
    assert len(names) == 1, f"this process has threads: {names}"


def die() -> None:
    """kill -9, by oneself."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Child:
    """A process at work; what it said outlives it, line by line."""

    pid: int
    said_path: Path
    code: int | None = None

    def kill(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """The exit code, or minus the signal that ended it."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def said(self) -> list[str]:
        return self.said_path.read_text().splitlines()

    @property
    def was_killed(self) -> bool:
        return self.wait() == -signal.SIGKILL


def start(work: Callable[[Callable[[str], None]], None], said_path: Path) -> Child:
    """Do `work` in a child. What it says is in the file at once, so a killed child has said it.

    An exception ends it with code 1 and its traceback as the last lines.
    """
    single_threaded()
    gc.freeze()  # or a collection in the child would write to, and so copy, every page it shares with this process
    sys.stdout.flush()
    sys.stderr.flush()
    said_path.write_bytes(b"")
    pid = os.fork()
    if pid:
        gc.unfreeze()
        return Child(pid, said_path)
    code = 1
    try:
        handle = os.open(said_path, os.O_WRONLY | os.O_APPEND)

        def say(line: str) -> None:
            os.write(handle, line.encode() + b"\n")

        try:
            work(say)
            code = 0
        except BaseException:  # noqa: BLE001 - told to the parent
            say(traceback.format_exc())
    finally:
        os._exit(code)


def done(work: Callable[[Callable[[str], None]], None], said_path: Path) -> list[str]:
    """Do `work` in a child to its end; what it said. An exception in it is an AssertionError here."""
    child = start(work, said_path)
    code = child.wait()
    said = child.said()
    assert code == 0, "\n".join(said[-30:]) or f"ended with {code}"
    return said
