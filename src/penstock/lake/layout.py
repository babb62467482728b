"""What every table in the lake looks like: its name, columns, partition, sort order and statistics.

Names are built here and nowhere else. How a table is written is in `table.py` and `parquet.py`, how its small files
become large ones in `maintenance.py`.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import InvariantBroken, LakeCorrupt, UsageError, check
from penstock.limits import FILE_BYTES_TARGET, GOLD_FILE_BYTES_TARGET
from penstock.model import columns as names
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIME = pa.timestamp("us", tz="UTC")
HEADERS = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())]))
PLACE_FIELDS = (
    pa.field(names.SOURCE, pa.int32()),
    pa.field(names.PARTITION, pa.int32()),
    pa.field(names.OFFSET, pa.int64()),
)

VERSION = "_version"
LOADED_AT = "_loaded_at"

# -- names of tables --------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """The folder a table lies in."""

    BRONZE = "bronze"
    SILVER = "silver"
    REJECTS = "rejects"
    GOLD = "gold"
    REFERENCES = "references"
    LEDGER = "ledger"
    CONTRACTS = "contracts"
    MANIFESTS = "manifests"


def table_name(kind: Kind, name: str) -> str:
    """The table's name in the lake, e.g. `bronze/market_ticks`: its folder below the lake's root."""
    return f"{kind.value}/{name}"


def split_name(table: str) -> tuple[Kind, str]:
    """The kind and the short name of `table`.

    Raises:
        UsageError: no table is called like that.
    """
    kind, slash, name = table.partition("/")
    if not slash or not name or "/" in name or kind not in set(Kind):
        kinds = ", ".join(Kind)
        raise UsageError(f"{table!r} is not a table's name", hint=f"Names look like silver/ticks; kinds are {kinds}.")
    return Kind(kind), name


# -- types ------------------------------------------------------------------------------------------------------------

_ARROW_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": TIME,
    "binary": pa.binary(),
    "json": pa.string(),
}
_COLUMN_KINDS = {arrow: kind for kind, arrow in _ARROW_TYPES.items() if kind != "json"}


def arrow_type(column_type: ColumnType) -> pa.DataType:
    """How a column of this type is stored. `json` is stored as its text."""
    if column_type.kind == "decimal":
        return pa.decimal128(column_type.precision, column_type.scale)
    return _ARROW_TYPES[column_type.kind]


def column_type(arrow: pa.DataType) -> ColumnType:
    """The type of a stored column. The inverse of `arrow_type`, except that `json` comes back as `string`.

    Raises:
        UsageError: no column type is stored like that.
    """
    if pa.types.is_decimal128(arrow) and arrow.scale >= 0:
        return ColumnType("decimal", arrow.precision, arrow.scale)
    kind = _COLUMN_KINDS.get(arrow)
    if kind is None:
        raise UsageError(f"no column type is stored as {arrow}", hint="Types are listed by `penstock schema`.")
    return ColumnType(kind)


# -- specs ------------------------------------------------------------------------------------------------------------


class Grain(StrEnum):
    """How much time one partition holds. `date` partitions are date32, `month` ones the text `YYYY-MM`."""

    DATE = "date"
    MONTH = "month"


@dataclass(frozen=True)
class PartitionRule:
    """The partition `column`, cut from the time column `source`."""

    column: str
    source: str
    grain: Grain


@dataclass(frozen=True)
class TableSpec:
    """A table: its name, its schema with the partition column LAST, how files are sorted and what they have min/max of.

    `sort` and `stats` name columns of `schema`. A stored table that gained columns has them after the partition column.
    """

    name: str
    schema: pa.Schema
    partition: PartitionRule | None
    sort: tuple[str, ...]
    stats: tuple[str, ...]

    def __post_init__(self) -> None:
        split_name(self.name)
        present = self.schema.names
        check(len(set(present)) == len(present), f"{self.name}: a column occurs twice in {present}")
        wanted = {*self.sort, *self.stats}
        if self.partition is not None:
            wanted |= {self.partition.column, self.partition.source}
        check(wanted <= set(present), f"{self.name}: no column {sorted(wanted - set(present))}")

    @property
    def kind(self) -> Kind:
        return split_name(self.name)[0]

    @property
    def partition_columns(self) -> tuple[str, ...]:
        return () if self.partition is None else (self.partition.column,)

    @property
    def file_schema(self) -> pa.Schema:
        """The columns a Parquet file holds: all but the partition column."""
        return pa.schema([field for field in self.schema if field.name not in self.partition_columns])

    def partition_values(self, table: pa.Table) -> pa.Array:
        """The partition column's values for the rows of `table`, as the text Delta keeps (null where the time is)."""
        check(self.partition is not None, f"{self.name} has no partition")
        assert self.partition is not None
        times = table.column(self.partition.source)
        return _month_texts(times) if self.partition.grain is Grain.MONTH else _date_texts(times)

    def properties(self) -> dict[str, str]:
        """What the stored schema does not say, for the Delta table's configuration."""
        text = {"penstock.sort": json.dumps(self.sort), "penstock.stats": json.dumps(self.stats)}
        if self.partition is not None:
            rule = self.partition
            text["penstock.partition"] = json.dumps([rule.column, rule.source, rule.grain.value])
        return text | {_CHECK: _check_of(text)}

    @classmethod
    def stored(cls, name: str, schema: pa.Schema, properties: Mapping[str, str]) -> TableSpec:
        """The spec of a stored table: its schema with what `properties` kept in its configuration.

        Raises:
            UsageError: the table is not one of ours.
            LakeCorrupt: the configuration is not what was written.
        """
        text = {key: value for key, value in properties.items() if key.startswith("penstock.") and key != _CHECK}
        if not text:
            raise UsageError(
                f"{name} is a Delta table, but not one that Penstock wrote",
                hint="Choose another lake folder, or move that table out of it.",
            )
        if properties.get(_CHECK) != _check_of(text):
            raise LakeCorrupt(
                f"{name}: what the log says of its order and partition is not what was written",
                hint="Restore the table's _delta_log from a backup or a replica of the lake.",
            )
        sort, stats = json.loads(text["penstock.sort"]), json.loads(text["penstock.stats"])
        rule = json.loads(text.get("penstock.partition", "null"))
        partition = None if rule is None else PartitionRule(rule[0], rule[1], Grain(rule[2]))
        return cls(name, schema, partition, tuple(sort), tuple(stats))

    @property
    def file_bytes(self) -> int:
        """The size that upkeep makes files of."""
        return GOLD_FILE_BYTES_TARGET if split_name(self.name)[0] is Kind.GOLD else FILE_BYTES_TARGET

    def additions(self, wanted: TableSpec) -> tuple[pa.Field, ...]:
        """The columns `wanted` has and this (stored) table lacks, in `wanted`'s order.

        Raises:
            UsageError: a column of both has another type in `wanted`.
        """
        added = []
        for field in wanted.schema:
            index = self.schema.get_field_index(field.name)
            if index < 0:
                added.append(field)
            elif self.schema.field(index).type != field.type:
                raise UsageError(
                    f"{self.name}: column {field.name} is stored as {self.schema.field(index).type}, not {field.type}",
                    hint="A stored column keeps its type; give the new one another name.",
                )
        return tuple(added)


