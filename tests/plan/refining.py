"""Runs the refine SQL in a plain DuckDB over records given as bytes, for the tests of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from penstock.model.fields import FieldPath
from penstock.model.pipeline import Column, JsonFormat, Pipeline, PushSource, Silver, Source
from penstock.model.types import ColumnType
from penstock.plan.nouns import UNDECIDED
from penstock.plan.refine import compile_refine
from penstock.plan.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.plan.nouns import RefinePlan

HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
TIME = pa.timestamp("us", "UTC")
NOW = 1_763_600_000_000_000


def path(*steps: str | int, envelope: bool = False) -> FieldPath:
    return FieldPath(tuple(steps), envelope)


def column(name: str, type_text: str, *steps: str | int, **more: Any) -> Column:
    """A column read from the field of its own name, unless steps say otherwise."""
    return Column(name, ColumnType.parse(type_text), path=path(*(steps or (name,))), **more)


def pipeline(*columns: Column, source: Source | None = None, **more: Any) -> Pipeline:
    references = more.pop("references", ())
    return Pipeline("p", source or Source(PushSource(), JsonFormat()), Silver("t", columns, **more), references)


def records(
    values: Sequence[bytes | None],
    *,
    headers: Sequence[Sequence[tuple[str, bytes]]] | None = None,
    keys: Sequence[bytes | None] | None = None,
    timestamps: Sequence[int | None] | None = None,
    ingested_at: int = NOW,
) -> pa.Table:
    size = len(values)
    entries = [[{"key": k, "value": v} for k, v in row] for row in headers] if headers else [[]] * size
    return pa.table(
        {
            "_source": pa.array([1] * size, pa.int32()),
            "_partition": pa.array([0] * size, pa.int32()),
            "_offset": pa.array(range(size), pa.int64()),
            "_timestamp": pa.array(timestamps or [NOW] * size, TIME),
            "_ingested_at": pa.array([ingested_at] * size, TIME),
            "key": pa.array(keys or [None] * size, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "headers": pa.array(entries, HEADERS),
            "_row": pa.array(range(size), pa.int64()),
        }
    )


@dataclass
class Refinery:
    """A compiled pipeline with a DuckDB to run it in."""

    pipeline: Pipeline
    types: Mapping[str, Mapping[str, ColumnType]] = field(default_factory=dict)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    threads: int = 2
    decided: int = 0
    """How many of the last records the short query decided about."""

    def __post_init__(self) -> None:
        resolved = resolve(self.pipeline, self.types)
        assert resolved.findings == ()
        self.plan: RefinePlan = compile_refine(resolved)
        self.database = duckdb.connect(config={"threads": self.threads})
        self.database.execute("SET TimeZone = 'UTC'")
        for function in self.plan.functions:
            self.database.create_function(
                function.name,
                function.call,
                list(function.arguments),
                function.returns,
                type="arrow",
                null_handling="special",
                side_effects=False,
            )
        for name, table in self.tables.items():
            self.database.register(f"reference_{name}", table)

    def table(self, rows: pa.Table) -> pa.Table:
        self.database.register("records", rows)
        for name, side in self.plan.side_tables(rows).items():
            self.database.register(name, side)
        whole = self._query(self.plan.sql)
        if self.plan.plain_sql is not None:
            self._compare(whole, self._query(self.plan.plain_sql))
        return whole

    def _query(self, sql: str) -> pa.Table:
        return self.database.sql(f"SELECT * FROM ({sql}) ORDER BY _row, _index").to_arrow_table()

    def _compare(self, whole: pa.Table, plain: pa.Table) -> None:
        """What the short query decides is what the whole one says, to the last column."""
        assert plain["_row"].to_pylist() == whole["_row"].to_pylist()
        decided = pc.not_equal(plain["_status"], UNDECIDED)
        assert whole.filter(decided).equals(plain.filter(decided))
        self.decided = pc.sum(decided).as_py() or 0

    def rows(self, *values: bytes | None, **more: Any) -> list[dict[str, Any]]:
        return self.table(records(values, **more)).to_pylist()


def refine(declared: Pipeline, *values: bytes | None, **more: Any) -> list[dict[str, Any]]:
    """The events of these records, as dictionaries."""
    return Refinery(declared).rows(*values, **more)
