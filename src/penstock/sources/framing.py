"""Bytes to records: newline-delimited text and CSV's logical lines, a block at a time, without a loop over records.

A record is a line without its line end: LF, or one CR before it too. Any other byte is kept as it is: invalid UTF-8,
NUL, a lone CR. An empty line is no record. The last line needs no line end. A byte order mark at the start is left out.
A line over the size limit is a record without a value, known by its length and SHA-256, in bounded memory.

A CSV record is a logical line: newlines inside a quoted field belong to it. A quote opens a field only where the field
begins; elsewhere it is a character like any other. A quote that is not closed within CSV_RECORD_LINES_MAX lines or the
size limit does not count as one: then the physical line is the record, and the next line starts afresh.

How content is cut into blocks never changes the records. `files.py` feeds this.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.limits import CSV_RECORD_LINES_MAX

if TYPE_CHECKING:
    from numpy.typing import NDArray

LF = 10
CR = 13
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Framed:
    """Consecutive records. `values` is binary, null for a record over the limit; `ends[i]` is where the content goes on
    after record i (its line end included); `too_large` maps an index to the text of its header."""

    values: pa.Array
    ends: NDArray[np.int64]
    too_large: dict[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ends)


def too_large_header(length: int, sha256_hex: str) -> bytes:
    """The header value that stands for a record of `length` bytes that was left out."""
    return b'{"bytes":%d,"sha256":"%s"}' % (length, sha256_hex.encode("ascii"))


class _LongLine:
    """A line that outgrew the limit: only its length and hash are kept. A trailing CR may belong to the line end."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._length = 0
        self._held_cr = False

    def add(self, piece: bytes) -> None:
        if not piece:
            return
        if self._held_cr:
            self._hash.update(b"\r")
        self._held_cr = piece[-1] == CR
        body = piece[:-1] if self._held_cr else piece
        self._hash.update(body)
        self._length += len(piece)

    def header(self, *, line_ended: bool) -> bytes:
        if self._held_cr and not line_ended:
            self._hash.update(b"\r")
        return too_large_header(self._length - (self._held_cr and line_ended), self._hash.hexdigest())


class Framer:
    """Cuts a stream of blocks into records; one for each file.

    `feed` blocks in order, then `finish` once. With `quote` (one ASCII character) records are CSV's logical lines.
    """

    def __init__(self, record_bytes_max: int, *, quote: str = "", delimiter: str = ",", start: int = 0) -> None:
        """`start` is the content byte that the first block begins at: 0, or the start of a record."""
        self._limit = record_bytes_max
        self._rest = b""
        self._rest_at = start
        self._long: _LongLine | None = None
        self._started = start > 0
        self._logical = LogicalLines(quote, delimiter, record_bytes_max) if quote else None

    @property
    def resolved(self) -> int:
        """The content byte below which no record can end any more."""
        return self._rest_at

    def feed(self, block: bytes) -> Framed:
        """The records that end in `block`."""
        if not self._started:
            begun = self._without_mark(self._rest + block)
            if begun is None:
                return _NOTHING
            block = begun
        if self._long is not None:
            cut = block.find(b"\n")
            self._long.add(block if cut < 0 else block[:cut])
            if cut < 0:
                self._rest_at += len(block)
                return _NOTHING
            return _join(self._end_long_line(cut + 1, line_ended=True), self._frame(block[cut + 1 :], final=False))
        return self._frame(self._rest + block if self._rest else block, final=False)

    def finish(self) -> Framed:
        """The records left when the content ends."""
        if not self._started:
            self._started = True
        if self._long is not None:
            return self._end_long_line(0, line_ended=False)
        return self._frame(self._rest, final=True)

    def _without_mark(self, data: bytes) -> bytes | None:
        """The first block without a byte order mark; None while too little came to tell."""
        if len(data) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(data):
            self._rest = data
            return None
        self._started = True
        self._rest = b""
        if data.startswith(BYTE_ORDER_MARK):
            self._rest_at = len(BYTE_ORDER_MARK)
            return data[len(BYTE_ORDER_MARK) :]
        return data

    def _end_long_line(self, consumed: int, *, line_ended: bool) -> Framed:
        assert self._long is not None
        header = self._long.header(line_ended=line_ended)
        self._long = None
        self._rest_at += consumed
        return Framed(pa.nulls(1, pa.binary()), np.array([self._rest_at], np.int64), {0: header})

    def _frame(self, data: bytes, *, final: bool) -> Framed:
        """Records of `data`, which begins at content byte `_rest_at` and at the start of a line."""
        base, size = self._rest_at, len(data)
        if final and data and not data.endswith(b"\n"):
            data += b"\n"
        content = np.frombuffer(data, np.uint8)
        stops = np.flatnonzero(content == LF)
        if self._logical is not None:
            stops, rest_at = self._logical.join(data, content, stops, final=final)
        else:
            rest_at = int(stops[-1]) + 1 if len(stops) else 0
        self._rest = data[rest_at:]
        self._rest_at = base + min(rest_at, size)
        if len(self._rest) > self._limit + 1 and (self._logical is None or b"\n" not in self._rest):
            self._start_long_line()
        if not len(stops):
            return _NOTHING
        return self._cut(data, content, stops, base, size)

    def _start_long_line(self) -> None:
        self._long = _LongLine()
        self._long.add(self._rest)
        self._rest_at += len(self._rest)
        self._rest = b""

    def _cut(self, data: bytes, content: NDArray[np.uint8], stops: NDArray[np.int64], base: int, size: int) -> Framed:
        """The lines that end at `stops` as records."""
        starts = np.empty_like(stops)
        starts[0] = 0
        np.add(stops[:-1], 1, out=starts[1:])
        before = content[np.maximum(stops - 1, 0)]
        last_lacks_line_end = size < len(data)
        bodies = stops - ((before == CR) & (stops > starts))
        if last_lacks_line_end:
            bodies[-1] = stops[-1]
        lengths = bodies - starts
        ends = np.minimum(stops + 1, size) + base
        keep = lengths > 0
        if not keep.all():
            starts, bodies, lengths, ends = starts[keep], bodies[keep], lengths[keep], ends[keep]
        if not len(starts):
            return _NOTHING
        large = np.flatnonzero(lengths > self._limit)
        too_large = {
            int(index): too_large_header(
                int(lengths[index]), hashlib.sha256(data[int(starts[index]) : int(bodies[index])]).hexdigest()
            )
            for index in large
        }
        return Framed(_slices(data, starts, bodies, large), ends, too_large)


