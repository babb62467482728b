"""Framing against plain Python that looks at one byte after the other, for any content cut into any blocks."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.limits import CSV_RECORD_LINES_MAX
from penstock.sources.framing import Framer

Record = tuple[bytes | None, bytes | None, int]
"""Value, header of a record that is too large, and where the content goes on after it."""


def _record(body: bytes, end: int, limit: int) -> Record:
    if len(body) <= limit:
        return body, None, end
    return None, b'{"bytes":%d,"sha256":"%s"}' % (len(body), hashlib.sha256(body).hexdigest().encode()), end


def plain_lines(content: bytes, limit: int) -> list[Record]:
    records = []
    at = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    while at < len(content):
        stop = content.find(b"\n", at)
        body, end = (content[at:], len(content)) if stop < 0 else (content[at:stop].removesuffix(b"\r"), stop + 1)
        if body:
            records.append(_record(body, end, limit))
        at = end
    return records


def logical_end(content: bytes, at: int, quote: int, delimiter: int) -> int | None:
    """Index of the line end of the logical line at `at`; None when the content ends inside a quoted field."""
    in_quotes, field_start, lines = False, True, 1
    while at < len(content):
        byte = content[at]
        if in_quotes:
            if byte == quote and content[at + 1 : at + 2] == bytes([quote]):
                at += 1
            elif byte == quote:
                in_quotes = False
            elif byte == 10:
                lines += 1
                if lines > CSV_RECORD_LINES_MAX:
                    return None
        elif byte == 10:
            return at
        elif byte == quote and field_start:
            in_quotes = True
        field_start = not in_quotes and byte == delimiter
        at += 1
    return None


def csv_lines(content: bytes, limit: int, quote: int = 34, delimiter: int = 44) -> list[Record]:
    records = []
    at = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    whole, content = len(content), content if content.endswith(b"\n") else content + b"\n"
    while at < whole:
        stop = logical_end(content, at, quote, delimiter)
        if stop is None or stop + 1 - at > limit + 2:
            stop = content.find(b"\n", at)
        body = content[at:stop]
        if stop < whole:
            body = body.removesuffix(b"\r")
        if body:
            records.append(_record(body, min(stop + 1, whole), limit))
        at = stop + 1
    return records


def framed(content: bytes, cuts: list[int], limit: int, **kind: str) -> list[Record]:
    framer = Framer(limit, **kind)
    points = sorted({cut % (len(content) + 1) for cut in cuts})
    records: list[Record] = []
    parts = [
        *(framer.feed(content[a:b]) for a, b in zip([0, *points], [*points, len(content)], strict=True)),
        framer.finish(),
    ]
    for part in parts:
        part.values.validate(full=True)
        for index, (value, end) in enumerate(zip(part.values.to_pylist(), part.ends.tolist(), strict=True)):
            records.append((value, part.too_large.get(index), end))
    return records


text = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"a", b"bc", b"\x00", b"\xff", b"\xef\xbb\xbf", b"longer text", b'"', b","]
    ),
    max_size=30,
).map(b"".join)
cuts = st.lists(st.integers(0, 400), max_size=8)


@given(text, cuts, st.integers(1, 12))
@settings(max_examples=600, deadline=None)
def test_lines_are_what_plain_python_finds(content: bytes, cuts: list[int], limit: int) -> None:
    assert framed(content, cuts, limit) == plain_lines(content, limit)


@given(st.binary(max_size=60), cuts)
@settings(max_examples=200, deadline=None)
def test_any_bytes_survive(content: bytes, cuts: list[int]) -> None:
    assert framed(content, cuts, 1_000) == plain_lines(content, 1_000)


csv_text = st.lists(
    st.sampled_from(
        [b'"', b'"', b'""', b",", b"\n", b"\r\n", b"a", b'"x"', b',"', b'",', b'"a\nb"', b'\n"', b'"\n', b"long"]
    ),
    max_size=24,
).map(b"".join)


@given(csv_text, cuts, st.integers(1, 60))
@settings(max_examples=1500, deadline=None)
def test_csv_records_are_what_a_state_machine_finds(content: bytes, cuts: list[int], limit: int) -> None:
    assert framed(content, cuts, limit, quote='"') == csv_lines(content, limit)


def test_a_stray_quote_swallows_no_more_than_its_line() -> None:
    lines = [b'a,"open' if number == 3 else b"a,b" for number in range(3 * CSV_RECORD_LINES_MAX)]
    assert [value for value, _, _ in framed(b"\n".join(lines), [77, 4_000], 1 << 20, quote='"')] == lines


def test_a_quoted_field_may_hold_as_many_lines_as_allowed() -> None:
    record = b'"' + b"\n" * (CSV_RECORD_LINES_MAX - 1) + b'",x'
    assert [value for value, _, _ in framed(record + b"\ny", [], 1 << 20, quote='"')] == [record, b"y"]


@pytest.mark.parametrize("delimiter", ["\t", ";", "§", "||"])
def test_other_delimiters(delimiter: str) -> None:
    mark = delimiter.encode()
    content = b"a" + mark + b'"b\nc"' + mark + b'd"e\nf' + mark + b"g\n"
    values = [value for value, _, _ in framed(content, [3, 5], 1_000, quote='"', delimiter=delimiter)]
    assert values == [b"a" + mark + b'"b\nc"' + mark + b'd"e', b"f" + mark + b"g"]


def test_a_huge_line_is_hashed_in_bounded_memory() -> None:
    framer, digest = Framer(1 << 20), hashlib.sha256()
    block = b"x" * (1 << 20)
    for _ in range(64):
        assert len(framer.feed(block)) == 0
        digest.update(block)
    part = framer.feed(b"\r\nnext\n")
    assert part.values.to_pylist() == [None, b"next"]
    assert part.too_large == {0: b'{"bytes":%d,"sha256":"%s"}' % (64 << 20, digest.hexdigest().encode())}
    assert len(framer.finish()) == 0
