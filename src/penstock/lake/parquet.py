"""Writes Arrow data as Parquet files of a table: split by partition, sorted, compressed, with checksums, durable.

Statistics for the log are taken from the rows themselves, in Delta's JSON form. Reading is in `reading.py`.
"""

from __future__ import annotations

import time
import uuid
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import check
from penstock.lake.datafile import Bounds, DataFile, Statistics
from penstock.lake.layout import spec_order
from penstock.limits import (
    PARQUET_PAGE_BYTES,
    PARQUET_ROW_GROUP_BYTES_MAX,
    PARQUET_ROW_GROUP_ROWS_MAX,
    STATISTICS_STRING_CHARACTERS_MAX,
)
from penstock.model import columns as names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from penstock.lake.layout import TableSpec
    from penstock.lake.storage import Storage

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_LAST_CHARACTER = "\U0010ffff"
_YEAR_1 = int(np.datetime64("0001-01-01", "us").astype(np.int64))
_YEAR_10000 = int(np.datetime64("9999-12-31T23:59:59.999999", "us").astype(np.int64)) + 1
_DAY_MICROSECONDS = 86_400_000_000
_FOOTER_TAIL_BYTES = 8


def write_files(storage: Storage, folder: str, spec: TableSpec, data: pa.Table) -> list[DataFile]:
    """Write `data` as new files below `folder` (the table's), one per partition value; durable when this returns.

    Raises:
        StorageError: they cannot be written; none is left behind.
    """
    if data.num_rows == 0:
        return []
    written: list[DataFile] = []
    folders = set()
    try:
        for partition, rows in _sorted_parts(spec, data):
            subfolder = folder if spec.partition is None else f"{folder}/{_partition_folder(spec, partition)}"
            if subfolder not in folders:
                storage.make_folder(subfolder)
                folders.add(subfolder)
            written.append(_write_file(storage, folder, subfolder, spec, partition, [rows]))
        for subfolder in sorted(folders):
            storage.sync_folder(subfolder)
    except BaseException:
        for file in written:
            storage.discard(f"{folder}/{file.path}")
        raise
    return written


def _partition_folder(spec: TableSpec, partition: str | None) -> str:
    return f"{spec.partition_columns[0]}={NULL_PARTITION if partition is None else partition}"


# -- partitions and order ---------------------------------------------------------------------------------------------


def _sorted_parts(spec: TableSpec, data: pa.Table) -> Iterator[tuple[str | None, pa.Table]]:
    """The rows per partition value, each sorted by the spec's sort columns, with the columns of its files."""
    if spec.partition is None:
        yield None, _sorted(spec_order(data, spec), spec.sort)
        return
    only, partition = _single_partition(spec, data)
    rows = spec_order(data, spec)
    if only:
        yield partition, _sorted(rows, spec.sort)
        return
    values = pc.dictionary_encode(spec.partition_values(data), null_encoding="encode")
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    # One sort brings a partition's rows together, in order: filtering per partition would cost rows x partitions.
    codes = values.indices
    keyed = rows.append_column("", codes)
    order = pc.sort_indices(keyed, [("", "ascending"), *((name, "ascending") for name in spec.sort)])
    rows, sorted_codes = _take(rows, order), np.asarray(codes.take(order))
    starts = np.flatnonzero(np.diff(sorted_codes, prepend=-1))
    texts = values.dictionary.to_pylist()
    for start, end in zip(starts, [*starts[1:], len(sorted_codes)], strict=True):
        yield texts[int(sorted_codes[start])], rows.slice(start, end - start)


def _single_partition(spec: TableSpec, data: pa.Table) -> tuple[bool, str | None]:
    """Whether all rows fall into one partition, and which: most batches do, and need no look at each row."""
    assert spec.partition is not None
    times = data.column(spec.partition.source)
    if times.null_count == len(times):
        return True, None
    if times.null_count:
        return False, None
    bounds = pc.min_max(times)
    ends = pa.table({spec.partition.source: pa.array([bounds["min"], bounds["max"]], times.type)})
    low, high = spec.partition_values(ends).to_pylist()
    return low == high, low


def _sorted(rows: pa.Table, sort: Sequence[str]) -> pa.Table:
    if not sort or is_sorted(rows, sort):
        return rows
    return _take(rows, pc.sort_indices(rows, [(name, "ascending") for name in sort]))


def _take(rows: pa.Table, order: pa.Array) -> pa.Table:
    return rows.combine_chunks().take(order)


