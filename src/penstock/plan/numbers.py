"""Exact numbers from text, as SQL for the usual notations and as an Arrow function for all others.

Used by `casts.py` for numbers and by `times.py` for times given as numbers.
"""

from __future__ import annotations

import re

import pyarrow as pa

from penstock.plan.forms import EXACT_NUMBER
from penstock.plan.sqltext import literal

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""What counts as a number in text."""

_PARTS = re.compile(r"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_NUMBER = re.compile(NUMBER, re.ASCII)
_DIGITS_MAX = 40
"""More digits before the point than any type holds: keeps `1e999999999` from being written out."""
_EXPONENT_CHARACTERS_MAX = 10


def is_number(text: str) -> str:
    """SQL condition: `text` is a number in some notation."""
    return f"regexp_full_match({text}, {literal(NUMBER)})"


def trimmed(text: str) -> str:
    """SQL for `text` without zeros at the end of a fraction, and without an empty fraction."""
    has_zeros = f"contains({text}, '.') AND NOT contains({text}, 'e') AND NOT contains({text}, 'E')"
    return f"CASE WHEN {has_zeros} THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"


def exact_number(text: str, *, scale: int, shift: int = 0) -> str:
    """SQL for `exact_text` of each row: one row at a time in Python, for rare notations only."""
    return f"{EXACT_NUMBER}({text}, {scale}, {shift})"


def exact_text(text: str, scale: int, shift: int) -> str | None:
    """The number in `text`, times 10^shift, written without an exponent and without zeros at its end.

    None where `text` is no number, has a non-zero digit beyond `scale` fraction digits, or far too many before the
    point. All digits are kept, so that a cast of the result is exact.
    """
    match = _PARTS.fullmatch(text) if _NUMBER.fullmatch(text) else None
    if match is None:
        return None
    sign, whole, fraction, exponent = match.groups()
    digits = (whole + fraction).rstrip("0")
    leading = len(digits) - len(digits.lstrip("0"))
    if not digits:
        return "0"
    if exponent is not None and len(exponent.lstrip("+-0")) > _EXPONENT_CHARACTERS_MAX:
        return None
    point = len(whole) + int(exponent or "0") + shift
    if point - leading > _DIGITS_MAX or len(digits) - point > scale:
        return None
    if point <= 0:
        plain = "0." + "0" * -point + digits
    elif point >= len(digits):
        plain = digits.ljust(point, "0").lstrip("0")
    else:
        plain = (digits[:point].lstrip("0") or "0") + "." + digits[point:]
    return ("-" if sign == "-" else "") + plain


def exact_texts(texts: pa.Array, scales: pa.Array, shifts: pa.Array) -> pa.Array:
    """`exact_text` of each row."""
    rows = zip(texts.to_pylist(), scales.to_pylist(), shifts.to_pylist(), strict=True)
    return pa.array([None if row[0] is None else exact_text(*row) for row in rows], pa.string())
