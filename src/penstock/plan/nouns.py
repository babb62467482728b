"""What compiling a pipeline gives: SQL with the little around it that an engine needs to run it. See `compile.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from penstock.model.pipeline import Pipeline
    from penstock.model.types import ColumnType
    from penstock.plan.arrowfunctions import ArrowFunction
    from penstock.plan.gold import GoldPlan


@dataclass(frozen=True)
class RefinePlan:
    """Bronze records to events, as one SELECT for DuckDB with `TimeZone='UTC'`.

    `sql` reads the relations `records` (bronze columns and `_row`, the ordinal), `reference_<name>` per reference, and
    what `side_tables` makes of the records; it calls `functions`. One row per event, ordered by (`_row`, `_index`):

    `_row BIGINT, _source INT, _partition INT, _offset BIGINT, _index INT, _timestamp, _ingested_at`, the silver
    columns, `_flags VARCHAR[], _extra VARCHAR`, `_status UTINYINT` (0 valid, 1 quarantined, 2 skipped), `_failed
    VARCHAR[]` (failing quarantine and stop rules), `_stop VARCHAR[]`, `_detail VARCHAR`, `_event_time TIMESTAMPTZ`,
    `_bucket BIGINT, _key_hi UBIGINT, _key_lo UBIGINT` (meaningful where `_status` is 0), `_element VARCHAR`.

    `rules` are the names of all rules that can occur, built-in ones first. `key_sql` reads silver rows as `rows` and
    gives their place, `_index`, `_bucket`, `_key_hi` and `_key_lo`, equal to what `sql` gave for them.

    `unordered_sql` gives the same rows in any order, mostly the right one already: `in_order` makes sure of it, for
    less than a fifth of what sorting in SQL costs.
    """

    sql: str
    unordered_sql: str
    functions: tuple[ArrowFunction, ...]
    rules: tuple[str, ...]
    key_sql: str
    side_tables: Callable[[pa.Table], Mapping[str, pa.Table]]


def in_order(events: pa.Table) -> pa.Table:
    """Refined events by (`_row`, `_index`); the table itself where they are in that order."""
    row = events["_row"].to_numpy()
    index = events["_index"].to_numpy()
    ascends = (row[1:] > row[:-1]) | ((row[1:] == row[:-1]) & (index[1:] > index[:-1]))
    return events if ascends.all() else events.sort_by([("_row", "ascending"), ("_index", "ascending")])


@dataclass(frozen=True)
class Plan:
    """A pipeline compiled: `silver_columns` are the user's columns in table order with their types."""

    pipeline: Pipeline
    silver_columns: tuple[tuple[str, ColumnType], ...]
    refine: RefinePlan
    golds: tuple[GoldPlan, ...]
