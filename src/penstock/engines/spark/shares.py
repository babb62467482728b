"""What travels between the driver and the executors: what to do, and small descriptions of what was done.

All of it is pickled. What a worker keeps from the first stage (`Part.cache`) is only a shortcut: the second derives the
part again from its bronze files where it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from penstock.engines.contract import PlacedKeys, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import pyarrow as pa
    from numpy.typing import NDArray

    from penstock.engines.outcome import Stopped
    from penstock.lake.datafile import DataFile
    from penstock.lake.fence import Writer
    from penstock.lake.layout import TableSpec
    from penstock.model.batch import BatchCounts
    from penstock.model.pipeline import Pipeline
    from penstock.model.position import Range


# -- to the workers ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """An opened pipeline, as a worker needs it; the same for every batch.

    `lake` and `store_options` open the lake's storage; the options hold secrets. `windows` are the names of gold tables
    with their `rows_sql`. `refine_version` is the driver's: a worker with another would make other rows of the same
    records.
    """

    name: str
    refine_version: int
    lake: str
    store_options: Mapping[str, str]
    folder: Path
    state_folder: Path
    record_bytes_max: int
    push_bytes_max: int
    pipeline: Pipeline
    incarnation: int
    unique_id: str
    writer: Writer
    bronze: TableSpec
    rejects: TableSpec
    silver: TableSpec
    windows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Allowance:
    """What a worker may hold at once. It goes with each batch: executors come and go."""

    memory_bytes: int
    """For its queries."""
    piece_bytes: int
    """What it reads of a share at once, at most; a share that holds more becomes several parts."""


@dataclass(frozen=True)
class Pinned:
    """What batches with the same pins are refined with: the contract's pipeline and the references' rows."""

    name: str
    pipeline: Pipeline
    references: Mapping[str, pa.Table]


@dataclass(frozen=True)
class SourceShare:
    """A share of a new batch: ranges to be read from the source, written to bronze and refined."""

    batch: int
    ranges: tuple[Range, ...]
    now: int


@dataclass(frozen=True)
class BronzeShare:
    """A share of a batch that bronze has: files to be read and refined."""

    batch: int
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class VerdictShare:
    """The verdict on a part's valid events: where each of its events ends is decided, its rows can be written."""

    batch: int
    part: Part
    verdict: PackedVerdict | None
    contract: int


# -- from the workers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A share whose records were refined. `bronze` holds them, among those of other batches perhaps."""

    bronze: tuple[DataFile, ...]
    records: int
    bytes: int
    """Of the records' values."""
    events: int
    skipped: int
    stopped: Stopped | None
    keys: PackedKeys | None
    cache: str | None
    """Where the worker put the events, on its own machine."""


@dataclass(frozen=True)
class SettledPart:
    """What became of a part: files that are durable and not committed, and `rows_sql` of its accepted rows by gold
    table."""

    silver: tuple[DataFile, ...]
    rejects: tuple[DataFile, ...]
    counts: BatchCounts
    event_time_max: int | None
    windows: Mapping[str, pa.Table]


# -- keys and verdicts, small -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedKeys:
    """`PlacedKeys` of one part: a column of equal values is one value."""

    count: int
    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, keys: PlacedKeys) -> PackedKeys:
        columns = {}
        for field in fields(PlacedKeys):
            values = getattr(keys, field.name)
            columns[field.name] = values[:1] if len(values) and (values == values[0]).all() else values
        return cls(len(keys), columns)

    def unpacked(self) -> PlacedKeys:
        def whole(values: NDArray[Any]) -> NDArray[Any]:
            return values if len(values) == self.count else np.repeat(values, self.count)

        return PlacedKeys(**{name: whole(values) for name, values in self.columns.items()})


@dataclass(frozen=True)
class PackedVerdict:
    """A `Verdict` on one part: a bit for each event, and winners for the losers only."""

    count: int
    accepted: NDArray[np.uint8]
    winners: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, verdict: Verdict) -> PackedVerdict:
        lost = ~verdict.accepted
        winners = tuple(getattr(verdict, field.name)[lost] for field in fields(Verdict)[1:])
        return cls(len(verdict.accepted), np.packbits(verdict.accepted), winners)

    def unpacked(self) -> Verdict:
        accepted = np.unpackbits(self.accepted, count=self.count).astype(np.bool_)
        whole = []
        for values in self.winners:
            filled = np.zeros(self.count, values.dtype)
            filled[~accepted] = values
            whole.append(filled)
        return Verdict(accepted, *whole)


def together(parts: Sequence[PlacedKeys]) -> tuple[PlacedKeys, NDArray[np.intp]]:
    """The keys of all parts in (place, index) order, and for each of them its position in the parts laid end to end."""
    joined = PlacedKeys(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(PlacedKeys)}
    )
    if len(parts) == 1:
        return joined, np.arange(len(joined))
    order = np.lexsort((joined.index, joined.offset, joined.partition, joined.source))
    return joined.take(order), order
