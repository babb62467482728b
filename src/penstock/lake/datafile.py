"""One live Parquet file of a table, as the table's log describes it, and what its statistics rule out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

Bounds = tuple[Any, Any]
"""The least and the greatest value: int, float, str or Decimal."""


@dataclass(frozen=True)
class Statistics:
    """Bounds of a file's columns, as values (times in microseconds, dates in days since the epoch), and null counts.

    A column without bounds is missing: it holds nulls only, or values the log cannot express. Bounds of long strings
    are shortened: everything lies between them, but they need not occur.
    """

    bounds: dict[str, Bounds] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)


class StatisticsColumns:
    """The statistics of many files, still as Arrow columns; turned into values at the first look."""

    def __init__(self, adds: pa.Table) -> None:
        self._adds = adds
        self._rows: list[Statistics] | None = None

    def row(self, index: int) -> Statistics:
        if self._rows is None:
            self._rows = self._load()
        return self._rows[index]

    def _load(self) -> list[Statistics]:
        count = self._adds.num_rows
        low, high, nulls = (_children(self._adds, name) for name in ("min", "max", "null_count"))
        bounds: list[dict[str, Bounds]] = [{} for _ in range(count)]
        for name in low.keys() & high.keys():
            for row, least, greatest in zip(bounds, low[name], high[name], strict=True):
                if least is not None and greatest is not None:
                    row[name] = (least, greatest)
        counts: list[dict[str, int]] = [{} for _ in range(count)]
        for name, values in nulls.items():
            for known, value in zip(counts, values, strict=True):
                if value is not None:
                    known[name] = int(value)
        return [Statistics(bound, known) for bound, known in zip(bounds, counts, strict=True)]


def _children(adds: pa.Table, name: str) -> dict[str, list[Any]]:
    """The values of a struct column's plain children, by name; times and dates as integers."""
    index = adds.column_names.index(name) if name in adds.column_names else -1
    if index < 0 or not pa.types.is_struct(adds.schema.field(index).type):
        return {}
    column = adds.column(index).combine_chunks()
    children = {}
    for child in column.type:
        values = pc.struct_field(column, child.name)
        if pa.types.is_nested(child.type):
            continue
        if pa.types.is_timestamp(child.type):
            values = values.cast(pa.timestamp("us", tz=child.type.tz)).cast(pa.int64())
        elif pa.types.is_date32(child.type):
            values = values.cast(pa.int32())
        children[child.name] = values.to_pylist()
    return children


@dataclass(frozen=True)
class DataFile:
    """A Parquet file: its path within the table's folder, size in bytes, rows, partition value (text; None where there
    is none or a null one), time of writing in milliseconds since the epoch."""

    path: str
    size: int
    rows: int
    partition: str | None
    modified: int
    _source: StatisticsColumns | Statistics = field(repr=False, compare=False)
    _index: int = field(default=0, repr=False, compare=False)

    @property
    def statistics(self) -> Statistics:
        return self._source if isinstance(self._source, Statistics) else self._source.row(self._index)

    @property
    def stats(self) -> dict[str, Bounds]:
        """Column -> (least, greatest), as `Statistics` says."""
        return self.statistics.bounds


def data_files(adds: pa.Table, partition_column: str | None) -> list[DataFile]:
    """The files of a handle's list of adds."""
    source = StatisticsColumns(adds)
    partitions: Sequence[str | None] = [None] * adds.num_rows
    if partition_column is not None and adds.num_rows:
        partitions = (
            pc.struct_field(adds.column("partition").combine_chunks(), partition_column).cast(pa.string()).to_pylist()
        )
    columns = (adds.column(name).to_pylist() for name in ("path", "size_bytes", "num_records", "modification_time"))
    return [
        DataFile(path, size, rows if rows is not None else -1, partition, modified, source, index)
        for index, (path, size, rows, modified, partition) in enumerate(zip(*columns, partitions, strict=True))
    ]


def overlaps(file: DataFile, column: str, low: int, high: int) -> bool:
    """Whether the file may hold rows whose `column` lies in low..high (inclusive)."""
    bounds = file.stats.get(column)
    if bounds is None:
        return file.statistics.nulls.get(column) != file.rows
    least, greatest = bounds
    return not (greatest < low or least > high)


def guarantee(file: DataFile, schema: pa.Schema) -> pc.Expression:
    """What is true of all rows of the file, as an expression that pyarrow prunes by."""
    known = pc.scalar(True)
    for name, (low, high) in file.stats.items():
        index = schema.get_field_index(name)
        if index < 0:
            continue
        kind = schema.field(index).type
        within = (pc.field(name) >= _scalar(low, kind)) & (pc.field(name) <= _scalar(high, kind))
        if file.statistics.nulls.get(name) != 0:
            within = within | pc.field(name).is_null()
        known = known & within
    return known


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_timestamp(kind):
        return pa.scalar(value, pa.int64()).cast(kind)
    if pa.types.is_date32(kind):
        return pa.scalar(value, pa.int32()).cast(kind)
    return pa.scalar(value, kind)
