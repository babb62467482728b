"""Makes a small lake as old as one with a hundred thousand batches, without running them.

What is written is what the product would have left: a log that begins at a checkpoint, a history of everything before,
a ledger with a row per batch, and positions. The batches that are made up are drains: they have no records, so that
every law still holds and `audit` can say so.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from penstock.errors import check
from penstock.lake import history, log
from penstock.lake.checkpoint import name_checkpoint
from penstock.lake.layout import Kind, split_name, table_name
from penstock.lake.ledger import Ledger, to_arrow
from penstock.lake.maintenance import vacuum_txn
from penstock.lake.parquet import delta_statistics
from penstock.lake.table import Table
from penstock.limits import CHECKPOINT_SPACING_VERSIONS, LOG_ENTRIES_MAX
from penstock.model.batch import BatchCounts, LedgerRow
from penstock.model.columns import batch_txn, nonce_txn, writer_txn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.lake.datafile import DataFile
    from penstock.lake.lake import Lake
    from penstock.lake.storage import Storage

ENTRIES = LOG_ENTRIES_MAX
"""Entries in each log afterwards: the next look shortens it."""

INTERVAL_US = 250_000
"""Between two batches of the past: the shortest there is by default."""

_WRITTEN = (Kind.BRONZE, Kind.REJECTS, Kind.SILVER, Kind.GOLD, Kind.LEDGER)


def age(lake: Lake, pipeline: str, batches: int, now: int) -> None:
    """Give every table of a pipeline, which nothing runs and which has drained, a past of `batches` batches up to `now`
    (microseconds since the epoch)."""
    ledger = lake.table(table_name(Kind.LEDGER, pipeline))
    last = None if ledger is None else Ledger(ledger).last()
    assert ledger is not None
    assert last is not None
    check(batches > last.batch + ENTRIES, "the past is to be longer than the log")
    names = [name for name in lake.tables() if split_name(name)[0] in _WRITTEN]
    for name in names:
        table = lake.table(name)
        assert table is not None
        add = table.write(to_arrow(_rows(last, batches, names, now))) if table is ledger else []
        _Past(table, pipeline, batches, now).write(add)
        lake.forget(name, durable=-1)


def _version(batch: int) -> int:
    """The version that commits a batch of the past, in every table."""
    return batch + ENTRIES


def _rows(last: LedgerRow, batches: int, names: Iterable[str], now: int) -> list[LedgerRow]:
    versions = [name for name in names if split_name(name)[0] is not Kind.LEDGER]
    return [
        LedgerRow(
            batch=batch,
            ranges=(),
            counts=BatchCounts(),
            pins=last.pins,
            watermark=last.watermark,
            closed_until=last.closed_until,
            versions=tuple((name, _version(batch)) for name in versions),
            written_at=now - (batches - batch) * INTERVAL_US,
        )
        for batch in range(last.batch + 1, batches + 1)
    ]


class _Past:
    """The past of one table."""

    def __init__(self, table: Table, pipeline: str, batches: int, now: int) -> None:
        self._table = table
        self._storage: Storage = table.storage
        self._pipeline = pipeline
        self._batches = batches
        self._now = now
        self._writer = {name: table.txns()[name] for name in (writer_txn(pipeline), nonce_txn(pipeline))}

    def write(self, add: list[DataFile]) -> None:
        """Put the log's begin at the version of an old batch, everything before into the history, the rest behind it;
        the last entry adds files."""
        name, base = self._table.name, _version(self._batches - ENTRIES)
        checkpoint = self._table.checkpoint()
        self._move(checkpoint, base)
        for first in range(1, base, LOG_ENTRIES_MAX):
            past = [self._entry(version) for version in range(first, min(first + LOG_ENTRIES_MAX, base))]
            history.write_segment(self._storage, name, [(log.parse_entry(at, data), data) for at, data in past], ())
        for version in range(base + 1, _version(self._batches) + 1):
            _, data = self._entry(version, add if version == _version(self._batches) else [], in_log=True)
            # Not one by one through the disk: the checkpoint that follows holds them all.
            Path(self._storage.uri(log.entry_path(name, version))).write_bytes(data)
            if (version - base) % CHECKPOINT_SPACING_VERSIONS == 0 or version == _version(self._batches):
                Table(self._storage, name).checkpoint()

    def _move(self, version: int, base: int) -> None:
        """The checkpoint of `version`, and its entry, as those of `base`; nothing else stays in the log."""
        name, storage = self._table.name, self._storage
        entry, state = (storage.read(path(name, version)) for path in (log.entry_path, log.checkpoint_path))
        hint = orjson.loads(storage.read(log.hint_path(name)))
        for old in storage.names(log.log_folder(name)):
            storage.delete(f"{log.log_folder(name)}/{old}")
        storage.write(log.entry_path(name, base), entry)
        storage.write(log.checkpoint_path(name, base), state)
        name_checkpoint(storage, name, base, {"version": base, "size": hint["size"]})

    def _entry(self, version: int, add: Iterable[DataFile] = (), *, in_log: bool = False) -> tuple[int, bytes]:
        batch = version - ENTRIES
        time = (self._now - (self._batches - batch) * INTERVAL_US) // 1000
        txns = {**self._writer}
        if batch > 0:
            txns[batch_txn(self._pipeline)] = batch
        if batch == self._batches:
            txns[vacuum_txn(self._pipeline)] = self._now // 1_000_000
        adds = [self._add(file) for file in add]
        removes = [] if in_log else [_remove(version, time)]
        info = {
            "timestamp": time,
            "operation": "WRITE",
            log.SEAL: log.seal(adds, removes, txns),
            log.COMMIT: uuid.UUID(int=version).hex,
        }
        actions = [
            {"commitInfo": info},
            *({"txn": {"appId": name, "version": at, "lastUpdated": time}} for name, at in txns.items()),
            *({"add": one} for one in adds),
            *({"remove": one} for one in removes),
        ]
        return version, b"\n".join(orjson.dumps(action) for action in actions)

    def _add(self, file: DataFile) -> Mapping[str, Any]:
        return {
            "path": file.path,
            "size": file.size,
            "partitionValues": {},
            "modificationTime": file.modified,
            "dataChange": True,
            "stats": delta_statistics(file, self._table.schema),
        }


def _remove(version: int, time: int) -> Mapping[str, Any]:
    """A small file that a compaction replaced, and a vacuum has deleted since."""
    path = f"part-{uuid.UUID(int=version).hex}-{version & 0xFFFFFFFF:08x}.parquet"
    return {
        "path": path,
        "deletionTimestamp": time,
        "dataChange": False,
        "partitionValues": {},
        "size": 4_096,
    }
