"""A lake by plain means, for tests of the witness: Parquet files in a folder, and a log that is a few Python lists.

Everything can be changed without anyone minding, which is what tampering needs. The same tables, written by the real
committer, are in `test_real_lake.py`.
"""

from __future__ import annotations

import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.lake.datafile import DataFile, Statistics
from penstock.lake.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from penstock.lake.layout import TableSpec


@dataclass
class PlainTable:
    """One table: `versions[n]` are the live files of version n."""

    root: Path
    spec: TableSpec
    versions: list[list[DataFile]] = field(default_factory=lambda: [[]])
    positions: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    def refresh(self) -> None:
        return None

    def txn(self, name: str) -> int | None:
        return self.positions.get(name)

    def txns(self) -> dict[str, int]:
        return dict(self.positions)

    def files(self, version: int | None = None) -> list[DataFile]:
        return list(self.versions[self.version if version is None else version])

    @property
    def past(self) -> PlainTable:
        return self

    def last_version_of(self, pipeline: str, batch: int, version: int) -> int:
        """Nothing is merged here: each version has other rows."""
        return version

    def path(self, file: DataFile) -> str:
        return str(self.root / self.name / file.path)

    def open(self, file: DataFile) -> BinaryIO:
        return open(self.path(file), "rb")

    def append(self, rows: pa.Table, **positions: int) -> None:
        """Add rows as one file; columns that are missing are null."""
        added = [self.write(rows)] if rows.num_rows else []
        self.versions.append([*self.files(), *added])
        self.positions.update(positions)

    def write(self, rows: pa.Table) -> DataFile:
        schema = self.spec.file_schema
        columns = [
            rows.column(one.name).cast(one.type) if one.name in rows.column_names else pa.nulls(len(rows), one.type)
            for one in schema
        ]
        name = f"part-{uuid.uuid4().hex}.parquet"
        path = self.root / self.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_arrays(columns, schema=schema)
        pq.write_table(table, path, compression="zstd", compression_level=1, write_page_checksum=True)
        tail = path.read_bytes()
        footer = tail[-int.from_bytes(tail[-8:-4], "little") - 8 :]
        name = f"{path.stem}-{zlib.crc32(footer):08x}.parquet"
        path = path.rename(path.with_name(name))
        return DataFile(name, path.stat().st_size, rows.num_rows, None, 0, Statistics())

    def rows(self) -> pa.Table:
        parts = [pq.read_table(self.path(file), partitioning=None) for file in self.files()]
        return pa.concat_tables(parts) if parts else self.spec.file_schema.empty_table()

    def replace(self, rows: pa.Table) -> None:
        """Put rows in place of all there are."""
        self.versions.append([self.write(rows)] if rows.num_rows else [])

    def edit(self, change: object) -> None:
        """Rewrite all rows through a function of a list of dictionaries that changes or returns them."""
        rows = self.rows().to_pylist()
        changed = change(rows)  # type: ignore[operator]
        self.replace(pa.Table.from_pylist(rows if changed is None else changed, schema=self.spec.file_schema))


class PlainLake:
    """Tables by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = LocalStorage(root)
        self.held: dict[str, PlainTable] = {}

    def create(self, spec: TableSpec) -> PlainTable:
        return self.held.setdefault(spec.name, PlainTable(self.root, spec))

    def table(self, name: str) -> PlainTable | None:
        return self.held.get(name)

    def tables(self) -> list[str]:
        return sorted(self.held)
