"""Casts of dates and instants, as SQL; `casts.py` says what they accept, `forms.Cast` how the parts work together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.plan.forms import LOCAL_INSTANT, Cast
from penstock.plan.numbers import exact_number, trimmed
from penstock.plan.sqltext import literal

if TYPE_CHECKING:
    from penstock.model.pipeline import Column

UNIT_SHIFTS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
"""Powers of ten from a unit to microseconds."""

MICROS_MIN = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z."""
MICROS_MAX = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z: 18 digits, so that a DECIMAL(18) holds every time in any unit but nanoseconds."""

SPECIFIERS = frozenset("aAbBdfgHIjmMnpSuUwWyYzZ%")
"""What may follow a percent sign (or %-) in `format`: the strptime of DuckDB, without what depends on a locale."""

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_OFFSET = r"[+-](?:[01][0-9]|2[0-3])"
_PLAIN = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,6}})?"
_PLAIN_ZONE = rf"(?:Z|{_OFFSET}:[0-5][0-9])"
_PARTS = (
    rf"^([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})[Tt ]({_CLOCK}(?::[0-5][0-9]|))(?:(\.[0-9]+)|)"
    rf"((?:[Zz]|{_OFFSET}(?::?[0-5][0-9])?)?)$"
)


class _Steps:
    """SQL expressions, each of which may use the results of those before by the placeholder that `add` returned."""

    def __init__(self, letter: str) -> None:
        self._letter = letter
        self.sql: list[str] = []

    def add(self, sql: str) -> str:
        self.sql.append(sql)
        return f"{{{self._letter}{len(self.sql) - 1}}}"


def unknown_specifiers(text: str) -> list[str]:
    """The parts of a strptime format that we do not take."""
    found = re.findall(r"%-?.?", text, re.DOTALL)
    return [part for part in found if part[-1] not in SPECIFIERS or part in ("%", "%-")]


def cast(column: Column, text: str) -> Cast:
    """The cast to date or timestamp; `text` is SQL for the value's plain text, in terms of `{value}`."""
    assert column.type is not None
    if column.type.kind == "date":
        return _date(column, text)
    if column.unit is not None:
        return _unit(column.unit)
    return _iso(column, text) if column.format is None else _formatted(column, text, column.format)


def in_range(instant: str) -> str:
    """SQL for `instant` where its year is one that we take, else NULL."""
    return (
        f"CASE WHEN {instant} BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' "
        f"AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00' THEN {instant} END"
    )


def _date(column: Column, text: str) -> Cast:
    steps = _Steps("p")
    plain = steps.add(text)
    if column.format is None:
        # The only text that a date is written as is the only one that it is read from.
        read = steps.add(f"TRY_CAST({plain} AS DATE)")
        return Cast(
            tuple(steps.sql), f"CASE WHEN CAST({read} AS VARCHAR) = {plain} AND strlen({plain}) = 10 THEN {read} END"
        )
    local = steps.add(f"CAST({_parsed(column.format, steps, plain)} AS TIMESTAMP)")
    midnight = f"CAST(CAST({local} AS DATE) AS TIMESTAMP) = {local} AND year({local}) BETWEEN 1 AND 9999"
    return Cast(tuple(steps.sql), f"CASE WHEN {midnight} THEN CAST({local} AS DATE) END")


def _unit(unit: str) -> Cast:
    """Numbers. Plain are whole ones; then come fractions and quotes; then what only exact arithmetic can tell."""
    shift = UNIT_SHIFTS[unit]
    factor = 10 ** abs(shift)
    in_micros = f"{{p0}} * {factor}" if shift >= 0 else f"{{p0}} // {factor}"
    fits = "TRUE" if shift < 0 else f"{{p0}} BETWEEN {-(-MICROS_MIN // factor)} AND {MICROS_MAX // factor}"
    whole = "TRUE" if shift >= 0 else f"{{p0}} % {factor} = 0"
    plain = (
        f"CASE WHEN {fits} AND {whole} AND CAST({{p0}} AS VARCHAR) = {{value}} THEN make_timestamptz({in_micros}) END"
    )
    steps = _Steps("s")
    exotic = f"TRY_CAST({exact_number('{text}', scale=0, shift=shift)} AS BIGINT)"
    if shift >= 0:
        short = steps.add(trimmed("{text}"))
        number = steps.add(f"TRY_CAST({short} AS DECIMAL(18,{shift}))")
        written = f"CAST({number} AS VARCHAR)"
        # A decimal with as many fraction digits as the shift, written without its point, is the microseconds.
        digits = f"TRY_CAST(replace({written}, '.', '') AS BIGINT)"
        micros = steps.add(
            f"CASE WHEN starts_with({written}, {short}) THEN {digits} WHEN {{text}} IS NOT NULL THEN {exotic} END"
        )
    else:
        micros = steps.add(f"CASE WHEN {{text}} IS NOT NULL THEN {exotic} END")
    steps.add(f"CASE WHEN {micros} BETWEEN {MICROS_MIN} AND {MICROS_MAX} THEN make_timestamptz({micros}) END")
    return Cast(("TRY_CAST({value} AS BIGINT)",), plain, tuple(steps.sql))


