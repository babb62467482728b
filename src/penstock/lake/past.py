"""The past of one table: its log entries, in the log and in the history they go into, and which version had what."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from penstock.errors import LakeCorrupt, UsageError, check
from penstock.lake import history, log
from penstock.lake.datafile import DataFile, data_files
from penstock.lake.handle import Handle
from penstock.lake.positions import Positions
from penstock.model.columns import batch_txn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.lake.log import Entry
    from penstock.lake.table import Table


class Past:
    """What `table` was, up to the version it knows."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._storage = table.storage
        self._name = table.name

    # -- files --------------------------------------------------------------------------------------------------------

    def files(self, version: int) -> list[DataFile]:
        """The files of a version, from the log, or from the history that its entries have gone into, sorted by path.

        Raises:
            UsageError: neither reaches back to that version.
            LakeCorrupt: the history is damaged.
        """
        partition_column = next(iter(self._table.spec.partition_columns), None)
        try:
            self._check_reachable(version)
            past = Handle.open(self._storage, self._name, version)
            return sorted(data_files(past.adds(), partition_column), key=lambda file: file.path)
        except (UsageError, LakeCorrupt):  # or they go there this moment
            found = history.files_at(self._storage, self._name, version, partition_column)
            if found is None:
                raise
            return found

    def _check_reachable(self, version: int) -> None:
        listing = log.list_log(self._storage, self._name)
        entries = set(listing.entries)
        base = max((found for found in listing.checkpoints if found <= version), default=-1)
        if version < 0 or not all(number in entries for number in range(base + 1, version + 1)):
            raise UsageError(
                f"{self._name} has no version {version} any more, or not yet",
                hint=f"Its last version is {self._table.version}; past ones are kept for a while only.",
            )

    # -- entries ------------------------------------------------------------------------------------------------------

    def entries(self, limit: int | None = None) -> Iterator[Entry]:
        """The log entries there still are, the newest first; each with its version, time, actions and txns."""
        return islice(self._entries(), limit)

    def _entries(self) -> Iterator[Entry]:
        version = self._table.version + 1
        for version in reversed(log.list_log(self._storage, self._name).unbroken):
            entry = log.read_entry(self._storage, self._name, version)
            if entry is None:  # went into the history meanwhile
                version += 1
                break
            yield entry
        for entry in history.entries(self._storage, self._name):
            if entry.version < version:
                yield entry

    def last_version_of(self, pipeline: str, batch: int, version: int) -> int:
        """The last version that knows no later batch than `batch`, of which `version` has the rows: from there on they
        were only stored differently. Its files are the last of these to be deleted.
        """
        name = batch_txn(pipeline)
        last = self._table.version
        if last <= version or self._table.txns().get(name, 0) <= batch:
            return last
        for entry in self._entries_after(version):
            if entry.txns.get(name, 0) > batch:
                break
            version = entry.version
        return version

    def _entries_after(self, version: int) -> Iterator[Entry]:
        """The entries after a version, the oldest first, as far as they follow one another."""
        while version < self._table.version:
            entry = log.read_entry(self._storage, self._name, version + 1)
            found = history.entries_after(self._storage, self._name, version) if entry is None else iter((entry,))
            before = version
            for entry in found:
                yield entry
                version = entry.version
            if version == before:
                return

    def version_at(self, pipeline: str, batch: int) -> int:
        """The version whose log entry committed `batch` of `pipeline`; where the table skipped it, the last one below.

        0 (the empty table) when it had not absorbed any batch up to `batch`.
        """
        name = batch_txn(pipeline)
        for version in range(self._table.version, -1, -1):
            entry = log.read_entry(self._storage, self._name, version)
            if entry is None:  # cleaned up: the state there is the oldest that can be named
                known = Positions.load(self._storage, self._name, version).txns.get(name, 0)
                check(known <= batch, f"{self._name}: the log entry of batch {batch} was cleaned up")
                return version
            if name in entry.txns and entry.txns[name] <= batch:
                return version
        return 0

    def committed(self, pipeline: str, batch: int) -> tuple[Entry, Mapping[str, int]]:
        """The log entry that committed `batch` of `pipeline`, and every position before it.

        Raises:
            LakeCorrupt: it is gone. One that the ledger lacks stays in the log.
        """
        version = self.version_at(pipeline, batch)
        entry = log.read_entry(self._storage, self._name, version)
        if entry is None or entry.txns.get(batch_txn(pipeline)) != batch:
            raise LakeCorrupt(
                f"{self._name}: the log entry of batch {batch} is gone, and the ledger lacks that batch",
                hint="Restore the table's _delta_log from a backup or a replica of the lake.",
            )
        return entry, Positions.load(self._storage, self._name, version - 1).txns
