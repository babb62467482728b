"""The refine step in DuckDB: first the short query that knows only plain records, then the whole one for the others.

Each goes over slices of the records, as many at a time as the engine has threads: a query that was planned before runs
in one thread. Slices reuse each other's memory: fresh pages cost more than the planning that longer runs would save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import StorageError
from penstock.limits import (
    MEMORY_PER_RECORD_BYTE,
    PLAIN_CALLS_SKIPPED,
    PLAIN_ROWS_MIN,
    PLAIN_SHARE_MIN,
    REFINE_BYTES_MAX,
    REFINE_ROWS_MAX,
    REFINE_ROWS_MIN,
)
from penstock.model.columns import PLACE
from penstock.plan.nouns import UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import ThreadPoolExecutor

    from penstock.plan.nouns import RefinePlan

    Run = Callable[[str, Mapping[str, pa.Table]], pa.Table]


class Refining:
    """One plan's refine step. `run` runs a query over relations, in several of the pool's threads at once.

    Whether the short query is tried depends on what it gave before; the events do not depend on it.
    """

    def __init__(self, plan: RefinePlan, run: Run, pool: ThreadPoolExecutor, threads: int) -> None:
        self._plan = plan
        self._run = run
        self._pool = pool
        self._threads = threads
        self._skip = 0

    def events(self, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        """The events of `records`, in any order; see `Engine.refine`."""
        records = records.append_column("_row", pa.array(np.arange(records.num_rows)))
        if not self._is_worth_trying(records):
            return self._query(self._plan.sql, records, references)
        assert self._plan.plain_sql is not None
        plain = self._query(self._plan.plain_sql, records, references)
        undecided = plain["_row"].filter(pc.equal(plain["_status"], UNDECIDED)).combine_chunks()
        is_rare = len(undecided) <= (1 - PLAIN_SHARE_MIN) * records.num_rows
        self._skip = 0 if is_rare else PLAIN_CALLS_SKIPPED
        if not len(undecided):
            return plain
        return pa.concat_tables([plain, self._query(self._plan.sql, records.take(undecided), references)])

    def _is_worth_trying(self, records: pa.Table) -> bool:
        if self._plan.plain_sql is None or records.num_rows < PLAIN_ROWS_MIN:
            return False
        if self._skip:
            self._skip -= 1
            return False
        return True

    def _query(self, sql: str, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        def run(rows: pa.Table) -> pa.Table:
            return self._run(sql, {**references, "records": rows, **self._plan.side_tables(rows)})

        def attempt(rows: pa.Table) -> pa.Table | None:
            try:
                return run(rows)
            except duckdb.OutOfMemoryException:
                return None

        slices = _slices(records, self._threads)
        found = map(attempt, slices) if len(slices) == 1 else self._pool.map(attempt, slices)
        # What did not fit beside the others runs again, alone.
        events = list(found)
        return pa.concat_tables(
            _apart(run, rows) if part is None else part for rows, part in zip(slices, events, strict=True)
        )


def _apart(run: Callable[[pa.Table], pa.Table], rows: pa.Table) -> pa.Table:
    """The events of records that need more memory together than there is: a few monsters must not stop the batch.

    Raises:
        StorageError: a single record needs more; it is named.
    """
    if rows.num_rows < 2:
        try:
            return run(rows)
        except duckdb.OutOfMemoryException as error:
            raise _too_much(rows) from error
    half = rows.num_rows // 2
    found = []
    for part in (rows.slice(0, half).combine_chunks(), rows.slice(half).combine_chunks()):
        try:
            found.append(run(part))
        except duckdb.OutOfMemoryException:
            found.append(_apart(run, part))
    return pa.concat_tables(found)


def _too_much(rows: pa.Table) -> StorageError:
    """The error for one record. It is in bronze, so that no lower limit for records takes it away again."""
    source, partition, offset = (rows.column(name)[0] for name in PLACE)
    size = pc.binary_length(rows.column("value"))[0].as_py() or 0
    return StorageError(
        f"the record {source}/{partition}/{offset} of {size:,} bytes alone needs more memory than there is",
        hint=f"Raise `limits.memory_bytes` in penstock.yaml to about {MEMORY_PER_RECORD_BYTE} times that size, "
        "for this run at least.",
    )


def _slices(records: pa.Table, threads: int) -> list[pa.Table]:
    """The records in slices of about the same length, bounded in rows and on average in bytes, each worth a query, and
    where they are many one for each thread.

    Each slice is one piece: where a table is in many, a query pays for each.
    """
    rows = records.num_rows
    by_bytes = min(rows, -(-records["value"].nbytes // REFINE_BYTES_MAX))
    count = max(-(-rows // REFINE_ROWS_MAX), by_bytes, min(threads, rows // REFINE_ROWS_MIN), 1)
    length = max(-(-rows // count), 1)
    return [records.slice(start, length).combine_chunks() for start in range(0, max(rows, 1), length)]
