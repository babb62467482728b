"""Records that are wrong, each between two that are right: exactly what they are is said, and nobody else notices.

The kinds of a format go through one run; a kind is a name, the record, and where it must end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from attacks import attacked
from penstock.limits import JSON_NESTING_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from attacks.attacked import Ends

REQUIRED = ["required:id", "required:at", "required:price"]
MALFORMED = ["malformed"]
ACCEPTED = ["accepted"]


def deep(depth: int, *, inside: bytes = b"") -> bytes:
    return b"[" * depth + inside + b"]" * depth


def record(members: bytes) -> bytes:
    """A record of its own identity, with `members` (or what stands for them) at its end."""
    return b'{"id":%d,"at":%d,"price":"1"%s}' % (1 << 40 | crc32(members), attacked.START, members)


JSON = {
    # no JSON at all
    "text": (b"hello", MALFORMED),
    "truncated in a string": (attacked.good(1)[:-3], MALFORMED),
    "truncated in a number": (b'{"id":1', MALFORMED),
    "truncated after a comma": (b'{"id":1,', MALFORMED),
    "only a bracket": (b"{", MALFORMED),
    "only blanks": (b" \t ", MALFORMED),
    "two on a line": (attacked.good(1) + attacked.good(1), MALFORMED),
    "text behind": (attacked.good(1) + b" x", MALFORMED),
    "yaml": (b"id: 1", MALFORMED),
    "a Python dict": (b"{'id': 1, 'at': None}", MALFORMED),
    # JSON for some parsers
    "NaN": (record(b',"n":NaN'), MALFORMED),
    "nan": (record(b',"n":nan'), MALFORMED),
    "Infinity": (record(b',"n":Infinity'), MALFORMED),
    "-Infinity": (record(b',"n":-Infinity'), MALFORMED),
    "inf in a list": (record(b',"n":[1,-inf]'), MALFORMED),
    "NaN as the price": (b'{"id":1,"at":%d,"price":NaN}' % attacked.START, MALFORMED),
    "a comma too many": (record(b","), MALFORMED),
    "a comma too many inside": (record(b',"n":[1,]'), MALFORMED),
    "a missing value": (record(b',"n":'), MALFORMED),
    "a comment": (record(b',"n":1/*c*/'), MALFORMED),
    "a line comment": (record(b',"n":1}//c{'), MALFORMED),
    "a leading zero": (record(b',"n":01'), MALFORMED),
    "a plus": (record(b',"n":+1'), MALFORMED),
    "no digit before the point": (record(b',"n":.5'), MALFORMED),
    "no digit behind the point": (record(b',"n":1.'), MALFORMED),
    "an empty exponent": (record(b',"n":1e'), MALFORMED),
    "hex": (record(b',"n":0x10'), MALFORMED),
    "True": (record(b',"n":True'), MALFORMED),
    "a name without quotes": (record(b",n:1"), MALFORMED),
    "a number as a name": (record(b",1:1"), MALFORMED),
    "a tab in a string": (record(b',"n":"a\tb"'), MALFORMED),
    "an unknown escape": (record(b',"n":"\\x41"'), MALFORMED),
    "a short escape": (record(b',"n":"\\u12"'), MALFORMED),
    "half a surrogate": (record(b',"n":"\\ud800"'), MALFORMED),
    "brackets that cross": (record(b',"n":[{]}'), MALFORMED),
    # bytes
    "NUL alone": (b"\x00", MALFORMED),
    "NUL behind": (record(b"") + b"\x00", MALFORMED),
    "NUL in a string": (record(b',"n":"\x00"'), MALFORMED),
    "NUL between": (b'{"id":\x001}', MALFORMED),
    "a byte order mark": (b"\xef\xbb\xbf" + record(b',"n":7'), MALFORMED),
    "invalid UTF-8 in a string": (record(b',"n":"\xff"'), MALFORMED),
    "invalid UTF-8 in a name": (record(b',"\xc3":1'), MALFORMED),
    "overlong UTF-8": (record(b',"n":"\xc0\xaf"'), MALFORMED),
    "a surrogate in UTF-8": (record(b',"n":"\xed\xa0\x80"'), MALFORMED),
    "beyond Unicode": (record(b',"n":"\xf4\x90\x80\x80"'), MALFORMED),
    "UTF-8 cut off": (record(b"") + b"\xe2\x82", MALFORMED),
    "latin-1": (record(b',"n":"caf\xe9"'), MALFORMED),
    "UTF-16": (b"\xff\xfe" + "{}".encode("utf-16-le"), MALFORMED),
    "a CR inside": (b'{"id":\r1', MALFORMED),
    # JSON, but no object
    "null": (b"null", MALFORMED),
    "true": (b"true", MALFORMED),
    "a number": (b"17", MALFORMED),
    "a string": (b'"text"', MALFORMED),
    "a list": (b"[" + attacked.good(1) + b"]", MALFORMED),
    "an empty list": (b"[]", MALFORMED),
    # depth
    "100,000 open brackets": (b"[" * 100_000, MALFORMED),
    "100,000 open objects": (b'{"a":' * 100_000, MALFORMED),
    "100,000 nested lists": (record(b',"n":' + deep(100_000)), MALFORMED),
    "100,000 nested lists as the note": (b'{"id":1,"at":1,"price":1,"note":%s}' % deep(100_000), MALFORMED),
    "one too deep": (record(b',"n":' + deep(JSON_NESTING_MAX)), MALFORMED),
    "as deep as can be": (record(b',"n":' + deep(JSON_NESTING_MAX - 1, inside=b"1")), ACCEPTED),
    "100,000 brackets in a string": (record(b',"n":"%s1"' % (b"[" * 100_000)), ACCEPTED),
    "escaped quotes and brackets": (record(b',"n":"%s2"' % (b'\\"[{' * 10_000)), ACCEPTED),
    # nothing there
    "an empty object": (b"{}", REQUIRED),
    "all null": (b'{"id":null,"at":null,"price":null}', REQUIRED),
    "all empty": (b'{"id":"","at":"","price":""}', ["type:id", "type:at", "type:price"]),
    "names in capitals": (b'{"ID":1,"AT":1,"PRICE":1}', REQUIRED),
    "names with blanks": (b'{" id":1,"at ":1,"price\\u0000":1}', REQUIRED),
    "one missing": (b'{"id":1,"at":%d}' % attacked.START, ["required:price"]),
    # strange, and right
    "blanks everywhere": (b' {\t"id" : 20000001 ,"at": %d , "price" :\r "1" } ' % attacked.START, ACCEPTED),
    "escaped names": (b'{"\\u0069d":20000002,"at":%d,"price":1}' % attacked.START, ACCEPTED),
    "duplicate keys, the first right": (
        b'{"id":20000003,"at":%d,"price":"1","price":"x","id":null}' % attacked.START,
        ACCEPTED,
    ),
    "duplicate keys, the first wrong": (
        b'{"id":20000004,"at":%d,"price":"x","price":"1"}' % attacked.START,
        ["type:price"],
    ),
    "duplicate keys, the first null": (b'{"id":20000005,"at":%d,"price":null,"price":1}' % attacked.START, ["required:price"]),
    "unknown fields": (b'{"id":20000006,"at":%d,"price":1,"x":{"y":[1.50]},"":0}' % attacked.START, ACCEPTED),
    "words that look dangerous": (record(b',"inf":"NaN, [1,]","nan":"-Infinity3"'), ACCEPTED),
    "every escape": (record(b',"note":"\\u0000\\b\\f\\n\\r\\t\\/\\\\\\"\\ud83d\\ude00"'), ACCEPTED),
    "a long exponent": (record(b',"n":1e%s4' % (b"9" * 1_000)), ACCEPTED),
    "a number of 100,000 digits": (record(b',"n":%s' % (b"9" * 100_000)), ACCEPTED),
    "10,000 unknown fields": (
        record(b"".join(b',"k%d":%d' % (number, number) for number in range(10_000))),
        ACCEPTED,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def json_ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    records = attacked.between([bad for bad, _ in JSON.values()])
    files = {"incoming/a.ndjson": attacked.lines(records)}
    return attacked.absorb(attacked.make(tmp_path_factory.mktemp("json"), files=files))


@pytest.mark.parametrize(("offset", "kind"), [(2 * number + 1, kind) for number, kind in enumerate(JSON)])
def test_json(offset: int, kind: str, json_ends: Ends) -> None:
    bad, expected = JSON[kind]
    assert json_ends.of(offset) == expected, json_ends.rejected.get((offset, 0))
    if expected != ACCEPTED:
        assert json_ends.rejected[offset, 0]["value"] == bad
    attacked.assert_neighbours(json_ends, (offset - 1, offset + 1))


# -- delimited text ---------------------------------------------------------------------------------------------------

DELIMITED = attacked.PIPELINE.replace("format: json", "format: {csv: {null: [NA]}}")


def row(number: int) -> bytes:
    """`attacked.good` as a line."""
    return b"%d,%d,%d.25,n%d" % (number, attacked.START + number * 1_000, number, number)


CSV = {
    "text": (b"hello", MALFORMED),
    "a field too few": (row(1).rpartition(b",")[0], MALFORMED),
    "a field too many": (row(1) + b",", MALFORMED),
    "a quote inside": (row(1).replace(b"n1", b'n"1'), MALFORMED),
    "a quote behind": (row(1).replace(b"n1", b'"n1"1'), MALFORMED),
    "a blank before a quote": (row(1).replace(b"n1", b' "n1"'), MALFORMED),
    "a backslash before a quote": (row(1).replace(b"n1", b'"n\\"1"'), MALFORMED),
    "a quote that stays open on the line": (row(1).replace(b"n1", b'n1"'), MALFORMED),
    "invalid UTF-8": (row(1).replace(b"n1", b"\xff"), MALFORMED),
    "another delimiter": (row(1).replace(b",", b";"), MALFORMED),
    "the header again": (b"id,at,price,note", ["type:id", "type:at", "type:price"]),
    "only delimiters": (b",,,", REQUIRED),
    "NULLs": (b"NA,NA,NA,NA", REQUIRED),
    "quoted and empty": (b'"","","",""', REQUIRED),
    "blanks around a number": (b" 1,1,1,", ["type:id"]),
    "a decimal comma": (b'1,1,"1,5",', ["type:price"]),
    "only blanks": (b"   ", MALFORMED),
    "a byte order mark": (b"\xef\xbb\xbf" + row(1), ["type:id"]),
    "a NUL in a number": (b"1\x00,1,1,", ["type:id"]),
    "a NUL in a text": (b"30000001,1,1,a\x00b", ACCEPTED),
    "quotes, delimiters and newlines": (b'"30000002",1,1,"a ""b"",\n\n,c"', ACCEPTED),
    "a lone CR": (b"30000003,1,1,a\rb", ACCEPTED),
    "a formula": (b"30000004,1,1,=1+1", ACCEPTED),
    "a megabyte": (b"30000005,1,1,%s" % (b"x" * 1_000_000), ACCEPTED),
}  # fmt: skip


@pytest.fixture(scope="module")
def csv_ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    records = [b"id,at,price,note", row(0)]
    for number, (bad, _) in enumerate(CSV.values()):
        records += [bad, row(2 * number + 2)]
    files = {"incoming/a.csv": attacked.lines(records)}
    return attacked.absorb(attacked.make(tmp_path_factory.mktemp("csv"), DELIMITED, files))


@pytest.mark.parametrize(("offset", "kind"), [(2 * number + 1, kind) for number, kind in enumerate(CSV)])
def test_csv(offset: int, kind: str, csv_ends: Ends) -> None:
    bad, expected = CSV[kind]
    assert csv_ends.of(offset) == expected, csv_ends.rejected.get((offset, 0))
    if expected != ACCEPTED:
        assert csv_ends.rejected[offset, 0]["value"] == bad
    attacked.assert_neighbours(csv_ends, (offset - 1, offset + 1))


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    """The lines behind it are records again, although a field could go on to the end of the file."""
    records = [b"id,at,price,note", row(0), b'1,1,1,"open', *(row(number) for number in range(2, 3_000))]
    found = attacked.absorb(attacked.make(tmp_path, DELIMITED, {"incoming/a.csv": attacked.lines(records)}))
    assert found.of(1) == MALFORMED
    attacked.assert_neighbours(found, [0, *range(2, 3_000)])


# -- text by a pattern ------------------------------------------------------------------------------------------------

PATTERNED = attacked.PIPELINE.replace(
    "format: json", "format: {text: {pattern: '(?P<level>[A-Z]+) (?P<body>.*)', json: body}}"
)


def logged(body: bytes) -> bytes:
    return b"INFO " + body


TEXT = {
    "text": (b"hello", MALFORMED),
    "nothing behind the blank": (b"INFO ", REQUIRED),
    "no JSON": (logged(b"hello"), MALFORMED),
    "truncated": (logged(attacked.good(1)[:-1]), MALFORMED),
    "NaN": (logged(b'{"id":1,"at":1,"price":NaN}'), MALFORMED),
    "a comma too many": (logged(b'{"id":1,"at":1,"price":1,}'), MALFORMED),
    "invalid UTF-8": (logged(b'{"id":1,"at":1,"price":"\xff"}'), MALFORMED),
    "NUL": (logged(b"\x00"), MALFORMED),
    "a NUL before": (b"\x00" + logged(attacked.good(1)), MALFORMED),
    "100,000 brackets": (logged(b"[" * 100_000), MALFORMED),
    "100,000 nested lists": (logged(b'{"id":1,"at":1,"price":1,"note":%s}' % deep(100_000)), MALFORMED),
    "a list": (logged(b"[1]"), REQUIRED),
    "a number": (logged(b"1"), REQUIRED),
    "an empty object": (logged(b"{}"), REQUIRED),
    "a lone CR": (b"INFO\r{}", MALFORMED),
    "duplicate keys": (logged(b'{"id":30000001,"id":1,"at":1,"price":1}'), ACCEPTED),
}  # fmt: skip


@pytest.fixture(scope="module")
def text_ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    records = [logged(attacked.good(0))]
    for number, (bad, _) in enumerate(TEXT.values()):
        records += [bad, logged(attacked.good(2 * number + 2))]
    files = {"incoming/a.log": attacked.lines(records)}
    return attacked.absorb(attacked.make(tmp_path_factory.mktemp("text"), PATTERNED, files))


@pytest.mark.parametrize(("offset", "kind"), [(2 * number + 1, kind) for number, kind in enumerate(TEXT)])
def test_text(offset: int, kind: str, text_ends: Ends) -> None:
    bad, expected = TEXT[kind]
    assert text_ends.of(offset) == expected, text_ends.rejected.get((offset, 0))
    if expected != ACCEPTED:
        assert text_ends.rejected[offset, 0]["value"] == bad
    for neighbour in (offset - 1, offset + 1):
        kept = text_ends.accepted[neighbour, 0]
        assert (kept["id"], kept["note"], kept["_extra"]) == (neighbour, f"n{neighbour}", '{"level":"INFO"}')
