"""What a query can read: named relations over Parquet files, bounded to one cut. `catalog.py` makes them from the lake.

A relation turns into one SQL statement that reads its files: columns the files do not have (they were added later) are
NULL, the partition column is what the table's log says, and rows of batches after the cut are left out.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMAS = ("bronze", "silver", "rejects", "gold", "references", "ledger")
"""The schemas a query knows, in the order data goes through them."""


@dataclass(frozen=True)
class RelationFile:
    """A Parquet file and the value of the partition column for all of its rows, as text."""

    path: str
    partition: str | None = None


@dataclass(frozen=True)
class Relation:
    """A table as a query sees it.

    `columns` is the full schema, partition column included. Rows with `bound_column` above `bound` are not part of
    it. `verify` reads all files and raises LakeCorrupt where stored bytes are not what was written; `exists` says
    whether one is still there.
    """

    schema: str
    name: str
    columns: pa.Schema
    files: tuple[RelationFile, ...]
    partition_column: str | None = None
    bound_column: str | None = None
    bound: int | None = None
    verify: Callable[[], None] = field(default=lambda: None, compare=False)
    exists: Callable[[RelationFile], bool] = field(default=lambda file: os.path.exists(file.path), compare=False)

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


Catalog = Mapping[str, Callable[[], Relation]]
"""Qualified name (`gold.bars`) -> the relation. Looking at a table's files is put off until a query names it."""


def identifier(name: str) -> str:
    """`name` quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a SQL string."""
    return "'" + text.replace("'", "''") + "'"


def select_statement(relation: Relation, empty: str) -> str:
    """SQL that reads `relation`. `empty` names a relation without rows that has exactly its columns and types."""
    by_partition: defaultdict[str | None, list[str]] = defaultdict(list)
    for file in relation.files:
        by_partition[file.partition].append(file.path)
    branches = [f"SELECT * FROM {identifier(empty)}"]
    for value, paths in sorted(by_partition.items(), key=lambda item: item[0] or ""):
        listed = ", ".join(literal(path) for path in paths)
        columns = "*" + _partition_value(relation, value)
        bound = ""
        if relation.bound_column is not None:
            bound = f" WHERE {identifier(relation.bound_column)} <= {relation.bound}"
        branches.append(
            f"SELECT {columns} FROM read_parquet([{listed}], union_by_name=true, hive_partitioning=false){bound}"
        )
    return " UNION ALL BY NAME ".join(branches)


def _partition_value(relation: Relation, value: str | None) -> str:
    if relation.partition_column is None:
        return ""
    kind = "DATE" if str(relation.columns.field(relation.partition_column).type).startswith("date32") else "VARCHAR"
    text = "NULL" if value is None else literal(value)
    return f", CAST({text} AS {kind}) AS {identifier(relation.partition_column)}"
