"""What every source is: ranges planned by the driver, records read as Arrow by any process, and what may be forgotten.

The suite that every source has to pass is `penstock.testing.source_contract`. The sources of this version are
`push.py`, `files.py`, `kafka.py` and `simulate.py`; `opening.py` makes the one a pipeline declares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from penstock.model.position import Position, Range, SourceIdentity

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

HEADERS_TYPE = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))

RECORD_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", UTC_MICROSECONDS),
        pa.field("ingested_at", UTC_MICROSECONDS),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", HEADERS_TYPE),
    ]
)
"""Records as every source delivers them. `timestamp` is the source's own time; `ingested_at` is null where the loop
stamps one value per batch; a record over the size limit has a null `value` and the header `TOO_LARGE`,
one whose headers cannot be read has the header `UNREADABLE_HEADERS` in their place."""

TOO_LARGE = "penstock.too_large"
"""Header of a record over the size limit: ASCII text `{"bytes":N,"sha256":"HEX"}` about the bytes left out."""

UNREADABLE_HEADERS = "penstock.unreadable_headers"
"""Header of a record whose own headers the source's client cannot read, in their place; its value says why."""

FILE_PATH = "file.path"
"""Header with the path of the record's file, relative to the source's folder, `/` between its parts."""

CSV_HEADER = "csv.header"
"""Header with the header line of the record's CSV file, as bytes without the line end."""

Clock = Callable[[], int]
"""Microseconds since the epoch, UTC."""


def wall_clock() -> int:
    """The machine's time in microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


@dataclass(frozen=True)
class Bounds:
    """How much one plan may cover. At least one record is planned when there is one, however large it is."""

    rows: int
    bytes: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.bytes < 1:
            raise ValueError(f"bounds of {self.rows} rows and {self.bytes} bytes: at least 1 of each")


@dataclass(frozen=True)
class Backlog:
    """What waits above a position, as far as the source knows it cheaply; None where it does not."""

    records: int | None
    bytes: int | None


class Source(Protocol):
    """One incarnation of a source, as one process sees it.

    Order of calls: `resume` once, before the first `plan`; then `plan`, `read`, `forget` in rounds; `close` at the end.
    `read` alone may also be called on a source that was only opened (a worker's, an auditor's), without `resume`.

    What may repeat: everything. `plan` may be called again from the same, an older (not forgotten) or a later position:
    rounds may overlap, so that round N+1 is planned from the end of round N before N is durable. `read` of a range
    gives the same records each time, in any process, and for any split of the range, until it is forgotten.
    `forget` of an older position does nothing.

    What is atomic: a range that `plan` returned stays readable over a crash; where a source has to write something for
    that, it is durable before `plan` returns. `forget` may stop half-way at a crash and is then repeated.

    Threads: `plan`, `read`, `fingerprint`, `backlog`, `wait`, `exhausted` are called from one thread at a time;
    `forget` may run beside them in another.

    What is not promised: dense offsets; that a plan fills its bounds; that `forget` frees anything; that a range can be
    read after it was forgotten (`SourceLost`, or still the same records); that `backlog` knows a number.
    """

    @property
    def identity(self) -> SourceIdentity:
        """Which source this is. A source made anew after it was lost has another unique id."""
        ...

    @property
    def divisible(self) -> bool:
        """Whether a planned range may be cut anywhere and read in parts at no further cost."""
        ...

    def plan(self, position: Position, bounds: Bounds) -> tuple[Range, ...]:
        """Ranges from `position` on, ordered by (partition, start); () when there is nothing new now.

        The ranges of one partition ascend and do not overlap; a gap between them holds no records. The position after
        the plan is each partition's last `end`. `Range.source` is the incarnation number given at construction.

        Raises:
            SourceLost: records from `position` on are gone or unreadable and the pipeline says `on_data_loss: stop`.
            TransientError: try again.
        """
        ...

    def read(self, ranges: Sequence[Range]) -> pa.Table:
        """The records of the ranges in RECORD_SCHEMA, ordered by (partition, offset).

        Raises:
            SourceLost: a record of the ranges can no longer be delivered as it was.
            TransientError: try again.
        """
        ...

    def read_pieces(self, ranges: Sequence[Range], *, rows: int, size: int) -> Iterator[pa.Table]:
        """The same records in tables of about `rows` records and `size` bytes at most, one after the other: for a
        process that reads what another has planned. A source that plans exactly may give them in one.

        Raises: as `read`, while it is consumed.
        """
        ...

    def held(self, records: int, size: int, offsets: int) -> None:
        """What ranges of so many offsets turned out to hold, where others read them; plans may go by it."""
        ...

    def fingerprint(self, position: Position) -> Mapping[int, int]:
        """Per partition a 63-bit digest of what was delivered below `position`; {} where the source needs none.

        Committed together with the position, and given back to `resume`.
        """
        ...

    def resume(self, position: Position, fingerprints: Mapping[int, int]) -> None:
        """Check that the source still is what it was at `position`.

        Raises:
            SourceLost: what lies below or at `position` is not what was delivered.
        """
        ...

    def forget(self, position: Position) -> None:
        """Everything below `position` is durable elsewhere: the source may drop it."""
        ...

    def backlog(self, position: Position) -> Backlog:
        """What waits above `position`, for status and for the size of batches."""
        ...

    def wait(self, position: Position, seconds: float) -> bool:
        """Sleep until something may be new above `position` (True) or `seconds` have passed (False)."""
        ...

    def exhausted(self, position: Position) -> bool:
        """True when, as far as can be known now, nothing more comes without someone acting: `run --once` may end."""
        ...

    def notices(self) -> tuple[str, ...]:
        """What an operator should know and was not told yet: repeated, ignored or lost parts, one sentence each."""
        ...

    def close(self) -> None:
        """Give back files and connections. The source is not used afterwards."""
        ...
