"""Files of the lake, as durable as the disk allows: the one seam between the lake and where it is kept.

Paths are relative to the lake's root, with slashes. `LocalStorage` is a folder on this machine, `objectstore.py` an
object store; `opening.py` chooses. Nothing else writes, syncs, renames or deletes a file of the lake, except delta-rs,
which writes log entries and checkpoints; those are synced here afterwards.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from penstock.errors import Fenced, StorageError, UsageError
from penstock.lake.storeerrors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

LOCK_FOLDER = "_penstock/locks"
TEMPORARY_MARK = ".tmp-"
"""Part of the name of a file that is still being written; such a file is garbage once its writer is gone."""


@dataclass(frozen=True)
class StoredFile:
    """A file below a folder: its path from the lake's root, size in bytes, time of change in ms since the epoch."""

    path: str
    size: int
    modified: int


class Storage(Protocol):
    """Where a lake is kept.

    Every method raises `StorageError` when the disk is full, read-only or denies access, or the store does not answer.
    "Durable" means: survives power loss from the moment the call returns. What a failed call left behind is never under
    the final name. On an object store a file is durable, name and all, once it is put: `sync` and its like do nothing.
    """

    @property
    def state_folder(self) -> Path:
        """A folder on this machine for what cannot be kept elsewhere."""

    def uri(self, path: str = "") -> str:
        """How delta-rs and DuckDB name `path`."""

    @property
    def options(self) -> Mapping[str, str]:
        """What `opening.open_storage` takes beside `uri()` to open it in another process; holds secrets."""

    @property
    def delta_options(self) -> dict[str, str] | None:
        """What delta-rs needs to reach a `uri`."""

    @property
    def filesystem(self) -> Any | None:
        """What DuckDB needs to read a `uri`, to be registered with each connection; None where it needs nothing."""

    def names(self, folder: str, after: str = "") -> list[str]:
        """The names of files and folders directly in `folder`, sorted; empty when there is no such folder.

        With `after` only those that sort behind it: on an object store as many requests as it takes to list these. The
        folder holds no folders then.
        """

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Every file below `folder`, at any depth, in no order."""

    def size(self, path: str) -> int | None:
        """Bytes in the file; None when there is no such file."""

    def holds(self, path: str, size: int) -> bool:
        """Whether the file, of so many bytes, is there. What this process was told is stored need not be looked at."""

    def read(self, path: str) -> bytes:
        """All bytes. Raises FileNotFoundError when there is no such file."""

    def open(self, path: str) -> pa.NativeFile:
        """The file, to read any part of it. Raises FileNotFoundError when there is no such file."""

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place, replacing any other, durably and atomically."""

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place, atomically, unless there is one; whether it was put. Its bytes are durable then,
        its name only after `sync_folder`. Raises StorageError where it is not known whether it was."""

    def draft(self, path: str, /, named: Callable[[pa.NativeFile], str]) -> AbstractContextManager[pa.NativeFile]:
        """A context: a file to write once. At its end the file gets the path that `named` finds in its bytes, in the
        folder of `path`, where it may lie meanwhile. Its bytes are durable then, its name only after `sync_folder`."""

    def sync(self, path: str) -> None:
        """Make the bytes of a file written by someone else durable (not its name)."""

    def sync_folder(self, folder: str) -> None:
        """Make the names in `folder` durable."""

    def make_folder(self, folder: str) -> None:
        """Create `folder` and what is missing above it, durably."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in the same folder; durable only after `sync_folder`."""

    def move(self, source: str, target: str) -> None:
        """Give a file another name, anywhere, durably. An existing target is replaced."""

    def delete(self, *paths: str) -> None:
        """Delete files, as far as they are there. Not durable: a deleted file may be back after power loss. On a disk
        the first goes first; a store deletes several at once, and a crash may leave any of them."""

    def discard(self, path: str) -> None:
        """Delete a file that nobody needs, if that is possible; never raises."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """A context that only one process at a time is in. Raises `Fenced` naming the one that is."""


def error_number(error: BaseException) -> int | None:
    """The system's number of an error of its own, of pyarrow or of delta-rs, which have it in their text."""
    code: int | None = getattr(error, "errno", None)
    if code is None:
        match = re.search(r"os error (\d+)|\[errno (\d+)\]", str(error), re.IGNORECASE)
        code = int(match[1] or match[2]) if match else None
    return code


def storage_error(error: BaseException, path: str) -> StorageError:
    """What `error` (of the system, pyarrow or delta-rs) means for the person who keeps the lake at `path`."""
    if "://" in path:
        return store_error(error, path)
    code = error_number(error)
    reason = os.strerror(code) if code is not None else str(error).splitlines()[0] if str(error) else repr(error)
    hint = _HINTS.get(code or 0, "Look at the disk and the system's log, then run the command again.")
    return StorageError(f"{path}: {reason}", hint=hint)


