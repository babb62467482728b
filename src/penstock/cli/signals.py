"""Signals while pipelines run: the first SIGTERM or SIGINT asks them to stop cleanly, the second ends the process."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

HANDLED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: threading.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """Set `stop` at the first signal. At the second end at once: whatever was going on, the next start recovers it."""

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            sys.stderr.flush()
            os._exit(128 + number)
        stop.set()
        tell("stopping after the batches under way; once more ends at once")

    before = {number: signal.signal(number, handle) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
