"""A crash without a process: at a named step, or before the n-th change of a file, nothing more reaches the disk.

After it, every further change that any thread attempts raises `Crash` too, and leftovers are not tidied away, as after
`kill -9`. `test_crashes.py` compares both.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from penstock.lake.handle import Handle
from penstock.lake.storage import LocalStorage
from penstock.run import service, upkeep
from penstock.sources.push_log import PushLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Place = tuple[str, int]
"""A step and how often it was reached, counted from 1 over the whole life: (`silver`, 2)."""


class Crash(BaseException):
    """The process is gone. No handler of the product may catch it, as none sees a kill."""


@dataclass
class Life:
    """What one life of a process meets: it ends at `place`, or before the change numbered `operation` (from 1).

    `meanwhile` is called, once, at `place` instead of a crash, where there is one.
    """

    place: Place | None = None
    operation: int = 0
    meanwhile: Callable[[], None] | None = None
    crashed: bool = False
    operations: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def after_step(self, step: str, batch: int) -> None:
        with self._lock:
            self.refuse()
            self.steps[step] = count = self.steps.get(step, 0) + 1
            if self.place != (step, count):
                return
            if self.meanwhile is None:
                self.end()
        self._meet()

    def before_change(self) -> None:
        with self._lock:
            self.refuse()
            self.operations += 1
            if self.operations != self.operation:
                return
            if self.meanwhile is None:
                self.end()
        self._meet()

    def _meet(self) -> None:
        met, self.meanwhile, self.place, self.operation = self.meanwhile, None, None, 0
        assert met is not None
        met()

    def end(self) -> None:
        self.crashed = True
        raise Crash

    def refuse(self) -> None:
        """The dead change nothing."""
        if self.crashed:
            raise Crash


@contextmanager
def living(life: Life) -> Iterator[None]:
    """Inside, changes of the lake and of push logs are `life`'s."""
    before, discard, add_columns, writing = (
        LocalStorage._before,
        LocalStorage.discard,
        Handle.add_columns,
        PushLog._writing,
    )

    def changing(self: LocalStorage, operation: str, path: str) -> None:
        life.before_change()
        before(self, operation, path)

    def discarding(self: LocalStorage, path: str) -> None:
        if not life.crashed:
            discard(self, path)

    def adding(self: Handle, *arguments: Any, **options: Any) -> bool:
        life.before_change()
        return add_columns(self, *arguments, **options)

    @contextmanager
    def appending(self: PushLog) -> Iterator[None]:
        life.before_change()
        with writing(self):
            yield

    with ExitStack() as stack:
        stack.enter_context(patch.object(LocalStorage, "_before", changing))
        stack.enter_context(patch.object(LocalStorage, "discard", discarding))
        stack.enter_context(patch.object(Handle, "add_columns", adding))
        stack.enter_context(patch.object(PushLog, "_writing", appending))
        yield


class InTurn:
    """Stands for the loop's thread pools: what is submitted is done at once, so that a seed always does the same."""

    def __init__(self, workers: int, name: str, **_: object) -> None: ...

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *_: object) -> None: ...

    def shutdown(self) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments))
        except Crash:
            raise
        except BaseException as error:  # noqa: BLE001 - the future carries it, as a pool's does
            done.set_exception(error)
        return done


@contextmanager
def in_turn() -> Iterator[None]:
    """A context in which the loop has no threads of its own."""
    with patch.object(service, "ThreadPoolExecutor", InTurn), patch.object(upkeep, "ThreadPoolExecutor", InTurn):
        yield
