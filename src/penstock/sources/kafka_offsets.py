"""Shares of a plan that is made by offsets alone, and what the group's offsets tell lag tools."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from penstock import limits
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.position import Position
    from penstock.sources.contract import Bounds
    from penstock.sources.kafka_client import Cluster


class Allotment:
    """How many offsets of each partition a plan takes, so that all of them reach their ends together."""

    def __init__(self) -> None:
        self._bytes_per_record = float(limits.KAFKA_BYTES_PER_RECORD)
        self._records_per_offset = 1.0
        self._seen = False

    def held(self, records: int, size: int, offsets: int) -> None:
        """Learn from what was read."""
        if records and offsets:
            self._bytes_per_record, self._records_per_offset = size / records, records / offsets
            self._seen = True

    def bytes_of(self, records: int) -> int | None:
        return int(records * self._bytes_per_record) if records and self._seen else None

    def shares(self, waiting: Mapping[int, int], bounds: Bounds) -> dict[int, int]:
        """Offsets to take of each partition; at least one in all where any waits."""
        total = sum(waiting.values())
        records = min(bounds.rows, max(1, int(bounds.bytes / max(1.0, self._bytes_per_record))))
        offsets = min(total, max(1, int(records / max(0.01, self._records_per_offset))))
        if offsets == total:
            return dict(waiting)
        shares = {number: offsets * count // total for number, count in waiting.items()}
        left = offsets - sum(shares.values())
        for number in sorted(waiting, key=lambda number: waiting[number] - shares[number], reverse=True)[:left]:
            shares[number] += 1
        return shares


class GroupOffsets:
    """Commits positions as offsets of a group, for lag tools only: they are never read, and no failure matters."""

    def __init__(self, cluster: Cluster, topic: str, group: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._group = group
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._pending: Position = {}
        self._told_at = 0.0

    def commit(self, position: Position) -> None:
        """Tell how far the lake is, without waiting; not more often than lag tools look."""
        with self._lock:
            self._pending = dict(position)
            self._commit_due()

    def flush(self) -> None:
        """Tell what was held back, once it is due: nothing may follow it for long."""
        with self._lock:
            self._commit_due()

    def _commit_due(self) -> None:
        if self._pending and time.monotonic() - self._told_at >= limits.KAFKA_GROUP_SECONDS:
            self._commit(self._pending)
            self._pending = {}

    def _commit(self, position: Position) -> None:
        module = self._cluster.module
        try:
            if self._consumer is None:
                self._consumer = self._cluster.consumer(self._group)
            self._consumer.poll(0)
            places = [module.TopicPartition(self._topic, number, offset) for number, offset in position.items()]
            self._consumer.commit(offsets=places, asynchronous=True)
            self._told_at = time.monotonic()
        except (module.KafkaException, PenstockError, RuntimeError):
            # Members of the group that are not ours, missing permissions, no broker: none of it is about the data.
            self._told_at = time.monotonic()

    def close(self) -> None:
        with self._lock:
            if self._pending:
                self._commit(self._pending)
            if self._consumer is not None:
                self._consumer.poll(limits.KAFKA_GROUP_CLOSE_SECONDS if self._pending else 0)
                self._consumer.close()
                self._consumer = None
