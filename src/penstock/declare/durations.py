"""Lengths of time as people write them: `10 seconds`, `500 ms`, `1h`, `1 day`; and spans, which know calendar days."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from penstock.declare.nodes import shorten
from penstock.declare.report import nearest
from penstock.declare.shapes import Word, Wrong, not_in_this_version
from penstock.limits import DURATION_DAYS_MAX
from penstock.model.pipeline import Span, SpanUnit

if TYPE_CHECKING:
    from penstock.declare.nodes import Scalar

SECOND = 1_000_000
DAY = 86_400 * SECOND

UNITS = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": SECOND,
    "minute": 60 * SECOND,
    "hour": 3_600 * SECOND,
    "day": DAY,
    "week": 7 * DAY,
}
"""Microseconds in each unit; all of them may be written in the plural."""

SHORT_UNITS = {
    "us": "microsecond",
    "µs": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "m": "minute",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
}
UNIT_NAMES = {**{name: name for name in UNITS}, **{f"{name}s": name for name in UNITS}, **SHORT_UNITS}
UNIT_NAMES |= {"secs": "second", "mins": "minute", "hr": "hour", "hrs": "hour"}

DURATION = re.compile(r"\s*(\d{1,18}(?:\.\d{1,6})?)\s*([^\W\d_]*)\s*")
DURATION_SCHEMA = {"type": ["string", "integer"], "pattern": r"^\s*\d+(\.\d+)?\s*[A-Za-zµ]+\s*$"}


def parse_duration(node: Scalar) -> int:
    """Microseconds. `0` needs no unit."""
    count, unit = split_duration(node.text)
    if unit is None:
        return 0
    return microseconds(count, unit, node.text)


def split_duration(text: str) -> tuple[Fraction, str | None]:
    """The number and the unit's full name; no unit only for 0. Raises Wrong."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise Wrong("bad-duration", f"`{shorten(text)}` is not a duration", "Write a number and a unit: `10 seconds`.")
    count, word = Fraction(match[1]), match[2]
    if not word:
        if count == 0:
            return count, None
        raise Wrong("bad-duration", f"`{text}` has no unit", f"Write for example `{text.strip()} seconds`.")
    unit = UNIT_NAMES.get(word) or UNIT_NAMES.get(word.lower())
    if unit is None:
        if re.fullmatch(r"mo|month|months|y|years?|quarters?", word.lower()):
            raise Wrong("bad-duration", f"`{shorten(text)}`: a {word} has no fixed length", "Write it in days.")
        near = nearest(word, [name for name in UNIT_NAMES if len(name) > 2])
        hint = f"Did you mean `{match[1]} {near}`?" if near else f"Units: {', '.join(UNITS)}."
        raise Wrong("bad-duration", f"`{shorten(word)}` is not a unit of time", hint)
    return count, unit


def microseconds(count: Fraction, unit: str, text: str) -> int:
    """The exact number of microseconds. Raises Wrong where there is none or it is too long."""
    exact = count * UNITS[unit]
    if exact.denominator != 1:
        raise Wrong(
            "bad-duration", f"`{shorten(text)}` is no whole number of microseconds", "Write it in a smaller unit."
        )
    if exact > DURATION_DAYS_MAX * DAY:
        raise Wrong(
            "out-of-range", f"`{shorten(text)}` is longer than {DURATION_DAYS_MAX} days", "Write a shorter one."
        )
    return int(exact)


def parse_span(node: Scalar) -> Span:
    """Days and weeks as calendar spans, everything else as exact microseconds."""
    if node.text in ("current", "history", "session"):
        raise not_in_this_version(f"the window `{node.text}`", "This version has windows of a fixed size: `1 minute`.")
    count, unit = split_duration(node.text)
    if unit is None or count == 0:
        raise Wrong("out-of-range", "a window of no length", "Write for example `1 minute`.")
    exact = microseconds(count, unit, node.text)
    if unit not in ("day", "week"):
        return Span(exact, SpanUnit.MICROSECOND)
    if count.denominator != 1:
        raise Wrong("bad-duration", f"`{shorten(node.text)}` is no whole number of {unit}s", "Write it in hours.")
    return Span(int(count), SpanUnit(unit))


DURATION_SHAPE = Word("a duration such as `10 seconds`", parse_duration, DURATION_SCHEMA)
SPAN_SHAPE = Word("a duration such as `1 minute` or `1 day`", parse_span, DURATION_SCHEMA)


def in_words(length_us: int, largest: str = "week") -> str:
    """A duration as a person would write it, in no unit above `largest`."""
    for name, size in reversed(UNITS.items()):
        if size <= UNITS[largest] and length_us >= size and length_us % size == 0:
            count = length_us // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{length_us} microseconds"


def span_length(span: Span) -> int:
    """Microseconds, days taken as 24 hours."""
    return span.count * UNITS[span.unit.value]


def span_in_words(span: Span) -> str:
    """A span as a person would write it; exact ones of a day and more in hours."""
    return in_words(span_length(span), "hour" if span.unit is SpanUnit.MICROSECOND else span.unit.value)
