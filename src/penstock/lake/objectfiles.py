"""The objects of a lake as a file system for DuckDB, which asks fsspec's interface for the parts of files it needs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from penstock.lake.ranged import RangedObject
from penstock.limits import OBJECT_ENDS_KEPT

if TYPE_CHECKING:
    from penstock.lake.objectstore import ObjectStorage


_NEVER = datetime(2000, 1, 1, tzinfo=UTC)


class ObjectFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Read-only, and for the lake's files only. Thread-safe; the files are not."""

    cachable = False

    def __init__(self, storage: ObjectStorage) -> None:
        super().__init__()
        self._storage = storage
        self.protocol, self._root = storage.root.split("://", 1)
        self._ends: OrderedDict[str, RangedObject] = OrderedDict()
        self._lock = threading.Lock()

    def _open(self, path: str, mode: str = "rb", **_: Any) -> RangedObject:
        if mode != "rb":
            raise PermissionError(f"{path} can only be read")
        known = self._end(path)
        return RangedObject(known.size, known.tail, known.fetch)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._end(path).size, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        try:
            self._end(path)
        except FileNotFoundError:
            return False
        return True

    def modified(self, _: str) -> datetime:
        """Always the same, for DuckDB's cache of footers: the lake's files never change."""
        return _NEVER

    def _end(self, path: str) -> RangedObject:
        """The object, opened once for several readers."""
        path = path.removeprefix(f"{self.protocol}://").removeprefix(self._root + "/")
        with self._lock:
            if path in self._ends:
                self._ends.move_to_end(path)
                return self._ends[path]
        opened = self._storage.ranged(path)
        with self._lock:
            self._ends[path] = opened
            while len(self._ends) > OBJECT_ENDS_KEPT:
                self._ends.popitem(last=False)
        return opened
