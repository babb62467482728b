"""The push log: a SQLite file that holds what producers pushed until bronze has it. `push.py` reads it as a source.

An append is acknowledged when its transaction is on disk (write-ahead log, synchronous=FULL). One row holds up to
PUSH_BLOCK_ROWS_MAX records as an Arrow stream with a CRC; compressing it was measured to cost more than it saves. The
next offset of a partition is a value of its own, so that an emptied log never gives an offset twice. Several processes
may append while another reads and trims; all of them on the log's machine.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock import limits
from penstock.errors import PenstockError, SourceLost, StorageError, TransientError, UsageError
from penstock.model.position import Range
from penstock.sources.contract import Clock, wall_clock
from penstock.sources.records import as_block, record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

APPLICATION_ID = 0x50_53_4C_31
"""Marks the SQLite file as a push log in its first version."""

PAGE_BYTES = 16_384
OFFSET_BITS = 52
"""A row's key is partition << OFFSET_BITS | first offset: rows of a partition lie together, in order."""

_TABLES = """
CREATE TABLE log (unique_id TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE partition (
    partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, trimmed_below INTEGER NOT NULL,
    waiting_bytes INTEGER NOT NULL, last_ingested_at INTEGER NOT NULL);
CREATE TABLE block (
    id INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, ingested_at INTEGER NOT NULL,
    crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE loss (
    partition INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, reason TEXT NOT NULL,
    noticed_at INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Appended:
    """Where the records of one append are: element i is the place of record i. `ingested_at` is the time of
    acknowledgement of the last of them, in microseconds since the epoch."""

    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    ingested_at: int

    def ranges(self, source: int) -> tuple[Range, ...]:
        """The places as ranges of incarnation `source`, ordered by (partition, start)."""
        found = []
        for partition in np.unique(self.partitions):
            offsets = self.offsets[self.partitions == partition]
            breaks = np.flatnonzero(np.diff(offsets) != 1) + 1
            found += [Range(source, int(partition), int(run[0]), int(run[-1]) + 1) for run in np.split(offsets, breaks)]
        return tuple(found)


@dataclass(frozen=True)
class PartitionState:
    """One partition: offsets [trimmed_below, next_offset) are held, in about `waiting_bytes` bytes."""

    partition: int
    next_offset: int
    trimmed_below: int
    waiting_bytes: int


@dataclass(frozen=True)
class BlockEntry:
    """A row of the log without its records. `bytes` are those of the records; `crc` covers place, time and body."""

    partition: int
    first_offset: int
    rows: int
    bytes: int
    ingested_at: int
    crc: int

    @property
    def end(self) -> int:
        return self.first_offset + self.rows


@dataclass(frozen=True)
class _Block:
    """Records on their way into one row: `indexes` are their ordinals in the append."""

    partition: int
    indexes: NDArray[np.int64]
    size: int
    body: bytes


class PushLog:
    """One process's handle on a push log. Thread safe.

    Raises:
        StorageError: the file cannot be opened or is not a push log.
        SourceLost: the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = 1,
        record_bytes_max: int = limits.RECORD_BYTES_MAX,
        log_bytes_max: int = limits.PUSH_LOG_BYTES_MAX,
        clock: Clock = wall_clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 1 <= partitions <= limits.PUSH_PARTITIONS_MAX:
            raise UsageError(
                f"a push log of {partitions} partitions",
                hint=f"partitions: 1 to {limits.PUSH_PARTITIONS_MAX}",
            )
        self.path = path
        self._partitions = partitions
        self._record_bytes_max = record_bytes_max
        self._log_bytes_max = log_bytes_max
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.RLock()
        with self._errors():
            self._connection = self._connect()
            self.unique_id = self._open_or_create()

    # -- opening ------------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot create the folder of the push log {self.path}: {error.strerror}",
                hint="Check the permissions of the lake's folder.",
            ) from error
        connection = sqlite3.connect(
            self.path, timeout=limits.PUSH_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={limits.PUSH_WAL_BYTES // PAGE_BYTES}")
            connection.execute(f"PRAGMA journal_size_limit={limits.PUSH_WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_or_create(self) -> str:
        with self._writing():
            mark = self._connection.execute("PRAGMA application_id").fetchone()[0]
            tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if mark == 0 and tables == 0:
                for statement in _TABLES.split(";\n"):
                    self._connection.execute(statement)
                self._connection.execute("INSERT INTO log VALUES (?, ?)", (str(uuid.uuid4()), self._clock()))
                self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            elif mark != APPLICATION_ID:
                raise StorageError(
                    f"{self.path} is a SQLite file, but not a push log",
                    hint="Move it away, or restore the push log from the backup.",
                )
        # The file's name, its folder's and the lake's: who made them may have crashed before they were durable, and a
        # record is only as durable as every name on the way to it.
        for folder in self.path.parents[:3]:
            _sync_folder(folder)
        row = self._connection.execute("SELECT unique_id FROM log").fetchone()
        if row is None:
            raise self._damaged("it has no id")
        return str(row[0])

    # -- appending ----------------------------------------------------------------------------------------------------

    def append(self, records: pa.Table, *, timeout_seconds: float = limits.PUSH_FULL_SECONDS) -> Appended:
        """Keep the records (columns of BLOCK_SCHEMA, all but `value` optional); durable when it returns.

        Where it fails, a part of them may have been kept: push them again, silver removes the doubles.

        Raises:
            UsageError: a record is over the size limit; nothing was kept.
            TransientError: the log stayed full, or another process held it, until the timeout.
            StorageError: it cannot be written.
        """
        block = as_block(records)
        sizes = record_bytes(block)
        too_large = np.flatnonzero(sizes > self._record_bytes_max)
        if len(too_large):
            raise UsageError(
                f"record {int(too_large[0])} of the push holds {int(sizes[too_large[0]])} bytes, "
                f"the limit is {self._record_bytes_max}",
                hint="Split the record, or raise the limit record_bytes_max in penstock.yaml. Nothing was pushed.",
            )
        partitions = self._partition_of(block)
        offsets = np.zeros(block.num_rows, np.int64)
        ingested_at = self._clock()
        deadline = time.monotonic() + timeout_seconds
        for group in _groups(self._blocks(block, sizes, partitions)):
            ingested_at = self._append_group(group, offsets, deadline)
        return Appended(partitions, offsets, ingested_at)

    def _partition_of(self, block: pa.Table) -> NDArray[np.int32]:
        """The partition of each record: by the CRC of its key, 0 without one."""
        keys = block["key"].combine_chunks()
        if self._partitions == 1 or keys.null_count == len(keys):
            return np.zeros(block.num_rows, np.int32)
        encoded = keys.dictionary_encode()
        of_key = np.array([zlib.crc32(key) % self._partitions for key in encoded.dictionary.to_pylist()], np.int32)
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return np.where(codes < 0, np.int32(0), of_key[codes]).astype(np.int32)

    def _blocks(self, block: pa.Table, sizes: NDArray[np.int64], partitions: NDArray[np.int32]) -> Iterator[_Block]:
        for partition in np.unique(partitions):
            indexes = np.flatnonzero(partitions == partition)
            own = block if len(indexes) == block.num_rows else block.take(pa.array(indexes))
            running = np.cumsum(sizes[indexes])
            start = 0
            while start < len(indexes):
                before = int(running[start - 1]) if start else 0
                fitting = int(np.searchsorted(running, before + limits.PUSH_BLOCK_BYTES_MAX, side="right"))
                end = min(max(fitting, start + 1), start + limits.PUSH_BLOCK_ROWS_MAX, len(indexes))
                body = _to_stream(own.slice(start, end - start))
                yield _Block(int(partition), indexes[start:end], int(running[end - 1]) - before, body)
                start = end

    def _append_group(self, group: list[_Block], offsets: NDArray[np.int64], deadline: float) -> int:
        """One transaction. Writes the offsets of the group's records and returns their time of acknowledgement."""
        needed = sum(block.size for block in group)
        while True:
            with self._errors(), self._lock, self._writing():
                if self._has_room(needed):
                    return self._insert(group, offsets)
            if time.monotonic() >= deadline:
                raise TransientError(
                    f"the push log {self.path} is full: {self._log_bytes_max} bytes wait for their pipeline",
                    hint="Start `penstock run`, or raise push_bytes_max in penstock.yaml, then push again.",
                )
            self._sleep(limits.PUSH_POLL_SECONDS)

    def _has_room(self, needed: int) -> bool:
        waiting = self._connection.execute("SELECT coalesce(sum(waiting_bytes), 0) FROM partition").fetchone()[0]
        return bool(waiting == 0 or waiting + needed <= self._log_bytes_max)

    def _insert(self, group: list[_Block], offsets: NDArray[np.int64]) -> int:
        states = {
            row[0]: (row[1], row[2])
            for row in self._connection.execute("SELECT partition, next_offset, last_ingested_at FROM partition")
        }
        # One clock for all partitions, never going back: what is planned in its order is planned evenly.
        now: int = max([self._clock(), *(last for _, last in states.values())])
        rows = []
        for block in group:
            first = states.get(block.partition, (0, 0))[0]
            count = len(block.indexes)
            offsets[block.indexes] = np.arange(first, first + count)
            crc = _crc(block.partition, first, count, now, block.body)
            rows.append((_row_id(block.partition, first), count, block.size, now, crc, block.body))
            states[block.partition] = (first + count, now)
            self._connection.execute(
                "INSERT INTO partition VALUES (?1, ?2, 0, ?3, ?4) ON CONFLICT (partition) DO UPDATE SET "
                "next_offset = ?2, waiting_bytes = waiting_bytes + ?3, last_ingested_at = ?4",
                (block.partition, first + count, block.size, now),
            )
        self._connection.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)", rows)
        return now

    # -- reading ------------------------------------------------------------------------------------------------------

    def partitions(self) -> dict[int, PartitionState]:
        """Every partition that ever got a record."""
        query = "SELECT partition, next_offset, trimmed_below, waiting_bytes FROM partition ORDER BY partition"
        with self._errors(), self._lock:
            return {row[0]: PartitionState(*row) for row in self._connection.execute(query)}

    def check(self) -> None:
        """Compare the partitions with the rows there are. Cheap: it looks at the last row of each partition.

        Raises:
            SourceLost: a row lies in no partition, or beyond the next offset of its own.
        """
        states = self.partitions()
        below = 1 << 63
        while True:
            with self._errors(), self._lock:
                last = self._connection.execute(
                    "SELECT id, rows FROM block WHERE id <= ? ORDER BY id DESC LIMIT 1", (below - 1,)
                ).fetchone()
            if last is None:
                return
            partition, first = last[0] >> OFFSET_BITS, last[0] & ((1 << OFFSET_BITS) - 1)
            next_offset = states[partition].next_offset if partition in states else 0
            if first + last[1] > next_offset:
                raise self._damaged(
                    f"it holds records {partition}/{first}..{first + last[1]}, and the next offset is {next_offset}"
                )
            below = _row_id(partition, 0)

    def entries(
        self, partition: int, start: int, end: int = 1 << OFFSET_BITS, *, count_max: int = 4_096
    ) -> list[BlockEntry]:
        """Rows of the log that hold offsets of [start, end), in order; at most `count_max` of them."""
        query = (
            "SELECT id, rows, bytes, ingested_at, crc FROM block WHERE id < ?2 AND id >= coalesce("
            "(SELECT max(id) FROM block WHERE id <= ?1 AND id >= ?3), ?1) ORDER BY id LIMIT ?4"
        )
        bounds = (_row_id(partition, start), _row_id(partition, 0) + end, _row_id(partition, 0), count_max)
        with self._errors(), self._lock:
            rows = self._connection.execute(query, bounds).fetchall()
        entries = [BlockEntry(partition, row[0] & ((1 << OFFSET_BITS) - 1), *row[1:]) for row in rows]
        return [entry for entry in entries if entry.end > start]

    def records(self, entry: BlockEntry) -> pa.Table:
        """The records of a row in BLOCK_SCHEMA.

        Raises:
            SourceLost: the row is gone, or its bytes are not what was written.
        """
        key = (_row_id(entry.partition, entry.first_offset),)
        with self._errors(), self._lock:
            row = self._connection.execute("SELECT body FROM block WHERE id = ?", key).fetchone()
        places = f"{entry.partition}/{entry.first_offset}..{entry.end}"
        if row is None:
            raise SourceLost(
                f"records {places} are no longer in the push log {self.path}",
                hint="They were trimmed because bronze had them: compare the lake with its backup.",
            )
        if _crc(entry.partition, entry.first_offset, entry.rows, entry.ingested_at, row[0]) != entry.crc:
            raise SourceLost(
                f"records {places} in the push log {self.path} are damaged: their checksum does not match",
                hint="Restore the push log from the backup, or set `on_data_loss: record` to go on without them.",
            )
        return _from_stream(row[0])

    # -- trimming and losses ------------------------------------------------------------------------------------------

    def trim(self, partition: int, below: int) -> None:
        """Drop offsets below `below`. Whole rows only; the mark counts at once, so that a dropped record stays so."""
        with self._errors(), self._lock, self._writing():
            self._connection.execute(
                "UPDATE partition SET trimmed_below = ?2 WHERE partition = ?1 AND trimmed_below < ?2",
                (partition, below),
            )
        while self._trim_some(partition, below):
            pass

    def _trim_some(self, partition: int, below: int) -> bool:
        """Delete some rows that lie below; True when there may be more."""
        base = _row_id(partition, 0)
        with self._errors(), self._lock, self._writing():
            rows = self._connection.execute(
                "SELECT id, bytes FROM block WHERE id >= ?1 AND id + rows <= ?2 AND id < ?2 ORDER BY id LIMIT ?3",
                (base, base + below, limits.PUSH_TRIM_BLOCKS_MAX),
            ).fetchall()
            if rows:
                self._connection.execute("DELETE FROM block WHERE id BETWEEN ? AND ?", (rows[0][0], rows[-1][0]))
                self._connection.execute(
                    "UPDATE partition SET waiting_bytes = waiting_bytes - ? WHERE partition = ?",
                    (sum(row[1] for row in rows), partition),
                )
        return len(rows) == limits.PUSH_TRIM_BLOCKS_MAX

    def record_loss(self, partition: int, start: int, end: int, reason: str) -> bool:
        """Keep a note that offsets [start, end) were lost; False when it is there already."""
        with self._errors(), self._lock, self._writing():
            known = self._connection.execute(
                "SELECT 1 FROM loss WHERE partition = ? AND start <= ? AND end >= ?", (partition, start, end)
            ).fetchone()
            if known is None:
                self._connection.execute(
                    "INSERT INTO loss VALUES (?, ?, ?, ?, ?)", (partition, start, end, reason, self._clock())
                )
        return known is None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # -- transactions and errors --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours, by their code."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> PenstockError:
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return TransientError(
                f"the push log {self.path} was held by another process for {limits.PUSH_BUSY_SECONDS:.0f} s",
                hint="Try again; look for a stopped process that has the file open.",
            )
        if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and self._is_disk_full()):
            return StorageError(f"no space left for the push log {self.path}", hint="Free some space, then push again.")
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or primary is None:
            return self._damaged(str(error))
        return StorageError(
            f"the push log {self.path} cannot be used: {error}",
            hint="Check that its folder exists and can be written, and that the disk is healthy.",
        )

    def _is_disk_full(self) -> bool:
        """SQLite calls it an I/O error when there is no space for its shared index."""
        try:
            status = os.statvfs(self.path.parent)
        except OSError:
            return False
        return status.f_bavail * status.f_frsize < limits.PUSH_SPACE_BYTES_MIN

    def _damaged(self, reason: str) -> SourceLost:
        return SourceLost(
            f"the push log {self.path} is damaged: {reason}",
            hint="Restore it from the backup. Records that bronze holds already are safe.",
        )


def _row_id(partition: int, offset: int) -> int:
    return (partition << OFFSET_BITS) + offset


def _crc(partition: int, first_offset: int, rows: int, ingested_at: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<iqqq", partition, first_offset, rows, ingested_at)))


def _to_stream(block: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_table(block)
    return bytes(sink.getvalue())


def _from_stream(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(body)).read_all()


def _groups(blocks: Iterator[_Block]) -> Iterator[list[_Block]]:
    """Blocks in groups of at most PUSH_COMMIT_BYTES_MAX."""
    group: list[_Block] = []
    size = 0
    for block in blocks:
        if group and size + len(block.body) > limits.PUSH_COMMIT_BYTES_MAX:
            yield group
            group, size = [], 0
        group.append(block)
        size += len(block.body)
    if group:
        yield group


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
