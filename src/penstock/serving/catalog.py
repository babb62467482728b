"""The lake's tables, in one cut, as relations for `query.py`. A table is looked at when a query names it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from penstock.errors import UsageError
from penstock.lake.layout import split_name
from penstock.lake.reading import verify_file
from penstock.serving.relations import SCHEMAS, Catalog, Relation, RelationFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.lake.cuts import Cut, TableCut
    from penstock.lake.storage import Storage


def catalog(cut: Cut, storage: Storage) -> Catalog:
    """Every table of the cut that a query may name."""
    found: dict[str, Callable[[], Relation]] = {}
    for table in cut:
        kind, name = split_name(table)
        if kind.value in SCHEMAS:
            found[f"{kind.value}.{name}"] = lambda table=table: relation(cut.table(table), storage)  # type: ignore[misc]
    return found


def relation(table: TableCut, storage: Storage) -> Relation:
    """One table of a cut."""
    spec = table.table.spec
    kind, name = split_name(table.name)

    def verify() -> None:
        for file in table.files:
            verify_file(storage, spec, file)

    root = storage.uri() + "/"
    return Relation(
        schema=kind.value,
        name=name,
        columns=spec.schema,
        files=tuple(RelationFile(table.table.path(file), file.partition) for file in table.files),
        partition_column=None if spec.partition is None else spec.partition.column,
        bound_column=table.bound_column,
        bound=table.bound,
        verify=verify,
        exists=lambda file: storage.size(file.path.removeprefix(root)) is not None,
    )


def parse_as_of(text: str | None) -> tuple[int | datetime | None, str | None]:
    """What `--as-of` means: (batch or time, pipeline). It takes `12`, `ticks:12`, or a time in ISO 8601 (UTC).

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None, None
    pipeline, colon, batch = text.rpartition(":")
    if text.isdecimal():
        return int(text), None
    if colon and batch.isdecimal() and pipeline.isidentifier():
        return int(batch), pipeline
    try:
        return datetime.fromisoformat(text), None
    except ValueError:
        raise UsageError(
            f"--as-of {text}: neither a batch nor a time",
            hint="Write a batch (12, or ticks:12 where there are several pipelines) or a time (2026-01-31T12:00:00Z).",
        ) from None
