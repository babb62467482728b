"""Reads a table's Parquet files so that damage is an error and never a wrong answer; in bounded memory.

Page checksums cover the data, the CRC in a file's name its footer, and the log its size and rows. Every read that feeds
a commit or a proof goes through here; `LakeCorrupt` names the table and the file.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt, PenstockError
from penstock.lake.datafile import DataFile, guarantee, overlaps
from penstock.lake.layout import Grain
from penstock.lake.parquet import footer_checksum
from penstock.lake.storage import storage_error
from penstock.model.columns import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from penstock.lake.layout import TableSpec
    from penstock.lake.storage import Storage

_NAME = re.compile(r"-([0-9a-f]{8})\.parquet$")
_HINT = "Restore the file from a backup or a replica of the lake; `penstock audit` says what else is affected."
_PARQUET = ds.ParquetFileFormat()
_DISK = pafs.LocalFileSystem()


@dataclass(frozen=True)
class Condition:
    """Which rows are wanted: those that `expression` is true for, or where `keep` is given, the ones of these it names.

    `columns` are those it looks at. They are read first, and the others only where a row is wanted. By the expression
    alone, files and row groups are left out.
    """

    columns: tuple[str, ...]
    expression: pc.Expression
    keep: Callable[[pa.Table], NDArray[np.bool_]] | None = None

    def of(self, rows: pa.Table) -> NDArray[np.bool_]:
        """For each of `rows`, which have `columns`, whether it is wanted."""
        if self.keep is not None:
            return self.keep(rows)
        wanted = np.zeros(rows.num_rows, np.bool_)
        numbered = rows.append_column(_NUMBER, pa.array(np.arange(rows.num_rows)))
        wanted[numbered.filter(self.expression)[_NUMBER].to_numpy()] = True
        return wanted


_NUMBER = "_row"


def read_files(
    storage: Storage,
    spec: TableSpec,
    files: Iterable[DataFile],
    *,
    columns: Sequence[str] | None = None,
    batches: tuple[int, int] | None = None,
    condition: Condition | None = None,
) -> Iterator[pa.Table]:
    """The rows of `files`, one row group at a time, in the files' order; `Table.read` says the rest."""
    wanted = list(spec.schema.names) if columns is None else list(columns)
    if batches is not None:
        low, high = batches
        files = [file for file in files if overlaps(file, BATCH, low, high)]
    for file in _prune(spec, files, condition):
        yield from _read_file(storage, spec, file, wanted, batches, condition)


def verify_file(storage: Storage, spec: TableSpec, file: DataFile, *, pages: bool = True) -> None:
    """Check a file's size, footer and rows, and unless `pages` is false the checksum of every page.

    Raises:
        LakeCorrupt: it is missing or not what was written.
    """
    with (
        _guarded(spec, file),
        _checked(storage, spec, file) as opened,
        _parquet(opened, spec, file) as parquet,
    ):
        if pages:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group, use_threads=False)


# -- one file ---------------------------------------------------------------------------------------------------------


def _read_file(
    storage: Storage,
    spec: TableSpec,
    file: DataFile,
    wanted: Sequence[str],
    batches: tuple[int, int] | None,
    condition: Condition | None,
) -> Iterator[pa.Table]:
    if batches is not None and _within(file, batches):
        batches = None
    looked_at = {*(condition.columns if condition is not None else ()), *((BATCH,) if batches is not None else ())}
    with ExitStack() as stack:
        with _guarded(spec, file):
            opened = stack.enter_context(_checked(storage, spec, file))
            parquet = stack.enter_context(_parquet(opened, spec, file))

        def columns_of(group: int, names: set[str]) -> pa.Table:
            with _guarded(spec, file):
                count = parquet.metadata.row_group(group).num_rows
                fields = [field for field in spec.schema if field.name in names]
                stored = [field.name for field in fields if field.name in parquet.schema_arrow.names]
                rows = parquet.read_row_group(group, columns=stored, use_threads=True)
                return _completed(rows, count, fields, file, spec)

        for group in _row_groups(opened, spec, parquet, condition):
            rows = columns_of(group, looked_at)
            keep = _kept(rows, batches, condition) if looked_at else None
            if keep is not None and not keep.any():
                continue
            others = columns_of(group, set(wanted) - looked_at)
            table = pa.table({name: (rows if name in looked_at else others)[name] for name in wanted})
            if table.num_rows:
                yield table if keep is None or keep.all() else table.filter(pa.array(keep))


def _kept(rows: pa.Table, batches: tuple[int, int] | None, condition: Condition | None) -> NDArray[np.bool_]:
    """For each row whether it is of these batches and meets the condition."""
    keep = np.ones(rows.num_rows, np.bool_)
    if batches is not None:
        batch = rows[BATCH].to_numpy()
        keep &= (batch >= batches[0]) & (batch <= batches[1])
    if condition is not None:
        keep &= condition.of(rows)
    return keep


