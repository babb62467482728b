"""Progress on a terminal's standard error: one line that is redrawn. Nothing is drawn elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

REDRAW_SECONDS = 0.1


class Counter:
    """Counts up, with the rate. Thread-safe; use it with `with`."""

    def __init__(
        self,
        verb: str,
        *,
        total: int | None = None,
        shown: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verb = verb
        self._total = total
        self._shown = shown
        self._monotonic = monotonic
        self._started = monotonic()
        self._drawn = -REDRAW_SECONDS
        self._value = 0
        self._note = ""
        self._lock = threading.Lock()

    def set(self, value: int) -> None:
        """The count is now `value`."""
        with self._lock:
            self._value = value
            self._draw()

    def add(self, value: int, remark: str = "") -> None:
        """The count goes up by `value`; `remark` is shown behind it."""
        with self._lock:
            self._value += value
            self._note = remark
            self._draw()

    def _draw(self) -> None:
        now = self._monotonic()
        if not self._shown or now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        print(f"\r\x1b[K{self.line(now)}", end="", file=sys.stderr, flush=True)  # noqa: T201 - the command line's own line

    def line(self, now: float) -> str:
        """What is shown at a moment of the monotonic clock."""
        rate = self._value / max(now - self._started, 1e-9)
        share = f" ({self._value / self._total:.0%})" if self._total else ""
        remark = f"  {self._note}" if self._note else ""
        return f"{self._value:,} {self._verb}{share}, {rate:,.0f}/s{remark}"

    def __enter__(self) -> Counter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown and self._drawn >= 0:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201
