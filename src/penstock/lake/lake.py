"""The lake: tables by name, over one storage. Start here; then `table.py`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from penstock.lake import log
from penstock.lake.handle import Handle
from penstock.lake.layout import Kind, split_name, table_name
from penstock.lake.storage import sync_all
from penstock.lake.table import Table

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from penstock.lake.layout import TableSpec
    from penstock.lake.storage import Storage


class Lake:
    """A lake's tables. One process keeps one `Lake`, and gets the same `Table` for the same name. Thread-safe."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._tables: dict[str, Table] = {}
        self._lock = threading.RLock()

    @property
    def state_folder(self) -> Path:
        """A folder on this machine for what is no table: the push logs."""
        return self.storage.state_folder

    def table(self, name: str) -> Table | None:
        """The table, opened at its first use; None when the lake has none of that name.

        Raises:
            UsageError: no table can be called like that.
        """
        split_name(name)
        with self._lock:
            known = self._tables.get(name)
            if known is not None:
                return known
            if not log.has_log(self.storage, name):
                return None
            return self._tables.setdefault(name, Table(self.storage, name))

    def tables(self) -> list[str]:
        """The names of all tables, sorted; e.g. `bronze/ticks`."""
        found = []
        for kind in Kind:
            for short in self.storage.names(kind.value):
                name = table_name(kind, short)
                if log.has_log(self.storage, name):
                    found.append(name)
        return sorted(found)

    def create(self, spec: TableSpec) -> Table:
        """The table, created durably if it is not there. An existing one is left as it is (see `Table.evolve`)."""
        with self._lock:
            folder = log.log_folder(spec.name)
            if not log.has_log(self.storage, spec.name):
                self.storage.make_folder(folder)
                Handle.create(self.storage, spec)
                sync_all(self.storage, [log.entry_path(spec.name, 0)])
                self._tables.pop(spec.name, None)
            return self._tables.setdefault(spec.name, Table(self.storage, spec.name))

    def forget(self, name: str, *, durable: int) -> None:
        """Open the table anew at its next use: recovery changed its log. Versions up to `durable` are durable."""
        with self._lock:
            if durable < 0:
                self._tables.pop(name, None)
            else:
                self._tables.setdefault(name, Table(self.storage, name)).reopen(durable)

    def lock(self, pipeline: str) -> AbstractContextManager[None]:
        """A context in which this process alone writes the pipeline.

        Raises:
            Fenced: another process does; the error names it and says how long it has been running.
        """
        return self.storage.lock(pipeline)
