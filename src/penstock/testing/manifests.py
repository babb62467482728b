"""A manifest in memory: what tests give a folder source in place of the lake's table."""

from __future__ import annotations

import pyarrow as pa

from penstock.sources.manifest import MANIFEST_SCHEMA


class MemoryManifest:
    """Keeps appended rows, and counts the appends (`commits`) so that tests can bound them."""

    def __init__(self) -> None:
        self.commits = 0
        self._rows: list[pa.Table] = []

    def refresh(self) -> bool:
        return True

    def entries(self) -> pa.Table:
        return pa.concat_tables([MANIFEST_SCHEMA.empty_table(), *self._rows])

    def append(self, rows: pa.Table) -> None:
        self._rows.append(rows.cast(MANIFEST_SCHEMA))
        self.commits += 1
