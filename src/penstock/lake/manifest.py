"""The manifest of a files source, kept as the table `manifests/<pipeline>`.

It implements the protocol that `sources/manifest.py` states. One append is one commit, however many files it lists;
rows keep their order by `sequence`, whatever compaction does to the files they lie in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.errors import LakeCorrupt, check
from penstock.lake import layout

if TYPE_CHECKING:
    from penstock.lake.fence import Writer
    from penstock.lake.table import Table

SEQUENCE = "sequence"


class TableManifest:
    """Rows in the order they were appended. One writer; `append` is atomic and durable when it returns.

    All rows are kept in memory once they were read: some 150 bytes for each thing learned about a file. With `follows`
    it is another process that appends, and this one reads again what it has missed.
    """

    def __init__(self, table: Table, writer: Writer, *, follows: bool = False) -> None:
        kind, self.pipeline = layout.split_name(table.name)
        check(kind is layout.Kind.MANIFESTS, f"{table.name} is not a manifest")
        self.table = table
        self._writer = writer
        self._schema = pa.schema(
            [field for field in layout.manifest_spec(self.pipeline).schema if field.name != SEQUENCE]
        )
        self._entries: pa.Table | None = None
        self._follows = follows
        self._version = -1

    def refresh(self) -> bool:
        """Forget the rows where another process has appended some since `entries` read them, and say so."""
        if not self._follows or self.table.refresh() == self._version:
            return False
        self._entries = None
        return True

    def entries(self) -> pa.Table:
        """All rows in order of appending, without `sequence`.

        Raises:
            LakeCorrupt: rows are missing or there twice.
        """
        if self._entries is None:
            self._version = self.table.refresh()
            parts = list(self.table.read())
            rows = pa.concat_tables(parts) if parts else self.table.schema.empty_table()
            rows = rows.sort_by(SEQUENCE).combine_chunks()
            last = self.table.txn(f"{self.pipeline}/manifest") or 0
            if not np.array_equal(rows.column(SEQUENCE).to_numpy(), np.arange(1, last + 1)):
                raise LakeCorrupt(f"{self.table.name} does not hold the rows 1 to {last} once each")
            self._entries = rows.drop_columns([SEQUENCE]).cast(self._schema)
        return self._entries

    def append(self, rows: pa.Table) -> None:
        """Add rows (the columns of `entries`) at the end, all or none, durable when it returns.

        Raises:
            StorageError: they cannot be written.
            Fenced: another writer owns the pipeline.
        """
        if rows.num_rows == 0:
            return
        known = self.entries()
        last = known.num_rows + rows.num_rows
        numbered = rows.select(self._schema.names).cast(self._schema)
        numbered = numbered.add_column(0, SEQUENCE, pa.array(np.arange(known.num_rows + 1, last + 1), pa.int64()))
        self._entries = None  # read again, should the commit fail
        txns = {f"{self.pipeline}/manifest": last}
        self.table.commit(self._writer, batch=None, add=self.table.write(numbered), txns=txns)
        self._entries = pa.concat_tables([known, numbered.drop_columns([SEQUENCE])])
