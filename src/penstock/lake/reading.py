"""Reads a table's Parquet files so that damage is an error and never a wrong answer; in bounded memory.

Page checksums cover the data, the CRC in a file's name its footer, and the log its size and rows. Every read that feeds
a commit or a proof goes through here; `LakeCorrupt` names the table and the file.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

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
    from collections.abc import Iterable, Iterator, Sequence

    from penstock.lake.layout import TableSpec
    from penstock.lake.storage import Storage

_NAME = re.compile(r"-([0-9a-f]{8})\.parquet$")
_HINT = "Restore the file from a backup or a replica of the lake; `penstock audit` says what else is affected."
_PARQUET = ds.ParquetFileFormat()
_DISK = pafs.LocalFileSystem()


def read_files(
    storage: Storage,
    spec: TableSpec,
    files: Iterable[DataFile],
    *,
    columns: Sequence[str] | None = None,
    batches: tuple[int, int] | None = None,
    predicate: pc.Expression | None = None,
) -> Iterator[pa.Table]:
    """The rows of `files`, one row group at a time, in the files' order; `Table.read` says the rest."""
    wanted = list(spec.schema.names) if columns is None else list(columns)
    if batches is not None:
        low, high = batches
        files = [file for file in files if overlaps(file, BATCH, low, high)]
    chosen = _prune(spec, files, predicate)
    for file in chosen:
        for rows in _read_file(storage, spec, file, wanted, batches, predicate):
            if rows.num_rows:
                yield rows


def verify_file(storage: Storage, spec: TableSpec, file: DataFile, *, pages: bool = True) -> None:
    """Check a file's size, footer and rows, and unless `pages` is false the checksum of every page.

    Raises:
        LakeCorrupt: it is missing or not what was written.
    """
    with _guarded(spec, file), _opened(storage, spec, file) as parquet:
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
    predicate: pc.Expression | None,
) -> Iterator[pa.Table]:
    with ExitStack() as stack:
        with _guarded(spec, file):
            parquet = stack.enter_context(_opened(storage, spec, file))
        present = set(parquet.schema_arrow.names)
        exact = batches is not None and not _within(file, batches)
        needed = (
            set(wanted) if predicate is None else set(spec.schema.names)
        )  # an expression does not say what it reads
        if exact:
            needed.add(BATCH)
        stored = [name for name in spec.schema.names if name in needed and name in present]
        output = [field for field in spec.schema if field.name in needed]
        for group in _row_groups(storage, spec, file, parquet, predicate):
            with _guarded(spec, file):
                rows = parquet.read_row_group(group, columns=stored, use_threads=True)
                count = parquet.metadata.row_group(group).num_rows
                table = _completed(rows, count, output, file, spec)
            if exact:
                assert batches is not None
                low, high = batches
                column = table.column(BATCH)
                table = table.filter(pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high)))
            if predicate is not None:
                table = table.filter(predicate)
            yield table.select(wanted)


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


def _prune(spec: TableSpec, files: Iterable[DataFile], predicate: pc.Expression | None) -> list[DataFile]:
    """The files that may hold rows the predicate is true for, by their statistics in the log."""
    files = list(files)
    if predicate is None or not files:
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
    return [places[fragment.path] for fragment in dataset.get_fragments(filter=predicate)]


def _row_groups(
    storage: Storage, spec: TableSpec, file: DataFile, parquet: pq.ParquetFile, predicate: pc.Expression | None
) -> list[int]:
    """The row groups that may hold rows the predicate is true for, by the statistics of the (checked) footer."""
    every = list(range(parquet.num_row_groups))
    if predicate is None or len(every) < 2:
        return every
    absent = [field for field in spec.schema if field.name not in parquet.schema_arrow.names]
    if absent:  # pyarrow would prune by "column missing means null" only where it knows the column
        return every
    fragment = _PARQUET.make_fragment(storage.uri(f"{spec.name}/{file.path}"), _DISK)
    return [group.id for group in fragment.subset(filter=predicate, schema=spec.schema).row_groups]


# -- damage -----------------------------------------------------------------------------------------------------------


def file_problem(storage: Storage, table: str, file: str, size: int, rows: int) -> str:
    """Why a file is not the one the log describes, without looking at its pages; "" when nothing speaks against it."""
    path = f"{table}/{file}"
    found = storage.size(path)
    if found is None:
        return "is missing"
    if found != size:
        return f"has {found} bytes, the log says {size}"
    if match := _NAME.search(file):
        checksum = f"{footer_checksum(storage, path, size):08x}"
        if checksum != match[1]:
            return f"has a footer with checksum {checksum} instead of {match[1]}"
    try:
        counted = pq.read_metadata(storage.uri(path)).num_rows
    except (OSError, pa.ArrowException) as error:
        return f"has no readable footer: {_first_line(error)}"
    return "" if counted == rows else f"has {counted} rows, the log says {rows}"


@contextmanager
def _opened(storage: Storage, spec: TableSpec, file: DataFile) -> Iterator[pq.ParquetFile]:
    """The file, opened, after it was compared with its name and with the log."""
    problem = file_problem(storage, spec.name, file.path, file.size, file.rows)
    if problem:
        raise corrupt(spec.name, file.path, problem)
    path = storage.uri(f"{spec.name}/{file.path}")
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as parquet:
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
