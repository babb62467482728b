"""The keys of gold's files, remembered: what a late row is looked for in (`gold.py`, "corrections").

A file never changes, so its keys are read, and verified, once. What is remembered is bounded; the files looked at
longest ago are forgotten first, and with them those that have been replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.limits import GOLD_KEYS_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.lake.table import DataFile, Table


class GoldKeys:
    """Window starts and groups by file of one gold table."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._table = table
        self._columns = list(columns)
        self._held: OrderedDict[str, pa.Table] = OrderedDict()
        self._bytes = 0

    def of(self, file: DataFile) -> pa.Table:
        """The key columns of a file's rows, in their order."""
        keys = self._held.get(file.path)
        if keys is None:
            pieces = [rows.select(self._columns) for rows in self._table.read(columns=self._columns, files=[file])]
            keys = self._held[file.path] = pa.concat_tables(pieces)
            self._bytes += keys.nbytes
        self._held.move_to_end(file.path)
        while self._bytes > GOLD_KEYS_BYTES_MAX:
            _, forgotten = self._held.popitem(last=False)
            self._bytes -= forgotten.nbytes
        return keys
