"""Values that do not fit, in every type, between rows that do: never changed, never NULL in silence, named exactly.

The table of casts in docs/concepts.md says what fits; tests/plan has the property tests. Here a value of each kind goes
through the whole pipeline, and the audit recomputes what became of it.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from attacks import attacked

if TYPE_CHECKING:
    from attacks.attacked import Ends

PIPELINE = """
pipeline: p
source: {files: {path: incoming}, format: json}
silver:
  table: t
  event_time: at
  future_after: 1000 days
  columns:
    id: {type: int64, required: true}
    at: {type: timestamp, required: true}
    i8: int8
    i64: int64
    f64: float64
    d: {type: "decimal(10,2)"}
    s: string
    day: date
    sec: {type: timestamp, unit: s}
    ms: {type: timestamp, unit: ms}
    ns: {type: timestamp, unit: ns}
    local: {type: timestamp, timezone: Europe/Berlin}
    german: {type: timestamp, format: "%d.%m.%Y %H:%M", timezone: Europe/Berlin}
    ratio: {type: float64, sql: d / i64}
  rules:
    whole: {check: "i64 is null or 10 % i64 >= 0"}
    halves: {check: "i64 is null or d is null or d / i64 <> 7", otherwise: flag}
gold:
  days: {window: 1 day, measures: {n: count(), total: sum(d), mean: avg(f64)}}