_NOTHING = Framed(pa.array([], pa.binary()), np.zeros(0, np.int64))


def _join(first: Framed, second: Framed) -> Framed:
    if not len(second):
        return first
    shifted = {index + len(first): header for index, header in second.too_large.items()}
    return Framed(
        pa.concat_arrays([first.values, second.values]),
        np.concatenate([first.ends, second.ends]),
        {**first.too_large, **shifted},
    )


def _slices(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], nulls: NDArray[np.int64]) -> pa.Array:
    """data[starts[i]:ends[i]] as a binary array; null at the indexes `nulls`.

    Arrow cannot skip bytes between values, so a view over `data` holds values and gaps in turn, and `take` copies every
    second one: three times as fast as any other way of leaving the line ends out.
    """
    count = len(starts)
    bounds = np.empty(2 * count + 1, np.int32)
    bounds[0:-1:2] = starts
    bounds[1::2] = ends
    bounds[-1] = ends[-1]
    turns = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    chosen = np.arange(0, 2 * count, 2)
    if not len(nulls):
        return turns.take(pa.array(chosen))
    mask = np.zeros(count, bool)
    mask[nulls] = True
    return turns.take(pa.array(chosen, mask=mask))


class LogicalLines:
    """Decides which line ends of CSV text end a record.

    A line whose quotes pair up in the plain way (each opens where a field begins and closes where one ends) needs no
    more than a vectorised look. The others are walked over by one regular expression, record by record.
    """

    def __init__(self, quote: str, delimiter: str, record_bytes_max: int) -> None:
        self._quote = quote.encode()
        self._delimiter = delimiter.encode()
        self._limit = record_bytes_max
        mark, separator = re.escape(self._quote), re.escape(self._delimiter)
        if len(self._delimiter) == 1:
            plain = b"[^" + separator + b"\n]*+"
        else:
            plain = b"(?:(?!" + separator + b")[^\n])*+"
        quoted = mark + b"(?:[^" + mark + b"]++|" + mark + mark + b")*+" + mark + plain
        field_text = b"(?:" + quoted + b"|(?!" + mark + b")" + plain + b")"
        self._record = re.compile(field_text + b"(?:" + separator + field_text + b")*+\n")

    def join(
        self, data: bytes, content: NDArray[np.uint8], stops: NDArray[np.int64], *, final: bool
    ) -> tuple[NDArray[np.int64], int]:
        """The line ends that end records, and where the first record without an end begins."""
        if not len(stops):
            return stops, 0
        end = int(stops[-1]) + 1
        quotes = np.flatnonzero(content[:end] == self._quote[0])
        if not len(quotes):
            return stops, end
        odd = self._not_plain(content, stops, quotes)
        keep = np.ones(len(stops), bool)
        places = stops.tolist()
        line = 0
        for candidate in odd.tolist():
            if candidate < line:
                continue
            last = self._last_line(data, places, candidate, final=final)
            if last is None:
                return stops[:candidate][keep[:candidate]], places[candidate - 1] + 1 if candidate else 0
            keep[candidate:last] = False
            line = last + 1
        return stops[keep], end

    def _not_plain(
        self, content: NDArray[np.uint8], stops: NDArray[np.int64], quotes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Indexes of the lines whose quotes, taken from outside a field, do not pair up in the plain way."""
        lines = np.searchsorted(stops, quotes)
        if len(self._delimiter) > 1:
            return np.unique(lines)
        first_of_line = np.searchsorted(lines, np.arange(len(stops) + 1))
        turn = (np.arange(len(quotes)) - first_of_line[lines]) & 1
        separator, mark = self._delimiter[0], self._quote[0]
        before = content[np.maximum(quotes - 1, 0)]
        opens = (before == separator) | (before == LF) | (before == mark) | (quotes == 0)
        after = content[quotes + 1]
        closes = (after == separator) | (after == LF) | (after == CR) | (after == mark)
        wrong = np.where(turn == 0, ~opens, ~closes)
        uneven = (np.diff(first_of_line) & 1).astype(bool)
        uneven[lines[wrong]] = True
        return np.flatnonzero(uneven)

    def _last_line(self, data: bytes, stops: list[int], first: int, *, final: bool) -> int | None:
        """The index of the line that ends the record which begins with line `first`; None while more is needed."""
        start = stops[first - 1] + 1 if first else 0
        last_allowed = first + CSV_RECORD_LINES_MAX - 1
        by_lines = stops[last_allowed] + 1 if last_allowed < len(stops) else None
        reach = min(stops[-1] + 1 if by_lines is None else by_lines, start + self._limit + 2)
        match = self._record.match(data, start, reach)
        if match is not None:
            return bisect_left(stops, match.end() - 1, first)
        is_bounded = by_lines is not None or len(data) - start > self._limit + 2
        return first if is_bounded or final else None
