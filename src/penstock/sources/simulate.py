"""A simulated world as a source of a pipeline, and as a producer that sends its records somewhere at a rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.limits import PUSH_POLL_SECONDS, SIMULATED_ROWS_PER_STEP
from penstock.model.position import Range, SourceIdentity
from penstock.sources.contract import RECORD_SCHEMA, Backlog
from penstock.sources.records import record_table
from penstock.sources.worlds import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from penstock.model.position import Position
    from penstock.sources.contract import Bounds
    from penstock.sources.worlds import World

SENDS_PER_SECOND = 20
"""How often a producer with a rate sends: often enough to look even, seldom enough to cost little."""


class SimulatedSource:
    """Delivers `world` as incarnation `incarnation`; offsets are ordinals. See `Source` for the contract.

    With `events` all of them are there at once. Without, `rate` records a second come into being, counted from the
    first plan of this process: nothing is kept over a restart but the position. Such a source is never exhausted.
    """

    divisible = True

    def __init__(
        self,
        world: World,
        *,
        incarnation: int,
        rate: int,
        events: int | None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        unique = f"{world.name}/seed={world.seed}/faults={world.faults}/tick_us={world.tick_us}"
        self.identity = SourceIdentity("simulate", world.name, unique)
        self._world = world
        self._incarnation = incarnation
        self._rate = rate
        self._events = events
        self._monotonic = monotonic
        self._sleep = sleep
        self._began: tuple[float, int] | None = None

    def _available(self, offset: int) -> int:
        """The offset up to which records exist now."""
        if self._events is not None:
            return self._events
        if self._began is None:
            self._began = (self._monotonic(), offset)
        since, first = self._began
        return first + 1 + int((self._monotonic() - since) * self._rate)

    def plan(self, position: Position, bounds: Bounds) -> tuple[Range, ...]:
        start = position.get(0, 0)
        count = max(1, min(bounds.rows, bounds.bytes // RECORD_BYTES))
        end = min(start + count, self._available(start))
        return (Range(self._incarnation, 0, start, end),) if end > start else ()

    def read(self, ranges: Sequence[Range]) -> pa.Table:
        tables: list[pa.Table] = []
        for span in sorted(ranges, key=lambda span: span.start):
            for start in range(span.start, span.end, SIMULATED_ROWS_PER_STEP):
                sent = self._world.make(start, min(SIMULATED_ROWS_PER_STEP, span.end - start))
                tables.append(record_table(0, start, sent.block, None))
        return pa.concat_tables(tables or [RECORD_SCHEMA.empty_table()])

    def read_pieces(self, ranges: Sequence[Range], *, rows: int, size: int) -> Iterator[pa.Table]:  # noqa: ARG002
        yield self.read(ranges)  # a plan of this source is exact

    def held(self, records: int, size: int, offsets: int) -> None:
        """Plans look at the records themselves."""

    def fingerprint(self, position: Position) -> Mapping[int, int]:  # noqa: ARG002 - the identity says it all
        return {}

    def resume(self, position: Position, fingerprints: Mapping[int, int]) -> None:
        """Nothing can have changed."""

    def forget(self, position: Position) -> None:
        """Nothing is kept."""

    def backlog(self, position: Position) -> Backlog:
        start = position.get(0, 0)
        records = max(0, self._available(start) - start)
        return Backlog(records, records * RECORD_BYTES // 2)

    def wait(self, position: Position, seconds: float) -> bool:
        deadline = self._monotonic() + seconds
        start = position.get(0, 0)
        while self._available(start) <= start:
            left = deadline - self._monotonic()
            if left <= 0:
                return False
            self._sleep(min(left, PUSH_POLL_SECONDS))
        return True

    def exhausted(self, position: Position) -> bool:
        return self._events is not None and position.get(0, 0) >= self._events

    def notices(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class SentBlock:
    """Records on their way: `block` in BLOCK_SCHEMA, `truth` in TRUTH_SCHEMA, the ordinal of the first."""

    first: int
    block: pa.Table
    truth: pa.Table


def produce(
    world: World,
    *,
    rate: int | None,
    seconds: float | None = None,
    events: int | None = None,
    first: int = 0,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[SentBlock]:
    """Blocks of records from ordinal `first` on, each when it is due at `rate` records a second (None: at once).

    Ends after `events` records or after `seconds`, whichever comes first; never where both are None. Whoever sends
    them may be slower than the rate: nothing is skipped then. `penstock.sources.push_log` takes `block` as it is.
    """
    began = monotonic()
    sent = 0
    total = events if rate is None or seconds is None else min(events or int(rate * seconds), int(rate * seconds))
    step = SIMULATED_ROWS_PER_STEP if rate is None else max(1, min(SIMULATED_ROWS_PER_STEP, rate // SENDS_PER_SECOND))
    while total is None or sent < total:
        if rate is None and seconds is not None and monotonic() - began >= seconds:
            return
        count = step if total is None else min(step, total - sent)
        if rate is not None:
            due = began + (sent + count) / rate
            while (left := due - monotonic()) > 0:
                sleep(left)
        made = world.make(first + sent, count)
        yield SentBlock(first + sent, made.block, made.truth)
        sent += count
