"""The refine step in DuckDB: records in slices, each first through the short query that knows only plain records.

Slices reuse each other's memory: fresh pages cost more than the planning that longer runs save. What the short query
does not give goes through the one that has an answer for every record (`RefinePlan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import (
    PLAIN_ROWS_MIN,
    PLAIN_SHARE_MIN,
    PLAIN_SLICES_SKIPPED,
    RECORDS_PER_ARROW_BATCH,
    REFINE_ROWS_MAX,
)
from penstock.plan.nouns import UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.plan.nouns import RefinePlan

    Run = Callable[[str, Mapping[str, pa.Table]], pa.Table]


class Refining:
    """One plan's refine step. `run` runs a query over relations; calls may come from several threads.

    Whether the short query is tried depends on what it gave before; the events do not depend on it.
    """

    def __init__(self, plan: RefinePlan, run: Run) -> None:
        self._plan = plan
        self._run = run
        self._skip = 0

    def events(self, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        """The events of `records`, in any order; see `Engine.refine`."""
        records = records.append_column("_row", pa.array(np.arange(records.num_rows)))
        slices = range(0, max(records.num_rows, 1), REFINE_ROWS_MAX)
        return pa.concat_tables(
            [events for start in slices for events in self._slice(records.slice(start, REFINE_ROWS_MAX), references)]
        )

    def _slice(self, records: pa.Table, references: Mapping[str, pa.Table]) -> list[pa.Table]:
        if not self._is_worth_trying(records):
            return [self._query(self._plan.sql, records, references)]
        assert self._plan.plain_sql is not None
        plain = self._query(self._plan.plain_sql, records, references)
        undecided = plain["_row"].filter(pc.equal(plain["_status"], UNDECIDED))
        is_rare = len(undecided) <= (1 - PLAIN_SHARE_MIN) * records.num_rows
        self._skip = 0 if is_rare else PLAIN_SLICES_SKIPPED
        if not len(undecided):
            return [plain]
        rest = records.take(pc.subtract(undecided.combine_chunks(), records["_row"][0]))
        return [plain, self._query(self._plan.sql, rest, references)]

    def _is_worth_trying(self, records: pa.Table) -> bool:
        if self._plan.plain_sql is None or records.num_rows < PLAIN_ROWS_MIN:
            return False
        if self._skip:
            self._skip -= 1
            return False
        return True

    def _query(self, sql: str, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        return self._run(sql, {**references, "records": _in_batches(records), **self._plan.side_tables(records)})


def _in_batches(table: pa.Table) -> pa.Table:
    """The same table in pieces small enough for every thread to get one."""
    return pa.Table.from_batches(
        table.combine_chunks().to_batches(max_chunksize=RECORDS_PER_ARROW_BATCH), schema=table.schema
    )
