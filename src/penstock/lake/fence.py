"""Who may write a pipeline's tables: the writer recorded in each of them, and nobody else.

Every commit carries the writer's epoch and a random number; a commit by any other writer is refused (`Fenced`). This
holds wherever the lake is kept; on a local disk the lock of `storage.py` turns a second process away earlier.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import check
from penstock.model.columns import nonce_txn, writer_txn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.lake.table import Table


@dataclass(frozen=True)
class Writer:
    """The owner of a pipeline's tables: its epoch (1, 2, 3 ...) and a random 63-bit number."""

    pipeline: str
    epoch: int
    nonce: int

    def txns(self) -> dict[str, int]:
        """What each of its commits records."""
        return {writer_txn(self.pipeline): self.epoch, nonce_txn(self.pipeline): self.nonce}


def take_over(pipeline: str, tables: Sequence[Table], writer: Writer | None = None) -> Writer:
    """Become the one writer of `tables` (upstream first); call it before any position is read.

    Whoever wins the first table wins them all: of two that race for the same epoch one gets `Fenced` there, and one
    that comes later takes a higher epoch. With `writer` (from an earlier call) further tables become its own as well.

    Raises:
        Fenced: another writer was quicker.
    """
    check(bool(tables), "take_over needs a table")
    if writer is None:
        for table in tables:
            table.refresh()
        last = max(table.txn(writer_txn(pipeline)) or 0 for table in tables)
        writer = Writer(pipeline, last + 1, secrets.randbits(63))
    for table in tables:
        table.take(writer)
    tables[0].refresh()
    tables[0].check_owner(writer)
    return writer
