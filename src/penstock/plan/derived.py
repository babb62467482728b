"""Lookup and sql columns as SQL layers: values that come from other columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.model.types import ColumnType
from penstock.plan.casts import cast
from penstock.plan.forms import Form, sql_type
from penstock.plan.numbers import exact_number
from penstock.plan.sqltext import identifier
from penstock.plan.times import in_range

if TYPE_CHECKING:
    from penstock.model.pipeline import Column, Lookup
    from penstock.plan.resolve import Resolved
    from penstock.plan.sqltext import Layers

TIMESTAMP = ColumnType("timestamp")

_NUMBERS = (
    "(typeof({value}) IN ('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UTINYINT', 'USMALLINT', 'UINTEGER', "
    "'UBIGINT', 'UHUGEINT', 'FLOAT', 'DOUBLE') OR typeof({value}) LIKE 'DECIMAL%')"
)


def add_columns(layers: Layers, resolved: Resolved) -> None:
    """Add the lookup and sql columns, group by group, each column under its name.

    A sql column also leaves `_t_<name>`: a struct with its untyped value, NULL where the expression raised.
    """
    columns = {column.name: column for column in resolved.pipeline.silver.columns}
    for group in resolved.groups:
        _add_lookups(layers, resolved, [columns[name] for name in group if columns[name].lookup is not None])
        computed = [columns[name] for name in group if columns[name].sql is not None]
        layers.add([(f"_t_{column.name}", f"TRY({{'v': {resolved.sql[column.name].sql}}})") for column in computed])
        layers.add([(column.name, _exactly(column)) for column in computed])


def _add_lookups(layers: Layers, resolved: Resolved, columns: list[Column]) -> None:
    """One join per reference and columns `on`; the reference's key is unique, so no event is doubled."""
    reference_keys = {reference.name: reference.key for reference in resolved.pipeline.references}
    joins: dict[tuple[str, tuple[str, ...]], str] = {}
    added, tail = [], ""
    for column in columns:
        lookup = column.lookup
        assert lookup is not None
        same = (lookup.reference, lookup.on)
        if same not in joins:
            joins[same] = f"r{len(joins)}"
            tail += _join(lookup, reference_keys[lookup.reference], joins[same])
        added.append((column.name, f"{joins[same]}.{identifier(lookup.column)}"))
    layers.add(added, tail)


def _join(lookup: Lookup, key: tuple[str, ...], alias: str) -> str:
    pairs = zip(lookup.on, key, strict=True)
    condition = " AND ".join(f"e.{identifier(own)} = {alias}.{identifier(other)}" for own, other in pairs)
    return f"\nLEFT JOIN {identifier('reference_' + lookup.reference)} AS {alias} ON {condition}"


def _exactly(column: Column) -> str:
    """The value of a sql column in its declared type where that type holds it, else NULL.

    What a number or a text is allowed to become is what a raw field may; the arms that do not fit the expression's
    type fall away when DuckDB binds `typeof`.
    """
    assert column.type is not None
    value, kind = f"e._t_{column.name}.v", column.type.kind
    text = f"CAST({value} AS VARCHAR)"
    wanted = f"TRY_CAST({value} AS {sql_type(column.type)})"
    arms = [("FALSE", wanted)]
    if column.type.is_float:
        arms = [(_NUMBERS.replace("{value}", value), f"CASE WHEN isfinite({wanted}) THEN {wanted} END")]
    elif column.type.is_number:
        arms = [(_NUMBERS.replace("{value}", value), f"CASE WHEN {wanted} = {value} THEN {wanted} END")]
    elif kind == "boolean":
        arms = [(f"typeof({value}) = 'BOOLEAN'", wanted)]
    elif kind == "date":
        midnight = f"CASE WHEN TRY_CAST({wanted} AS TIMESTAMP) = TRY_CAST({value} AS TIMESTAMP) THEN {wanted} END"
        arms = [(f"typeof({value}) = 'DATE' OR typeof({value}) LIKE 'TIMESTAMP%'", midnight)]
    elif kind == "timestamp":
        instant = in_range(wanted)
        arms = [(f"typeof({value}) = 'DATE' OR typeof({value}) LIKE 'TIMESTAMP%'", instant)]
    elif kind == "binary":
        arms = [(f"typeof({value}) = 'BLOB'", wanted)]
    elif kind == "json":
        arms = [(f"typeof({value}) <> 'VARCHAR'", f"CAST(to_json({value}) AS VARCHAR)")]
    cases = " ".join(f"WHEN {condition} THEN {result}" for condition, result in arms)
    return f"CASE {cases} ELSE {_read(column, text)} END"


def _read(column: Column, text: str) -> str:
    """The value of text, as a raw field of plain text would be read; of times only the plain way is taken."""
    assert column.type is not None
    sql = cast(column, Form.TEXT)
    filled = sql.fast
    for number, probe in reversed(list(enumerate(sql.probes))):
        filled = filled.replace(f"{{p{number}}}", f"({probe})")
    filled = filled.replace("{value}", text)
    if column.type.is_integer or column.type.kind == "decimal":
        exotic = exact_number(text, scale=column.type.scale)
        return f"coalesce({filled}, TRY_CAST({exotic} AS {sql_type(column.type)}))"
    return filled