"""

UTC = dt.UTC


def at(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


FITS: list[tuple[str, str, Any]] = [
    # column, JSON text, what silver holds
    ("i8", "-128", -128),
    ("i8", "1.27e2", 127),
    ("i64", "9223372036854775807", 2**63 - 1),
    ("i64", '"-9223372036854775808"', -(2**63)),
    ("f64", "1e308", 1e308),
    ("f64", "5e-324", 5e-324),
    ("f64", "-0.0", 0.0),
    ("d", "-99999999.99", Decimal("-99999999.99")),
    ("d", "1.230000", Decimal("1.23")),
    ("d", "-5", Decimal("-5.00")),
    ("s", '""', ""),
    ("s", '"\\u0000"', "\x00"),
    ("s", "null", None),
    ("day", '"2024-02-29"', dt.date(2024, 2, 29)),
    ("day", '"0001-01-01"', dt.date(1, 1, 1)),
    ("day", '"9999-12-31"', dt.date(9999, 12, 31)),
    ("sec", "0", at(1970, 1, 1)),
    ("sec", "-62135596800", at(1, 1, 1)),
    ("sec", "1700000000.123456", at(2023, 11, 14, 22, 13, 20, 123456)),
    ("ms", "253402300799999", at(9999, 12, 31, 23, 59, 59, 999000)),
    ("ns", "1700000000123456000", at(2023, 11, 14, 22, 13, 20, 123456)),
    ("at", '"2024-01-02T03:04Z"', at(2024, 1, 2, 3, 4)),
    ("at", '"2024-01-02 03:04:05.123456"', at(2024, 1, 2, 3, 4, 5, 123456)),
    ("at", '"2024-01-02T03:04:05+05:30"', at(2024, 1, 1, 21, 34, 5)),
    ("at", '"2024-01-02T03:04:05-0330"', at(2024, 1, 2, 6, 34, 5)),
    ("at", '"2024-01-02T03:04:05.1234560000Z"', at(2024, 1, 2, 3, 4, 5, 123456)),
    ("at", '"0001-01-01T00:00:00Z"', at(1, 1, 1)),
    ("local", '"2024-03-31T03:00:00"', at(2024, 3, 31, 1)),
    ("local", '"2024-10-27T02:30:00"', at(2024, 10, 27, 0, 30)),
    ("german", '"29.02.2024 12:00"', at(2024, 2, 29, 11)),
]
MISFITS: list[tuple[str, str, list[str]]] = [
    # column, JSON text, the rules that fail
    ("i8", "128", ["type:i8"]),
    ("i8", "12.5", ["type:i8"]),
    ("i64", "9223372036854775808", ["type:i64"]),
    ("i64", "9007199254740993.5", ["type:i64"]),
    ("i64", "true", ["type:i64"]),
    ("i64", '"0x10"', ["type:i64"]),
    ("i64", '"1_000"', ["type:i64"]),
    ("i64", '"١"', ["type:i64"]),
    ("i64", "[1]", ["type:i64"]),
    ("i64", '{"v":1}', ["type:i64"]),
    ("f64", "1e309", ["type:f64"]),
    ("f64", '"NaN"', ["type:f64"]),
    ("f64", '"Infinity"', ["type:f64"]),
    ("f64", '"1,5"', ["type:f64"]),
    ("d", "0.001", ["type:d"]),
    ("d", "100000000", ["type:d"]),
    ("d", "1e99", ["type:d"]),
    ("d", '"1 000"', ["type:d"]),
    ("s", "12.50", ["type:s"]),
    ("s", "true", ["type:s"]),
    ("s", "[]", ["type:s"]),
    ("day", '"2023-02-29"', ["type:day"]),
    ("day", '"2024-13-01"', ["type:day"]),
    ("day", '"0000-01-01"', ["type:day"]),
    ("day", '"10000-01-01"', ["type:day"]),
    ("day", '"2024-01-01T00:00:00Z"', ["type:day"]),
    ("sec", "1700000000000", ["type:sec"]),
    ("sec", '"2024-01-01"', ["type:sec"]),
    ("sec", "0.0000001", ["type:sec"]),
    ("ms", "253402300800000", ["type:ms"]),
    ("ns", "1", ["type:ns"]),
    ("at", '"2024-02-30T00:00:00Z"', ["type:at"]),
    ("at", '"2024-01-01T24:00:00Z"', ["type:at"]),
    ("at", '"2024-01-01T23:59:60Z"', ["type:at"]),
    ("at", '"2024-01-01T00:00:00.1234567Z"', ["type:at"]),
    ("at", '"2024-01-01T00:00:00+24:00"', ["type:at"]),
    ("at", '"0001-01-01T00:00:00+00:01"', ["type:at"]),
    ("at", '"9999-12-31T23:59:59-00:01"', ["type:at"]),
    ("at", '"2024-01-01"', ["type:at"]),
    ("at", "1700000000", ["type:at"]),
    ("at", '"9999-12-31T23:59:59Z"', ["future"]),
    ("at", "null", ["required:at"]),
    ("at", '""', ["type:at"]),
    ("local", '"2024-03-31T02:30:00"', ["type:local"]),
    ("german", '"31.02.2024 12:00"', ["type:german"]),
    ("german", '"2024-02-29T12:00:00Z"', ["type:german"]),
    ("i64", "0", ["whole"]),
]


def event(number: int, column: str = "", text: str = "") -> bytes:
    members = {"id": str(number), "at": '"2025-01-01T00:00:00Z"', **({column: text} if column else {})}
    return ("{" + ",".join(f'"{name}":{member}' for name, member in members.items()) + "}").encode()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """Every value in an event of its own, each between two plain ones."""
    records = [event(0)]
    for number, (column, text, _) in enumerate([*FITS, *MISFITS]):
        records += [event(2 * number + 1, column, text), event(2 * number + 2)]
    files = {"incoming/a.ndjson": attacked.lines(records)}
    found = attacked.absorb(attacked.make(tmp_path_factory.mktemp("values"), PIPELINE, files))
    plain = {offset for offset, _ in found.accepted if offset % 2 == 0}
    assert plain == set(range(0, len(records), 2))
    return found


@pytest.mark.parametrize(("number", "case"), list(enumerate(FITS)), ids=lambda value: str(value)[:60])
def test_what_fits_is_kept_exactly(number: int, case: tuple[str, str, Any], ends: Ends) -> None:
    column, _, expected = case
    offset = 2 * number + 1
    assert ends.of(offset) == ["accepted"], ends.rejected.get((offset, 0))
    assert ends.accepted[offset, 0][column] == expected


@pytest.mark.parametrize(("number", "case"), list(enumerate(MISFITS, len(FITS))), ids=lambda value: str(value)[:60])
def test_what_does_not_fit_is_named(number: int, case: tuple[str, str, list[str]], ends: Ends) -> None:
    column, text, failed = case
    offset = 2 * number + 1
    assert ends.of(offset) == failed, ends.rejected.get((offset, 0))
    assert ends.rejected[offset, 0]["value"] == event(offset, column, text)
