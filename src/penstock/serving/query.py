"""`sql`: SELECT statements over one consistent cut, in a DuckDB that can reach nothing else.

The order matters. Names are resolved first, on an empty database; then views are made over exactly the files those
names stand for; then the file system, the network, extensions and the settings are locked; and only then the user's
text runs. So the worst a query can do is take its share of memory and time.
"""

from __future__ import annotations

import difflib
import json
import re
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import pyarrow as pa

from penstock.errors import QueryError
from penstock.limits import QUERY_MEMORY_BYTES, QUERY_ROWS_PER_BATCH, QUERY_SPILL_BYTES_MAX
from penstock.scratch import ScratchFolder
from penstock.serving.relations import SCHEMAS, Catalog, Relation, identifier, literal, select_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

_T = TypeVar("_T")
_INTERRUPT_SECONDS = 0.1

_CONFIGURATION = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_community_extensions": "false",
}

_GONE = (
    "Files of an old cut are deleted after `kept_days`, also while a query runs: ask for a younger cut. A file of the "
    "present one was lost: `penstock audit` tells."
)
_NAME = re.compile(r"""\s*(?:"((?:[^"]|"")*)"|([^\s."]+))\s*""")


@dataclass(frozen=True)
class QueryBounds:
    """What one query may take. `threads` 0 means every core."""

    memory_bytes: int = QUERY_MEMORY_BYTES
    spill_bytes: int = QUERY_SPILL_BYTES_MAX
    threads: int = 0


class QueryResult:
    """A running query: a schema and a stream of record batches. Close it (or use `with`) to free what it holds."""

    def __init__(
        self, sql: str, relations: tuple[Relation, ...], bounds: QueryBounds, filesystem: Any | None = None
    ) -> None:
        self._relations = relations
        self._folder = ScratchFolder()
        self._connection = duckdb.connect(":memory:", config=dict(_CONFIGURATION))
        # A signal reaches the main thread only, and not while DuckDB computes in it: so that is done in another.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="penstock-query")
        try:
            if filesystem is not None:
                self._connection.register_filesystem(filesystem)
            _furnish(self._connection, relations, bounds, self._folder.path / "spill")
            self._reader: pa.RecordBatchReader = self._wait_for(
                lambda: self._connection.sql(sql).to_arrow_reader(QUERY_ROWS_PER_BATCH)
            )
        except duckdb.Error as error:
            self.close()
            raise self._error(error) from None
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        return self._reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches, in order, once.

        Raises:
            QueryError: the query fails on the way (a cast, memory, ...).
        """
        try:
            while (batch := self._wait_for(lambda: next(self._reader, None))) is not None:
                yield batch
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> QueryError:
        """What it means for the user. Of a file that is not there DuckDB says that it may not look for it."""
        for relation in self._relations:
            for file in relation.files:
                if not relation.exists(file):
                    return QueryError(f"{file.path} is gone", hint=_GONE)
        return _query_error(error)

    def table(self) -> pa.Table:
        """All rows at once."""
        return pa.Table.from_batches(list(self), self.schema)

    def _wait_for(self, work: Callable[[], _T]) -> _T:
        """What `work` gives, computed in the worker; Ctrl-C stops the query."""
        computing = self._worker.submit(work)
        try:
            return computing.result()
        except KeyboardInterrupt:
            while not computing.done():  # again and again: an interrupt between two steps of the query is lost
                self.interrupt()
                wait([computing], _INTERRUPT_SECONDS)
            raise

    def interrupt(self) -> None:
        """Stop the query, from any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        self._worker.shutdown()
        self._connection.close()
        self._folder.close()

    def __enter__(self) -> QueryResult:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def query(
    sql: str,
    catalog: Catalog,
    *,
    verify: bool = False,
    bounds: QueryBounds | None = None,
    filesystem: Any | None = None,
) -> QueryResult:
    """Run one SELECT statement over the relations of `catalog`.

    Args:
        sql: DuckDB's dialect; tables are `SCHEMA.NAME`. `references` needs no quotes.
        verify: read every file the query uses first and check it against the checksums it was written with.
        filesystem: what DuckDB reads the files with; None for those of this machine.

    Raises:
        QueryError: not one SELECT, an unknown table, or an error in the SQL.
        LakeCorrupt: with `verify`, a file is not what was written.
    """
    text = _quote_references(sql)
    relations = tuple(_relation(name, catalog) for name in _names(text))
    if verify:
        for relation in relations:
            relation.verify()
    return QueryResult(text, relations, bounds or QueryBounds(), filesystem)


def _quote_references(sql: str) -> str:
    """`references.x` with the schema quoted: REFERENCES is a reserved word in SQL."""
    raw = sql.encode()
    parts: list[bytes] = []
    done = 0
    for position, kind in duckdb.tokenize(sql):
        word = re.match(rb"references(?=\s*\.)", raw[position:], re.IGNORECASE)
        if word and kind == duckdb.token_type.keyword:
            parts += [raw[done:position], b'"references"']
            done = position + len(word[0])
    return b"".join([*parts, raw[done:]]).decode()