def _iso(column: Column, text: str) -> Cast:
    slow = _Steps("s")
    part = slow.add(f"regexp_extract({{text}}, {literal(_PARTS)}, ['day', 'clock', 'fraction', 'zone'])")
    # Fractions belong to seconds, and have six digits that count.
    fits = (
        f"{part}.day <> '' AND strlen(rtrim({part}.fraction, '0')) <= 7 "
        f"AND ({part}.fraction = '' OR strlen({part}.clock) = 8)"
    )
    written = f"{part}.day || ' ' || {part}.clock || left({part}.fraction, 7)"
    local = slow.add(f"CASE WHEN {fits} THEN TRY_CAST({written} AS TIMESTAMP) END")
    minutes = f"CAST('0' || substr(replace({part}.zone, ':', ''), 4, 2) AS INTEGER)"
    ahead = f"to_minutes(60 * CAST(substr({part}.zone, 2, 2) AS INTEGER) + {minutes})"
    named = _instant(local, column)
    instant = slow.add(
        f"CASE WHEN {part}.zone = '' THEN {named} WHEN upper({part}.zone) = 'Z' THEN {local} AT TIME ZONE 'UTC' "
        f"WHEN left({part}.zone, 1) = '-' THEN ({local} + {ahead}) AT TIME ZONE 'UTC' "
        f"ELSE ({local} - {ahead}) AT TIME ZONE 'UTC' END"
    )
    slow.add(in_range(instant))

    fast = _Steps("p")
    plain = fast.add(text)
    if column.timezone in (None, "UTC"):
        pattern = literal(f"{_PLAIN}{_PLAIN_ZONE}?")
        read = fast.add(f"CASE WHEN regexp_full_match({plain}, {pattern}) THEN TRY_CAST({plain} AS TIMESTAMPTZ) END")
    else:
        pattern = literal(_PLAIN)
        naive = fast.add(f"CASE WHEN regexp_full_match({plain}, {pattern}) THEN TRY_CAST({plain} AS TIMESTAMP) END")
        read = fast.add(_instant(naive, column))
    return Cast(tuple(fast.sql), in_range(read), tuple(slow.sql))


def _formatted(column: Column, text: str, text_format: str) -> Cast:
    steps = _Steps("p")
    read = steps.add(_parsed(text_format, steps, steps.add(text)))
    if not _reads(text_format, "zZ"):
        read = steps.add(_instant(read, column))
    return Cast(tuple(steps.sql), in_range(read))


def _parsed(text_format: str, steps: _Steps, text: str) -> str:
    """The text by a strptime format: TIMESTAMPTZ where the format reads a zone, else TIMESTAMP. NULL where it does not
    fit, where DuckDB would overlook blanks or take one of its words for a time, and where a digit would be lost."""
    fits = f"{text} = trim({text}) AND lower({text}) NOT IN ('epoch', 'infinity', '-infinity')"
    parsed = f"CASE WHEN {fits} THEN try_strptime({text}, {literal(text_format)}) END"
    if not _reads(text_format, "n"):
        return parsed
    nanos = steps.add(parsed)
    target = "TIMESTAMPTZ" if _reads(text_format, "zZ") else "TIMESTAMP"
    return f"CASE WHEN epoch_ns({nanos}) % 1000 = 0 THEN CAST({nanos} AS {target}) END"


def _reads(text_format: str, letters: str) -> bool:
    """Whether a strptime format has one of these specifiers."""
    return bool(re.search(f"%-?[{letters}]", text_format.replace("%%", "")))


def _instant(local: str, column: Column) -> str:
    """The instant of a local time in the column's zone: NULL in a gap, in an overlap the one that `fold` says."""
    if column.timezone in (None, "UTC"):
        return f"{local} AT TIME ZONE 'UTC'"
    return f"{LOCAL_INSTANT}({local}, {literal(column.timezone or 'UTC')}, {column.fold == 'later'})"
