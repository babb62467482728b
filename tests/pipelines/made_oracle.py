"""What must come of the records of a made-up pipeline: a row at a time, in plain Python."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pipelines.made import MISFIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.wire import Project
    from pipelines.made import Gold, Made, Record, Window

SECOND = 1_000_000


@dataclass
class Answer:
    """By offset: accepted rows with their flags, and rejects with disposition, failed rules and winner."""

    accepted: dict[int, dict[str, Any]] = field(default_factory=dict)
    rejected: dict[int, tuple[str, tuple[str, ...], int | None]] = field(default_factory=dict)


def answer(made: Made, sent: Sequence[Record]) -> Answer:
    """Where each record ends."""
    found, winners = Answer(), dict[Any, int]()
    for offset, record in enumerate(sent):
        if record.columns is None:
            found.rejected[offset] = ("quarantined", ("malformed",), None)
            continue
        failed, flags, row = _judge(made, record.columns)
        if failed:
            found.rejected[offset] = ("quarantined", tuple(sorted(failed)), None)
            continue
        key: Any = offset
        if made.key:
            within = made.unique_within
            bucket = None if within is None else row["at"] // (within * SECOND)
            key = (bucket, *[row[name] for name in made.key])
        if key in winners:
            found.rejected[offset] = ("duplicate", (), winners[key])
        else:
            winners[key] = offset
            found.accepted[offset] = row | {"_flags": flags}
    return found


def _judge(made: Made, columns: dict[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    row = {name: None if value is MISFIT else value for name, value in columns.items()}
    failed = [f"type:{name}" for name, value in columns.items() if value is MISFIT]
    required = {"id", "at", *made.key, *[column.name for column in made.columns if column.required]}
    failed += [f"required:{name}" for name in required if columns[name] is None]
    flags = []
    for rule in made.rules:
        if not rule.passes(row[rule.column]):
            (flags if rule.action == "flag" else failed).append(rule.name)
    return failed, flags, row


def windows(at: int, window: Window) -> list[tuple[int, int]]:
    """Start and end, in microseconds, of the windows that a time lies in."""
    if window.zone is None:
        every, size = window.every * SECOND, window.size * SECOND
        last = at // every * every
        return [(start, start + size) for start in range(last - size + every, last + 1, every)]
    zone = ZoneInfo(window.zone)
    day = datetime.fromtimestamp(at // SECOND, UTC).astimezone(zone).date()
    bounds = [
        datetime(one.year, one.month, one.day, tzinfo=zone).astimezone(UTC) for one in (day, day + timedelta(days=1))
    ]
    start, end = (int(bound.timestamp()) * SECOND for bound in bounds)
    return [(start, end)]


def gold(declared: Gold, accepted: dict[int, dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The table's rows after a drain, by window start and group."""
    groups: dict[tuple[Any, ...], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for offset, row in accepted.items():
        if declared.where is not None and not declared.where.passes(row[declared.where.column]):
            continue
        for start, _ in windows(row["at"], declared.window):
            groups[start, *[row[name] for name in declared.by]].append((offset, row))
    result = {}
    for key, members in groups.items():
        ordered = [row for _, row in sorted(members, key=lambda item: (item[1]["at"], item[1]["id"], item[0]))]
        result[key] = {name: _measure(function, column, ordered) for name, function, column in declared.measures}
    return result


def _measure(function: str, column: str, rows: list[dict[str, Any]]) -> Any:
    if not column:
        return len(rows)
    values = [row[column] for row in rows if row[column] is not None]
    if function == "count":
        return len(values)
    if function == "count_distinct":
        return len(set(values))
    if not values:
        return None
    if function in ("min", "max"):
        order = str.encode if isinstance(values[0], str) else None
        return (min if function == "min" else max)(values, key=order)
    if function in ("first", "last"):
        return values[0 if function == "first" else -1]
    exact = [Fraction(value) for value in values]
    if function == "sum":
        return Sum(sum(exact), math.fsum(map(abs, values)))
    if function == "avg":
        return Sum(sum(exact) / len(exact), math.fsum(map(abs, values)) / len(exact))
    if function == "quantile":
        exact.sort()
        return Sum((exact[(len(exact) - 1) // 2] + exact[len(exact) // 2]) / 2, float(max(map(abs, exact))))
    assert function == "stddev", function
    if len(exact) < 2:
        return None
    mean = sum(exact) / len(exact)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))
    return Sum(Fraction(deviation), float(max(map(abs, exact))))


@dataclass(frozen=True)
class Sum:
    """A number that floats give to 1e-9 of `scale`."""

    value: Fraction
    scale: float

    def is_near(self, found: Any) -> bool:
        return found is not None and abs(Fraction(found) - self.value) <= Fraction(1e-9) * Fraction(self.scale)


def same(found: Any, wanted: Any) -> bool:
    """Whether a measure is what it must be."""
    return wanted.is_near(found) if isinstance(wanted, Sum) else found == wanted


def assert_answer(project: Project, declared: Made, sent: Sequence[Record]) -> None:
    """Silver, rejects and gold of the project are what must come of what was sent, after a drain."""
    wanted = answer(declared, sent)
    silver = project.sql('select * replace (epoch_us("at") as "at") from silver.made').to_pylist()
    assert len(silver) == len(wanted.accepted)
    for row in silver:
        expected = wanted.accepted[row["_offset"]]
        assert {name: row[name] for name in expected} == expected
    rejects = project.sql("select _offset, disposition, failed, winner_offset from rejects.made").to_pylist()
    found = {
        row["_offset"]: (row["disposition"], tuple(sorted(row["failed"])), row["winner_offset"]) for row in rejects
    }
    assert len(found) == len(rejects)
    assert found == wanted.rejected
    for one in declared.golds:
        rows = project.sql(f"select * replace (epoch_us(window_start) as window_start) from gold.{one.name}")
        _assert_gold(rows.to_pylist(), one, gold(one, wanted.accepted))


def _assert_gold(rows: list[dict[str, Any]], declared: Gold, wanted: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    found = {(row["window_start"], *[row[name] for name in declared.by]): row for row in rows}
    assert len(found) == len(rows), f"{declared.name} has a window twice"
    assert found.keys() == wanted.keys(), f"{declared.name}: windows differ"
    for key, measures in wanted.items():
        for name, value in measures.items():
            got = found[key][name]
            assert same(got, value), f"{declared.name}.{name} of {key} is {got!r}, not {value!r}"
