"""One Delta table: what it holds, its positions, and the one way to change it.

Order of calls for a change: `write` (files that nobody sees), then `commit` (all or nothing, durable, fenced). Reading
is `files` and `read`. A table keeps one delta-rs handle for the whole process; every method may be called from any
thread. Earlier versions are in `past.py`; who may commit is in `fence.py`; what a crash left behind is cleared by
`recovery.py` before a table is written.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa

from penstock.errors import (
    Fenced,
    InvariantBroken,
    LakeCorrupt,
    PenstockError,
    StorageError,
    TransientError,
)
from penstock.lake import log
from penstock.lake.checkpoint import write_checkpoint
from penstock.lake.datafile import DataFile, data_files
from penstock.lake.handle import Handle
from penstock.lake.layout import TableSpec
from penstock.lake.log import Entry
from penstock.lake.parquet import delta_statistics, write_files, write_sorted
from penstock.lake.past import Past
from penstock.lake.positions import Positions
from penstock.lake.reading import Condition, read_files, verify_file
from penstock.lake.schema import plain_schema
from penstock.lake.tail import read_tail
from penstock.limits import (
    COMMIT_ATTEMPTS_MAX,
    COMMIT_FILE_SECONDS_MAX,
    COMMITS_PER_CHECKPOINT,
    REFRESH_TRUST_SECONDS,
)
from penstock.model.columns import batch_txn, nonce_txn, writer_txn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from penstock.lake.fence import Writer
    from penstock.lake.storage import Storage

__all__ = ["Committed", "DataFile", "Entry", "Table"]


@dataclass(frozen=True)
class Committed:
    """What a commit came to: the version that holds the change; `already` when it was there before this call."""

    version: int
    already: bool = False


def boot_seconds() -> float:
    """Seconds on a clock that goes on while the machine sleeps (where the system has one)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Table:
    """A table of the lake. Get one from `Lake.table` or `Lake.create`; it opens its handle at the first need."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.name = name
        self.storage = storage
        self._lock = threading.RLock()
        self._handle: Handle | None = None
        self._spec: TableSpec | None = None
        self._positions: Positions | None = None
        self._files: tuple[int, dict[str, DataFile]] | None = None
        self._commits_since_checkpoint = 0
        self._durable = -1
        self._refreshed = -REFRESH_TRUST_SECONDS
        self._broken: PenstockError | None = None

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    # -- what it holds ------------------------------------------------------------------------------------------------

    @property
    def spec(self) -> TableSpec:
        """Name, columns, partition, sort order and statistics, as stored."""
        with self._lock:
            handle = self._opened()
            if self._spec is None:
                self._spec = TableSpec.stored(self.name, plain_schema(handle.schema), handle.configuration)
            return self._spec

    @property
    def schema(self) -> pa.Schema:
        """All columns, the partition column among them; columns that were added later stand behind it."""
        return self.spec.schema

    @property
    def version(self) -> int:
        """The version this process knows: its own last commit, or what `refresh` found."""
        with self._lock:
            return self._opened().version

    def refresh(self) -> int:
        """Look for new versions; the last one."""
        with self._lock:
            handle = self._opened()
            # delta-rs lists the whole log to refresh; one look at the next entry tells the same, as long as that entry
            # cannot have come and been cleaned up again since.
            now = boot_seconds()
            if self._is_recent() and self.storage.size(log.entry_path(self.name, handle.version + 1)) is None:
                return handle.version
            if handle.refresh():
                self._spec = None
            self._refreshed = now
            return handle.version

    def reopen(self, durable: int = -1) -> None:
        """Forget everything known; the next call opens the table anew. Versions up to `durable` are durable."""
        with self._lock:
            self._handle = self._spec = self._positions = self._files = None
            self._commits_since_checkpoint = 0
            self._refreshed = -REFRESH_TRUST_SECONDS
            self._durable = durable

    def txn(self, name: str) -> int | None:
        """The position recorded under a txn id, at `version`; None when there is none."""
        return self.txns().get(name)

    def txns(self) -> Mapping[str, int]:
        """Every recorded position, by txn id, at `version`."""
        with self._lock:
            version = self._opened().version
            if self._positions is None or self._positions.version > version:
                self._positions = Positions.load(self.storage, self.name, version)
            self._positions.advance(self.storage, version)
            return self._positions.txns

    def files(self, version: int | None = None) -> list[DataFile]:
        """The live files, at `version` of the handle or of the past, sorted by path.

        Raises:
            UsageError: neither log nor history reach back to that version.
            LakeCorrupt: the history is damaged.
        """
        with self._lock:
            handle = self._opened()
            if version is not None and version != handle.version:
                return self.past.files(version)
            return [file for _, file in sorted(self._live().items())]

    def path(self, file: DataFile) -> str:
        """Where a reader finds the file (a local path, or a URI)."""
        return self.storage.uri(f"{self.name}/{file.path}")

    def open(self, file: DataFile) -> BinaryIO:
        """The file's bytes, unchecked. Raises FileNotFoundError when it is gone."""
        return cast("BinaryIO", self.storage.open(f"{self.name}/{file.path}"))

    def paths(self, files: Iterable[DataFile]) -> list[str]:
        """`path` of each."""
        return [self.path(file) for file in files]

    @property
    def past(self) -> Past:
        """Earlier versions and log entries."""
        return Past(self)

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(
        self,
        columns: Sequence[str] | None = None,
        batches: tuple[int, int] | None = None,
        condition: Condition | None = None,
        files: Iterable[DataFile] | None = None,
    ) -> Iterator[pa.Table]:
        """The rows, in pieces of at most one row group, in no order across files; empty pieces are left out.

        Args:
            columns: which, in this order; all without it. The partition column may be among them.
            batches: only rows with low <= `_batch` <= high.
            condition: only rows it is true for. It may look at any column.
            files: of these files instead of all live ones.

        Columns that are younger than a file are null there. Raises (while it is consumed):
            LakeCorrupt: a file is missing, cut, or has flipped bits; names the table and the file.
        """
        live = self.files() if files is None else files
        return read_files(self.storage, self.spec, live, columns=columns, batches=batches, condition=condition)

    def batch(self, number: int, files: Iterable[DataFile] | None = None) -> pa.Table:
        """The rows of one batch, without the partition column; of these `files` instead of all live ones.

        Raises:
            LakeCorrupt: as `read` does.
        """
        pieces = list(self.read(batches=(number, number), files=files))
        rows = pa.concat_tables(pieces) if pieces else self.schema.empty_table()
        return rows.drop_columns(list(self.spec.partition_columns))

    def verify(self, files: Iterable[DataFile], *, pages: bool = True) -> None:
        """Check sizes, footers, row counts and unless `pages` is false every page's checksum.

        Raises:
            LakeCorrupt: for the first file that is not what was written.
        """
        for file in files:
            verify_file(self.storage, self.spec, file, pages=pages)

    # -- changing -----------------------------------------------------------------------------------------------------

    def write(self, data: pa.Table) -> list[DataFile]:
        """Write rows as new files: split by partition, sorted, with statistics; durable, but part of the table only
        once committed. `data` has columns of `schema` in any order; missing ones are null, the partition column is
        computed. No rows give no files.

        Raises:
            StorageError: they cannot be written; nothing is left behind.
        """
        return write_files(self.storage, self.name, self.spec, data)

    def commit(
        self,
        writer: Writer,
        *,
        batch: int | None,
        add: Iterable[DataFile] = (),
        remove: Iterable[DataFile] = (),
        txns: Mapping[str, int] | None = None,
        expected: Mapping[str, int] | None = None,
        data_change: bool = True,
    ) -> Committed:
        """Make `add` part of the table and `remove` not, and record positions, in one step; durable when it returns.

        A file of `add` that was written long ago is written again: a vacuum may be about to take it for a leftover.
        `batch` is recorded as the pipeline's position; a batch the table has absorbed already changes nothing
        (`already`). None leaves the position. `expected` are positions that the rows were made for, 0 for
        none. `data_change` is false when the same rows are only stored differently.

        Raises:
            Fenced: another writer took the table over. Nothing was committed.
            TransientError: a file of `remove` is not live any more, or a position is not the one expected. Nothing was
                committed.
            StorageError: the disk refused; whether the commit is there shows at the next start. This table takes no
                more commits in this process.
        """
        added, removed = list(add), list(remove)
        recorded = {} if batch is None else {batch_txn(writer.pipeline): batch}
        positions = {**writer.txns(), **recorded, **(txns or {})}
        name = uuid.uuid4().hex

        def write(version: int) -> bool:
            nonlocal added
            self._check_live(removed)
            self._check_expected(expected or {})
            added = [self._young(file) for file in added]
            return self._write_entry(
                version,
                name,
                positions,
                self._add_actions(added, data_change),
                [
                    log.remove_action(file.path, file.size, self._partition_values(file), data_change=data_change)
                    for file in removed
                ],
            )

        with self._lock:
            committed = self._commit(writer, batch, write, name, positions)
            if not committed.already:
                self._note_files(committed.version, added, removed)
            return committed

    def take(self, writer: Writer) -> Committed:
        """Record `writer` as the owner of the table, in place of writers with a lower epoch. See `fence.take_over`.

        Raises:
            Fenced: the table has a writer of the same or a higher epoch.
        """
        name = uuid.uuid4().hex

        def write(version: int) -> bool:
            return self._write_entry(version, name, writer.txns())

        with self._lock:
            return self._commit(writer, None, write, name, writer.txns(), taking=True)

    def evolve(self, writer: Writer, wanted: TableSpec) -> bool:
        """Add the columns `wanted` has and the table lacks, at the end, durably. False when there were none.

        Raises:
            UsageError: a column is stored with another type.
        """
        name = uuid.uuid4().hex

        def write(_: int) -> bool:
            return self._opened().add_columns(self.spec.additions(wanted), writer.txns(), name)

        with self._lock:
            self.refresh()
            if not self.spec.additions(wanted):
                return False
            self._commit(writer, None, write, name, writer.txns())
            self._spec = None
            return True

    def checkpoint(self) -> int:
        """Write a durable checkpoint of the last version; that version."""
        with self._lock:
            self.refresh()
            version = write_checkpoint(self.storage, self.name, self._opened())
            self._commits_since_checkpoint = 0
            return version

    # -- the commit ---------------------------------------------------------------------------------------------------

    def _commit(
        self,
        writer: Writer,
        batch: int | None,
        write: Callable[[int], bool],
        name: str,
        positions: Mapping[str, int],
        *,
        taking: bool = False,
    ) -> Committed:
        """DESIGN "Fencing" in steps. `write` writes the entry of a version, which records `positions`, or says that a
        rival did."""
        if self._broken is not None:
            raise self._broken
        failure: PenstockError | None = None
        for attempt in range(COMMIT_ATTEMPTS_MAX):
            # 1 see who owns the table and how far it is. What is known from a moment ago does at first: what a rival
            # has written since stands where ours would, and makes it fail
            started = boot_seconds()
            before = self.version if attempt == 0 and self._is_recent() else self.refresh()
            self.check_owner(writer, taking=taking)
            self._verify_durable(before)
            if batch is not None and (self.txn(batch_txn(writer.pipeline)) or 0) >= batch:
                return Committed(self.past.version_at(writer.pipeline, batch), already=True)
            # 2 write the entry behind exactly this version
            try:
                rival = not write(before + 1)
            except (StorageError, LakeCorrupt) as error:
                rival, failure = True, error
            # 3 a rival, or an outcome that is not known: look what is there
            if rival and not self._is_mine(before + 1, name):
                if failure is not None:
                    self._check_in_log(before + 1)
                    raise failure
                continue
            # 4 durable before anything is built on it
            self._check_in_log(before + 1)
            self._make_durable(before + 1)
            self._opened().advance(before + 1)
            self._durable = before + 1
            self._refreshed = started
            if self._positions is not None:
                self._positions.note(before + 1, positions)
            self._commits_since_checkpoint += 1
            if self._commits_since_checkpoint >= COMMITS_PER_CHECKPOINT:
                write_checkpoint(self.storage, self.name, self._opened())
                self._commits_since_checkpoint = 0
            return Committed(before + 1)
        raise TransientError(
            f"{self.name}: {COMMIT_ATTEMPTS_MAX} attempts to commit lost to other commits",
            hint="Something else writes into this table; find and stop it.",
        )

    def _is_recent(self) -> bool:
        """Whether the table's last version was known so short a time ago that no entry can have come and left the log
        since."""
        return boot_seconds() - self._refreshed < REFRESH_TRUST_SECONDS

    def check_owner(self, writer: Writer, *, taking: bool = False) -> None:
        """Raise `Fenced` unless `writer` owns the table, at `version`; `taking`: or a writer of a lower epoch does."""
        txns = self.txns()
        epoch, nonce = txns.get(writer_txn(writer.pipeline), 0), txns.get(nonce_txn(writer.pipeline), 0)
        if (epoch, nonce) == (writer.epoch, writer.nonce) or (taking and epoch < writer.epoch):
            return
        raise Fenced(
            f"{self.name} was taken over by writer {epoch} of pipeline {writer.pipeline}; this one is {writer.epoch}",
            hint="Another `penstock run` of this pipeline started meanwhile. Only one may run.",
        )

    def _verify_durable(self, version: int) -> None:
        """Make durable what others committed and what this process found: nothing is built on less."""
        if self._durable >= version:
            return
        tail = read_tail(self.storage, self.name, after=self._durable)
        if tail.torn is not None:
            raise LakeCorrupt(
                f"{self.name}: log entry {tail.torn.version} is {tail.torn.problem}",
                hint="`penstock run` repairs what a power loss left; else restore the table from a backup.",
            )
        tail.make_durable(self.storage)
        self._durable = version

    def _is_mine(self, version: int, name: str) -> bool:
        """Whether the entry of `version` is the one that was to be called `name`."""
        entry = log.read_entry(self.storage, self.name, version)
        return bool(name) and entry is not None and entry.commit == name and not entry.problem

    def _check_in_log(self, version: int) -> None:
        """An entry that is written below a checkpoint is no part of the table: while this process slept, another writer
        went on, and the entries that were there have left the log."""
        try:
            checkpoint = log.read_hint(self.storage, self.name).version
        except FileNotFoundError:
            return
        if checkpoint > version:
            raise Fenced(
                f"{self.name} is at version {checkpoint} or later; this writer slept at version {version - 1}",
                hint="Another `penstock run` of this pipeline started meanwhile. Only one may run.",
            )

    def _make_durable(self, version: int) -> None:
        try:
            self.storage.sync(log.entry_path(self.name, version))
            self.storage.sync_folder(log.log_folder(self.name))
        except PenstockError as error:
            # After a failed fsync the system may forget the bytes and report success the next time.
            self._broken = error
            raise

    def _write_entry(
        self,
        version: int,
        name: str,
        txns: Mapping[str, int],
        adds: Sequence[Mapping[str, Any]] = (),
        removes: Sequence[Mapping[str, Any]] = (),
    ) -> bool:
        return log.write_entry(
            self.storage,
            self.name,
            version,
            adds=adds,
            removes=removes,
            txns=txns,
            partition_by=self.spec.partition_columns,
            commit=name,
        )

    def _add_actions(self, files: Sequence[DataFile], data_change: bool) -> list[Mapping[str, Any]]:
        schema = self.schema
        actions: list[Mapping[str, Any]] = []
        for file in files:
            if not self.storage.holds(f"{self.name}/{file.path}", file.size):
                raise InvariantBroken(
                    f"{self.name}: {file.path} is to be committed, but is not there with its {file.size} bytes"
                )
            stats = delta_statistics(file, schema)
            values = self._partition_values(file)
            actions.append(log.add_action(file.path, file.size, values, file.modified, stats, data_change=data_change))
        return actions

    def _young(self, file: DataFile) -> DataFile:
        """The file, or one with its rows where it was written long ago."""
        if file.modified / 1000 >= time.time() - COMMIT_FILE_SECONDS_MAX:
            return file
        if self.storage.size(f"{self.name}/{file.path}") is None:
            raise TransientError(
                f"{self.name}: {file.path} was deleted before it was committed; this process must have slept for days",
                hint="Run again: what it held is derived again.",
            )
        rows = self.read(columns=self.spec.file_schema.names, files=[file])
        return write_sorted(self.storage, self.name, self.spec, file.partition, rows)

    def _check_live(self, removed: Sequence[DataFile]) -> None:
        live = self._live() if removed else {}
        gone = [file.path for file in removed if file.path not in live]
        if gone:
            raise TransientError(
                f"{self.name}: {gone[0]} is to be replaced, but is not live any more",
                hint="The table's files changed meanwhile: read them again and repeat.",
            )

    def _check_expected(self, expected: Mapping[str, int]) -> None:
        for name, wanted in expected.items():
            found = self.txn(name) or 0
            if found != wanted:
                raise TransientError(
                    f"{self.name}: {name} is at {found} and no longer at {wanted}",
                    hint="Another pipeline wrote into the table meanwhile: read it again and repeat.",
                )

    # -- small things -------------------------------------------------------------------------------------------------

    def _opened(self) -> Handle:
        if self._handle is None:
            now = boot_seconds()
            self._handle = Handle.open(self.storage, self.name)
            self._refreshed = now
        return self._handle

    def _partition_column(self) -> str | None:
        return next(iter(self.spec.partition_columns), None)

    def _partition_values(self, file: DataFile) -> dict[str, str | None]:
        column = self._partition_column()
        return {} if column is None else {column: file.partition}

    def _live(self) -> dict[str, DataFile]:
        """The live files by path, at the handle's version."""
        handle = self._opened()
        if self._files is None or self._files[0] != handle.version:
            found = data_files(handle.adds(), self._partition_column())
            self._files = (handle.version, {file.path: file for file in found})
        return self._files[1]

    def _note_files(self, version: int, added: Sequence[DataFile], removed: Sequence[DataFile]) -> None:
        """Carry the list of live files over to our own commit, instead of asking delta-rs for all of them again."""
        if self._files is None or self._files[0] != version - 1 or self._opened().version != version:
            return
        gone = {file.path for file in removed}
        live = {path: file for path, file in self._files[1].items() if path not in gone}
        live.update((file.path, file) for file in added)
        self._files = (version, live)
