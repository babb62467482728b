"""Keeps one gold table equal to silver for exactly the closed windows (DESIGN 4, "Gold").

`change` says, for one batch, which windows close and which closed ones late rows correct; `commit` writes that: new
files for closed windows, and in place of just the files that hold a corrected window, rewritten ones (`goldfiles.py`).
The partials are in `windows.py`; what they do not hold is computed from silver, in bounded pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.lake.schema import align
from penstock.limits import GOLD_KEYS_BYTES_MAX, MERGE_BYTES_MAX
from penstock.model.columns import BATCH, WINDOW_START, closed_until_txn
from penstock.run.goldfiles import parted, unique_starts
from penstock.run.goldkeys import GoldKeys
from penstock.run.rows import has_partner, micros
from penstock.run.windows import ALWAYS, ClosedWindows, OpenWindows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.engines.contract import Engine
    from penstock.lake.fence import Writer
    from penstock.lake.table import DataFile, Table
    from penstock.plan.gold import GoldPlan
    from penstock.run.silverwindows import SilverWindows


@dataclass
class GoldChange:
    """Rows to append (windows that closed), rows that replace those in `files`, and what overflowed."""

    appended: list[pa.Table] = field(default_factory=list)
    corrected: list[pa.Table] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    overflows: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(table.num_rows for table in (*self.appended, *self.corrected))


class GoldKeeper:
    """One gold table of a pipeline. Calls come in batch order from one thread."""

    def __init__(self, plan: GoldPlan, table: Table, silver: SilverWindows, engine: Engine) -> None:
        self.plan = plan
        self.table = table
        self.absorbed = 0
        self._silver = silver
        self._engine = engine
        self._open = OpenWindows(plan, engine)
        self._closed = ClosedWindows(plan, engine)
        self._keys = [WINDOW_START, *plan.by]
        self._known = GoldKeys(table, self._keys)
        self.closed_until: int | None = None

    # -- start --------------------------------------------------------------------------------------------------------

    def load(self, batch: int, closed_until: int | None) -> None:
        """Take up the state after `batch`: open windows from silver rows up to it."""
        self.absorbed = batch
        self.closed_until = closed_until
        if not self.plan.mergeable:
            return
        first_open = None if closed_until is None else self.plan.first_window_start(closed_until)
        for rows in self._silver.rows_since(self.plan, batch, first_open):
            partials = self._engine.query(self.plan.partial_sql, {"rows": rows})
            if first_open is not None:
                partials = partials.filter(pc.greater_equal(partials[WINDOW_START], micros(first_open)))
            self._open.add(partials)

    def fill(self, writer: Writer, batch: int, closed_until: int | None) -> None:
        """For a table that is new while silver is not: one commit with every closed window of history."""
        add: list[DataFile] = []
        if closed_until is not None:
            change = GoldChange()
            for rows in self._finals(batch, None, self.plan.first_window_start(closed_until)):
                self._append(change, rows)
                final = change.appended.pop()
                if final.num_rows:
                    add += self.table.write(align(stamp(final, batch), self.table.schema))
        self.load(batch, closed_until)
        self.table.commit(writer, batch=batch, add=add, txns=self._closed_txn())

    # -- one batch ----------------------------------------------------------------------------------------------------

    def change(self, batch: int, rows: pa.Table | None, closed_until: int | None) -> GoldChange:
        """Absorb a batch and advance `closed_until`; silver must hold the batch already. `rows` is what `plan.rows_sql`
        makes of its silver rows; None without any."""
        change = GoldChange()
        first_open = None if self.closed_until is None else self.plan.first_window_start(self.closed_until)
        if rows is not None:
            self._absorb(change, batch, rows, first_open)
        if closed_until is not None and (self.closed_until is None or closed_until > self.closed_until):
            self._close(change, batch, first_open, self.plan.first_window_start(closed_until))
            self.closed_until = closed_until
        self.absorbed = batch
        return change

    def end_of_all(self) -> int | None:
        """The end of the last window that silver's latest event is in; None without events."""
        last = self._silver.last_event_time()
        return None if last is None else self.plan.last_window_end(last)

    def _absorb(self, change: GoldChange, batch: int, rows: pa.Table, first_open: int | None) -> None:
        if first_open is not None:
            late = rows.filter(pc.less(rows[WINDOW_START], micros(first_open)))
            if late.num_rows:
                self._correct(change, batch, late)
            rows = rows.filter(pc.greater_equal(rows[WINDOW_START], micros(first_open)))
        if self.plan.mergeable:
            self._open.add(rows)

    def _close(self, change: GoldChange, batch: int, first_open: int | None, next_open: int) -> None:
        """Finish the windows that start in [first_open, next_open)."""
        if first_open == next_open:
            return
        floor = self._open.silver_floor
        if floor > -ALWAYS and (first_open is None or first_open < floor):
            for rows in self._finals(batch, first_open, min(next_open, floor)):
                self._append(change, rows)
        closing = self._open.take_before(next_open)
        if closing is not None:
            self._append(change, self._final(closing))
            self._closed.add(closing)

    # -- corrections --------------------------------------------------------------------------------------------------

    def _correct(self, change: GoldChange, batch: int, late: pa.Table) -> None:
        """Late rows touched closed windows: append, or merge with the cache, or compute from silver."""
        existing, change.files = self._locate(late)
        is_there = self._matches(late, existing)
        fresh, late = late.filter(pc.invert(is_there)), late.filter(is_there)
        if not self.plan.mergeable:
            self._recompute(change, batch, change.appended, fresh)
            self._recompute(change, batch, change.corrected, late)
            return
        if fresh.num_rows:  # no row of the window came before, so its partial is complete
            self._append(change, self._final(fresh))
            self._closed.add(fresh)
        cached = self._closed.all()
        if cached is not None and late.num_rows:
            known = cached.filter(self._matches(cached, late))
            is_known = self._matches(late, known)
            touching, late = late.filter(is_known), late.filter(pc.invert(is_known))
            if touching.num_rows:
                self._closed.add(touching)
                self._note(change, change.corrected, self._final(pa.concat_tables([known, touching])))
        self._recompute(change, batch, change.corrected, late)

    def _recompute(self, change: GoldChange, batch: int, where: list[pa.Table], touched: pa.Table) -> None:
        """Final rows of the touched windows, from silver. Late rows seldom come alone: the partials are remembered."""
        if not touched.num_rows:
            return
        if not self.plan.mergeable:
            for rows in self._silver.touched(self.plan, self.plan.recompute_sql, batch, touched):
                self._note(change, where, rows.filter(self._matches(rows, touched)))
            return
        for partials in self._silver.touched(self.plan, self.plan.partial_sql, batch, touched):
            self._note(change, where, self._final(partials.filter(self._matches(partials, touched))))
            cached = self._closed.all()
            if cached is not None:
                partials = partials.filter(pc.invert(self._matches(partials, cached)))
            self._closed.add(partials)

    def _finals(self, batch: int, start: int | None, end: int) -> Iterator[pa.Table]:
        """Final rows of the windows that start in [start, end), from silver."""
        return self._silver.between(self.plan, self.plan.recompute_sql, batch, start, end)

    def _locate(self, touched: pa.Table) -> tuple[pa.Table, list[DataFile]]:
        """The touched keys that have a gold row, and the files that hold these rows."""
        none = touched.select(self._keys).slice(0, 0)
        existing, holding = [none], []
        for files, pieces in self._shares(self._files_holding(touched)):
            keys = pa.concat_tables([piece.cast(none.schema) for piece in pieces])
            found = self._matches(keys, touched)
            owners = np.repeat(np.arange(len(files)), [piece.num_rows for piece in pieces])
            holding += [files[at] for at in np.unique(owners[np.asarray(found)]).tolist()]
            existing.append(keys.filter(found))
        return pa.concat_tables(existing), holding

    def _shares(self, files: Sequence[DataFile]) -> Iterator[tuple[list[DataFile], list[pa.Table]]]:
        """Files and their keys, of so many at a time as are looked at together."""
        share: list[DataFile] = []
        pieces: list[pa.Table] = []
        size = 0
        for file in files:
            share.append(file)
            pieces.append(self._known.of(file))
            size += pieces[-1].nbytes
            if size >= GOLD_KEYS_BYTES_MAX:
                yield share, pieces
                share, pieces, size = [], [], 0
        if share:
            yield share, pieces

    def _files_holding(self, touched: pa.Table) -> list[DataFile]:
        """The live files whose window starts may include a touched one."""
        starts = unique_starts(touched)
        holding = []
        for file in self.table.files():
            low, high = window_bounds(file)
            at = starts.searchsorted(low)
            if at < len(starts) and starts[at] <= high:
                holding.append(file)
        return holding

    # -- commit -------------------------------------------------------------------------------------------------------

    def commit(self, writer: Writer, batch: int, change: GoldChange) -> tuple[list[DataFile], int]:
        """Write a change as one commit of `batch`; returns the new files and the table's version."""
        near, add = self._left_alone(change)
        rows = [stamp(table, batch) for table in (*change.appended, *change.corrected) if table.num_rows]
        add += self._written([*near, *rows])
        version = self.table.commit(writer, batch=batch, add=add, remove=change.files, txns=self._closed_txn()).version
        return add, version

    def commit_position(self, writer: Writer) -> None:
        """Commit how far the table has come, without rows."""
        self.table.commit(writer, batch=self.absorbed, txns=self._closed_txn())

    def _closed_txn(self) -> dict[str, int]:
        return {} if self.closed_until is None else {closed_until_txn(self.plan.name): self.closed_until}

    def _left_alone(self, change: GoldChange) -> tuple[list[pa.Table], list[DataFile]]:
        """What the replaced files hold beside the corrected windows: rows near these, and new files of long runs, and
        of the former where there are too many."""
        near: list[pa.Table] = []
        size = 0
        add: list[DataFile] = []
        if change.files:
            keys = pa.concat_tables([table.select(self._keys) for table in change.corrected])
            touched = unique_starts(keys)
            for file in change.files:
                rows = pa.concat_tables(list(self.table.read(files=[file])))
                runs, others = parted(rows.filter(pc.invert(self._matches(rows, keys))), touched)
                near.append(others)
                size += others.nbytes
                for run in runs:
                    add += self._written([run])
                if size > MERGE_BYTES_MAX:
                    add += self._written(near)
                    near, size = [], 0
        return near, add

    def _written(self, pieces: Sequence[pa.Table]) -> list[DataFile]:
        if not pieces:
            return []
        return self.table.write(pa.concat_tables([align(rows, self.table.spec.file_schema) for rows in pieces]))

    # -- small things -------------------------------------------------------------------------------------------------

    def _final(self, partials: pa.Table) -> pa.Table:
        return self._engine.query(self.plan.final_sql, {"partials": partials})

    def _append(self, change: GoldChange, rows: pa.Table) -> None:
        self._note(change, change.appended, rows)

    def _note(self, change: GoldChange, where: list[pa.Table], rows: pa.Table) -> None:
        """Keep final rows, counting and dropping their `_overflows`."""
        for entry in pc.value_counts(pc.list_flatten(rows["_overflows"])).to_pylist():
            name = f"{self.plan.name}.{entry['values']}"
            change.overflows[name] = change.overflows.get(name, 0) + entry["counts"]
        where.append(rows.drop_columns(["_overflows"]))

    def _matches(self, left: pa.Table, right: pa.Table) -> pa.Array:
        """For each row of `left` whether `right` has a row of the same window and group; NULL equals NULL."""
        mask = np.array(pc.is_in(left[WINDOW_START], value_set=right[WINDOW_START].combine_chunks()))
        rows = np.flatnonzero(mask)
        if len(rows):
            mask[rows] = has_partner(left.select(self._keys).take(pa.array(rows)), right, self._keys)
        return pa.array(mask)


def stamp(rows: pa.Table, batch: int) -> pa.Table:
    """Say of each row which batch touched it last."""
    return rows.append_column(BATCH, pa.repeat(pa.scalar(batch, pa.int64()), rows.num_rows))


def window_bounds(file: DataFile) -> tuple[int, int]:
    """The file's earliest and latest window start in microseconds; all of time where statistics are missing."""
    return file.stats.get(WINDOW_START, (-ALWAYS, ALWAYS))
