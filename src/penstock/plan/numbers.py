"""Exact numbers from text in any notation, as SQL: the slow path of `casts.py` and of times given as numbers."""

from __future__ import annotations

from penstock.plan.sqltext import let, literal

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""What counts as a number in text."""

_PARTS = r"^([+-]?)0*([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?$"
_INTEGER_DIGITS_MAX = 40
"""More digits before the point than any type holds; keeps `1e999999999` from being written out."""


def exact_text(text: str, *, scale: int, shift: int = 0) -> str:
    """SQL that writes the number in `text`, times 10^shift, without an exponent and without zeros at its end.

    NULL where `text` is no number, has a non-zero digit beyond `scale` fraction digits, or far too many before the
    point. All digits are kept, so that casting the result is exact.
    """
    digits_and_point = (
        "{'digits': rtrim(m.whole || m.fraction, '0'), "
        f"'point': CASE WHEN m.exponent = '' THEN {shift} ELSE TRY_CAST(m.exponent AS INTEGER) + {shift} END "
        "+ CAST(strlen(m.whole) AS BIGINT), 'sign': CASE WHEN m.sign = '-' THEN '-' ELSE '' END}"
    )
    written = f"""CASE
      WHEN n.digits = '' THEN '0'
      WHEN n.point > {_INTEGER_DIGITS_MAX} + CAST(strlen(n.digits) - strlen(ltrim(n.digits, '0')) AS BIGINT) THEN NULL
      WHEN n.point >= strlen(n.digits)
        THEN n.sign || ltrim(n.digits || repeat('0', n.point - CAST(strlen(n.digits) AS BIGINT)), '0')
      WHEN CAST(strlen(n.digits) AS BIGINT) - n.point > {scale} THEN NULL
      WHEN n.point <= 0 THEN n.sign || '0.' || repeat('0', -n.point) || n.digits
      ELSE n.sign || '0' || ltrim(left(n.digits, n.point), '0') || '.' || substr(n.digits, n.point + 1)
      END"""
    names = "['sign', 'whole', 'fraction', 'exponent']"
    found = f"CASE WHEN regexp_full_match(t, {literal(NUMBER)}) THEN regexp_extract(t, {literal(_PARTS)}, {names}) END"
    return let("t", text, let("m", found, f"CASE WHEN m IS NOT NULL THEN {let('n', digits_and_point, written)} END"))
