"""Queries planned once and run many times over relations that change: planning costs more than a small batch does.

DuckDB plans a prepared statement anew when a relation is replaced. So each relation is one object that stays registered
and hands out whatever table it was given last (the Arrow C stream protocol).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from penstock.limits import PREPARED_QUERIES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import duckdb
    import pyarrow as pa

_STATEMENT = "prepared"
_Plan: TypeAlias = "tuple[str, tuple[tuple[str, pa.Schema], ...]]"


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
    """One SELECT over relations of fixed schemas, on a cursor of its own. One run at a time."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: str, relations: Mapping[str, pa.Table]) -> None:
        self._cursor = cursor
        self._relations = {name: _Current(table) for name, table in relations.items()}
        try:
            for name, current in self._relations.items():
                cursor.register(name, current)
            cursor.execute(f"PREPARE {_STATEMENT} AS {sql}")
        except BaseException:
            cursor.close()
            raise

    def run(self, relations: Mapping[str, pa.Table]) -> pa.Table:
        """The result over relations of the same names and schemas, computed in the calling thread."""
        for name, table in relations.items():
            self._relations[name].table = table
        try:
            return self._cursor.sql(f"EXECUTE {_STATEMENT}").to_arrow_table()
        finally:
            for current in self._relations.values():
                current.table = current.schema.empty_table()  # let go of the batch

    def close(self) -> None:
        self._cursor.close()


class PreparedQueries:
    """Planned queries that no thread is using just now, by their SQL and the schemas of their relations; at most
    PREPARED_QUERIES_MAX of them. Each thread that runs a query has one for itself."""

    def __init__(self, cursor: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._cursor = cursor
        self._idle: OrderedDict[_Plan, list[PreparedQuery]] = OrderedDict()
        self._count = 0
        self._changing = threading.Lock()

    def run(self, sql: str, relations: Mapping[str, pa.Table]) -> pa.Table:
        """The result of `sql` over these relations."""
        plan = (sql, tuple(sorted(((name, table.schema) for name, table in relations.items()), key=lambda one: one[0])))
        query = self._take(plan) or PreparedQuery(self._cursor(), sql, relations)
        try:
            result = query.run(relations)
        except BaseException:
            query.close()
            raise
        self._give_back(plan, query)
        return result

    def close(self) -> None:
        with self._changing:
            for queries in self._idle.values():
                for query in queries:
                    query.close()
            self._idle.clear()
            self._count = 0

    def _take(self, plan: _Plan) -> PreparedQuery | None:
        with self._changing:
            queries = self._idle.get(plan)
            if not queries:
                return None
            self._count -= 1
            return queries.pop()

    def _give_back(self, plan: _Plan, query: PreparedQuery) -> None:
        with self._changing:
            self._idle.setdefault(plan, []).append(query)
            self._idle.move_to_end(plan)
            self._count += 1
            while self._count > PREPARED_QUERIES_MAX:
                oldest, queries = next(iter(self._idle.items()))
                if queries:
                    queries.pop().close()
                    self._count -= 1
                if not queries:
                    del self._idle[oldest]
