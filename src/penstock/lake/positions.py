"""The txn positions of a table, replayed from its log: delta-rs answers for one known id only, not for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt
from penstock.lake import log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.lake.storage import Storage


class Positions:
    """Txn ids and their versions, as of `version` of a table."""

    def __init__(self, table: str, version: int, txns: Mapping[str, int]) -> None:
        self.table = table
        self.version = version
        self.txns = dict(txns)

    @classmethod
    def load(cls, storage: Storage, table: str, version: int) -> Positions:
        """The positions at `version`, from the last checkpoint below it and the entries since."""
        below = [found for found in log.list_log_end(storage, table).checkpoints if found <= version]
        if not below:  # the past, or no checkpoint at all
            below = [found for found in log.list_log(storage, table).checkpoints if found <= version]
        if not below:
            positions = cls(table, -1, {})
        else:
            positions = cls(table, below[-1], checkpoint_txns(storage, table, below[-1]))
        positions._advance(storage, version)
        return positions

    def advance(self, storage: Storage, version: int) -> None:
        """Go on to `version`; by way of a checkpoint where entries have left the log.

        Raises:
            LakeCorrupt: an entry on the way is missing or damaged.
        """
        try:
            self._advance(storage, version)
        except _Missing:
            later = Positions.load(storage, self.table, version)
            self.txns, self.version = later.txns, later.version

    def note(self, version: int, txns: Mapping[str, int]) -> None:
        """Know what our own commit of `version` recorded, without reading it."""
        if self.version == version - 1:
            self.txns, self.version = {**self.txns, **txns}, version

    def _advance(self, storage: Storage, version: int) -> None:
        txns = dict(self.txns)  # whoever got the old mapping keeps it
        for number in range(self.version + 1, version + 1):
            entry = log.read_entry(storage, self.table, number)
            if entry is None:
                raise _Missing(f"{self.table}: log entry {number} is missing", hint=_HINT)
            if entry.problem:
                raise LakeCorrupt(f"{self.table}: log entry {number} is {entry.problem}", hint=_HINT)
            txns.update(entry.txns)
        self.txns, self.version = txns, max(version, self.version)


class _Missing(LakeCorrupt):
    """A log entry is not there: gone into the history, or lost."""


_HINT = "`penstock run` repairs what a power loss left; else restore the table's _delta_log from a backup."


def checkpoint_txns(storage: Storage, table: str, version: int) -> dict[str, int]:
    """The txn ids in a checkpoint.

    Raises:
        LakeCorrupt: the checkpoint cannot be read.
    """
    path = log.checkpoint_path(table, version)
    try:
        with storage.open(path) as file, pq.ParquetFile(file) as parquet:
            column = parquet.read(columns=["txn"]).column("txn").combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise LakeCorrupt(f"{path}: {str(error).splitlines()[0]}", hint=_HINT) from error
    column = column.filter(column.is_valid())
    names, versions = pc.struct_field(column, "appId").to_pylist(), pc.struct_field(column, "version").to_pylist()
    return {name: version for name, version in zip(names, versions, strict=True) if name is not None}
