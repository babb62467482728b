"""Coverage-guided fuzzing of the parsers written in Python: `make fuzz TARGET=framing` (needs atheris; see Makefile).

A target is a law over any bytes; what breaks it is written to a file `crash-...`, and running with that file
repeats it. Options behind the target are libFuzzer's: `-max_total_time=60`, `-seed=1`, a folder that keeps the corpus.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from itertools import pairwise
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

with atheris.instrument_imports(include=["penstock", "plan"]):
    from penstock.plan import strict
    from penstock.proof.events import strict_json
    from penstock.sources.framing import Framer
    from plan import oracle

LIMIT = 64
"""The size limit of records here: small, so that records over it are found."""


def framed(content: bytes, cuts: list[int], *, quote: str) -> list[tuple[bytes | None, bytes | None, int]]:
    """Records with the header of those over the limit and their ends, of content that comes in blocks."""
    framer = Framer(LIMIT, quote=quote)
    found = []
    bounds = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    parts = [framer.feed(content[start:end]) for start, end in pairwise(bounds)]
    for part in [*parts, framer.finish()]:
        values = part.values.to_pylist()
        found += [(value, part.too_large.get(row), int(part.ends[row])) for row, value in enumerate(values)]
    return found


def framing(data: bytes) -> None:
    """How content is cut into blocks changes no record; every byte but line ends is in one."""
    cuts, content = list(data[:3]), data[3:]
    for quote in ("", '"'):
        whole = framed(content, [], quote=quote)
        assert framed(content, cuts, quote=quote) == whole
        ends = [end for _, _, end in whole]
        assert ends == sorted(set(ends))
        start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
        for value, header, end in whole:
            body = content[start:end].strip(b"\r\n")
            if value is None:
                assert header is not None
                assert json.loads(header)["bytes"] > LIMIT
            else:
                assert value.strip(b"\r\n") == body
            start = end
        assert not content[start:].strip(b"\r\n")
    lines = [value for value, _, _ in framed(content, [], quote="") if value is not None]
    plain = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    last = plain.pop()
    expected = [line.removesuffix(b"\r") for line in plain] + [last]
    assert lines == [line for line in expected if 0 < len(line) <= LIMIT]


TOKENS = [
    *b"{ } [ ] , : 1 0 - + . e 1.5 -0 1e9 true false null NaN Infinity -inf nan".split(),
    *rb'"a" "b" "a": " \ "\u0000" "\ud800"'.split(),
    *(b" ", b"\n", b"\x00", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf"),
]


def strictness(data: bytes) -> None:
    """The strict look of refine, that of the audit and the oracle agree about what is JSON.

    The parsers are not written in Python, so coverage says little: every byte stands for a piece of JSON.
    """
    data = b"".join(TOKENS[byte % len(TOKENS)] for byte in data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert strict.json_fault(data) is not None
        return
    ours = strict.json_fault(data) is None
    try:
        members = oracle.parse(data)
        is_object = True
    except oracle.Malformed:
        is_object = False
    if is_object:
        assert ours
        assert strict_json(text)
        first = json.loads(strict.first_of_keys(data), object_pairs_hook=list)
        assert [name for name, _ in first] == list(members)
    elif ours:
        assert not isinstance(json.loads(text), dict)


def logical(data: bytes) -> None:
    """What the standard library reads strictly as CSV, one record a line, is cut into those records."""
    text = data.decode("ascii", "ignore").replace("\r", "").replace("\x00", "")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return
    framer = Framer(1 << 20, quote='"')
    values = [value for part in (framer.feed(text.encode()), framer.finish()) for value in part.values.to_pylist()]
    found = [next(csv.reader(io.StringIO(value.decode(), newline=""))) for value in values]
    assert found == [row for row in rows if row]


TARGETS = {one.__name__: one for one in (framing, strictness, logical)}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {'|'.join(TARGETS)} [libFuzzer options]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
