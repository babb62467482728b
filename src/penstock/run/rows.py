"""Small helpers on Arrow tables that several steps share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.lake.schema import align
from penstock.model.columns import INDEX, PLACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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


def has_partner(left: pa.Table, right: pa.Table, keys: Sequence[str]) -> NDArray[np.bool_]:
    """For each row of `left` whether `right` has a row of the same `keys`, told apart as a query's groups are: NULL is
    NULL, any NaN is any other, and 0.0 is -0.0."""
    codes = np.zeros(left.num_rows + right.num_rows, np.int64)
    for name in keys:
        other = right[name].cast(left.schema.field(name).type)
        values = pa.chunked_array([*left[name].chunks, *other.chunks], other.type)
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), float("nan"), pc.add(values, pa.scalar(0.0, values.type)))
        encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        codes = np.unique(codes, return_inverse=True)[1]
    found: NDArray[np.bool_] = np.isin(codes[: left.num_rows], codes[left.num_rows :])
    return found
