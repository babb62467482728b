"""The list of files a folder source has taken in: what it keeps, and the protocol of who keeps it.

`files.py` fills it and finds its way by it. The lake keeps it as the Delta table `manifests/<pipeline>`; tests keep it
in memory (`penstock.testing.manifests`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("source", pa.int32(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_us", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("first_offset", pa.int64(), nullable=False),
        pa.field("records", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
    ]
)
"""One row per thing learned about a file. `source` is the incarnation's number; `path` is relative to the folder, `/`
between its parts; `size` is in bytes on disk; `mtime_us` in microseconds since the epoch; `sha256` is the hex digest of
the bytes on disk, empty while not known; `records` is -1 while not known. A later row with the same (source, path,
first_offset) replaces an earlier one."""


class FileState(StrEnum):
    """How far a file got. Only READING and COMPLETE and LOST rows hold offsets."""

    READING = "reading"
    """Its records begin at `first_offset`; how many there are is not known yet. At most one file is in this state."""
    COMPLETE = "complete"
    """Read to its end: records [first_offset, first_offset + records)."""
    REPEATED = "repeated"
    """The same content was complete under the same path before; nothing was taken."""
    LOST = "lost"
    """Damaged, changed or gone while `on_data_loss: record`: the records that were delivered are all there will be."""
    UNREADABLE = "unreadable"
    """Nothing could be read of it while `on_data_loss: record`; looked at again when it changes."""
    IGNORED = "ignored"
    """Its name does not belong to the declared format; nothing was taken."""


class Manifest(Protocol):
    """Rows in the order they were appended. One writer; `append` is atomic and durable when it returns."""

    def refresh(self) -> bool:
        """Whether `entries` tells more than at its last call, because another process appends."""
        ...

    def entries(self) -> pa.Table:
        """All rows in MANIFEST_SCHEMA, in order of appending."""
        ...

    def append(self, rows: pa.Table) -> None:
        """Add rows (MANIFEST_SCHEMA) at the end, all or none, durable when it returns.

        Raises:
            StorageError: they cannot be written.
            Fenced: another writer owns the pipeline.
        """
        ...


def manifest_rows(rows: Sequence[dict[str, object]]) -> pa.Table:
    """The rows, each with exactly the fields of MANIFEST_SCHEMA, as a table for `Manifest.append`."""
    return pa.Table.from_pylist(list(rows), schema=MANIFEST_SCHEMA)
