"""What must come of the records in bronze: a second, naive implementation, a row at a time, in plain Python.

It is told which records each batch holds and with which contract and reference version it was derived, and knows
nothing else of the lake: not what was committed when, not what a crash left behind.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from simulation.declared import SPANS, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulation.declared import Declared

SECOND = 1_000_000
Place = tuple[int, int, int]
"""Source, partition, offset."""

Sites = dict[str, int]
"""A version of the reference: site -> factor."""


@dataclass(frozen=True)
class Record:
    place: Place
    value: bytes
    ingested_at: int


@dataclass(frozen=True)
class Derived:
    """A batch: its records in order, and what it was derived with."""

    records: Sequence[Record]
    declared: Declared
    sites: Sites
    is_drain: bool


@dataclass(frozen=True)
class Refused:
    disposition: str
    failed: tuple[str, ...]
    winner: Place | None


@dataclass
class Expected:
    """The tables after a batch; places lead to rows. `gold` is by table, then window start and key."""

    silver: dict[Place, dict[str, Any]] = field(default_factory=dict)
    rejects: dict[Place, Refused] = field(default_factory=dict)
    skipped: list[Place] = field(default_factory=list)
    watermark: int | None = None
    closed_until: int | None = None
    counts: dict[str, int] = field(default_factory=dict)


class Stopped(Exception):
    """A record that a rule with `stop` refuses; no batch with it is derived."""


def judge(record: Record, declared: Declared, sites: Mapping[str, int]) -> dict[str, Any] | tuple[str, ...] | None:
    """The silver row of a record, or the names of the rules it fails, or None where it is skipped."""
    try:
        event = json.loads(record.value.decode(), parse_constant=_refuse)
    except ValueError:
        return ("malformed",)
    if not isinstance(event, dict):
        return ("malformed",)
    if event.get("kind") is None or event["kind"] == "noise":
        return None
    failed, row = [], {}
    for name, cast in _CASTS.items():
        try:
            row[name] = None if event.get(name) is None else cast(event[name])
        except ValueError:
            failed.append(f"type:{name}")
            row[name] = None
    for name in ("note", "grade")[: declared.columns]:
        row[name] = event.pop(name, None)
    wanting = [name for name in _CASTS if event.get(name) is None]
    failed += [f"required:{name}" for name in wanting]
    value, factor = row["value"], sites.get(row["site"])
    row["factor"] = factor
    if row["at"] is not None and row["at"] > record.ingested_at + declared.future_after * 60 * SECOND:
        failed.append("future")
    if value is None or value < declared.least:
        failed.append("sane")
    flags = []
    if factor is None and declared.unknown_site != "ignore":
        (failed if declared.unknown_site == "quarantine" else flags).append("known")
    if declared.flagged_from is not None and (value is None or value >= declared.flagged_from):
        flags.append("small")
    if declared.stopped_from is not None and value is not None and value >= declared.stopped_from:
        raise Stopped(record)
    extra = {name: member for name, member in event.items() if name not in _CASTS}
    return tuple(failed) if failed else {**row, "_flags": flags, "_extra": extra}


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(value) if isinstance(value, str) else _refuse(value)
    except ArithmeticError:
        raise ValueError(value) from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _refuse(value)


_CASTS = {"id": _whole, "site": _text, "at": lambda value: _whole(value) * 1_000, "value": _decimal}


def expected_after(batches: Sequence[Derived]) -> list[Expected]:
    """What the tables are after each of the batches."""
    now, winners, found = Expected(), {}, []
    for batch in batches:
        declared = batch.declared
        before = (len(now.silver), len(now.rejects), len(now.skipped))
        now = Expected(dict(now.silver), dict(now.rejects), list(now.skipped), now.watermark, now.closed_until)
        latest, duplicates = None, 0
        for record in sorted(batch.records, key=lambda record: record.place):
            verdict = judge(record, declared, batch.sites)
            if verdict is None:
                now.skipped.append(record.place)
            elif isinstance(verdict, tuple):
                now.rejects[record.place] = Refused("quarantined", verdict, None)
            else:
                key: Any = record.place
                if declared.key:
                    span = declared.unique_within
                    key = (verdict["id"], None if span is None else verdict["at"] // (span * SECOND))
                if key in winners:
                    now.rejects[record.place] = Refused("duplicate", (), winners[key])
                    duplicates += 1
                    continue
                winners[key] = record.place
                now.silver[record.place] = verdict
                latest = _later(latest, verdict["at"])
        now.watermark = _later(now.watermark, None if latest is None else latest - declared.late_after * SECOND)
        now.closed_until = _later(now.closed_until, now.watermark)
        if batch.is_drain and now.silver:
            last = max(row["at"] for row in now.silver.values())
            ends = [_window_starts(last, name)[-1] + SPANS[name] * SECOND for name in declared.gold]
            now.closed_until = _later(now.closed_until, max(ends))
        now.counts = {
            "records": len(batch.records),
            "accepted": len(now.silver) - before[0],
            "quarantined": len(now.rejects) - before[1] - duplicates,
            "duplicate": duplicates,
            "skipped": len(now.skipped) - before[2],
        }
        found.append(now)
    return found


def _later(left: int | None, right: int | None) -> int | None:
    return max((time for time in (left, right) if time is not None), default=None)


def _window_starts(at: int, gold: str) -> list[int]:
    """The windows an event lies in, the earliest first."""
    every, size = WINDOWS[gold] * SECOND, SPANS[gold] * SECOND
    last = at // every * every
    return [start for start in range(last - size + every, last + 1, every) if start <= at < start + size]


def gold_of(state: Expected, name: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The gold table's rows by window start and key: the closed windows that have an accepted row."""
    members: dict[tuple[Any, ...], list[tuple[Place, dict[str, Any]]]] = defaultdict(list)
    for place, row in state.silver.items():
        for start in _window_starts(row["at"], name):
            if state.closed_until is not None and start + SPANS[name] * SECOND <= state.closed_until:
                members[start, *[row[column] for column in _KEYS[name]]].append((place, row))
    return {key: _MEASURES[name](rows) | {"_rows": len(rows)} for key, rows in members.items()}


_KEYS = {"minutes": ["site"], "sites": [], "hours": ["factor"], "quarters": []}


def _in_order(rows: list[tuple[Place, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for _, row in sorted(rows, key=lambda item: (item[1]["at"], item[1]["id"], item[0]))]


def _minutes(rows: list[tuple[Place, dict[str, Any]]]) -> dict[str, Any]:
    total = sum((row["value"] for _, row in rows), Decimal(0))
    return {"n": len(rows), "total": total, "latest": _in_order(rows)[-1]["value"]}


def _sites(rows: list[tuple[Place, dict[str, Any]]]) -> dict[str, Any]:
    values = sorted(row["value"] for _, row in rows)
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    return {"sites": len({row["site"] for _, row in rows}), "median": round(float(middle), 9)}


def _hours(rows: list[tuple[Place, dict[str, Any]]]) -> dict[str, Any]:
    first_id = _in_order(rows)[0]["id"]
    return {"n": len(rows), "low": min(row["value"] for _, row in rows), "first_id": first_id}


def _quarters(rows: list[tuple[Place, dict[str, Any]]]) -> dict[str, Any]:
    return {"n": len(rows), "high": max(row["value"] for _, row in rows)}


_MEASURES = {"minutes": _minutes, "sites": _sites, "hours": _hours, "quarters": _quarters}
