"""Signals while pipelines run: the first SIGTERM or SIGINT asks them to stop cleanly, a later one ends the process."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.limits import SIGNAL_REPEAT_SECONDS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

HANDLED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: threading.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """Set `stop` at the first signal. At a later one end at once: whatever was going on, the next start recovers it.

    What follows within SIGNAL_REPEAT_SECONDS is the same request: `timeout`, for one, signals a process and its group.
    """
    asked_at = 0.0

    def handle(number: int, _: object) -> None:
        nonlocal asked_at
        if stop.is_set():
            if time.monotonic() - asked_at < SIGNAL_REPEAT_SECONDS:
                return
            sys.stderr.flush()
            os._exit(128 + number)
        asked_at = time.monotonic()
        stop.set()
        tell("stopping after the batches under way; once more ends at once")

    before = {number: signal.signal(number, handle) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
