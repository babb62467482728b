"""Our types as expressions write and DuckDB spells them."""

from __future__ import annotations

import re

from penstock.model.types import ColumnType
from penstock.plan.functions import ANY, BOOLEAN, NUMBER, TEXT, TIME

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "binary": "BLOB",
    "json": "JSON",
}
"""Our types as DuckDB calls them; decimals take their numbers along."""

SYNONYMS = {
    "varchar": "string",
    "text": "string",
    "char": "string",
    "tinyint": "int8",
    "smallint": "int16",
    "short": "int16",
    "integer": "int32",
    "int": "int32",
    "int4": "int32",
    "bigint": "int64",
    "long": "int64",
    "real": "float32",
    "float4": "float32",
    "float": "float32",
    "double": "float64",
    "float8": "float64",
    "bool": "boolean",
    "timestamptz": "timestamp",
    "datetime": "timestamp",
    "blob": "binary",
    "bytea": "binary",
    "numeric": "decimal(18,3)",
    "decimal": "decimal(18,3)",
}
"""SQL's names of our types. `int8` is ours (8 bits), not PostgreSQL's (8 bytes)."""


def type_named(name: str) -> ColumnType | None:
    """The type that `name` (ours or SQL's) means in a cast, or None."""
    spelled = re.sub(r"^(?:numeric|dec)\b", "decimal", name)
    match = re.fullmatch(r"decimal\((\d{1,2})\)", spelled)
    if match:
        spelled = f"decimal({match[1]},0)"
    try:
        return ColumnType.parse(SYNONYMS.get(spelled, spelled))
    except ValueError:
        return None


def duckdb_type(column_type: ColumnType) -> str:
    """A type of ours as DuckDB writes it."""
    if column_type.kind == "decimal":
        return f"DECIMAL({column_type.precision},{column_type.scale})"
    return DUCKDB_TYPES[column_type.kind]


def kind_of_type(column_type: ColumnType) -> str:
    """The kind of values of a type."""
    if column_type.is_number:
        return NUMBER
    return {"string": TEXT, "boolean": BOOLEAN, "date": TIME, "timestamp": TIME}.get(column_type.kind, ANY)
