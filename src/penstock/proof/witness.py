"""The witness's own DuckDB: bounded memory, temporary files of its own, UTC, and no way to the network.

It reads files only after `pages.py` has checked them. `tables.py` says which files a table has.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from penstock.errors import UsageError
from penstock.limits import AUDIT_MEMORY_BYTES_MIN, GIB, MIB
from penstock.proof.syntax import Syntax, text_literal
from penstock.scratch import ScratchFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

_DATABASE_SHARE = 0.6
"""DuckDB's part of the memory; the rest is for the arrays that are compared outside of it, and for Python."""


class Witness:
    """A private in-memory database. Not thread-safe; use it as a context manager.

    Raises (from every query):
        UsageError: the memory does not suffice.
        duckdb.Error: the data is not what the query expects.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = GIB,
        threads: int = 2,
        only: Sequence[str] | None = None,
        filesystem: Any | None = None,
    ) -> None:
        """With `only`, nothing but these files can be read, whatever a query says. `filesystem` is what DuckDB needs to
        read the lake's files (`Storage.filesystem`)."""
        self.memory_bytes = max(memory_bytes, AUDIT_MEMORY_BYTES_MIN)
        self.filesystem = filesystem
        self._folder = ScratchFolder()
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{int(self.memory_bytes * _DATABASE_SHARE) // MIB}MiB",
                "threads": max(1, threads),
                "temp_directory": str(self._folder.path / "spill"),
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "enable_external_file_cache": False,
            },
        )
        if filesystem is not None:
            self.connection.register_filesystem(filesystem)
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute("SET parquet_metadata_cache = true")
        # The first moves expressions that may fail out of the TRY around them. With the second, conditions that are
        # always true in a file vanish, and errors beside them with them: an error must not depend on other rows.
        self.connection.execute("SET disabled_optimizers = 'common_subexpressions,statistics_propagation'")
        if only is not None:
            files = ", ".join(text_literal(path) for path in only)
            self.connection.execute(f"SET allowed_paths = [{files}]")
            self.connection.execute("SET enable_external_access = false")
            self.connection.execute("SET lock_configuration = true")
        self.syntax = Syntax(self.connection)

    def __enter__(self) -> Witness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()
        self._folder.close()

    def run(self, sql: str) -> None:
        """Execute a statement without a result."""
        with _memory_told():
            self.connection.execute(sql)

    def table(self, sql: str) -> pa.Table:
        """The result of a query."""
        with _memory_told():
            return self.connection.sql(sql).to_arrow_table()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a small result; see `rows_of`."""
        return rows_of(self.table(sql))

    def value(self, sql: str) -> Any:
        """The only value of a result of one row."""
        row = self.rows(sql)[0]
        return next(iter(row.values()))

    def arrays(self, sql: str) -> Arrays:
        """The columns of a result as arrays. Numbers only, without NULL."""
        with _memory_told():
            found: Arrays = self.connection.sql(sql).fetchnumpy()
        return found

    def types(self, sql: str) -> dict[str, str]:
        """The columns a query gives, with DuckDB's names of their types."""
        return {row[0]: row[1] for row in self.connection.execute(f"DESCRIBE {sql}").fetchall()}

    @contextmanager
    def registered(self, name: str, data: pa.Table) -> Iterator[None]:
        """Make an Arrow table visible under a name for a while."""
        self.connection.register(name, data)
        try:
            yield
        finally:
            self.connection.unregister(name)

    def types_of(self, schema: pa.Schema) -> Mapping[str, str]:
        """DuckDB's types of Arrow columns."""
        with self.registered("shape_of_table", schema.empty_table()):
            return self.types("SELECT * FROM shape_of_table")


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a small table. A time that Python does not have, such as one of the year 10000, is an integer:
    microseconds since the epoch."""
    columns = [_values(column) for column in table.columns]
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except OverflowError:
        return [_value(one) for one in column]


def _value(time: pa.Scalar) -> Any:
    try:
        return time.as_py()
    except OverflowError:
        return time.cast(pa.timestamp("us", time.type.tz)).cast(pa.int64()).as_py()


@contextmanager
def _memory_told() -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UsageError(
            f"the memory allowed does not suffice: {error}", hint="Allow more with PENSTOCK_MEMORY, or free the disk."
        ) from error


def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The arrays one after the other; an empty array of integers for none."""
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
