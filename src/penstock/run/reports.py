"""What a person should know of a run and what stops nothing: a range that the source lost, a file set aside."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from penstock.limits import NOTICES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable


class Reports:
    """Sentences of one run, kept for its summary: the last ones of very many. A run that goes on until it is stopped
    tells each at once; one with an end tells them only if it fails, and so has no summary."""

    def __init__(self, tell: Callable[[str], None], *, at_once: bool) -> None:
        self._tell = tell
        self._at_once = at_once
        self._kept: deque[str] = deque(maxlen=NOTICES_MAX)

    def add(self, sentence: str) -> None:
        self._kept.append(sentence)
        if self._at_once:
            self._tell(sentence)

    def kept(self) -> tuple[str, ...]:
        return tuple(self._kept)

    def run_failed(self) -> None:
        """Tell what was not told yet."""
        for sentence in () if self._at_once else self._kept:
            self._tell(sentence)
