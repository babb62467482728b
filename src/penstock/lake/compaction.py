"""Makes few large files of many small ones. The rows stay what they are, and every reader of older versions goes on.

`compact` works in levels, as log-structured merge trees do: of a partition's files, in batch order, it merges those
from the oldest one on that is no larger than all newer ones together. So sizes at least double from file to file, a
partition has few files, and a row is rewritten about once per doubling. `optimizing.py` rewrites everything at once.
A crash leaves unreferenced files at worst: the new files become live, and the old ones not, in one commit.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.lake.merge import merge_sorted, pieces_up_to, sorted_at_once
from penstock.lake.parquet import write_sorted
from penstock.limits import (
    COLD_FILES_MAX,
    DECODED_BYTES_PER_BYTE,
    DECODED_BYTES_PER_ROW,
    MERGE_BYTES_MAX,
    PARQUET_ROW_GROUP_BYTES_MAX,
    PARQUET_ROW_GROUP_ROWS_MAX,
)
from penstock.model.columns import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from penstock.lake.datafile import DataFile
    from penstock.lake.fence import Writer
    from penstock.lake.table import Table

Group = tuple["DataFile", ...]


@dataclass(frozen=True)
class Rewritten:
    """What a compaction did to a table: its live files and their bytes before and after."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def compact(
    table: Table,
    writer: Writer,
    *,
    saved_min: int = 1,
    cold_batches: int | None = None,
    target_bytes: int | None = None,
    txns: Mapping[str, int] | None = None,
) -> Rewritten | None:
    """Merge small files as the levels ask for, in one commit that also records `txns`. None: nothing was due.

    Args:
        saved_min: do nothing unless so many files fewer come of it.
        cold_batches: a partition that got nothing in the last so many batches is merged further, once.
        target_bytes: files of half this size and more are finished; None: as the table's kind has it.

    Raises:
        Fenced: another writer owns the table.
        LakeCorrupt: a file to be merged is damaged; nothing was changed.
    """
    files = table.files()
    if len(files) <= saved_min:
        return None
    target_bytes = table.spec.file_bytes if target_bytes is None else target_bytes
    groups = plan_groups(files, target_bytes=target_bytes, cold_batches=cold_batches)
    if sum(len(group) - 1 for group in groups) < saved_min:
        return None
    return rewrite(table, writer, groups, txns=txns)


def rewrite(
    table: Table, writer: Writer, groups: Sequence[Group], *, txns: Mapping[str, int] | None = None
) -> Rewritten:
    """Replace each group, files of one partition, by one file with their rows, all in one commit."""
    before = table.files()
    add = [merge_files(table, group) for group in groups]
    remove = [file for group in groups for file in group]
    table.commit(writer, batch=None, add=add, remove=remove, txns=txns, data_change=False)
    return summary(table, before)


def summary(table: Table, before: Sequence[DataFile]) -> Rewritten:
    """The table's files now, beside those `before`."""
    after = table.files()
    return Rewritten(
        table.name,
        len(before),
        len(after),
        sum(file.size for file in before),
        sum(file.size for file in after),
    )


def merge_files(table: Table, group: Group) -> DataFile:
    """One new file with the rows of `group`, sorted as the table's files are; not part of the table yet."""
    spec = table.spec
    columns = spec.file_schema.names

    def rows_of(chain: Sequence[DataFile]) -> Iterator[pa.Table]:
        for file in chain:
            yield from table.read(columns=columns, files=[file])

    if sum(map(decoded_bytes, group)) <= MERGE_BYTES_MAX:
        merged = sorted_at_once(rows_of(group), spec.sort, spec.file_schema)
    else:
        merged = merge_sorted([rows_of(chain) for chain in chains(group, spec.sort)], spec.sort, spec.file_schema)
    pieces = pieces_up_to(merged, PARQUET_ROW_GROUP_ROWS_MAX, PARQUET_ROW_GROUP_BYTES_MAX)
    return write_sorted(table.storage, table.name, spec, group[0].partition, pieces)


# -- which files ------------------------------------------------------------------------------------------------------


