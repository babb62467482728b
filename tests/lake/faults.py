"""A local storage whose operations fail or stop at a chosen point, and what else tests of the lake's core share."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.lake import layout
from penstock.lake.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY = 86_400_000_000


class Killed(BaseException):
    """The process is gone from here on."""


class FaultyStorage(LocalStorage):
    """Counts changes (`operations`); from the `fail_at`-th on, or for `fail_on` names of operations, it fails."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.operations: list[tuple[str, str]] = []
        self.code = errno.ENOSPC
        self.fail_at: int | None = None
        self.fail_on: str | None = None
        self.kill_at: int | None = None

    def _before(self, operation: str, path: str) -> None:
        self.operations.append((operation, path))
        number = len(self.operations)
        if self.kill_at is not None and number >= self.kill_at:
            raise Killed(f"{operation} {path}")
        if (self.fail_at is not None and number >= self.fail_at) or operation == self.fail_on:
            raise OSError(self.code, os.strerror(self.code))


SPEC = layout.bronze_spec("p")


def bronze_rows(batch: int, rows: int = 3, day: int = 1, value: bytes = b"v") -> pa.Table:
    """Some rows of a batch; offsets go on from batch to batch."""
    return pa.table(
        {
            "_source": pa.array([1] * rows, pa.int32()),
            "_partition": pa.array([0] * rows, pa.int32()),
            "_offset": range((batch - 1) * rows, batch * rows),
            "_ingested_at": pa.array([day * DAY] * rows, layout.TIME),
            "_batch": [batch] * rows,
            "value": pa.array([value] * rows, pa.binary()),
        }
    )


def column(pieces: Sequence[pa.Table], name: str) -> list[object]:
    """A column's values, sorted."""
    return sorted(value for piece in pieces for value in piece[name].to_pylist())
