"""Finds the processes of Spark: workers of this process's Java, and whatever inherited a mark in its environment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "PENSTOCK_TEST_MARK"


def spark_workers() -> list[int]:
    """Python workers below this process: children of Spark's Python daemon."""
    daemons = [pid for pid in descendants(os.getpid()) if "conformance.plants" in command(pid)]
    return [pid for pid in daemons if parent(pid) in daemons]


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    parents = {one: parent(one) for one in _pids()}
    found, todo = [], [pid]
    while todo:
        above = todo.pop()
        below = [one for one, its_parent in parents.items() if its_parent == above]
        found += below
        todo += below
    return found


def with_environment(entry: str) -> list[int]:
    """Processes that were started with `NAME=VALUE` in their environment, but for those that only wait to be reaped."""
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if entry.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