_HINTS = {
    errno.ENOSPC: "The disk is full: free space and run again. Nothing that was committed is lost.",
    errno.EDQUOT: "The disk quota is used up: free space and run again. Nothing that was committed is lost.",
    errno.EROFS: "The file system is read-only: remount it for writing, or choose another lake folder.",
    errno.EACCES: "Permission denied: give the user who runs Penstock write access to the lake folder.",
    errno.EPERM: "Permission denied: give the user who runs Penstock write access to the lake folder.",
    errno.ENOTDIR: "A file is where a folder should be: move it away, or choose another lake folder.",
    errno.EEXIST: "A file is where a folder should be: move it away, or choose another lake folder.",
    errno.EISDIR: "A folder is where a file should be: move it away, or choose another lake folder.",
    errno.EMFILE: "Too many open files: raise the limit (ulimit -n) and run again.",
    errno.EIO: "The disk reports an error: check it before you write to it again.",
    errno.ENOENT: "The lake folder is gone: is the disk mounted?",
}


class LocalStorage:
    """A lake in a folder of this machine. Thread-safe."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        refused = re.search(r"%[0-9A-Fa-f]{2}|\\", str(self.root))
        if refused:  # delta-rs would decode it, and write into another folder
            raise UsageError(
                f"the lake folder {str(self.root)!r} has {refused[0]!r} in its path, which delta-rs misreads",
                hint="Choose a path without backslashes and without a % before two hex digits.",
            )
        self._durable_folders: set[str] = set()
        self._folders_lock = threading.RLock()

    def local_path(self, path: str) -> str:
        """The path in the file system."""
        return os.path.join(self.root, path) if path else str(self.root)

    @property
    def state_folder(self) -> Path:
        return self.root

    def uri(self, path: str = "") -> str:
        return self.local_path(path)

    @property
    def options(self) -> Mapping[str, str]:
        return {}

    @property
    def delta_options(self) -> dict[str, str] | None:
        return None

    @property
    def filesystem(self) -> Any | None:
        return None

    # -- looking ------------------------------------------------------------------------------------------------------

    def names(self, folder: str, after: str = "") -> list[str]:
        with self._translated(folder):
            try:
                return sorted(name for name in os.listdir(self.local_path(folder)) if name > after)
            except FileNotFoundError:
                return []

    def files(self, folder: str) -> Iterator[StoredFile]:
        with self._translated(folder):
            pending = [folder]
            while pending:
                current = pending.pop()
                try:
                    entries = os.scandir(self.local_path(current))
                except FileNotFoundError:
                    continue
                with entries:
                    for entry in entries:
                        path = f"{current}/{entry.name}" if current else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(path)
                            continue
                        try:
                            status = entry.stat()
                        except FileNotFoundError:
                            continue
                        yield StoredFile(path, status.st_size, status.st_mtime_ns // 1_000_000)

    def size(self, path: str) -> int | None:
        with self._translated(path):
            try:
                return os.stat(self.local_path(path)).st_size
            except FileNotFoundError:
                return None

    def holds(self, path: str, size: int) -> bool:
        return self.size(path) == size

    def read(self, path: str) -> bytes:
        with self._translated(path, missing_is_caller_business=True):
            return Path(self.local_path(path)).read_bytes()

    def open(self, path: str) -> pa.NativeFile:
        with self._translated(path, missing_is_caller_business=True):
            return pa.OSFile(self.local_path(path), "rb")

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes) -> None:
        folder = os.path.dirname(path)
        self.make_folder(folder)
        temporary = _temporary(path)
        try:
            with self.sink(temporary) as sink:
                sink.write(data)
            self.rename(temporary, path)
        except BaseException:
            self.discard(temporary)
            raise
        self.sync_folder(folder)

    def create(self, path: str, data: bytes) -> bool:
        temporary = _temporary(path)
        try:
            with self.sink(temporary) as sink:
                sink.write(data)
            with self._translated(path):
                self._before("link", path)
                try:
                    os.link(self.local_path(temporary), self.local_path(path))
                except FileExistsError:
                    return False
        finally:
            self.discard(temporary)
        return True

    @contextmanager
    def draft(self, path: str, /, named: Callable[[pa.NativeFile], str]) -> Iterator[pa.NativeFile]:
        with self.sink(path) as sink:
            yield sink
        try:
            with self.open(path) as written:
                final = named(written)
            self.rename(path, final)
        except BaseException:
            self.discard(path)
            raise

    @contextmanager
    def sink(self, path: str) -> Iterator[pa.NativeFile]:
        """A file to write once, its bytes durable at the end (its name only after `sync_folder`)."""
        try:
            with self._translated(path):
                self._before("create", path)
                with pa.OSFile(self.local_path(path), "wb") as sink:
                    yield sink
            self.sync(path)
        except BaseException:
            self.discard(path)
            raise

    def sync(self, path: str) -> None:
        self._sync(path, os.O_RDONLY, "sync")

    def sync_folder(self, folder: str) -> None:
        self._sync(folder, os.O_RDONLY | os.O_DIRECTORY, "sync_folder")

    def make_folder(self, folder: str) -> None:
        full = self.local_path(folder)
        if full in self._durable_folders and os.path.isdir(full):
            return
        # Not on the strength of mere existence: who created the folder (a crashed run, another thread) may not have
        # made its name durable yet. The root may be missing too, with folders above it.
        with self._translated(folder), self._folders_lock:
            path, unsure = Path(full), []
            while not (path.is_dir() and (path == self.root.parent or self.root not in (path, *path.parents))):
                unsure.append(path)
                path = path.parent
            for path in reversed(unsure):
                self._before("make_folder", self._relative(path))
                path.mkdir(exist_ok=True)
                self.sync_folder(self._relative(path.parent))
                self._durable_folders.add(str(path))

    def rename(self, source: str, target: str) -> None:
        with self._translated(source):
            self._before("rename", target)
            os.replace(self.local_path(source), self.local_path(target))

    def move(self, source: str, target: str) -> None:
        folder = os.path.dirname(target)
        self.make_folder(folder)
        self.rename(source, target)
        self.sync_folder(folder)
        self.sync_folder(os.path.dirname(source))

    def delete(self, *paths: str) -> None:
        for path in paths:
            with self._translated(path):
                self._before("delete", path)
                with suppress(FileNotFoundError):
                    os.unlink(self.local_path(path))

    def discard(self, path: str) -> None:
        with suppress(OSError):
            os.unlink(self.local_path(path))

    # -- one process at a time ----------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        self.make_folder(LOCK_FOLDER)
        with held_lock(self.local_path(f"{LOCK_FOLDER}/{name}.lock"), name):
            yield

    # -- parts --------------------------------------------------------------------------------------------------------

    def _before(self, operation: str, path: str) -> None:
        """Called before each change; a test's storage records it or fails it."""

    def _sync(self, path: str, flags: int, operation: str) -> None:
        with self._translated(path):
            self._before(operation, path)
            descriptor = os.open(self.local_path(path), flags)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _relative(self, path: Path) -> str:
        """The path from the root; an absolute one where it is above the root."""
        if path == self.root:
            return ""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    @contextmanager
    def _translated(self, path: str, *, missing_is_caller_business: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if missing_is_caller_business:
                raise
            raise storage_error(error, self.local_path(path)) from error
        except OSError as error:
            raise storage_error(error, self.local_path(path)) from error


@contextmanager
def held_lock(path: str, name: str) -> Iterator[None]:
    """A context that only one process of this machine at a time is in, by a lock on the file at `path`.

    Raises:
        Fenced: another process is; the error says who.
        StorageError: the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": int(time.time()),
                "command": " ".join(sys.argv),
            }
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except BlockingIOError:
            raise _held(name, descriptor) from None
        except OSError as error:
            raise storage_error(error, path) from error
        yield
    finally:
        os.close(descriptor)


def _temporary(path: str) -> str:
    """Another name in the same folder, for while the file is being written."""
    folder, name = os.path.split(path)
    return f"{folder}/.{name}{TEMPORARY_MARK}{secrets.token_hex(4)}"


def _held(name: str, descriptor: int) -> Fenced:
    """The error for a lock that another process holds, as far as that one has said who it is."""
    try:
        holder = json.loads(os.pread(descriptor, 1 << 16, 0))
        seconds = max(0, int(time.time()) - int(holder["started"]))
        who = f"process {holder['pid']} on {holder['host']} ({holder['command']}), running for {_duration(seconds)}"
        hint = f"Stop it first: kill {holder['pid']}"
    except (ValueError, KeyError, TypeError):
        who, hint = "another process", "Stop it first."
    return Fenced(f"pipeline {name} is being written by {who}", hint=hint)


def _duration(seconds: int) -> str:
    """Seconds as a person says them, e.g. `3 h 5 min`."""
    for size, unit, smaller, smaller_unit in ((86400, "days", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {smaller_unit}"
    return f"{seconds} s"


def sync_all(storage: Storage, paths: Iterable[str]) -> None:
    """Make the bytes of `paths` durable, and their names."""
    folders = set()
    for path in paths:
        storage.sync(path)
        folders.add(os.path.dirname(path))
    for folder in sorted(folders):
        storage.sync_folder(folder)
