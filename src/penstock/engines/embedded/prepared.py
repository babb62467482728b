"""A query planned once and run many times over relations that change: planning costs more than a small batch does.

DuckDB plans a prepared statement anew when a relation is replaced. So each relation is one object that stays registered
and hands out whatever table it was given last (the Arrow C stream protocol).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb
    import pyarrow as pa

_STATEMENT = "prepared"


class _Current:
    """Stands for a relation; gives the table it holds now. All tables it ever holds have one schema."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.schema = table.schema

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class PreparedQuery:
    """One SELECT over relations of fixed schemas, on a cursor of its own. One run at a time; others wait."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: str, relations: Mapping[str, pa.Table]) -> None:
        self._cursor = cursor
        self._running = threading.Lock()
        self._relations = {name: _Current(table) for name, table in relations.items()}
        for name, current in self._relations.items():
            cursor.register(name, current)
        cursor.execute(f"PREPARE {_STATEMENT} AS {sql}")

    def fits(self, relations: Mapping[str, pa.Table]) -> bool:
        """Whether it can run over these relations: the same names and schemas."""
        return relations.keys() == self._relations.keys() and all(
            self._relations[name].schema.equals(table.schema) for name, table in relations.items()
        )

    def run(self, relations: Mapping[str, pa.Table]) -> pa.Table:
        """The result over relations that fit."""
        with self._running:
            for name, table in relations.items():
                self._relations[name].table = table
            result = self._cursor.sql(f"EXECUTE {_STATEMENT}").to_arrow_table()
            for current in self._relations.values():
                current.table = current.schema.empty_table()  # let go of the batch
            return result

    def close(self) -> None:
        self._cursor.close()
