"""DuckDB as an engine (`engines/contract.py`): one in-memory database, one cursor per call, Arrow in and Arrow out."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
from duckdb.func import FunctionNullHandling, PythonUDFType

from penstock.engines.embedded.prepared import PreparedQuery
from penstock.engines.embedded.refining import Refining
from penstock.errors import QueryError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from penstock.engines.contract import Relation
    from penstock.plan.nouns import RefinePlan


class EmbeddedEngine:
    """See `Engine`. `memory_bytes` bounds DuckDB; beyond it, it spills to a folder that goes with the engine."""

    def __init__(self, *, threads: int, memory_bytes: int, spill_folder: Path | None = None) -> None:
        self._spill_folder = tempfile.mkdtemp(prefix="penstock-engine-", dir=spill_folder)
        self._database = duckdb.connect(
            ":memory:",
            config={
                "threads": threads,
                "memory_limit": f"{memory_bytes}B",
                "temp_directory": self._spill_folder,
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "preserve_insertion_order": "true",
            },
        )
        self._database.execute("SET GLOBAL TimeZone = 'UTC'")
        # It moves expressions that may fail out of the TRY around them: two rules that share one would stop the batch.
        self._database.execute("SET GLOBAL disabled_optimizers = 'common_subexpressions'")
        self._functions: set[str] = set()
        self._kept: dict[str, PreparedQuery] = {}
        self._refining: dict[str, Refining] = {}
        self._registering = threading.Lock()

    def refine(self, plan: RefinePlan, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        self.register(plan)
        refining = self._refining.setdefault(plan.sql, Refining(plan, self._run_prepared))
        with self._memory_explained():
            return refining.events(records, {f"reference_{name}": table for name, table in references.items()})

    def query(self, sql: str, relations: Mapping[str, Relation]) -> pa.Table:
        with self._cursor(relations) as cursor, self._memory_explained():
            return cursor.sql(sql).to_arrow_table()

    def schema(self, sql: str, relations: Mapping[str, pa.Schema]) -> pa.Schema:
        empty = {name: schema.empty_table() for name, schema in relations.items()}
        with self._cursor(empty) as cursor:
            try:
                return cursor.sql(f"SELECT * FROM ({sql}) LIMIT 0").to_arrow_table().schema
            except duckdb.Error as error:
                raise QueryError(str(error)) from error

    def register(self, plan: RefinePlan) -> None:
        with self._registering:
            for function in plan.functions:
                if function.name not in self._functions:
                    self._database.create_function(
                        function.name,
                        function.call,
                        list(function.arguments),
                        function.returns,
                        type=PythonUDFType.ARROW,
                        null_handling=FunctionNullHandling.SPECIAL,
                    )
                    self._functions.add(function.name)

    def close(self) -> None:
        for prepared in self._kept.values():
            prepared.close()
        self._database.close()
        shutil.rmtree(self._spill_folder, ignore_errors=True)

    def _run_prepared(self, sql: str, relations: Mapping[str, pa.Table]) -> pa.Table:
        return self._prepared(sql, relations).run(relations)

    def _prepared(self, sql: str, relations: Mapping[str, pa.Table]) -> PreparedQuery:
        """The planned query, planned again where a relation has another schema now."""
        with self._registering:
            kept = self._kept.get(sql)
            if kept is None or not kept.fits(relations):
                if kept is not None:
                    kept.close()
                kept = self._kept[sql] = PreparedQuery(self._database.cursor(), sql, relations)
            return kept

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise StorageError(
                f"a query needs more than its memory or temporary space: {error}",
                hint="Raise `limits.memory_bytes` in penstock.yaml, or use smaller batches (`--batch-rows`).",
            ) from error

    @contextmanager
    def _cursor(self, relations: Mapping[str, Relation]) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._database.cursor()
        try:
            for name, relation in relations.items():
                cursor.register(name, relation)
            yield cursor
        finally:
            cursor.close()
