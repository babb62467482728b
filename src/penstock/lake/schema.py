"""Columns as Delta stores them, as the plain Arrow types the rest of Penstock compares with."""

from __future__ import annotations

import pyarrow as pa


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` without what a round trip through Delta adds: names of list elements, field metadata."""
    return pa.schema([pa.field(field.name, _plain(field.type), field.nullable) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(child.name, _plain(child.type), child.nullable) for child in kind])
    return kind


def align(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` that `rows` has, in the schema's order and types."""
    fields = [item for item in schema if item.name in rows.schema.names]
    return rows.select([item.name for item in fields]).cast(pa.schema(fields))
