"""The door to delta-rs for one table: open, refresh, add columns, checkpoint; its errors become ours.

A handle knows one version of the table. Of our own commits it is told (`advance`); delta-rs reads them when it is asked
for more than the version. Who may commit what, and what is durable when, is decided in `table.py`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from penstock.errors import LakeCorrupt, PenstockError, StorageError, UsageError
from penstock.lake import log
from penstock.lake.storage import storage_error
from penstock.lake.storeerrors import is_store_error, may_pass
from penstock.limits import OPEN_TRIES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.lake.layout import TableSpec
    from penstock.lake.storage import Storage

CONFIGURATION = {
    # Nobody but us cleans up or checkpoints: not delta-rs, not another engine that is asked to write.
    "delta.checkpointInterval": "1000000000",
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    # Every checkpoint names all files that were removed within this time, and each batch removes one or two: a commit's
    # cost would grow with it. Which files are still needed, our vacuum knows from the log and the history.
    "delta.deletedFileRetentionDuration": "interval 1 hours",
}
_UNSUPPORTED = "Unsupported: "
"""What delta-rs says of a table that asks for more than it can: a higher protocol, an unknown feature."""
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class Handle:
    """One opened table. Not thread-safe."""

    def __init__(self, delta: DeltaTable, storage: Storage, name: str) -> None:
        self._delta = delta
        self._storage = storage
        self._uri = storage.uri(name)
        self._name = name
        self._schema = delta.schema()
        self._version = int(delta.version())

    @classmethod
    def open(cls, storage: Storage, name: str, version: int | None = None) -> Handle:
        """Open the table at its last version, or at `version`.

        Raises:
            UsageError: there is no such table or version.
            LakeCorrupt: its log cannot be read.
        """
        try:
            with _translated(name, storage.uri(name)):
                return cls(_delta(storage, name, version), storage, name)
        except TableNotFoundError:
            raise UsageError(f"the lake has no table {name}", hint="`penstock tables` lists them.") from None

    @classmethod
    def create(cls, storage: Storage, spec: TableSpec) -> Handle:
        """Create the table's first log entry (not durable yet), or open it where it exists."""
        uri = storage.uri(spec.name)
        try:
            with _translated(spec.name, uri):
                delta = DeltaTable.create(
                    uri,
                    spec.schema,
                    mode="ignore",
                    partition_by=list(spec.partition_columns),
                    name=spec.name,
                    configuration={**CONFIGURATION, **spec.properties()},
                    storage_options=storage.delta_options,
                    raise_if_key_not_exists=False,
                    post_commithook_properties=_NO_HOOKS,
                )
                return cls(delta, storage, spec.name)
        except _Rival:  # another process was quicker; or a first attempt of our own, whose answer was lost
            return cls.open(storage, spec.name)

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self._version

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, as plain Arrow types."""
        return pa.schema(self._schema)

    @property
    def configuration(self) -> Mapping[str, str]:
        return dict(self._delta.metadata().configuration)

    def refresh(self) -> bool:
        """Advance to the table's last version; whether the columns changed on the way."""
        before = self._version
        with _translated(self._name, self._uri):
            self._delta.update_incremental()
            self._version = int(self._delta.version())
            if self._version == before:
                return False
            schema = self._delta.schema()
            changed = bool(schema != self._schema)
            self._schema = schema
            return changed

    def advance(self, version: int) -> None:
        """Know that the table is at `version`, by commits that changed no columns."""
        self._version = version

    def adds(self) -> pa.RecordBatch | pa.Table:
        """The live files: path, size_bytes, modification_time, num_records, null_count, min, max, partition."""
        with _translated(self._name, self._uri):
            return pa.table(self._current().get_add_actions())

    def _current(self) -> DeltaTable:
        """delta-rs's table at this handle's version: not at a later one, which nobody has looked at yet."""
        if int(self._delta.version()) != self._version:
            self._delta = _delta(self._storage, self._name, self._version)
        return self._delta

    # -- changing -----------------------------------------------------------------------------------------------------

    def add_columns(self, fields: Sequence[pa.Field], txns: Mapping[str, int], commit: str) -> bool:
        """Write an entry that adds columns at the end; it is not durable yet. False: that version exists already.

        Raises:
            PenstockError: it is not known whether the entry was written.
        """
        try:
            with _translated(self._name, self._uri):
                self._current().alter.add_columns(
                    [Field.from_arrow(field.with_nullable(True)) for field in fields],
                    commit_properties=_properties(txns, {log.SEAL: log.seal((), (), txns), log.COMMIT: commit}),
                    post_commithook_properties=_NO_HOOKS,
                )
                self._version = int(self._delta.version())  # `alter` advances delta-rs's table by itself
                self._schema = self._delta.schema()
        except _Rival:
            return False
        return True

    def checkpoint(self) -> None:
        """Write a checkpoint of this handle's version, which is not durable yet."""
        with _translated(self._name, self._uri):
            self._current().create_checkpoint()


def _delta(storage: Storage, name: str, version: int | None) -> DeltaTable:
    """delta-rs's table. It repeats a request that was not answered, but not one whose answer broke off."""
    attempt = 1
    while True:
        try:
            return DeltaTable(storage.uri(name), version=version, storage_options=storage.delta_options)
        except OSError as error:
            if attempt == OPEN_TRIES_MAX or not (is_store_error(error) and may_pass(error)):
                raise
        attempt += 1


class _Rival(Exception):
    """Somebody else committed the version this handle wanted."""


def _properties(txns: Mapping[str, int], metadata: Mapping[str, str]) -> CommitProperties:
    now = time.time_ns() // 1_000_000  # without last_updated, a clean-up would drop the txn
    return CommitProperties(
        custom_metadata=dict(metadata),
        app_transactions=[Transaction(name, version, now) for name, version in txns.items()],
        max_commit_retries=0,
    )


@contextmanager
def _translated(name: str, where: str) -> Iterator[None]:
    """delta-rs's errors as ours. Its panics are BaseExceptions: a damaged log must not end the process with one."""
    try:
        yield
    except (PenstockError, TableNotFoundError):
        raise
    except CommitFailedError as error:
        if _is_refusal(error):
            raise storage_error(error, where) from error
        raise _Rival(str(error)) from error
    except OSError as error:
        raise storage_error(error, where) from error
    except DeltaError as error:
        if _is_refusal(error):
            raise storage_error(error, where) from error
        if _UNSUPPORTED in str(error):
            raise StorageError(
                f"{name}: {_first_line(error)}: a newer version of Penstock or another engine wrote the table",
                hint="Use that version, or restore a backup from before it.",
            ) from error
        raise _corrupt(name, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _corrupt(name, error) from error


def _is_refusal(error: BaseException) -> bool:
    """Whether the disk or the store refused, and not the table."""
    return "os error" in str(error) or is_store_error(error)


def _corrupt(name: str, error: BaseException) -> LakeCorrupt:
    return LakeCorrupt(
        f"{name}: the table's log cannot be read: {_first_line(error)}",
        hint="`penstock run` repairs what a power loss left; else restore the table's _delta_log from a backup.",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
