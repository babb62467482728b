"""Rows of two tables are matched by their keys as DuckDB tells groups apart."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from penstock.run.rows import has_partner

VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "time": (pa.timestamp("us", "UTC"), [None, 1, 2, 3]),
    "number": (pa.float64(), [None, float("nan"), -float("nan"), 0.0, -0.0, 1.5]),
    "text": (pa.string(), [None, "", "a", "b"]),
    "exact": (pa.decimal128(10, 2), [None, Decimal("1.10"), Decimal(2)]),
    "flag": (pa.bool_(), [None, True, False]),
    "bytes": (pa.binary(), [None, b"", b"\0"]),
}


def some_rows(draw: random.Random) -> pa.Table:
    count = draw.choice([0, 1, 5, 60])
    columns = {name: pa.array(draw.choices(values, k=count), kind) for name, (kind, values) in VALUES.items()}
    return pa.table(columns)


@pytest.mark.parametrize("seed", range(40))
def test_partners_are_those_of_a_join_in_which_null_equals_null(seed: int) -> None:
    draw = random.Random(seed)
    left, right = some_rows(draw), some_rows(draw)
    keys = draw.sample(list(VALUES), draw.randrange(1, 4))
    same = " AND ".join(f"l.{key} IS NOT DISTINCT FROM r.{key}" for key in keys)
    with duckdb.connect() as database:
        database.register("l", left.append_column("row", pa.array(range(left.num_rows), pa.int64())))
        database.register("r", right)
        wanted = {row for (row,) in database.execute(f"SELECT l.row FROM l SEMI JOIN r ON {same}").fetchall()}
    assert {row for row, found in enumerate(has_partner(left, right, keys)) if found} == wanted
