"""Finds rows of one table by a condition that a user wrote, where nothing but that table can be read.

`trace.py` starts with these rows. Only files that can hold wanted rows are verified and read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb

from penstock.errors import LakeCorrupt, QueryError, UsageError
from penstock.lake.layout import Kind, table_name
from penstock.model.columns import DATE, MONTH
from penstock.proof.syntax import has_subquery, quote
from penstock.proof.tables import View, check_files, take
from penstock.proof.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from penstock.lake.datafile import DataFile
    from penstock.lake.lake import Lake

PARTITIONS = {MONTH: "strftime({time}, '%Y-%m')", DATE: "CAST({time} AS DATE)"}
"""Partition columns, which files do not hold, from the time they are cut from."""


def parse_table(name: str) -> tuple[Kind, str]:
    """The kind and short name of a table as a user writes it: `gold.bars` or `gold/bars`.

    Raises:
        UsageError: it is not a table that can be traced.
    """
    kind, separator, short = name.replace("/", ".", 1).partition(".")
    if not separator or not short or kind not in (Kind.GOLD, Kind.SILVER, Kind.REJECTS):
        raise UsageError(
            f"{name!r} cannot be traced back",
            hint="Name a table like gold.bars, silver.ticks or rejects.ticks; for a place of bronze trace forward.",
        )
    return Kind(kind), short


def view_of(lake: Lake, witness: Witness, kind: Kind, name: str) -> View | None:
    """A table as it is now, its files not verified yet; None where the lake has none."""
    table = lake.table(table_name(kind, name))
    return None if table is None else take(table, witness)


def verified(view: View, threads: int, wanted: Callable[[DataFile], bool] | None = None) -> View:
    """The view with only the files that are wanted, all of them verified.

    Raises:
        LakeCorrupt: one of them is not what was written.
    """
    files = view.files if wanted is None else tuple(file for file in view.files if wanted(file))
    view = replace(view, files=files, paths=[], present=set(), full=None, damage=[])
    check_files([view], threads)
    if view.damage:
        raise LakeCorrupt(
            f"{view.name}: file {view.damage[0]}",
            hint="Run `penstock audit` to see all that is damaged; restore the file from a backup.",
        )
    return view


def within(file: DataFile, column: str, low: Any, high: Any) -> bool:
    """Whether a file may hold rows whose `column` lies in low..high, as far as its statistics say."""
    bounds = file.stats.get(column)
    return bounds is None or not (bounds[1] < low or bounds[0] > high)


def matching(
    view: View,
    where: str,
    *,
    bound: str,
    order: Sequence[str],
    limit: int,
    time: str | None,
    memory_bytes: int,
    filesystem: Any | None = None,
) -> pa.Table:
    """The first `limit` rows of a verified view that fulfil the user's condition `where` and the SQL `bound`.

    `time` names the column that the partition column is cut from; the condition may use that one as well.

    Raises:
        QueryError: the condition is no condition over the table's columns, with DuckDB's words.
    """
    short = view.name.partition("/")[2]
    with Witness(memory_bytes=memory_bytes, only=view.paths, filesystem=filesystem) as locked:
        tree = locked.syntax.parse(where)
        if has_subquery(tree):
            raise QueryError(
                f"a SELECT inside a condition: {where}", hint="Use `penstock sql` for queries over more than one table."
            )
        added = ""
        if time is not None:
            name = DATE if view.name.startswith(Kind.REJECTS) else MONTH
            added = f", {PARTITIONS[name].format(time=quote(time))} AS {name}"
        rows = f"(SELECT *{added} FROM {view.relation()}) AS {quote(short)}"
        columns = ", ".join(f"{quote(short)}.{quote(column)}" for column in view.types)
        sql = (
            f"SELECT {columns} FROM {rows} WHERE ({locked.syntax.print(tree)}) AND ({bound}) "
            f"ORDER BY {', '.join(quote(name) for name in order)} LIMIT {limit}"
        )
        try:
            return locked.table(sql)
        except duckdb.Error as error:
            message = str(error).strip().splitlines()[0]
            raise QueryError(
                f"{where}: {message}", hint=f"Columns of {short}: {', '.join(name for name in view.types)}."
            ) from error