def plan_groups(files: Sequence[DataFile], *, target_bytes: int, cold_batches: int | None = None) -> list[Group]:
    """The groups, of two files and more, that the levels want merged now. Pure."""
    newest = max((_batches(file)[1] for file in files), default=0)
    groups: list[Group] = []
    for unfinished in unfinished_by_partition(files, target_bytes).values():
        is_cold = (
            cold_batches is not None
            and len(unfinished) > COLD_FILES_MAX
            and max(_batches(file)[1] for file in unfinished) < newest - cold_batches
        )
        groups.extend(_groups(unfinished if is_cold else _outgrown(unfinished), target_bytes))
    return groups


def plan_whole(files: Sequence[DataFile], *, target_bytes: int) -> list[Group]:
    """The groups that make few files, whatever their sizes; ask again after each rewrite until there are none. Pure."""
    found = unfinished_by_partition(files, target_bytes).values()
    return [group for unfinished in found for group in _groups(unfinished, target_bytes)]


def unfinished_by_partition(files: Sequence[DataFile], target_bytes: int) -> dict[str | None, list[DataFile]]:
    """The files under half the target size, by partition, in batch order."""
    found: defaultdict[str | None, list[DataFile]] = defaultdict(list)
    for file in files:
        if file.size < target_bytes // 2:
            found[file.partition].append(file)
    for unfinished in found.values():
        unfinished.sort(key=lambda file: (*_batches(file), file.modified, file.path))
    return dict(found)


def _outgrown(files: Sequence[DataFile]) -> Sequence[DataFile]:
    """The files from the oldest one on that is no larger than all newer ones together."""
    newer, first = 0, len(files)
    for index in range(len(files) - 1, -1, -1):
        if newer and files[index].size <= newer:
            first = index
        newer += files[index].size
    return files[first:]


def _groups(files: Sequence[DataFile], target_bytes: int) -> Iterator[Group]:
    """From the newest backwards: groups within the target size and within memory."""
    gathered: list[DataFile] = []
    size = held = 0
    for file in reversed(files):
        full = size + file.size > target_bytes or (len(gathered) >= 2 and held + piece_bytes(file) > MERGE_BYTES_MAX)
        if full:
            if len(gathered) > 1:
                yield tuple(reversed(gathered))
            gathered, size, held = [], 0, 0
        gathered.append(file)
        size += file.size
        held += piece_bytes(file)
    if len(gathered) > 1:
        yield tuple(reversed(gathered))


def piece_bytes(file: DataFile) -> int:
    """Memory that reading the file piece by piece takes, roughly."""
    return min(decoded_bytes(file), PARQUET_ROW_GROUP_BYTES_MAX)


def decoded_bytes(file: DataFile) -> int:
    """Memory that all rows of the file take, roughly: by its size, or by its rows where they compress better still."""
    return max(file.size * DECODED_BYTES_PER_BYTE, file.rows * DECODED_BYTES_PER_ROW)


def _batches(file: DataFile) -> tuple[float, float]:
    """The first and the last batch in the file; before all others where that is not known."""
    low, high = file.stats.get(BATCH, (-1, -1))
    return float(low), float(high)


# -- how they are read ------------------------------------------------------------------------------------------------


def chains(group: Sequence[DataFile], sort: Sequence[str]) -> list[list[DataFile]]:
    """The files in as few chains as possible, each of which is sorted as a whole: only their heads are in memory.

    A file follows another if all its sort keys lie at or above those of the other, as far as statistics tell.
    """
    bounded = []
    for number, file in enumerate(group):
        bounds = _key_bounds(file, sort)
        bounded.append((bounds is None, bounds[0] if bounds else (), number, file, bounds[1] if bounds else None))
    found: list[list[DataFile]] = []
    ends: list[tuple[Any, ...] | None] = []
    for unknown, low, _, file, high in sorted(bounded, key=lambda item: item[:3]):
        fitting = [index for index, end in enumerate(ends) if not unknown and end is not None and end <= low]
        if fitting:
            last = max(fitting, key=lambda index: ends[index] or ())
            found[last].append(file)
            ends[last] = high
        else:
            found.append([file])
            ends.append(high)
    return found


def _key_bounds(file: DataFile, sort: Sequence[str]) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """Keys that no row's key is below and above; None where statistics do not tell."""
    low, high = [], []
    for name in sort:
        bounds = file.stats.get(name)
        if bounds is None or file.statistics.nulls.get(name) != 0:
            return None
        low.append(bounds[0])
        high.append(bounds[1])
    return (tuple(low), tuple(high)) if sort else None
