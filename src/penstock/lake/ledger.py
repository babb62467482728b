"""The ledger: one row per batch, what it came to and which version of every table holds it.

The row's meaning is `model.batch.LedgerRow`; its columns are `layout.ledger_spec`. Consistent reads of many tables
start here: see `cuts.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import LakeCorrupt, check
from penstock.lake import layout
from penstock.lake.reading import Condition
from penstock.limits import LEDGER_ROWS_PER_READ
from penstock.model import columns as names
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.position import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.lake.datafile import DataFile
    from penstock.lake.fence import Writer
    from penstock.lake.table import Committed, Table

TIMES = ("written_at", "watermark", "closed_until")


def to_arrow(rows: Sequence[LedgerRow]) -> pa.Table:
    """`rows` with the columns of `layout.ledger_spec`, in the order given."""
    schema = layout.ledger_spec("any").schema
    return pa.Table.from_pylist([_to_dict(row) for row in rows], schema=schema)


def from_arrow(table: pa.Table) -> list[LedgerRow]:
    """The rows of a read of a ledger table, in the table's order."""
    for name in TIMES:  # as integers: a time outside Python's years must not stop a reader
        index = table.column_names.index(name)
        table = table.set_column(index, name, table.column(name).cast(layout.TIME).cast(pa.int64()))
    return [_from_dict(row) for row in table.to_pylist()]


class Ledger:
    """The ledger of one pipeline, over its table. Reads see the version the table's handle is at: `refresh` it."""

    def __init__(self, table: Table) -> None:
        kind, self.pipeline = layout.split_name(table.name)
        check(kind is layout.Kind.LEDGER, f"{table.name} is not a ledger")
        self.table = table

    def append(self, writer: Writer, row: LedgerRow) -> Committed:
        """Commit `row` durably as the ledger's batch `row.batch`. A row that is there already is not written again."""
        return self.table.commit(writer, batch=row.batch, add=self.table.write(to_arrow([row])))

    def position(self) -> int:
        """The last batch the ledger has absorbed; 0 when there is none."""
        return self.table.txn(names.batch_txn(self.pipeline)) or 0

    def rows(self, from_batch: int = 1, to_batch: int | None = None) -> Iterator[LedgerRow]:
        """The rows of the batches `from_batch`..`to_batch` (inclusive; None: the last), in order, streaming."""
        last = self.position() if to_batch is None else min(to_batch, self.position())
        for first in range(from_batch, last + 1, LEDGER_ROWS_PER_READ):
            bounds = (first, min(first + LEDGER_ROWS_PER_READ - 1, last))
            found = [row for part in self.table.read(batches=bounds) for row in from_arrow(part)]
            yield from sorted(found, key=lambda row: row.batch)

    def row(self, batch: int) -> LedgerRow | None:
        """The row of `batch`; None where the ledger has none (yet).

        Raises:
            LakeCorrupt: there is more than one.
        """
        found = [row for part in self.table.read(batches=(batch, batch)) for row in from_arrow(part)]
        if len(found) > 1:
            raise LakeCorrupt(f"{self.table.name} has {len(found)} rows for batch {batch}")
        return found[0] if found else None

    def last(self) -> LedgerRow | None:
        """The row of the ledger's position; None in an empty ledger.

        Raises:
            LakeCorrupt: the ledger's position says that there is a row, and there is none.
        """
        position = self.position()
        if position == 0:
            return None
        row = self.row(position)
        if row is None:
            raise LakeCorrupt(f"{self.table.name} is at batch {position}, but has no row for it")
        return row

    def at(self, time: int) -> LedgerRow | None:
        """The last row (by batch) that was written at or before `time`, microseconds since the epoch, or None.

        Reads only the files whose statistics say that they can hold a later batch than the best one found so far.
        """
        best = 0
        wanted = Condition(("written_at",), pc.field("written_at") <= pa.scalar(time, layout.TIME))
        for file in sorted(self.table.files(), key=_last_batch, reverse=True):
            if _last_batch(file) <= best:
                break
            for part in self.table.read(columns=[names.BATCH], condition=wanted, files=[file]):
                best = max(best, pc.max(part.column(names.BATCH)).as_py() or 0)
        return self.row(best) if best else None


def _last_batch(file: DataFile) -> float:
    """The highest batch of a file, or infinity where its statistics do not say."""
    bounds = file.stats.get(names.BATCH)
    return float("inf") if bounds is None else float(bounds[1])


def _to_dict(row: LedgerRow) -> dict[str, Any]:
    return {
        names.BATCH: row.batch,
        "written_at": row.written_at,
        "ranges": [
            {
                "source": one.source,
                "partition": one.partition,
                "start_offset": one.start,
                "end_offset": one.end,
                "hint": one.hint,
            }
            for one in row.ranges
        ],
        **{name: getattr(row.counts, name) for name in layout.LEDGER_COUNTS},
        "rules": _structs(row.counts.rules, "rule", "rows"),
        "overflows": _structs(row.counts.overflows, "measure", "windows"),
        "contract": row.pins.contract,
        "refine": row.pins.refine,
        "references": _structs(row.pins.references, "reference", "version"),
        "watermark": row.watermark,
        "closed_until": row.closed_until,
        "versions": _structs(row.versions, "table", "version"),
        "seconds": None if row.seconds is None else _structs(row.seconds, "step", "seconds"),
        "bytes": None if row.bytes is None else _structs(row.bytes, "table", "bytes"),
    }


def _from_dict(row: dict[str, Any]) -> LedgerRow:
    return LedgerRow(
        batch=row[names.BATCH],
        ranges=tuple(
            Range(one["source"], one["partition"], one["start_offset"], one["end_offset"], one["hint"] or "")
            for one in row["ranges"]
        ),
        counts=BatchCounts(
            **{name: row[name] for name in layout.LEDGER_COUNTS},
            rules=_pairs(row["rules"], "rule", "rows"),
            overflows=_pairs(row["overflows"], "measure", "windows"),
        ),
        pins=Pins(row["contract"], row["refine"], _pairs(row["references"], "reference", "version")),
        watermark=row["watermark"],
        closed_until=row["closed_until"],
        versions=_pairs(row["versions"], "table", "version"),
        seconds=None if row["seconds"] is None else _pairs(row["seconds"], "step", "seconds"),
        bytes=None if row["bytes"] is None else _pairs(row["bytes"], "table", "bytes"),
        written_at=row["written_at"],
    )


def _structs(pairs: Sequence[tuple[str, Any]], name: str, value: str) -> list[dict[str, Any]]:
    return [{name: pair[0], value: pair[1]} for pair in pairs]


def _pairs(structs: Sequence[dict[str, Any]] | None, name: str, value: str) -> tuple[tuple[str, Any], ...]:
    return tuple((struct[name], struct[value]) for struct in structs or ())
