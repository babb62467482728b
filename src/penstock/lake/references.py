"""The loaded versions of references: append-only tables `references/<name>`, where each load adds all its rows.

Files are read by `referencefile.py`. Pipelines of one lake may share a reference: whoever comes second finds the rows
there and uses that version.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import Fenced, LakeCorrupt, TransientError, UsageError
from penstock.lake import layout
from penstock.lake.datafile import overlaps
from penstock.lake.fence import take_over
from penstock.lake.reading import Condition
from penstock.limits import COMMIT_ATTEMPTS_MAX, REFERENCE_LOCK_SECONDS_MAX, REFERENCE_LOCK_WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.lake.fence import Writer
    from penstock.lake.lake import Lake
    from penstock.lake.table import Table


def version_txn(name: str) -> str:
    """The txn id (in a reference's table) of its last version."""
    return f"{name}/version"


def content_txn(name: str) -> str:
    """The txn id (in a reference's table) of its last version's 63-bit content hash."""
    return f"{name}/content"


class References:
    """All references of a lake. Used from one thread."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._taken_over: set[str] = set()

    def latest_version(self, name: str) -> int:
        """The last version of the reference; 0 when it was never loaded."""
        table = self._table(name)
        return 0 if table is None else table.txn(version_txn(name)) or 0

    def read(self, name: str, version: int) -> pa.Table:
        """The rows of a version, without our two columns. A column that was added later is null.

        Raises:
            UsageError: there is no such version.
            LakeCorrupt: the table says that there is, and has no row of it.
        """
        table = self._table(name)
        last = 0 if table is None else table.txn(version_txn(name)) or 0
        if table is None or not 1 <= version <= last:
            raise UsageError(
                f"reference {name} has no version {version}",
                hint=f"Its versions are 1 to {last}." if last else "It was never loaded.",
            )
        wanted = Condition((layout.VERSION,), pc.field(layout.VERSION) == version)
        files = [file for file in table.files() if overlaps(file, layout.VERSION, version, version)]
        parts = list(table.read(condition=wanted, files=files))
        rows = pa.concat_tables(parts) if parts else table.spec.schema.empty_table()
        if rows.num_rows == 0 and not table.txn(_empty_txn(name, version)):
            raise LakeCorrupt(f"{table.name} has no rows of version {version}, but says that it is there")
        return rows.drop_columns([layout.VERSION, layout.LOADED_AT]).combine_chunks()

    def append(self, writer: Writer, name: str, rows: pa.Table, loaded_at: int, *, waits: bool = True) -> int:
        """The version that holds `rows`, durable when this returns: the last one where it is the same, else a new one.

        `loaded_at` is in microseconds since the epoch. Columns may be added by a load, and left out (then null); the
        order of rows counts as content. With `waits` another process that appends is waited for.

        Raises:
            UsageError: a column has another type than in earlier versions.
            TransientError: another process keeps the reference busy.
        """
        spec = layout.reference_spec(name, rows.schema)
        with self._busy(name, REFERENCE_LOCK_SECONDS_MAX if waits else 0.0):
            table = self._lake.create(spec)
            if table.name not in self._taken_over:
                take_over(writer.pipeline, [table], writer=writer)
                self._taken_over.add(table.name)
            for _ in range(COMMIT_ATTEMPTS_MAX):
                table.refresh()
                content = content_hash(rows)
                last = table.txn(version_txn(name)) or 0
                if last and table.txn(content_txn(name)) == content:
                    return last
                if table.spec.additions(spec):
                    table.evolve(writer, spec)
                version = last + 1
                txns = {version_txn(name): version, content_txn(name): content}
                if rows.num_rows == 0:
                    txns[_empty_txn(name, version)] = 1
                add = table.write(_stamped(rows, version, loaded_at)) if rows.num_rows else []
                try:
                    table.commit(writer, batch=None, add=add, txns=txns, expected={version_txn(name): last})
                except TransientError:
                    if (table.txn(version_txn(name)) or 0) == last:
                        raise
                    continue  # on another machine, which does not see the lock, another pipeline was quicker
                return version
        raise TransientError(
            f"reference {name} was loaded by others {COMMIT_ATTEMPTS_MAX} times meanwhile", hint="Run again."
        )

    def _table(self, name: str) -> Table | None:
        table = self._lake.table(layout.table_name(layout.Kind.REFERENCES, name))
        if table is not None:
            table.refresh()
        return table

    @contextmanager
    def _busy(self, name: str, seconds: float) -> Iterator[None]:
        """One process at a time appends: a version's number is in its rows, so that a lost race would give it twice."""
        with ExitStack() as held:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    held.enter_context(self._lake.storage.lock(f"reference-{name}"))
                    break
                except Fenced as error:
                    if time.monotonic() > deadline:
                        raise TransientError(f"reference {name}: {error.message}", hint=error.hint) from error
                    time.sleep(REFERENCE_LOCK_WAIT_SECONDS)
            yield


def content_hash(rows: pa.Table) -> int:
    """63 bits of a SHA-256 over the names, types and values of `rows`, in order."""
    digest = hashlib.sha256()
    for field in rows.schema:
        digest.update(f"{field.name}\0{field.type}\0{rows.num_rows}\0".encode())
        values = rows.column(field.name)
        one = pa.table([values.combine_chunks()], names=["value"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, one.schema) as stream:
            stream.write_table(one)
        digest.update(sink.getvalue())
    return int.from_bytes(digest.digest()[:8]) >> 1


def _stamped(rows: pa.Table, version: int, loaded_at: int) -> pa.Table:
    return rows.append_column(layout.VERSION, pa.repeat(pa.scalar(version, pa.int64()), rows.num_rows)).append_column(
        layout.LOADED_AT, pa.repeat(pa.scalar(loaded_at, pa.int64()), rows.num_rows).cast(layout.TIME)
    )


def _empty_txn(name: str, version: int) -> str:
    """The txn id that says that a version has no rows."""
    return f"{name}/empty/{version}"
