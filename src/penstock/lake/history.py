"""What left a table's log folder: every entry of the kept period, in few files, from which the past can be read.

delta-rs lists the whole log folder at each commit, so that holds few entries (`vacuum.clean_log`). The others lie in
`_history`, a Parquet file per stretch of versions: the entries as they were, the files each removed, and in the first
row the files that were live then. So a version of the kept period can be read, and a vacuum knows what it needs.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt
from penstock.lake import log
from penstock.lake.datafile import DataFile, Statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.lake.log import Entry
    from penstock.lake.storage import Storage

HISTORY_FOLDER = "_history"
"""Below the table's folder; readers of Delta tables do not look there."""

_NAME = re.compile(r"(\d{20})-(\d{20})-(\d+)-([0-9a-f]{8})\.parquet")
_REMOVED = pa.list_(pa.struct([pa.field("path", pa.string()), pa.field("time", pa.int64())]))
_SCHEMA = pa.schema(
    [
        pa.field("version", pa.int64()),
        pa.field("entry", pa.large_binary()),
        pa.field("removed", _REMOVED),
        pa.field("live", pa.large_binary()),
    ]
)
_HINT = "Restore it from a backup or a replica, or delete it: then what the table was during those versions is lost."


@dataclass(frozen=True, order=True)
class Segment:
    """One file of the history: the entries `first`..`last`; `began` is the time of the first, in microseconds since the
    epoch. The file's CRC is in its name."""

    first: int
    last: int
    began: int
    checksum: int

    @property
    def name(self) -> str:
        return f"{self.first:020d}-{self.last:020d}-{self.began}-{self.checksum:08x}.parquet"


def segments(storage: Storage, table: str) -> list[Segment]:
    """The files of the table's history, the oldest first."""
    matches = (_NAME.fullmatch(name) for name in storage.names(f"{table}/{HISTORY_FOLDER}"))
    return sorted(Segment(int(m[1]), int(m[2]), int(m[3]), int(m[4], 16)) for m in matches if m)


