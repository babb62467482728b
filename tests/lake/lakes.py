"""Small lakes for tests of the tables around the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.lake.fence import Writer, take_over
from penstock.lake.lake import Lake
from penstock.lake.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.lake.layout import TableSpec
    from penstock.lake.table import Table


def open_lake(folder: Path) -> Lake:
    """A lake as a process that starts now sees it."""
    return Lake(LocalStorage(folder))


def owned(
    lake: Lake, *specs: TableSpec, pipeline: str = "p", writer: Writer | None = None
) -> tuple[Writer, list[Table]]:
    """Tables of these specs, taken over by a new writer, or by one that exists."""
    tables = [lake.create(spec) for spec in specs]
    return take_over(pipeline, tables, writer=writer), tables