def is_sorted(rows: pa.Table, sort: Sequence[str]) -> bool:
    """Whether the rows are in order already, as far as that is cheap to see (fixed-width columns without nulls)."""
    if rows.num_rows < 2:
        return True
    undecided = None
    for name in sort:
        column = rows.column(name)
        if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_temporal(column.type)):
            return False
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
        values = column.to_numpy()
        before, after = values[:-1], values[1:]
        if undecided is None:
            if (before > after).any():
                return False
            undecided = before == after
        else:
            if (undecided & (before > after)).any():
                return False
            undecided &= before == after
        if not undecided.any():
            return True
    return True


# -- one file ---------------------------------------------------------------------------------------------------------


def write_sorted(
    storage: Storage, folder: str, spec: TableSpec, partition: str | None, pieces: Iterable[pa.Table]
) -> DataFile:
    """Write one file of one partition from pieces that are sorted already, holding one at a time; durable when this
    returns. Each piece has the columns of `spec.file_schema`; there is at least one row.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    subfolder = folder if spec.partition is None else f"{folder}/{_partition_folder(spec, partition)}"
    storage.make_folder(subfolder)
    file = _write_file(storage, folder, subfolder, spec, partition, pieces)
    storage.sync_folder(subfolder)
    return file


def _write_file(
    storage: Storage, folder: str, subfolder: str, spec: TableSpec, partition: str | None, pieces: Iterable[pa.Table]
) -> DataFile:
    """Write one file. Its name ends with the CRC of its footer: page checksums do not cover that."""
    name = f"part-{uuid.uuid4().hex}"
    schema, count, statistics = spec.file_schema, 0, Statistics()
    final, size = "", 0

    def named(written: pa.NativeFile) -> str:
        nonlocal final
        final = f"{subfolder}/{name}-{footer_checksum(written, size):08x}.parquet"
        return final

    with storage.draft(f"{subfolder}/.{name}", named) as sink:
        with pq.ParquetWriter(
            sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=_dictionary_columns(schema),
            write_statistics=_statistics_columns(schema),
            write_page_checksum=True,
            data_page_size=PARQUET_PAGE_BYTES,
            use_deprecated_int96_timestamps=False,
            store_schema=False,
        ) as writer:
            for rows in pieces:
                writer.write_table(rows, row_group_size=_rows_per_group(rows))
                found = statistics_of(spec, rows)
                statistics = found if count == 0 else merged_statistics(statistics, count, found, rows.num_rows)
                count += rows.num_rows
        size = sink.tell()
    modified = time.time_ns() // 1_000_000
    return DataFile(final[len(folder) + 1 :], size, count, partition, modified, statistics)


def footer_checksum(file: pa.NativeFile, size: int) -> int:
    """The CRC-32 of the file's footer with its length and mark; of nothing where there is none that fits."""
    if size < _FOOTER_TAIL_BYTES:
        return 0
    file.seek(size - _FOOTER_TAIL_BYTES)
    tail = file.read(_FOOTER_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if length > size - _FOOTER_TAIL_BYTES:
        return 0
    file.seek(size - _FOOTER_TAIL_BYTES - length)
    footer: bytes = file.read(length + _FOOTER_TAIL_BYTES)
    return zlib.crc32(footer)


def _rows_per_group(rows: pa.Table) -> int:
    row_bytes: int = max(1, rows.nbytes // max(1, rows.num_rows))
    return max(1, min(PARQUET_ROW_GROUP_ROWS_MAX, PARQUET_ROW_GROUP_BYTES_MAX // row_bytes))


_UNIQUE_TEXTS = (names.EXTRA, "detail", "text")


def _dictionary_columns(schema: pa.Schema) -> list[str] | bool:
    """Columns worth a dictionary: texts that repeat, and our own numbers that hardly change within a file.

    Raw bytes and free text differ from row to row; a dictionary would be built and thrown away.
    """
    ours = (names.SOURCE, names.PARTITION, names.BATCH, names.INDEX, names.INGESTED_AT, names.WINDOW_END)
    chosen = []
    for field in schema:
        if field.name in _UNIQUE_TEXTS:
            continue
        if field.name in ours or pa.types.is_string(field.type):
            chosen.append(field.name)
        elif pa.types.is_list(field.type):
            chosen.extend(_text_leaves(field.name, field.type))
    return chosen or False


def _text_leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """The Parquet paths of the texts inside a nested column."""
    if pa.types.is_list(kind):
        yield from _text_leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for child in kind:
            yield from _text_leaves(f"{path}.{child.name}", child.type)
    elif pa.types.is_string(kind):
        yield path


def _statistics_columns(schema: pa.Schema) -> list[str] | bool:
    """Columns whose pages readers may skip by: all plain ones but bytes and free text."""
    return [
        field.name
        for field in schema
        if not pa.types.is_nested(field.type) and not pa.types.is_binary(field.type) and field.name not in _UNIQUE_TEXTS
    ] or False


# -- statistics -------------------------------------------------------------------------------------------------------


def statistics_of(spec: TableSpec, rows: pa.Table) -> Statistics:
    """Bounds and null counts of the spec's statistics columns, and of `_batch`."""
    bounds: dict[str, Bounds] = {}
    nulls: dict[str, int] = {}
    wanted = dict.fromkeys((*spec.stats, *((names.BATCH,) if names.BATCH in rows.column_names else ())))
    for name in wanted:
        if name not in rows.column_names:  # the partition column is not in the file
            continue
        column = rows.column(name)
        nulls[name] = column.null_count
        if column.null_count < len(column):
            found = _bounds(column)
            if found is not None:
                bounds[name] = found
    return Statistics(bounds, nulls)


def merged_statistics(left: Statistics, left_rows: int, right: Statistics, right_rows: int) -> Statistics:
    """The statistics of both files' rows together. A column that one cannot bound stays without bounds."""
    nulls = {name: left.nulls[name] + right.nulls[name] for name in left.nulls.keys() & right.nulls.keys()}
    bounds: dict[str, Bounds] = {}
    for name in left.bounds.keys() | right.bounds.keys():
        known = [
            one.bounds.get(name)
            for one, rows in ((left, left_rows), (right, right_rows))
            if one.nulls.get(name) != rows  # nulls only: nothing to bound
        ]
        ends = [bound for bound in known if bound is not None]
        if len(ends) == len(known) > 0:
            bounds[name] = (min(low for low, _ in ends), max(high for _, high in ends))
    return Statistics(bounds, nulls)


def _bounds(column: pa.ChunkedArray) -> Bounds | None:
    """The least and the greatest value, or None where the log cannot express them."""
    kind = column.type
    if pa.types.is_floating(kind):
        if pc.any(pc.invert(pc.is_finite(column))).as_py():
            return None
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    elif not (pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_string(kind)):
        return None
    ends = pc.min_max(column)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if pa.types.is_timestamp(kind) and not (low >= _YEAR_1 and high < _YEAR_10000):
        return None
    if pa.types.is_date32(kind) and not (low * _DAY_MICROSECONDS >= _YEAR_1 and high * _DAY_MICROSECONDS < _YEAR_10000):
        return None
    if pa.types.is_string(kind):
        return low[:STATISTICS_STRING_CHARACTERS_MAX], shortened_maximum(high)
    return low, high


def shortened_maximum(text: str) -> str:
    """A text at most one character longer than the limit that no text beginning like `text` exceeds.

    Texts compare by code point. A run of the last code point right behind the limit is kept: nothing exceeds that.
    """
    limit = STATISTICS_STRING_CHARACTERS_MAX
    if len(text) <= limit:
        return text
    while limit < len(text) and text[limit] == _LAST_CHARACTER:
        limit += 1
    return text if limit >= len(text) else text[:limit] + _LAST_CHARACTER


def delta_statistics(file: DataFile, schema: pa.Schema) -> str:
    """The file's statistics as the JSON text of Delta's protocol."""
    check(file.rows >= 0, f"{file.path}: rows are not known")
    lows: dict[str, Any] = {}
    highs: dict[str, Any] = {}
    for name, (low, high) in file.stats.items():
        kind = schema.field(name).type
        lows[name], highs[name] = _delta_value(low, kind), _delta_value(high, kind)
    text = {
        "numRecords": file.rows,
        "minValues": lows,
        "maxValues": highs,
        "nullCount": dict(file.statistics.nulls),
    }
    return orjson.dumps(text).decode()


def _delta_value(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return f"{np.datetime64(value, 'us')}Z"
    if pa.types.is_date32(kind):
        return str(np.datetime64(value, "D"))
    if pa.types.is_decimal(kind):
        return orjson.Fragment(format(value, "f"))  # a number with all its digits
    return value
