"""Small helpers on Arrow tables that several steps share."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from penstock.model.columns import INDEX, PLACE


def align(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` that `rows` has, in the schema's order and types."""
    fields = [item for item in schema if item.name in rows.schema.names]
    return rows.select([item.name for item in fields]).cast(pa.schema(fields))


def micros(value: int) -> pa.Scalar:
    """A time in microseconds since the epoch as an Arrow scalar."""
    return pa.scalar(value, pa.int64()).cast(pa.timestamp("us", "UTC"))


def latest(column: pa.ChunkedArray) -> int | None:
    """The latest time in microseconds; None for no rows."""
    value = pc.max(column)
    return int(value.cast(pa.int64()).as_py()) if value.is_valid else None


def same_rows(left: pa.Table, right: pa.Table, schema: pa.Schema) -> bool:
    """Whether two tables hold the same events, column by column as far as `right` has columns; the order is free."""
    if left.num_rows != right.num_rows:
        return False
    order = [(name, "ascending") for name in (*PLACE, INDEX)]
    wanted = align(right.sort_by(order), schema)
    return bool(align(left.sort_by(order), wanted.schema).equals(wanted))
