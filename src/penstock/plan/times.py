"""Casts of dates and instants, as SQL; `casts.py` says what they accept and how the parts of a cast work together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.plan.forms import Cast
from penstock.plan.numbers import exact_text
from penstock.plan.sqltext import let, literal

if TYPE_CHECKING:
    from penstock.model.pipeline import Column

UNIT_SHIFTS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
"""Powers of ten from a unit to microseconds."""

MICROS_MIN = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z."""
MICROS_MAX = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z."""

SPECIFIERS = frozenset("aAbBdfgHIjmMnpSuUwWyYzZ%")
"""What may follow a percent sign (or %-) in `format`: the strptime of DuckDB, without those that depend on a locale."""

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_OFFSET = r"[+-](?:[01][0-9]|2[0-3])"
_PLAIN_INSTANT = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,6}})?"
_INSTANT_PARTS = (
    rf"^([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})[Tt ]({_CLOCK}(?::[0-5][0-9])?)(?:\.([0-9]+))?"
    rf"([Zz]|{_OFFSET}(?::?[0-5][0-9])?)?$"
)
_SECONDLESS_FRACTION = rf"[^.]*[Tt ]{_CLOCK}\..*"


def unknown_specifiers(text: str) -> list[str]:
    """The parts of a strptime format that we do not take."""
    found = re.findall(r"%-?.?", text, re.DOTALL)
    return [part for part in found if part[-1] not in SPECIFIERS or part in ("%", "%-")]


def has_zone(text: str) -> bool:
    """Whether a strptime format reads an offset or a zone."""
    return bool(re.search(r"%-?[zZ]", text.replace("%%", "")))


def cast(column: Column, text: str) -> Cast:
    """The cast to date or timestamp; `text` is SQL for the value's plain text, in terms of `{value}`."""
    assert column.type is not None
    if column.type.kind == "date":
        return _date(column, text)
    if column.unit is not None:
        return _unit(column.unit, text)
    if column.format is not None:
        parsed = _parsed(column.format, text)
        if has_zone(column.format):
            return Cast(parsed, in_range("{probe}"))
        return Cast(parsed, in_range(_instant("{probe}", column)))
    return _iso(column, text)


def _date(column: Column, text: str) -> Cast:
    if column.format is None:
        # The only text that a date is written as is the only one it is read from.
        read = f"TRY_CAST({text} AS DATE)"
        fits = f"CAST({{probe}} AS VARCHAR) = ({text}) AND strlen({text}) = 10"
        return Cast(read, f"CASE WHEN {fits} THEN {{probe}} END")
    local = f"CAST({_parsed(column.format, text)} AS TIMESTAMP)"
    midnight = "CAST(CAST({probe} AS DATE) AS TIMESTAMP) = {probe} AND year({probe}) BETWEEN 1 AND 9999"
    return Cast(local, f"CASE WHEN {midnight} THEN CAST({{probe}} AS DATE) END")


def _unit(unit: str, text: str) -> Cast:
    shift = UNIT_SHIFTS[unit]
    slow = let(
        "micros",
        f"TRY_CAST({exact_text(text, scale=0, shift=shift)} AS BIGINT)",
        f"CASE WHEN micros BETWEEN {MICROS_MIN} AND {MICROS_MAX} THEN make_timestamptz(micros) END",
    )
    if shift < 0:
        return Cast("NULL", "NULL::TIMESTAMPTZ", slow)
    factor = 10**shift
    plain = (
        f"CASE WHEN {{probe}} BETWEEN {-(-MICROS_MIN // factor)} AND {MICROS_MAX // factor} "
        f"AND CAST({{probe}} AS VARCHAR) = {{value}} THEN make_timestamptz({{probe}} * {factor}) END"
    )
    return Cast("TRY_CAST({value} AS BIGINT)", plain, slow)


def _iso(column: Column, text: str) -> Cast:
    naive_is_utc = column.timezone in (None, "UTC")
    zone = rf"(?:Z|{_OFFSET}:[0-5][0-9])" + ("?" if naive_is_utc else "")
    plain = f"CASE WHEN regexp_full_match({text}, {literal(_PLAIN_INSTANT + zone)}) THEN TRY_CAST({text} AS TIMESTAMPTZ) END"
    names = "['day', 'clock', 'fraction', 'zone']"
    parts = f"regexp_extract(t, {literal(_INSTANT_PARTS)}, {names})"
    local = (
        "CASE WHEN p.day <> '' AND strlen(rtrim(p.fraction, '0')) <= 6 "
        f"AND NOT regexp_full_match(t, {literal(_SECONDLESS_FRACTION)}) "
        "THEN TRY_CAST(p.day || ' ' || p.clock || CASE WHEN p.fraction = '' THEN '' "
        "ELSE '.' || left(p.fraction, 6) END AS TIMESTAMP) END"
    )
    sign = "CASE WHEN left(p.zone, 1) = '-' THEN -1 ELSE 1 END"
    minutes = "CAST('0' || substr(replace(p.zone, ':', ''), 4, 2) AS INTEGER)"
    ahead = f"to_minutes({sign} * (60 * CAST(substr(p.zone, 2, 2) AS INTEGER) + {minutes}))"
    instant = (
        f"CASE WHEN p.zone = '' THEN {_instant('l', column)} WHEN upper(p.zone) = 'Z' THEN l AT TIME ZONE 'UTC' "
        f"ELSE (l - {ahead}) AT TIME ZONE 'UTC' END"
    )
    slow = let("t", text, let("p", parts, let("l", local, let("i", instant, in_range("i")))))
    return Cast(plain, in_range("{probe}"), slow)


def _parsed(text_format: str, text: str) -> str:
    """The text by a strptime format: TIMESTAMPTZ where the format reads a zone, else TIMESTAMP. NULL where it does not
    fit, where DuckDB would overlook blanks or take one of its words for a time, and where a digit would be lost."""
    parsed = f"try_strptime(t, {literal(text_format)})"
    fits = "t = trim(t) AND lower(t) NOT IN ('epoch', 'infinity', '-infinity')"
    if re.search(r"%-?n", text_format.replace("%%", "")):
        target = "TIMESTAMPTZ" if has_zone(text_format) else "TIMESTAMP"
        exact = let("n", parsed, f"CASE WHEN epoch_ns(n) % 1000 = 0 THEN CAST(n AS {target}) END")
        return let("t", text, f"CASE WHEN {fits} THEN {exact} END")
    return let("t", text, f"CASE WHEN {fits} THEN {parsed} END")


def in_range(instant: str) -> str:
    return (
        f"CASE WHEN {instant} BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' "
        f"AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00' THEN {instant} END"
    )


def _instant(local: str, column: Column) -> str:
    """The instant of a local time in the column's zone: NULL in a gap, in an overlap the one that `fold` says."""
    if column.timezone in (None, "UTC"):
        return f"{local} AT TIME ZONE 'UTC'"
    zone = literal(column.timezone or "UTC")

    def candidate(days: int) -> str:
        """The instant by the offset that the zone has about a day before or after."""
        near = f"(x AT TIME ZONE 'UTC' + to_days({days}))"
        offset = f"(({near} AT TIME ZONE {zone}) - ({near} AT TIME ZONE 'UTC'))"
        return f"((x - {offset}) AT TIME ZONE 'UTC')"

    both = f"list_filter([{candidate(-1)}, {candidate(1)}], lambda c: (c AT TIME ZONE {zone}) = x)"
    chosen = let("o", both, "list_aggregate(o, '%s')" % ("max" if column.fold == "later" else "min"))
    return let("x", local, f"CASE WHEN x IS NOT NULL THEN {chosen} END")
