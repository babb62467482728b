"""DuckDB as an engine (`engines/contract.py`): one in-memory database, one cursor per call, Arrow in and Arrow out."""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from penstock.engines.embedded.deriving import EmbeddedDeriver
from penstock.engines.embedded.prepared import PreparedQueries
from penstock.engines.embedded.refining import Refining
from penstock.errors import QueryError, StorageError
from penstock.limits import PREPARED_ROWS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from penstock.engines.contract import Job, Relation
    from penstock.model.pipeline import Pipeline
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
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "refine")
        self._prepared = PreparedQueries(self._database.cursor)
        self._refining: dict[str, Refining] = {}
        self._registering = threading.Lock()

    def refine(self, plan: RefinePlan, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        """The events of `records` (bronze columns), one row each, in any order; `_row` is the ordinal of the record.

        `references` maps a reference's name to its rows. The columns are those `plan.RefinePlan` documents.
        """
        self.register(plan)
        refining = self._refining.get(plan.sql)
        if refining is None:
            refining = self._refining[plan.sql] = Refining(plan, self._prepared.run, self._pool, self._threads)
        with self._memory_explained():
            return refining.events(records, {f"reference_{name}": table for name, table in references.items()})

    def query(self, sql: str, relations: Mapping[str, Relation]) -> pa.Table:
        with self._memory_explained():
            tables = {name: table for name, table in relations.items() if isinstance(table, pa.Table)}
            is_small = sum(table.num_rows for table in tables.values()) <= PREPARED_ROWS_MAX
            if is_small and len(tables) == len(relations):
                return self._prepared.run(sql, tables)
            with self._cursor(relations) as cursor:
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

    def limit_memory(self, memory_bytes: int) -> None:
        """Bound DuckDB anew, between calls."""
        with self._memory_explained():
            self._database.execute(f"SET GLOBAL memory_limit = '{memory_bytes}B'")

    @property
    def reads_apart(self) -> bool:
        return False

    def refuse_unreachable(self, pipeline: Pipeline) -> None:
        """It is this process that reads."""

    def deriver(self, job: Job) -> EmbeddedDeriver:
        return EmbeddedDeriver(self, job)

    def close(self) -> None:
        self._pool.shutdown()
        with suppress(duckdb.Error):  # what an error has left busy must not hide that error
            self._prepared.close()
            self._database.close()
        shutil.rmtree(self._spill_folder, ignore_errors=True)

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
