"""A lake in an object store: S3 and what speaks its protocol; GCS and Azure by the same way. See `storage.Storage`.

obstore is used for every request, without retries of its own: a request that is repeated out of sight may answer
"exists" for what it has itself just stored. What may be repeated is repeated here, and `create` looks what is there
before it answers. Files that a table refers to have names no other file gets, and are never changed.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError
from obstore.store import from_url

from penstock.errors import StorageError, UsageError
from penstock.lake.objectfiles import ObjectFiles
from penstock.lake.ranged import RangedObject
from penstock.lake.storage import StoredFile, held_lock, storage_error
from penstock.lake.storeerrors import VARIABLES, may_pass, status, store_code, store_error
from penstock.limits import (
    OBJECT_CONNECT_SECONDS_MAX,
    OBJECT_DELETES_MAX,
    OBJECT_ENTRIES_BYTES_MAX,
    OBJECT_PART_BYTES,
    OBJECT_PARTS_AT_ONCE,
    OBJECT_REQUEST_SECONDS_MAX,
    OBJECT_RETRY_SECONDS,
    OBJECT_RETRY_SECONDS_MAX,
    OBJECT_SIZES_KEPT,
    OBJECT_TAIL_BYTES,
    OBJECT_TRIES_MAX,
)
from penstock.scratch import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_T = TypeVar("_T")

PROBE_FOLDER = "_penstock"
_AZURE_EXISTS = "BlobAlreadyExists"
_ENTRY = re.compile(r"/_delta_log/\d{20}\.json$")


class ObjectStorage:
    """A lake below a URI such as `s3://bucket/prefix`. Thread-safe.

    Args:
        options: what delta-rs calls storage options (`AWS_REGION` ...), of the environment and of the settings.
        state_folder: for locks and push logs; made when it is needed.
    """

    def __init__(self, root: str, options: Mapping[str, str], state_folder: Path) -> None:
        self.root = root.rstrip("/")
        self._options = dict(options)
        self._state_folder = state_folder
        self._store = _open_store(self.root, options)
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._entries_bytes = 0
        self._lock = threading.Lock()
        self._probed = False

    @property
    def state_folder(self) -> Path:
        self._state_folder.mkdir(parents=True, exist_ok=True)
        return self._state_folder

    def uri(self, path: str = "") -> str:
        return f"{self.root}/{path}" if path else self.root

    @property
    def options(self) -> Mapping[str, str]:
        return self._options

    @property
    def delta_options(self) -> dict[str, str] | None:
        return {
            **self._options,
            "max_retries": str(OBJECT_TRIES_MAX - 1),
            "timeout": f"{OBJECT_REQUEST_SECONDS_MAX}s",
            "connect_timeout": f"{OBJECT_CONNECT_SECONDS_MAX}s",
        }

    @property
    def filesystem(self) -> Any | None:
        return ObjectFiles(self)

    # -- looking ------------------------------------------------------------------------------------------------------

    def names(self, folder: str, after: str = "") -> list[str]:
        if after:
            found = self._tried(folder, lambda: obstore.list(self._store, folder, offset=f"{folder}/{after}").collect())
            return sorted(meta["path"].rpartition("/")[2] for meta in found)
        listed = self._tried(folder, lambda: obstore.list_with_delimiter(self._store, folder or None))
        paths = [*listed["common_prefixes"], *(meta["path"] for meta in listed["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def files(self, folder: str) -> Iterator[StoredFile]:
        def listed() -> list[StoredFile]:
            return [
                StoredFile(meta["path"], meta["size"], int(meta["last_modified"].timestamp() * 1000))
                for chunk in obstore.list(self._store, folder or None, chunk_size=1000)
                for meta in chunk
            ]

        yield from self._tried(folder, listed)

    def size(self, path: str) -> int | None:
        try:
            size: int = self._tried(path, lambda: obstore.head(self._store, path))["size"]
        except FileNotFoundError:
            return None
        return size

    def holds(self, path: str, size: int) -> bool:
        with self._lock:
            known = self._sizes.get(path)
        return (self.size(path) if known is None else known) == size

    def read(self, path: str) -> bytes:
        with self._lock:
            if path in self._entries:
                return self._entries[path]
        data = bytes(self._tried(path, lambda: obstore.get(self._store, path).bytes()))
        self._keep_entry(path, data)
        return data

    def open(self, path: str) -> pa.NativeFile:
        ranged = self.ranged(path)
        if ranged.size <= OBJECT_TAIL_BYTES:
            return pa.BufferReader(pa.py_buffer(ranged.tail))
        return pa.PythonFile(ranged, "r")

    def ranged(self, path: str) -> RangedObject:
        """The object, opened by a request for its end."""

        def end() -> tuple[int, memoryview]:
            try:
                found = obstore.get(self._store, path, options={"range": {"suffix": OBJECT_TAIL_BYTES}})
                return found.meta["size"], memoryview(found.bytes())
            except NotSupportedError:  # Azure knows no range that is counted from the end
                size = obstore.head(self._store, path)["size"]
                start = max(0, size - OBJECT_TAIL_BYTES)
                tail = obstore.get_range(self._store, path, start=start, end=size) if size else b""
                return size, memoryview(tail)
            except BaseError as error:
                if status(error) != "416" and "non-partial" not in str(error):
                    raise
                found = obstore.get(self._store, path)  # an empty object has no end, and some stores know no ranges
                return found.meta["size"], memoryview(found.bytes())

        def fetch(start: int, end: int) -> memoryview:
            try:
                found = self._tried(path, lambda: obstore.get_range(self._store, path, start=start, end=end))
            except FileNotFoundError as error:
                raise store_error(error, self.uri(path)) from error
            return memoryview(found)

        size, tail = self._tried(path, end)
        return RangedObject(size, tail, fetch)

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes) -> None:
        self._put(path, memoryview(data))
        self._keep_entry(path, data)

    def create(self, path: str, data: bytes) -> bool:
        self._probe()
        return self._create(path, data)

    @contextmanager
    def draft(self, _: str, /, named: Callable[[pa.NativeFile], str]) -> Iterator[pa.NativeFile]:
        # Its name is known when it is whole, and then it is put at once: a disposable file of this machine until then.
        with ScratchFolder() as folder:
            local = str(folder / "draft")
            try:
                with pa.OSFile(local, "wb") as sink:
                    yield sink
                with pa.memory_map(local) as written:
                    final = named(written)
                    written.seek(0)
                    self._put(final, memoryview(written.read_buffer()).cast("B"))
            except OSError as error:
                raise storage_error(error, local) from error

    def sync(self, path: str) -> None:
        """What was put is durable."""

    def sync_folder(self, folder: str) -> None:
        """So is its name."""

    def make_folder(self, folder: str) -> None:
        """A store has none."""

    def rename(self, source: str, target: str) -> None:
        self._tried(source, lambda: obstore.copy(self._store, source, target))
        self.delete(source)

    def move(self, source: str, target: str) -> None:
        self.rename(source, target)

    def delete(self, *paths: str) -> None:
        with self._lock:
            for path in paths:
                self._sizes.pop(path, None)
                self._entries_bytes -= len(self._entries.pop(path, b""))
        for start in range(0, len(paths), OBJECT_DELETES_MAX):
            some = list(paths[start : start + OBJECT_DELETES_MAX])
            try:
                # Several requests at once, of which any may be the one that an error is about.
                self._tried(os.path.commonpath(some), partial(obstore.delete, self._store, some))
            except FileNotFoundError:  # not of S3: others say of one that it is gone, and may leave those behind it
                for path in some:
                    with suppress(FileNotFoundError):
                        self._tried(path, partial(obstore.delete, self._store, path))

    def discard(self, path: str) -> None:
        with suppress(StorageError):
            self.delete(path)

    # -- one process at a time ----------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One process of this machine; the fence holds back all others (`fence.py`)."""
        self._probe()
        folder = self.state_folder / "locks"
        folder.mkdir(exist_ok=True)
        with held_lock(str(folder / f"{name}.lock"), name):
            yield

    # -- parts --------------------------------------------------------------------------------------------------------

    def _put(self, path: str, data: memoryview) -> None:
        parts = len(data) > OBJECT_PART_BYTES
        try:
            self._tried(
                path,
                lambda: obstore.put(
                    self._store,
                    path,
                    data,
                    use_multipart=parts,
                    chunk_size=OBJECT_PART_BYTES,
                    max_concurrency=OBJECT_PARTS_AT_ONCE,
                ),
            )
        except FileNotFoundError as error:  # the bucket is
            raise store_error(error, self.uri(path)) from error
        self._keep_size(path, len(data))

    def _create(self, path: str, data: bytes) -> bool:
        unknown = False
        for attempt in range(1, OBJECT_TRIES_MAX + 1):
            try:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if status(error) != "409" or store_code(error) == _AZURE_EXISTS:
                    # What is there may be what an attempt of ours has stored whose answer was lost.
                    return unknown and self._holds_bytes(path, data)
                # 409: somebody else is about to store it, or delete it
                failure: Exception = error
            except (BaseError, OSError) as error:
                failure = error
                unknown = True
            else:
                self._keep_size(path, len(data))
                self._keep_entry(path, data)
                return True
            if attempt == OBJECT_TRIES_MAX or isinstance(failure, FileNotFoundError) or not may_pass(failure):
                break
            time.sleep(_pause(attempt))
        raise store_error(failure, self.uri(path)) from failure

    def _holds_bytes(self, path: str, data: bytes) -> bool:
        try:
            return self.read(path) == data
        except FileNotFoundError:
            return False

    def _keep_size(self, path: str, size: int) -> None:
        with self._lock:
            self._sizes[path] = size
            while len(self._sizes) > OBJECT_SIZES_KEPT:
                self._sizes.popitem(last=False)

    def _keep_entry(self, path: str, data: bytes) -> None:
        if not _ENTRY.search(path):
            return
        with self._lock:
            self._entries_bytes += len(data) - len(self._entries.get(path, b""))
            self._entries[path] = data
            while self._entries_bytes > OBJECT_ENTRIES_BYTES_MAX:
                self._entries_bytes -= len(self._entries.popitem(last=False)[1])

    def _probe(self) -> None:
        """See once that the store refuses to put an object that is there: all that keeps two writers apart."""
        with self._lock:
            if self._probed:
                return
            self._probed = True
        path = f"{PROBE_FOLDER}/probe-{secrets.token_hex(8)}"
        try:
            self._create(path, b"first")
            refused = not self._create(path, b"second")
        except BaseException:
            self._probed = False
            raise
        finally:
            self.discard(path)
        if not refused:
            self._probed = False
            raise StorageError(
                f"{self.root}: the store put an object over another one although it was told not to (If-None-Match)",
                hint="Two writers would overwrite each other's commits. Use a store that honours conditional puts: "
                "`docs/howto/s3.md` lists some.",
            )

    def _tried(self, path: str, work: Callable[[], _T]) -> _T:
        """What a request gives that may be repeated. Raises FileNotFoundError, or StorageError."""
        attempt = 1
        while True:
            try:
                return work()
            except FileNotFoundError:
                raise
            except (BaseError, OSError) as error:
                if attempt == OBJECT_TRIES_MAX or not may_pass(error):
                    raise store_error(error, self.uri(path)) from error
            time.sleep(_pause(attempt))
            attempt += 1


