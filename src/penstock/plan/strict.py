"""Whether bytes are JSON by RFC 8259, and what is wrong with them if not.

DuckDB's parser takes NaN, Infinity and trailing commas. The refine SQL finds the few records that may have one and asks
the functions here, which look at one record at a time: they are never called for an ordinary one.
"""

from __future__ import annotations

import json
import re

import numpy as np
import orjson
import pyarrow as pa

from penstock.limits import JSON_NESTING_MAX

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = np.zeros(256, np.int64)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def nesting(value: bytes) -> int:
    """The depth of the brackets of a JSON text, strings left out; works at any depth."""
    brackets = _STRINGS.sub(b"", value).translate(None, _NOT_BRACKETS)
    if not brackets:
        return 0
    return int(np.cumsum(_STEPS[np.frombuffer(brackets, np.uint8)]).max())


def json_fault(value: bytes) -> str | None:
    """What keeps `value` from being JSON by RFC 8259, or from being taken by us; None for nothing."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{value[error.start]:02x} at {error.start}"
    # A depth of n takes n brackets that open and n that close.
    depth = nesting(value) if len(value) > 2 * JSON_NESTING_MAX else 0
    if depth > JSON_NESTING_MAX:
        return f"nested {depth} deep; at most {JSON_NESTING_MAX}"
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg} at {error.pos}"
    return None


def first_of_keys(value: bytes) -> bytes:
    """The JSON object in `value` with the first member of each key only, each value's text as it was."""
    text = value.decode()
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    members: dict[str, str] = {}
    position = _after_blanks(text, _after_blanks(text, 0) + 1)
    while text[position] != "}":
        key, end = decoder.raw_decode(text, position)
        start = _after_blanks(text, _after_blanks(text, end) + 1)
        _, end = decoder.raw_decode(text, start)
        members.setdefault(key, text[start:end])
        position = _after_blanks(text, end)
        if text[position] == ",":
            position = _after_blanks(text, position + 1)
    inside = ",".join(f"{json.dumps(key, ensure_ascii=False)}:{raw}" for key, raw in members.items())
    return f"{{{inside}}}".encode()


def _after_blanks(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def json_faults(values: pa.Array) -> pa.Array:
    """`json_fault` of each row."""
    return pa.array([None if value is None else json_fault(value) for value in values.to_pylist()], pa.string())


def firsts_of_keys(values: pa.Array) -> pa.Array:
    """`first_of_keys` of each row."""
    found = [None if value is None else first_of_keys(value.encode()).decode() for value in values.to_pylist()]
    return pa.array(found, pa.string())
