"""Tries again what may succeed later: a source that is away is waited for, longer each time, and the wait can be ended.

Only TransientError is retried, and only around calls to the source; what the lake cannot do stops a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from penstock.errors import TransientError
from penstock.limits import TRANSIENT_ONCE_SECONDS, TRANSIENT_SECONDS_MAX, TRANSIENT_SECONDS_MIN

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from penstock.run.context import Clock

T = TypeVar("T")


class Stopped(Exception):
    """`stop` was set while something was waited for. Ends a run as `stop` does."""


class Patience:
    """How long the failures of one source are borne. With `once` not for ever.

    `tell` is given a sentence when an outage begins, at each attempt, and when it is over.
    """

    def __init__(self, clock: Clock, stop: threading.Event, tell: Callable[[str], None], *, once: bool) -> None:
        self._clock = clock
        self._stop = stop
        self._tell = tell
        self._once = once
        self._since: float | None = None
        self._delay = TRANSIENT_SECONDS_MIN

    def bear(self, error: TransientError) -> None:
        """Wait before the next attempt.

        Raises:
            TransientError: the same, when it has lasted for too long.
            Stopped: `stop` is set, or was meanwhile.
        """
        if self._stop.is_set():
            raise Stopped
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        lasted = now - self._since
        if self._once and lasted > TRANSIENT_ONCE_SECONDS:
            raise error
        self._tell(f"waiting for the source for {lasted:.0f} s, trying again in {self._delay:.2g} s: {error.message}")
        if self._stop.wait(self._delay):
            raise Stopped
        self._delay = min(TRANSIENT_SECONDS_MAX, 2 * self._delay)

    def passed(self) -> None:
        """The source answers."""
        if self._since is not None:
            self._tell(f"the source is back after {self._clock.monotonic() - self._since:.0f} s")
            self._since, self._delay = None, TRANSIENT_SECONDS_MIN

    def insist(self, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, which is called until it does not fail for a while any more.

        Raises: as `bear`, and whatever else `attempt` does.
        """
        while True:
            try:
                result = attempt()
            except TransientError as error:
                self.bear(error)
            else:
                self.passed()
                return result