def write_segment(
    storage: Storage, table: str, entries: Sequence[tuple[Entry, bytes]], live: Sequence[Mapping[str, Any]]
) -> Segment:
    """Keep entries, each with its bytes, that follow one another; `live` are the add actions of the files that were
    live after the first of them. Durable when it returns."""
    state = b"\n".join(orjson.dumps(action) for action in live)
    rows = pa.table(
        [
            pa.array([entry.version for entry, _ in entries], pa.int64()),
            pa.array([data for _, data in entries], pa.large_binary()),
            pa.array([list(_removals(entry)) for entry, _ in entries], _REMOVED),
            pa.array([state, *[None] * (len(entries) - 1)], pa.large_binary()),
        ],
        schema=_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", compression_level=1, use_dictionary=False, write_statistics=False)
    content = sink.getvalue().to_pybytes()
    first, last = entries[0][0], entries[-1][0]
    segment = Segment(first.version, last.version, first.timestamp, zlib.crc32(content))
    storage.write(f"{table}/{HISTORY_FOLDER}/{segment.name}", content)
    return segment


def files_at(storage: Storage, table: str, version: int, partition_column: str | None) -> list[DataFile] | None:
    """The files that were live at a version of the history, without statistics; None when it does not hold the version.

    Raises:
        LakeCorrupt: the history is damaged.
    """
    for segment in segments(storage, table):
        if segment.first <= version <= segment.last:
            rows = _read(storage, table, segment, ["version", "entry", "live"])
            if rows is not None:
                return [_data_file(add, partition_column) for add in _replay(table, rows, version)]
    return None


def entries(storage: Storage, table: str) -> Iterator[Entry]:
    """The entries of the history, the newest first.

    Raises:
        LakeCorrupt: the history is damaged.
    """
    for segment in reversed(segments(storage, table)):
        rows = _read(storage, table, segment, ["version", "entry"])
        if rows is not None:
            for row in reversed(rows.to_pylist()):
                yield _whole(table, row["version"], row["entry"])


def entries_after(storage: Storage, table: str, version: int) -> Iterator[Entry]:
    """The entries of the history after a version, the oldest first, as far as they follow one another.

    Raises:
        LakeCorrupt: the history is damaged.
    """
    for segment in segments(storage, table):
        if segment.first <= version + 1 <= segment.last:
            rows = _read(storage, table, segment, ["version", "entry"])
            if rows is None:
                return
            for row in rows.slice(version + 1 - segment.first).to_pylist():
                yield _whole(table, row["version"], row["entry"])
            version = segment.last


def removal_times(storage: Storage, table: str) -> dict[str, int]:
    """When files stopped being live, in microseconds since the epoch, by path, as far as the history tells.

    Raises:
        LakeCorrupt: the history is damaged.
    """
    times: dict[str, int] = {}
    for segment in segments(storage, table):
        rows = _read(storage, table, segment, ["removed"])
        if rows is not None:
            removed = rows.column("removed").combine_chunks().flatten()
            times.update(zip(removed.field("path").to_pylist(), removed.field("time").to_pylist(), strict=True))
    return times


def expire(storage: Storage, table: str, horizon: int) -> int:
    """Delete the stretches of which no version was the current one at `horizon` or later; how many.

    What they removed is needed by nobody any more. The newest stretch stays.
    """
    gone = [older for older, newer in pairwise(segments(storage, table)) if newer.began < horizon]
    storage.delete(*(f"{table}/{HISTORY_FOLDER}/{segment.name}" for segment in gone))
    return len(gone)


def _read(storage: Storage, table: str, segment: Segment, columns: list[str]) -> pa.Table | None:
    """Columns of a file of the history; None where it expired meanwhile."""
    path = f"{table}/{HISTORY_FOLDER}/{segment.name}"
    try:
        content = storage.read(path)
    except FileNotFoundError:
        return None
    if zlib.crc32(content) != segment.checksum:
        raise LakeCorrupt(f"{path} is not what was written", hint=_HINT)
    return pq.read_table(pa.BufferReader(content), columns=columns)


def _replay(table: str, rows: pa.Table, version: int) -> list[Mapping[str, Any]]:
    """The add actions that are live after `version`, sorted by path."""
    live: dict[str, Mapping[str, Any]] = {}
    for line in rows.column("live")[0].as_py().splitlines():
        add = orjson.loads(line)
        live[add["path"]] = add
    for row in rows.select(["version", "entry"]).slice(1, version - rows.column("version")[0].as_py()).to_pylist():
        entry = _whole(table, row["version"], row["entry"])
        live.update((add["path"], add) for add in entry.adds)
        for remove in entry.removes:
            live.pop(remove["path"], None)
    return [add for _, add in sorted(live.items())]


def _whole(table: str, version: int, data: bytes) -> Entry:
    entry = log.parse_entry(version, data)
    if entry.problem:
        raise LakeCorrupt(f"{table}: entry {version} of the history is {entry.problem}", hint=_HINT)
    return entry


def _removals(entry: Entry) -> Iterator[dict[str, Any]]:
    for remove in entry.removes:
        yield {"path": remove["path"], "time": removal_time(entry, remove)}


def removal_time(entry: Entry, remove: Mapping[str, Any]) -> int:
    """When a remove action of an entry happened, in microseconds since the epoch."""
    return int(remove.get("deletionTimestamp") or entry.timestamp // 1000) * 1000


def _data_file(add: Mapping[str, Any], partition_column: str | None) -> DataFile:
    partition = None if partition_column is None else add["partitionValues"].get(partition_column)
    rows = orjson.loads(add["stats"]).get("numRecords", -1) if add.get("stats") else -1
    return DataFile(add["path"], int(add["size"]), int(rows), partition, int(add["modificationTime"]), Statistics())
