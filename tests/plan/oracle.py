"""What refine must say about a JSON record, in plain Python and exact arithmetic: the oracle of the property tests."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import struct
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from penstock.model.pipeline import Column

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
MICROS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
UNITS = {"s": 10**6, "ms": 10**3, "us": 1, "ns": Fraction(1, 1000)}


class Number(str):
    """A JSON number by its text."""


class Malformed(Exception):
    """The record is not JSON, or no object."""


class Misfit(Exception):
    """The value does not fit the type."""


def parse(value: bytes) -> dict[str, Any]:
    """The members of a JSON object by RFC 8259, the first of each name."""

    def refuse(text: str) -> Any:
        raise ValueError(text)

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, member in pairs:
            found.setdefault(name, member)
        return found

    try:
        text = value.decode()
        document = json.loads(
            text, parse_int=Number, parse_float=Number, parse_constant=refuse, object_pairs_hook=first
        )
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Malformed from error
    if not isinstance(document, dict):
        raise Malformed
    return document


def write(value: Any) -> str:
    """JSON text without blanks, numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{write(name)}:{write(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(member) for member in value) + "]"
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"\\(u[0-9a-f]{4}|.)", lambda match: "\\" + escape(match[1]), text)


def escape(text: str) -> str:
    """The writer's escapes of control characters have upper-case digits."""
    return "u" + text[1:].upper() if len(text) > 1 else text


def cast(value: Any, column: Column) -> Any:
    """The typed value of a JSON value, None for null."""
    assert column.type is not None
    kind = column.type.kind
    if value is None:
        return None
    if kind == "json":
        return write(value)
    if kind == "string":
        return string(value)
    if kind == "boolean":
        if value in (True, "true") or value in (False, "false"):
            return value in (True, "true")
        raise Misfit
    if not isinstance(value, str):
        raise Misfit
    if kind == "binary":
        return binary(value)
    if kind == "date":
        return date(value)
    if kind == "timestamp":
        return unit_time(value, column.unit) if column.unit else instant(value, column)
    return number(value, column)


def string(value: Any) -> str:
    if isinstance(value, Number):
        if re.fullmatch(r"-?\d+", value) and -(2**63) <= int(value) < 2**64 and str(int(value)) == value:
            return str(value)
        raise Misfit
    if isinstance(value, str):
        return value
    raise Misfit


def exact(text: str) -> Fraction:
    if not NUMBER.fullmatch(text):
        raise Misfit
    return Fraction(Decimal(text))


def number(text: str, column: Column) -> Any:
    assert column.type is not None
    wanted = exact(text)
    if column.type.is_integer:
        bits = BITS[column.type.kind]
        if wanted.denominator != 1 or not -(2 ** (bits - 1)) <= wanted < 2 ** (bits - 1):
            raise Misfit
        return int(wanted)
    if column.type.kind == "decimal":
        scaled = wanted * 10**column.type.scale
        if scaled.denominator != 1 or abs(scaled) >= 10**column.type.precision:
            raise Misfit
        return Decimal(int(scaled)).scaleb(-column.type.scale)
    return float64(text) if column.type.kind == "float64" else float32(wanted)


def float64(text: str) -> float:
    found = float(text)
    if found in (float("inf"), float("-inf")):
        raise Misfit
    return found


def float32(wanted: Fraction) -> float:
    """The nearest float32, ties to even."""
    size = abs(wanted)
    if size == 0:
        return 0.0
    if size >= Fraction(2) ** 128 - Fraction(2) ** 103:
        raise Misfit
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 1, -126)
    while Fraction(2) ** (exponent + 1) <= size:
        exponent += 1
    step = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(size / step) * step
    return float(rounded) if wanted > 0 else -float(rounded)


def binary(value: str) -> bytes:
    if isinstance(value, Number):
        raise Misfit
    try:
        found = base64.b64decode(value.encode("ascii"), validate=True)
    except ValueError as error:
        raise Misfit from error
    if base64.b64encode(found).decode() != value:
        raise Misfit
    return found


def date(value: str) -> dt.date:
    if isinstance(value, Number) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise Misfit
    try:
        return dt.date.fromisoformat(value)
    except ValueError as error:
        raise Misfit from error


def unit_time(value: str, unit: str) -> int:
    micros = exact(value) * UNITS[unit]
    if micros.denominator != 1 or not MICROS[0] <= micros <= MICROS[1]:
        raise Misfit
    return int(micros)


def instant(value: str, column: Column) -> int:
    match = INSTANT.fullmatch(value)
    if isinstance(value, Number) or match is None:
        raise Misfit
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    digits = (fraction or "").rstrip("0")
    if len(digits) > 6:
        raise Misfit
    try:
        local = dt.datetime(  # noqa: DTZ001 - a local time
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0), int(digits.ljust(6, "0"))
        )
    except ValueError as error:
        raise Misfit from error
    if zone is None:
        return zoned(local, column)
    offset = 0
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].replace(":", "") or 0)
        if hours > 23 or minutes > 59:
            raise Misfit
        offset = (hours * 60 + minutes) * 60_000_000 * (-1 if zone[0] == "-" else 1)
    return in_range(micros_of(local.replace(tzinfo=dt.UTC)) - offset)


def zoned(local: dt.datetime, column: Column) -> int:
    if column.timezone in (None, "UTC"):
        return micros_of(local.replace(tzinfo=dt.UTC))
    zone = ZoneInfo(column.timezone)
    found = local.replace(tzinfo=zone, fold=1 if column.fold == "later" else 0)
    back = found.astimezone(dt.UTC).astimezone(zone)
    if back.replace(tzinfo=None) != local:
        raise Misfit
    return micros_of(found.astimezone(dt.UTC))


def micros_of(moment: dt.datetime) -> int:
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def in_range(micros: int) -> int:
    if not MICROS[0] <= micros <= MICROS[1]:
        raise Misfit
    return micros


def same_bits(left: float, right: float) -> bool:
    return struct.pack("<d", left) == struct.pack("<d", right) or (left == right == 0)