def _names(sql: str) -> list[str]:
    """The tables one SELECT statement reads, as `schema.name` in lower case, sorted."""
    with _bare_database().cursor() as bare:
        try:
            statements = bare.extract_statements(sql)
            kinds = [statement.type for statement in statements]
            if kinds != [duckdb.StatementType.SELECT]:
                named = ", ".join(kind.name for kind in kinds) or "nothing"
                raise QueryError(
                    f"only one SELECT statement can be run, not {named}",
                    hint="Only `penstock run` writes the lake. Use SELECT, WITH, VALUES, DESCRIBE or SUMMARIZE.",
                )
            try:
                found = bare.get_table_names(sql, qualified=True)
            except duckdb.BinderException:
                # Here no table has columns, so that JOIN ... USING, for one, cannot be bound; it can be parsed.
                found = set(_names_in_tree(bare, sql))
        except duckdb.Error as error:
            raise _query_error(error) from None
    return sorted({name for text in found if (name := _table_name(text)) is not None})


@cache
def _bare_database() -> duckdb.DuckDBPyConnection:
    """A database to parse statements with; making one takes as long as many a query."""
    database = duckdb.connect(":memory:", config=dict(_CONFIGURATION))
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def _names_in_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[str]:
    """The tables with a schema in the parse tree of one SELECT statement."""
    pending = [json.loads(connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and node.get("schema_name") and not node.get("catalog_name"):
                yield f"{identifier(node['schema_name'])}.{identifier(node['table_name'])}"
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _table_name(text: str) -> str | None:
    """`schema.name` of a name as DuckDB prints it (`"references".x AS y`), None where it has no schema of ours."""
    parts: list[str] = []
    position = 0
    while match := _NAME.match(text, position):
        parts.append((match[1].replace('""', '"') if match[1] is not None else match[2]).lower())
        position = match.end()
        if text[position : position + 1] != ".":
            break
        position += 1
    return ".".join(parts) if len(parts) == 2 and parts[0] in SCHEMAS else None


def _relation(name: str, catalog: Catalog) -> Relation:
    if name in catalog:
        return catalog[name]()
    kind = name.partition(".")[0]
    beside = sorted(known for known in catalog if known.startswith(f"{kind}."))
    near = difflib.get_close_matches(name, beside or catalog, n=1)
    if near:
        hint = f"Did you mean {near[0]}? `penstock tables` lists them all."
    elif beside:
        hint = f"In {kind} there are: {', '.join(beside)}. `penstock tables` lists them all."
    elif catalog:
        hint = f"There are: {', '.join(sorted(catalog))}."
    else:
        hint = "The lake has no tables yet: `penstock run --once` makes them."
    raise QueryError(f"there is no table {name}", hint=hint)


def _furnish(
    connection: duckdb.DuckDBPyConnection, relations: tuple[Relation, ...], bounds: QueryBounds, folder: Path
) -> None:
    """Make the views, then lock everything else away."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute(f"SET memory_limit = '{bounds.memory_bytes}B'")
    connection.execute(f"SET temp_directory = {literal(str(folder))}")
    connection.execute(f"SET max_temp_directory_size = '{bounds.spill_bytes}B'")
    if bounds.threads:
        connection.execute(f"SET threads = {bounds.threads}")
    paths = sorted({file.path for relation in relations for file in relation.files})
    connection.execute(f"SET allowed_paths = [{', '.join(literal(path) for path in paths)}]")
    connection.execute("SET enable_external_access = false")
    for schema in SCHEMAS:
        connection.execute(f"CREATE SCHEMA {identifier(schema)}")
    for number, relation in enumerate(relations):
        empty = f"empty_{number}"
        connection.register(empty, relation.columns.empty_table())
        view = f"{identifier(relation.schema)}.{identifier(relation.name)}"
        connection.execute(f"CREATE VIEW {view} AS {select_statement(relation, empty)}")
    connection.execute("SET lock_configuration = true")


def _query_error(error: Exception) -> QueryError:
    text = str(error).strip()
    hint = ""
    if isinstance(error, duckdb.PermissionException) or "file system operations are disabled" in text:
        hint = "A query reads the lake's tables only, no files and no network. `penstock tables` lists them."
    elif isinstance(error, duckdb.OutOfMemoryException):
        hint = "Raise PENSTOCK_MEMORY_BYTES, or let the query read or keep fewer rows."
    elif isinstance(error, duckdb.InterruptException):
        hint = "The query was stopped."
    elif isinstance(error, duckdb.CatalogException) and text.startswith("Catalog Error: Table with name"):
        # DuckDB suggests tables of its own, which say nothing about the lake.
        text = text.partition("\nDid you mean")[0]
        hint = f"Tables are called KIND.NAME, with {', '.join(SCHEMAS)} for KIND. `penstock tables` lists them."
    return QueryError(text, hint=hint)
