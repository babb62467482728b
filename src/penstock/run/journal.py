"""What happened to one batch while it was absorbed: durations, bytes and table versions, for the ledger."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.lake.table import DataFile, Table
    from penstock.run.context import Clock


@dataclass
class Journal:
    """Seconds by step, bytes and committed versions by table name. `recovered` batches keep no durations."""

    clock: Clock
    recovered: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the step's duration."""
        start = self.clock.monotonic()
        yield
        self.add_seconds(name, self.clock.monotonic() - start)

    def add_seconds(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def committed(self, table: Table, files: Iterable[DataFile], version: int) -> None:
        """Note a commit: its files' sizes and the version it made."""
        self.bytes[table.name] = self.bytes.get(table.name, 0) + sum(file.size for file in files)
        self.versions[table.name] = version

    def merge(self, other: Journal) -> None:
        """Take over what another thread noted for the same batch."""
        for name, seconds in other.seconds.items():
            self.add_seconds(name, seconds)
        self.bytes.update(other.bytes)
        self.versions.update(other.versions)
