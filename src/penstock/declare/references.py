"""`references:` of a declaration: tables of facts that columns look values up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.declare.composites import ListOf, MapOf, Record
from penstock.declare.nodes import shorten
from penstock.declare.shapes import FILE_PATH_SHAPE, TEXT_SHAPE, WORD_SHAPE
from penstock.declare.source import report_repeated
from penstock.declare.spec import Field, Located, Named, Parsed, Section
from penstock.declare.types import TYPE_SHAPE
from penstock.limits import COLUMNS_MAX, KEY_COLUMNS_MAX
from penstock.model.pipeline import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.declare.report import Report
    from penstock.model.types import ColumnType

FILE = Field(
    "file",
    FILE_PATH_SHAPE,
    "A CSV, NDJSON or Parquet file or a Delta table, relative to the project's folder. It is loaded again when it "
    "changes; each load is a version that batches name.",
    "file: references/instruments.csv",
    required=True,
    connection=True,
)
KEY = Field(
    "key",
    ListOf(WORD_SHAPE, KEY_COLUMNS_MAX, "columns"),
    "The columns that name a row; no two rows may have the same.",
    "key: instrument_id",
    required=True,
)
COLUMNS = Field(
    "columns",
    MapOf(TYPE_SHAPE, COLUMNS_MAX, "columns", free=True),
    "Types of columns. A CSV column without one is a string.",
    "columns: {lot: int32}",
)
POSTGRES = Field("postgres", TEXT_SHAPE, "Export the table to a file for now: `file: ...`.", later=True)
REFERENCE = Section("reference", "a reference", "A table of facts to look up.", (FILE, KEY, COLUMNS, POSTGRES))
REFERENCE_SHAPE = Record(REFERENCE)


@dataclass(frozen=True)
class References:
    """The references by name, None for those with findings of their own.

    `complete` is false where they could not be read at all: then any name may be one.
    """

    by_name: Mapping[str, Reference | None]
    complete: bool = True


def build_references(entries: tuple[Named[Parsed], ...], report: Report) -> tuple[Reference, ...]:
    """The references that could be read; findings for what is wrong in them."""
    built = (build_reference(entry.name, entry, entry.value, report) for entry in entries if entry.value is not None)
    return tuple(reference for reference in built if reference is not None)


def build_reference(name: str, entry: Named[Parsed], located: Located[Parsed], report: Report) -> Reference | None:
    parsed = located.value
    file, key = parsed.get(FILE), parsed.get(KEY)
    columns = parsed.value(COLUMNS, ())
    for column in columns:
        if column.name.startswith("_") or not column.name.strip() or "\0" in column.name:
            message = f"`{shorten(column.name)}` cannot be a reference's column"
            report.add(
                column.mark, "reserved-name", message, "Rename it in the file; `_` begins Penstock's own columns."
            )
    if key is not None:
        if not key.value:
            report.add(key.mark, "empty-list", "the key names no column", "Write `key: column`.")
        report_repeated([(part.value, part.node) for part in key.value], "the column", report)
        check_key_types(key.value, columns, report)
    if file is None or key is None or not key.value:
        return None
    typed = tuple((column.name, column.value.value) for column in columns if column.value is not None)
    return Reference(name, file.value, tuple(part.value for part in key.value), typed, entry.mark)


def check_key_types(key: tuple[Located[str], ...], columns: tuple[Named[ColumnType], ...], report: Report) -> None:
    types = {column.name: column.value.value for column in columns if column.value is not None}
    for part in key:
        if part.value in types and types[part.value].is_float:
            message = f"the key column `{part.value}` is {types[part.value]}: floats are not compared for equality"
            report.add(part.mark, "float-key", message, "Use decimal, an integer or string.")
