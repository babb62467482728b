"""Watches what SQLite writes and syncs, for `powerloss.py`.

SQLite does its own I/O, through a table of functions per open file. `watch_sqlite` puts its own in place of those that
write, cut and sync; each does what the one before did and then tells the storage. So a sync counts when SQLite asked
the system for it, and not because its documentation says so.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.testing.powerloss import PowerLossStorage

_METHODS = (
    *("close", "read", "write", "truncate", "sync", "file_size", "lock", "unlock", "check_reserved_lock"),
    *("file_control", "sector_size", "device_characteristics", "shm_map", "shm_lock", "shm_barrier", "shm_unmap"),
    *("fetch", "unfetch"),
)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_OPEN_JOURNAL, _OPEN_WAL = 0x0800, 0x0008_0000


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = [("version", ctypes.c_int), *((name, ctypes.c_void_p) for name in _METHODS)]


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`, up to the function that opens files."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("path_bytes_max", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("app_data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
    ]


class _File(ctypes.Structure):
    """`sqlite3_file`."""

    _fields_ = [("methods", ctypes.POINTER(_Methods))]


_kept: list[Any] = []
"""Functions that an open file may still call: never freed."""


def can_watch() -> bool:
    """Whether the SQLite of this Python can be reached; one that is linked into it cannot."""
    return _library() is not None


@contextmanager
def watch_sqlite(storage: PowerLossStorage) -> Iterator[None]:
    """Tell `storage` of every write, cut and sync of SQLite files that are opened meanwhile, of any connection."""
    library = _library()
    assert library is not None
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    vfs = library.sqlite3_vfs_find(None).contents
    plain_address = vfs.open
    plain_open = _OPEN(plain_address)

    def opened(this: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        # `name` goes on as the address it came as: SQLite keeps it, and looks for more behind its end.
        code = int(plain_open(this, name, file, flags, out))
        if code == 0 and name is not None:
            path = os.path.relpath(os.fsdecode(ctypes.string_at(name)), storage.root)
            if not path.startswith(".."):
                storage.look(f"SQLite opened {path}")
                _watch(_File.from_address(file), storage, path, syncs_folder=bool(flags & (_OPEN_JOURNAL | _OPEN_WAL)))
        return code

    callback = _OPEN(opened)
    _kept.append(callback)
    vfs.open = ctypes.cast(callback, ctypes.c_void_p).value
    try:
        yield
    finally:
        vfs.open = plain_address


def _watch(file: _File, storage: PowerLossStorage, path: str, *, syncs_folder: bool) -> None:
    """Give an open file functions that tell. With the first sync of a new log SQLite syncs its folder as well."""
    plain = file.methods.contents
    write, truncate, sync = _WRITE(plain.write), _TRUNCATE(plain.truncate), _SYNC(plain.sync)
    folder_is_due = syncs_folder

    def written(this: int, data: int, count: int, offset: int) -> int:
        code = int(write(this, data, count, offset))
        storage.look(f"SQLite wrote {count} bytes at {offset} of {path}")
        return code

    def truncated(this: int, size: int) -> int:
        code = int(truncate(this, size))
        storage.look(f"SQLite cut {path} to {size} bytes")
        return code

    def synced(this: int, flags: int) -> int:
        nonlocal folder_is_due
        code = int(sync(this, flags))
        if code == 0:
            storage.look(f"what came before SQLite synced {path}")
            storage.synced(path)
            if folder_is_due:
                storage.synced_folder(os.path.dirname(path))
                folder_is_due = False
        return code

    callbacks = (_WRITE(written), _TRUNCATE(truncated), _SYNC(synced))
    told = _Methods.from_buffer_copy(plain)
    told.write, told.truncate, told.sync = (ctypes.cast(callback, ctypes.c_void_p).value for callback in callbacks)
    _kept.append((told, callbacks, write, truncate, sync))
    file.methods = ctypes.pointer(told)


def _library() -> ctypes.CDLL | None:
    """The shared library that the module `sqlite3` uses, as it is loaded already."""
    try:
        with open("/proc/self/maps") as maps:
            loaded = sorted({line.split(None, 5)[5].strip() for line in maps if "libsqlite3" in line})
    except OSError:
        return None
    assert sqlite3.sqlite_version
    return ctypes.CDLL(loaded[0]) if loaded else None
