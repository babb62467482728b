"""Sentences for the operator that a source collects until the loop tells them; a bounded number."""

from __future__ import annotations

import threading

from penstock.limits import NOTICES_MAX


class Notices:
    """Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sentences: list[str] = []
        self._more = 0

    def add(self, sentence: str) -> None:
        with self._lock:
            if len(self._sentences) < NOTICES_MAX:
                self._sentences.append(sentence)
            else:
                self._more += 1

    def take(self) -> tuple[str, ...]:
        """What was added since the last call."""
        with self._lock:
            told = (*self._sentences, *([f"And {self._more} more like these."] if self._more else []))
            self._sentences, self._more = [], 0
        return told
