"""What a trace shows: records, events, windows and batches, as values that turn into JSON. `trace.py` finds them."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.position import Incarnation, Place


@dataclass(frozen=True)
class RecordFact:
    """A record as bronze holds it. `file` is the path it came from, for a files source; `timestamp` is in microseconds
    where Python has no such time."""

    place: Place
    batch: int
    timestamp: datetime | int | None
    ingested_at: datetime | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    file: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "place": str(self.place),
            "batch": self.batch,
            "file": self.file,
            "timestamp": plain(self.timestamp),
            "ingested_at": plain(self.ingested_at),
            "key": plain(self.key),
            "headers": {name: plain(value) for name, value in self.headers},
            "value": plain(self.value),
        }


@dataclass(frozen=True)
class EventFact:
    """An event, where it ended and why. `row` is its row in silver or rejects, None where it was skipped.

    `disposition` is one of the four, `in flight` while the ledger has no row for its batch yet, or `missing`.
    """

    place: Place
    index: int
    batch: int
    disposition: str
    row: Mapping[str, Any] | None = None
    reasons: tuple[str, ...] = ()
    detail: str | None = None
    winner: str | None = None
    record: RecordFact | None = None
    windows: tuple[WindowFact, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.place}#{self.index}"

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "event": self.name,
            "batch": self.batch,
            "disposition": self.disposition,
            "reasons": list(self.reasons),
        }
        if self.detail is not None:
            document["detail"] = self.detail
        if self.winner is not None:
            document["winner"] = self.winner
        document["row"] = None if self.row is None else {name: plain(value) for name, value in self.row.items()}
        if self.record is not None:
            document["record"] = self.record.as_json()
        if self.windows:
            document["windows"] = [window.as_json() for window in self.windows]
        return document


@dataclass(frozen=True)
class WindowFact:
    """A window of a gold table and its row, None while it is not closed. `events` are the silver rows in it (the first
    of `events_total`), where a trace goes back from gold."""

    table: str
    start: datetime
    end: datetime
    group: Mapping[str, Any]
    row: Mapping[str, Any] | None
    events: tuple[EventFact, ...] = ()
    events_total: int = 0

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "table": self.table,
            "window_start": plain(self.start),
            "window_end": plain(self.end),
            "group": {name: plain(value) for name, value in self.group.items()},
            "closed": self.row is not None,
            "row": None if self.row is None else {name: plain(value) for name, value in self.row.items()},
        }
        if self.events_total:
            document["events_total"] = self.events_total
            document["events"] = [event.as_json() for event in self.events]
        return document


@dataclass(frozen=True)
class BatchFact:
    """A batch's ledger row in short: what it was derived with and what it came to."""

    batch: int
    written_at: datetime | None
    contract: int
    contract_hash: str
    refine: int
    references: tuple[tuple[str, int], ...]
    ranges: tuple[str, ...]
    counts: Mapping[str, int]
    sources: tuple[Incarnation, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "written_at": plain(self.written_at),
            "contract": self.contract,
            "contract_hash": self.contract_hash,
            "refine": self.refine,
            "references": dict(self.references),
            "ranges": list(self.ranges),
            "counts": dict(self.counts),
            "sources": [
                {
                    "incarnation": source.number,
                    "kind": source.identity.kind,
                    "name": source.identity.name,
                    "id": source.identity.unique_id,
                }
                for source in self.sources
            ],
        }


@dataclass(frozen=True)
class Trace:
    """The way of some rows through the tables of `pipeline`, and the batches that are concerned.

    Back from gold there are `windows`, each with its events; back from silver or rejects there are `events`; forward
    there is one `record` with all its events.
    """

    pipeline: str
    table: str
    windows: tuple[WindowFact, ...] = ()
    events: tuple[EventFact, ...] = ()
    record: RecordFact | None = None
    batches: tuple[BatchFact, ...] = ()

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"pipeline": self.pipeline, "table": self.table}
        if self.record is not None:
            document["record"] = self.record.as_json()
        if self.windows:
            document["windows"] = [window.as_json() for window in self.windows]
        if self.events or not self.windows:
            document["events"] = [event.as_json() for event in self.events]
        document["batches"] = [batch.as_json() for batch in self.batches]
        return document


def plain(value: Any) -> Any:
    """A value as JSON holds it: times in ISO 8601 with Z, decimals as text, bytes as text or base64, NaN as null."""
    if isinstance(value, datetime):
        naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return naive.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value