def _open_store(root: str, options: Mapping[str, str]) -> Any:
    """The store of obstore. Its names of options are those of delta-rs in small letters."""
    config: dict[str, Any] = {name.lower(): value for name, value in options.items()}
    allow_http = config.pop("aws_allow_http", "false") == "true"
    if root.startswith("s3"):
        config["aws_disable_bulk_delete"] = "true"  # not every store has it
    try:
        return from_url(
            root,
            config=config,  # type: ignore[call-overload]  # plain text, whatever the store
            client_options={
                "allow_http": allow_http,
                "timeout": f"{OBJECT_REQUEST_SECONDS_MAX}s",
                "connect_timeout": f"{OBJECT_CONNECT_SECONDS_MAX}s",
            },
            retry_config={"max_retries": 0},
        )
    except (BaseError, ValueError) as error:
        raise UsageError(
            f"lake: {root} cannot be opened: {str(error).splitlines()[0]}",
            hint="Look at `lake` and `storage` in penstock.yaml, and at the variables "
            f"{VARIABLES[root.partition('://')[0]]}... of the environment.",
        ) from error


def _pause(attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, so that a store that is down is not kept down."""
    return min(OBJECT_RETRY_SECONDS_MAX, OBJECT_RETRY_SECONDS * 2.0 ** (attempt - 1))
