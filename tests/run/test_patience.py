"""What is waited for, and that a stop ends the wait before anything else is said."""

from __future__ import annotations

import threading

import pytest

from penstock.errors import TransientError
from penstock.run.context import SystemClock
from penstock.run.patience import Patience, Stopped


def test_once_stopped_nothing_is_waited_for_or_told() -> None:
    stop, told = threading.Event(), []

    def attempt() -> None:
        stop.set()
        raise TransientError("away")

    with pytest.raises(Stopped):
        Patience(SystemClock(), stop, told.append, once=True).insist(attempt)
    assert told == []
