"""A process with everything it started, measured from outside: CPU time by kind of process, memory together."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_SECONDS = 0.2
"""Between two looks at the memory; a look costs less than a millisecond."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """What a process tree took while the context lasted.

    `processor` is CPU seconds by kind: `driver` (the process itself), `java`, `workers` (what Java started). Ended
    processes count with those that waited for them. `peak_bytes` is the most resident memory of all together; pages
    that several share are counted in each.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before: dict[str, float] = {}
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self.processor: dict[str, float] = {}
        self.peak_bytes = 0

    def __enter__(self) -> Watch:
        self._before = processor_seconds(self._pid)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        after = processor_seconds(self._pid)
        self._ended.set()
        self._sampler.join()
        self.processor = {kind: max(0.0, value - self._before.get(kind, 0.0)) for kind, value in after.items()}

    def as_json(self) -> dict[str, Any]:
        return {
            "cpu_seconds": sum(self.processor.values()),
            "processor": dict(self.processor),
            "peak_bytes": self.peak_bytes,
        }

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, sum(process.resident for process in tree(self._pid)))
            if self._ended.wait(SAMPLE_SECONDS):
                return


class Process:
    """A line of /proc: name, parent, CPU seconds of its own and of the children it waited for, resident bytes."""

    def __init__(self, pid: int) -> None:
        text = Path(f"/proc/{pid}/stat").read_text()
        start, end = text.index("("), text.rindex(")")
        fields = text[end + 2 :].split()
        self.pid = pid
        self.name = text[start + 1 : end]
        self.parent = int(fields[1])
        self.own_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        self.ended_seconds = (int(fields[13]) + int(fields[14])) / _TICKS
        self.resident = int(fields[21]) * _PAGE


def tree(pid: int) -> list[Process]:
    """The process and its descendants, itself first."""
    children: defaultdict[int, list[Process]] = defaultdict(list)
    found: list[Process] = []
    for process in _processes():
        children[process.parent].append(process)
        if process.pid == pid:
            found.append(process)
    for process in found:
        found += children[process.pid]
    return found


def processor_seconds(pid: int) -> dict[str, float]:
    """CPU seconds by kind until now."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for process in tree(pid):
        if process.pid == pid:
            seconds["driver"] += process.own_seconds + process.ended_seconds
        elif process.name == "java":
            seconds["java"] += process.own_seconds
            seconds["workers"] += process.ended_seconds
        else:
            seconds["workers"] += process.own_seconds + process.ended_seconds
    return dict(seconds)


def _processes() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield Process(int(name))
            except (OSError, ValueError):  # it has ended meanwhile
                continue