def _completed(rows: pa.Table, count: int, output: Sequence[pa.Field], file: DataFile, spec: TableSpec) -> pa.Table:
    """The read columns with the partition column and nulls for columns that are younger than the file."""
    columns = []
    for field in output:
        if field.name in spec.partition_columns:
            columns.append(_constant(partition_scalar(spec, file.partition), count))
        elif field.name in rows.column_names:
            column = rows.column(field.name)
            columns.append(column if column.type == field.type else column.cast(field.type))
        else:
            columns.append(pa.nulls(count, field.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(output))


def _constant(scalar: pa.Scalar, count: int) -> pa.Array:
    return pa.nulls(count, scalar.type) if not scalar.is_valid else pa.repeat(scalar, count)


def partition_scalar(spec: TableSpec, text: str | None) -> pa.Scalar:
    """A partition's value, as the partition column's type."""
    kind = spec.schema.field(spec.partition_columns[0]).type
    if spec.partition is not None and spec.partition.grain is Grain.DATE:
        return pa.scalar(text, pa.string()).cast(kind)
    return pa.scalar(text, kind)


def _within(file: DataFile, batches: tuple[int, int]) -> bool:
    bounds = file.stats.get(BATCH)
    if bounds is None or file.statistics.nulls.get(BATCH) != 0:
        return False
    return bool(batches[0] <= bounds[0] and bounds[1] <= batches[1])


# -- pruning ----------------------------------------------------------------------------------------------------------


def _prune(spec: TableSpec, files: Iterable[DataFile], condition: Condition | None) -> list[DataFile]:
    """The files that may hold rows the condition is true for, by their statistics in the log."""
    files = list(files)
    if condition is None or not files:
        return files
    places = {}
    fragments = []
    for number, file in enumerate(files):
        known = guarantee(file, spec.schema)
        if spec.partition is not None and file.partition is not None:
            known = known & (pc.field(spec.partition_columns[0]) == partition_scalar(spec, file.partition))
        places[f"/{number}"] = file
        fragments.append(_PARQUET.make_fragment(f"/{number}", _DISK, known))
    dataset = ds.FileSystemDataset(fragments, spec.schema, _PARQUET, _DISK)
    return [places[fragment.path] for fragment in dataset.get_fragments(filter=condition.expression)]


def _row_groups(
    opened: pa.NativeFile, spec: TableSpec, parquet: pq.ParquetFile, condition: Condition | None
) -> list[int]:
    """The row groups that may hold rows the condition is true for, by the statistics of the (checked) footer."""
    every = list(range(parquet.num_row_groups))
    if condition is None or len(every) < 2:
        return every
    absent = [field for field in spec.schema if field.name not in parquet.schema_arrow.names]
    if absent:  # pyarrow would prune by "column missing means null" only where it knows the column
        return every
    fragment = _PARQUET.make_fragment(opened)
    return [group.id for group in fragment.subset(filter=condition.expression, schema=spec.schema).row_groups]


# -- damage -----------------------------------------------------------------------------------------------------------


def file_problem(storage: Storage, table: str, file: str, size: int, rows: int) -> str:
    """Why a file is not the one the log describes, without looking at its pages; "" when nothing speaks against it."""
    try:
        with storage.open(f"{table}/{file}") as opened:
            return _problem(opened, file, size, rows)
    except FileNotFoundError:
        return "is missing"


def _problem(opened: pa.NativeFile, file: str, size: int, rows: int) -> str:
    found = opened.size()
    if found != size:
        return f"has {found} bytes, the log says {size}"
    if match := _NAME.search(file):
        checksum = f"{footer_checksum(opened, size):08x}"
        if checksum != match[1]:
            return f"has a footer with checksum {checksum} instead of {match[1]}"
    try:
        counted = pq.read_metadata(opened).num_rows
    except (OSError, pa.ArrowException) as error:
        return f"has no readable footer: {_first_line(error)}"
    return "" if counted == rows else f"has {counted} rows, the log says {rows}"


@contextmanager
def _checked(storage: Storage, spec: TableSpec, file: DataFile) -> Iterator[pa.NativeFile]:
    """The file, opened, after it was compared with its name and with the log."""
    try:
        opened = storage.open(f"{spec.name}/{file.path}")
    except FileNotFoundError:
        raise corrupt(spec.name, file.path, "is missing") from None
    with opened:
        problem = _problem(opened, file.path, file.size, file.rows)
        if problem:
            raise corrupt(spec.name, file.path, problem)
        yield opened


@contextmanager
def _parquet(opened: pa.NativeFile, spec: TableSpec, file: DataFile) -> Iterator[pq.ParquetFile]:
    with pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as parquet:
        strangers = set(parquet.schema_arrow.names) - set(spec.schema.names)
        if strangers:
            raise corrupt(spec.name, file.path, f"has columns the table has not: {sorted(strangers)}")
        yield parquet


@contextmanager
def _guarded(spec: TableSpec, file: DataFile) -> Iterator[None]:
    try:
        yield
    except PenstockError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise storage_error(error, f"{spec.name}/{file.path}") from error
        raise corrupt(spec.name, file.path, _first_line(error)) from error
    except (pa.ArrowException, ValueError, UnicodeDecodeError) as error:
        raise corrupt(spec.name, file.path, _first_line(error)) from error


def corrupt(table: str, file: str, what: str) -> LakeCorrupt:
    """The error for a data file that is not what was written."""
    return LakeCorrupt(f"{table}: {file} {what}", hint=_HINT)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