_CHECK = "penstock.check"
"""In a table's configuration: a digest of our other entries there. Nothing else notices a flipped bit in them."""


def _check_of(text: Mapping[str, str]) -> str:
    return f"{zlib.crc32(json.dumps(text, sort_keys=True).encode()):08x}"


def _per_distinct(values: np.ndarray, valid: np.ndarray, texts: dict[int, str]) -> pa.Array:
    """`texts[value]` for every value, null where not `valid`. There are few distinct values."""
    distinct = pa.array(list(texts), pa.int64())
    dictionary = pa.array(list(texts.values()), pa.string())
    indices = pc.index_in(pa.array(values, mask=~valid), value_set=distinct)
    return dictionary.take(indices)


def _units(times: pa.ChunkedArray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Whole months or days since 1970 (rounded down), and where the times are not null."""
    valid = np.asarray(times.is_valid())
    micros = np.asarray(times.cast(TIME).cast(pa.int64()).fill_null(0))
    return micros.astype("datetime64[us]").astype(f"datetime64[{unit}]").astype(np.int64), valid


def _month_texts(times: pa.ChunkedArray) -> pa.Array:
    months, valid = _units(times, "M")
    return _per_distinct(months, valid, {int(month): month_text(int(month)) for month in np.unique(months[valid])})


def _date_texts(times: pa.ChunkedArray) -> pa.Array:
    days, valid = _units(times, "D")
    return _per_distinct(days, valid, {int(day): date_text(int(day)) for day in np.unique(days[valid])})


def month_text(month: int) -> str:
    """Months since January 1970 as `YYYY-MM`; years before 0 as `-YYYY-MM`, years past 9999 with all their digits."""
    year = 1970 + month // 12
    sign = "-" if year < 0 else ""
    return f"{sign}{abs(year):04d}-{month % 12 + 1:02d}"


def date_text(day: int) -> str:
    """Days since 1 January 1970 as `YYYY-MM-DD`, with years as in `month_text`."""
    month = np.datetime64(day, "D").astype("datetime64[M]")
    first = month.astype("datetime64[D]").astype(np.int64)
    return f"{month_text(int(month.astype(np.int64)))}-{day - int(first) + 1:02d}"


# -- one function per kind of table -----------------------------------------------------------------------------------


def bronze_spec(pipeline: str) -> TableSpec:
    """Every record as received, sorted by place."""
    schema = pa.schema(
        [
            *PLACE_FIELDS,
            pa.field(names.TIMESTAMP, TIME),
            pa.field(names.INGESTED_AT, TIME),
            pa.field(names.BATCH, pa.int64()),
            pa.field("key", pa.binary()),
            pa.field("value", pa.binary()),
            pa.field("headers", HEADERS),
            pa.field(names.DATE, pa.date32()),
        ]
    )
    return TableSpec(
        name=table_name(Kind.BRONZE, pipeline),
        schema=schema,
        partition=PartitionRule(names.DATE, names.INGESTED_AT, Grain.DATE),
        sort=names.PLACE,
        stats=(*names.PLACE, names.TIMESTAMP, names.INGESTED_AT, names.BATCH),
    )


def silver_spec(
    table: str, columns: Sequence[tuple[str, ColumnType]], event_time: str, key: Sequence[str] = ()
) -> TableSpec:
    """Accepted events: the user's `columns` in table order, then ours; sorted by `event_time`."""
    schema = pa.schema(
        [
            *(pa.field(name, arrow_type(kind)) for name, kind in columns),
            *PLACE_FIELDS,
            pa.field(names.INDEX, pa.int32()),
            pa.field(names.TIMESTAMP, TIME),
            pa.field(names.INGESTED_AT, TIME),
            pa.field(names.BATCH, pa.int64()),
            pa.field(names.FLAGS, pa.list_(pa.string())),
            pa.field(names.EXTRA, pa.string()),
            pa.field(names.MONTH, pa.string()),
        ]
    )
    return TableSpec(
        name=table_name(Kind.SILVER, table),
        schema=schema,
        partition=PartitionRule(names.MONTH, event_time, Grain.MONTH),
        sort=(event_time,),
        stats=_with_statistics(schema, (event_time, *key, *names.PLACE, names.INGESTED_AT, names.BATCH)),
    )


def rejects_spec(pipeline: str) -> TableSpec:
    """Quarantined and duplicate events with their raw value; sorted by place."""
    schema = pa.schema(
        [
            *PLACE_FIELDS,
            pa.field(names.INDEX, pa.int32()),
            pa.field(names.TIMESTAMP, TIME),
            pa.field(names.INGESTED_AT, TIME),
            pa.field(names.BATCH, pa.int64()),
            pa.field("disposition", pa.string()),
            pa.field("failed", pa.list_(pa.string())),
            pa.field("detail", pa.string()),
            pa.field("value", pa.binary()),
            pa.field("winner_source", pa.int32()),
            pa.field("winner_partition", pa.int32()),
            pa.field("winner_offset", pa.int64()),
            pa.field("winner_index", pa.int32()),
            pa.field("contract", pa.int64()),
            pa.field(names.DATE, pa.date32()),
        ]
    )
    return TableSpec(
        name=table_name(Kind.REJECTS, pipeline),
        schema=schema,
        partition=PartitionRule(names.DATE, names.INGESTED_AT, Grain.DATE),
        sort=(*names.PLACE, names.INDEX),
        stats=(*names.PLACE, names.INGESTED_AT, names.BATCH),
    )


def gold_spec(name: str, by: Sequence[pa.Field], measures: Sequence[pa.Field]) -> TableSpec:
    """One row per `by` and closed window; the fields' Arrow types are what the engine found by binding the SQL."""
    schema = pa.schema(
        [
            pa.field(names.WINDOW_START, TIME),
            pa.field(names.WINDOW_END, TIME),
            *by,
            *measures,
            pa.field(names.ROWS, pa.int64()),
            pa.field(names.BATCH, pa.int64()),
            pa.field(names.MONTH, pa.string()),
        ]
    )
    by_names = tuple(field.name for field in by)
    return TableSpec(
        name=table_name(Kind.GOLD, name),
        schema=schema,
        partition=PartitionRule(names.MONTH, names.WINDOW_START, Grain.MONTH),
        sort=(names.WINDOW_START, *by_names),
        stats=_with_statistics(schema, (names.WINDOW_START, names.WINDOW_END, *by_names, names.BATCH)),
    )


def _counts_of(name: str, value: str, value_type: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([pa.field(name, pa.string()), pa.field(value, value_type)]))


LEDGER_RANGES = pa.list_(
    pa.struct(
        [
            pa.field("source", pa.int32()),
            pa.field("partition", pa.int32()),
            pa.field("start_offset", pa.int64()),
            pa.field("end_offset", pa.int64()),
            pa.field("hint", pa.string()),
        ]
    )
)
"""The ranges of a batch; `end_offset` is the first offset that is not in it."""


def ledger_spec(pipeline: str) -> TableSpec:
    """One row per batch. `model.batch.LedgerRow` says what the columns mean."""
    schema = pa.schema(
        [
            pa.field(names.BATCH, pa.int64()),
            pa.field("written_at", TIME),
            pa.field("ranges", LEDGER_RANGES),
            *(pa.field(name, pa.int64()) for name in LEDGER_COUNTS),
            pa.field("rules", _counts_of("rule", "rows", pa.int64())),
            pa.field("overflows", _counts_of("measure", "windows", pa.int64())),
            pa.field("contract", pa.int64()),
            pa.field("refine", pa.int64()),
            pa.field("references", _counts_of("reference", "version", pa.int64())),
            pa.field("watermark", TIME),
            pa.field("closed_until", TIME),
            pa.field("versions", _counts_of("table", "version", pa.int64())),
            pa.field("seconds", _counts_of("step", "seconds", pa.float64())),
            pa.field("bytes", _counts_of("table", "bytes", pa.int64())),
        ]
    )
    return TableSpec(table_name(Kind.LEDGER, pipeline), schema, None, (names.BATCH,), (names.BATCH, "written_at"))


LEDGER_COUNTS = ("records", "events", "accepted", "quarantined", "duplicate", "skipped", "flagged")
"""The ledger's plain counts, in the order of `model.batch.BatchCounts`."""


def contracts_spec(pipeline: str) -> TableSpec:
    """Applied declarations (`kind` contract) and the source's incarnations (`kind` source; `version` is the number, and
    `text` where it was told to begin)."""
    schema = pa.schema(
        [
            pa.field("kind", pa.string()),
            pa.field("version", pa.int64()),
            pa.field("hash", pa.string()),
            pa.field("text", pa.string()),
            pa.field("applied_at", TIME),
            pa.field("source_kind", pa.string()),
            pa.field("source_name", pa.string()),
            pa.field("source_id", pa.string()),
        ]
    )
    return TableSpec(table_name(Kind.CONTRACTS, pipeline), schema, None, ("kind", "version"), ("kind", "version"))


def manifest_spec(pipeline: str) -> TableSpec:
    """What was learned of a files source's files, in order of `sequence`; `sources/manifest.py` says what it means."""
    schema = pa.schema(
        [
            pa.field("sequence", pa.int64(), nullable=False),
            pa.field("source", pa.int32(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("mtime_us", pa.int64(), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("first_offset", pa.int64(), nullable=False),
            pa.field("records", pa.int64(), nullable=False),
            pa.field("state", pa.string(), nullable=False),
        ]
    )
    return TableSpec(table_name(Kind.MANIFESTS, pipeline), schema, None, ("sequence",), ("sequence", "first_offset"))


def reference_spec(name: str, schema: pa.Schema) -> TableSpec:
    """Every load of a reference adds all its rows (`schema` is the loaded file's), under the next `_version`."""
    fields = [*schema, pa.field(VERSION, pa.int64()), pa.field(LOADED_AT, TIME)]
    taken = {VERSION, LOADED_AT} & set(schema.names)
    if taken:
        raise UsageError(
            f"reference {name} has a column called {min(taken)}",
            hint="Columns that begin with an underscore are ours; rename it in the file.",
        )
    return TableSpec(table_name(Kind.REFERENCES, name), pa.schema(fields), None, (VERSION,), (VERSION,))


def _with_statistics(schema: pa.Schema, wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns of `wanted`, once each, whose values have a minimum and a maximum worth keeping."""
    kept: dict[str, None] = {}
    for name in wanted:
        arrow = schema.field(name).type
        if pa.types.is_nested(arrow) or pa.types.is_binary(arrow) or pa.types.is_boolean(arrow):
            continue
        kept[name] = None
    return tuple(kept)


def spec_order(table: pa.Table, spec: TableSpec) -> pa.Table:
    """`table` with exactly the columns of `spec.file_schema`, in that order and type; missing ones are null.

    Raises:
        InvariantBroken: a column the table has does not cast to the spec's type without loss, or is not in the spec.
    """
    strangers = set(table.column_names) - set(spec.schema.names)
    check(not strangers, f"{spec.name} has no column {sorted(strangers)}")
    columns = []
    for field in spec.file_schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            columns.append(table.column(field.name).cast(field.type))
        except pa.ArrowInvalid as error:
            raise InvariantBroken(f"{spec.name}.{field.name}: {error}") from error
    return pa.Table.from_arrays(columns, schema=spec.file_schema)
