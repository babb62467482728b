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


VALID, QUARANTINED, SKIPPED, UNDECIDED = range(4)
"""The values of `_status` in refined events."""


@dataclass(frozen=True)
class RefinePlan:
    """Bronze records to events, as one SELECT for DuckDB with `TimeZone='UTC'`.

    `sql` reads the relations `records` (bronze columns and `_row`, the ordinal), `reference_<name>` per reference, and
    what `side_tables` makes of the records; it calls `functions`. One row per event, in any order:

    `_row BIGINT, _index INT`, the silver columns, `_flags VARCHAR[], _extra VARCHAR`, `_status UTINYINT` (VALID ...),
    `_failed VARCHAR[]` (failing quarantine and stop rules), `_stop VARCHAR[]`, `_detail VARCHAR`, `_event_time
    TIMESTAMPTZ`, `_bucket BIGINT, _key_hi UBIGINT, _key_lo UBIGINT` (meaningful where the event is valid), `_element
    VARCHAR`.

    `plain_sql` gives a row per record too, and the same as `sql` for a record without anything strange in it: written
    plainly, and skipped or valid without a flag. It leaves out what the others need, which is most of the work: those
    are undecided, the row says nothing more, and `sql` has the event. `sql` itself leaves nothing undecided. None where
    a record is a list of events.

    `rules` are the names of all rules that can occur, built-in ones first. `key_sql` reads silver rows as `rows` and
    gives their place, `_index`, `_bucket`, `_key_hi` and `_key_lo`, equal to what `sql` gave for them.
    """

    sql: str
    plain_sql: str | None
    functions: tuple[ArrowFunction, ...]
    rules: tuple[str, ...]
    key_sql: str
    side_tables: Callable[[pa.Table], Mapping[str, pa.Table]]


@dataclass(frozen=True)
class Plan:
    """A pipeline compiled: `silver_columns` are the user's columns in table order with their types."""

    pipeline: Pipeline
    silver_columns: tuple[tuple[str, ColumnType], ...]
    refine: RefinePlan
    golds: tuple[GoldPlan, ...]
