"""Rewrites whole tables towards large files, on request: `penstock optimize`, with or without Z-order.

Without Z-order it is a compaction that does not wait for levels. With it, the rows of each partition are put in Z-order
(`zorder.py`) and cut into files and row groups, so that queries over any of the columns skip most of them. Rows that do
not fit in memory go through temporary files, one per stretch of the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from penstock.errors import UsageError
from penstock.lake.compaction import Rewritten, plan_whole, rewrite, summary
from penstock.lake.merge import pieces_up_to, split_stream
from penstock.lake.parquet import write_sorted
from penstock.lake.zorder import ZOrder
from penstock.limits import (
    MERGE_BYTES_MAX,
    PARQUET_ROW_GROUP_BYTES_MAX,
    PARQUET_ROW_GROUP_ROWS_MAX,
    ZORDER_BUCKETS_MAX,
    ZORDER_COLUMNS_MAX,
    ZORDER_SAMPLE_ROWS,
)
from penstock.scratch import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.lake.datafile import DataFile
    from penstock.lake.fence import Writer
    from penstock.lake.table import Table


def optimize(table: Table, writer: Writer, *, zorder: Sequence[str] = (), target_bytes: int | None = None) -> Rewritten:
    """Rewrite the table towards files of `target_bytes`; the same rows, in Z-order of the columns `zorder` if given.

    A partition is replaced in one commit; a crash leaves the others as they were. Without `target_bytes` files get the
    size that upkeep makes them of.

    Raises:
        UsageError: a column of `zorder` is not there, or has no order.
        Fenced: another writer owns the table.
        LakeCorrupt: a file is damaged; its partition was not changed.
    """
    check_zorder(table, zorder)
    table.refresh()
    before = table.files()
    target_bytes = table.spec.file_bytes if target_bytes is None else target_bytes
    if not zorder:
        while groups := plan_whole(table.files(), target_bytes=target_bytes):
            rewrite(table, writer, groups)
        return summary(table, before)
    partitions: dict[str | None, list[DataFile]] = {}
    for file in before:
        partitions.setdefault(file.partition, []).append(file)
    for files in partitions.values():
        add = _write_zordered(table, files, zorder, target_bytes)
        table.commit(writer, batch=None, add=add, remove=files, data_change=False)
    return summary(table, before)


def check_zorder(table: Table, columns: Sequence[str]) -> None:
    """Raise UsageError unless rows of the table can be ordered by `columns`."""
    if len(columns) > ZORDER_COLUMNS_MAX or len(set(columns)) < len(columns):
        raise UsageError(
            f"Z-order by {', '.join(columns)}: up to {ZORDER_COLUMNS_MAX} columns, each once",
            hint="Name the two or three columns that queries filter by most.",
        )
    schema = table.spec.file_schema
    for name in columns:
        if name not in schema.names:
            hint = f"It has {', '.join(schema.names)}."
            if name in table.spec.partition_columns:
                hint = "It is the partition column: rows are apart by it already."
            raise UsageError(f"{table.name} cannot be put in order of {name}", hint=hint)
        if pa.types.is_nested(schema.field(name).type):
            raise UsageError(f"{table.name}: the values of {name} have no order", hint="Name a plain column.")


# -- one partition ----------------------------------------------------------------------------------------------------


def _write_zordered(
    table: Table, files: Sequence[DataFile], columns: Sequence[str], target_bytes: int
) -> list[DataFile]:
    """New files, not part of the table yet, with the rows of `files` in Z-order."""
    spec = table.spec
    sample = _sample(table, files, columns)
    order = ZOrder.sampled(sample, columns)
    decoded = _decoded_bytes(table, files)
    stored = sum(file.size for file in files)
    per_file = max(1, int(target_bytes * decoded / max(1, stored)))
    buckets = min(ZORDER_BUCKETS_MAX, 1 + decoded // (MERGE_BYTES_MAX // 2))
    splits = np.quantile(order.keys(sample), np.arange(1, buckets) / buckets, method="nearest").astype(np.uint64)
    ordered = _ordered(table, files, order, splits)
    pieces = pieces_up_to(ordered, PARQUET_ROW_GROUP_ROWS_MAX, min(PARQUET_ROW_GROUP_BYTES_MAX, max(1, per_file // 4)))
    return [
        write_sorted(table.storage, table.name, spec, files[0].partition, run) for run in split_stream(pieces, per_file)
    ]


def _sample(table: Table, files: Sequence[DataFile], columns: Sequence[str]) -> pa.Table:
    """Every n-th row's values of `columns`."""
    step = max(1, sum(file.rows for file in files) // ZORDER_SAMPLE_ROWS)
    taken, seen = [], 0
    for piece in table.read(columns=list(columns), files=files):
        first = -seen % step
        taken.append(piece.take(pa.array(np.arange(first, piece.num_rows, step))))
        seen += piece.num_rows
    return pa.concat_tables(taken)


def _decoded_bytes(table: Table, files: Sequence[DataFile]) -> int:
    """Bytes in memory of all rows, judged by the first piece of the largest file."""
    largest = max(files, key=lambda file: file.size)
    piece = next(iter(table.read(columns=table.spec.file_schema.names, files=[largest])))
    return int(piece.nbytes / piece.num_rows * sum(file.rows for file in files))


def _ordered(table: Table, files: Sequence[DataFile], order: ZOrder, splits: NDArray[np.uint64]) -> Iterator[pa.Table]:
    """All rows in order of their keys. The rows between two splits are in memory at a time."""
    pieces = table.read(columns=table.spec.file_schema.names, files=files)
    if len(splits) == 0:
        yield _by_key(pa.concat_tables(list(pieces)), order)
        return
    with ScratchFolder() as folder:
        paths = [folder / f"{bucket}.arrow" for bucket in range(len(splits) + 1)]
        _scatter(pieces, order, splits, paths, table.spec.file_schema)
        for path in paths:
            with pa.OSFile(str(path)) as source:
                rows = pa.ipc.open_stream(source).read_all()
            path.unlink()
            yield _by_key(rows, order)


def _scatter(
    pieces: Iterator[pa.Table], order: ZOrder, splits: NDArray[np.uint64], paths: Sequence[Path], schema: pa.Schema
) -> None:
    """Write each row to the file of its stretch of the order."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    sinks = [pa.OSFile(str(path), "wb") for path in paths]
    writers = [pa.ipc.new_stream(sink, schema, options=options) for sink in sinks]
    try:
        for piece in pieces:
            buckets = np.searchsorted(splits, order.keys(piece), side="right")
            by_bucket = np.argsort(buckets, kind="stable")
            rows = piece.take(pa.array(by_bucket))
            starts = np.searchsorted(buckets[by_bucket], np.arange(len(paths) + 1))
            for bucket, writer in enumerate(writers):
                start, end = int(starts[bucket]), int(starts[bucket + 1])
                if end > start:
                    writer.write_table(rows.slice(start, end - start))
    finally:
        for writer in writers:
            writer.close()
        for sink in sinks:
            sink.close()


def _by_key(rows: pa.Table, order: ZOrder) -> pa.Table:
    return rows.combine_chunks().take(pa.array(np.argsort(order.keys(rows), kind="stable"))) if rows.num_rows else rows
