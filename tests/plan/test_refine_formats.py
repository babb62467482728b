"""Refine on CSV and on text matched by a pattern."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from penstock.model.pipeline import CsvFormat, Expression, PushSource, Source, TextFormat
from penstock.plan.resolve import resolve
from penstock.plan.textformat import group_names
from plan.refining import Refinery, column, pipeline, refine

# -- csv --------------------------------------------------------------------------------------------------------------

HEADER = [("csv.header", b"name,qty,at,note")]
ORDERS = pipeline(
    column("name", "string", required=True),
    column("qty", "int32"),
    column("price", "decimal(10,2)"),
    column("note", "string"),
    source=Source(PushSource(), CsvFormat(null=("NA", "-"))),
)


def test_csv_fields_by_name_quoting_and_nulls() -> None:
    rows = refine(
        ORDERS,
        b'a,1,x,"he said ""hi"", twice"',
        b'"a\nb",NA,,-',
        b',"2",,',
        "é,+3,☃,1\r\n".encode(),
        b'a,1.5,x,""',
        headers=[HEADER] * 5,
    )
    assert [(row["name"], row["qty"], row["price"], row["note"]) for row in rows] == [
        ("a", 1, None, 'he said "hi", twice'),
        ("a\nb", None, None, None),
        (None, 2, None, None),
        ("é", 3, None, "1"),
        ("a", None, None, None),
    ]
    assert [row["_extra"] for row in rows] == ['{"at":"x"}', None, None, '{"at":"☃"}', '{"at":"x"}']
    assert [row["_failed"] for row in rows] == [[], [], ["required:name"], [], ["type:qty"]]
    assert rows[4]["_detail"] == "type:qty: 1.5 is not an int32"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,1,x", "3 fields, but the header has 4: a,1,x"),
        (b"", "1 fields, but the header has 4: "),
        (b"a,1,x,y,z", "5 fields, but the header has 4: a,1,x,y,z"),
        (b'"a,1,x,y', 'quotes that do not fit: "a,1,x,y'),
        (b'a"b,1,x,y', 'quotes that do not fit: a"b,1,x,y'),
        (b'"a"b,1,x,y', 'quotes that do not fit: "a"b,1,x,y'),
        (b'"a""",1,x,"', 'quotes that do not fit: "a""",1,x,"'),
        (b"\xe9,1,x,y", "not UTF-8: ,1,x,y"),
        (None, "no value (a tombstone)"),
    ],
)
def test_a_broken_csv_line_is_malformed_and_its_neighbours_are_not(line: bytes | None, reason: str) -> None:
    rows = refine(ORDERS, b"a,1,x,y", line, b"b,2,x,y", headers=[HEADER] * 3)
    assert [row["_failed"] for row in rows] == [[], ["malformed"], []]
    assert rows[1]["_detail"] == f"malformed: {reason}"


def test_csv_headers_of_several_files_in_one_batch() -> None:
    other = [("csv.header", '\ufeffqty, "na""me",price,qty,qty'.encode())]
    rows = refine(ORDERS, b"a,1,x,y", b"7,b,1.50,8,9", b"c,3,x,y", b"d", headers=[HEADER, other, HEADER, []])
    assert [(row["name"], row["qty"], row["price"]) for row in rows[:3]] == [
        ("a", 1, None),
        (None, 7, Decimal("1.50")),
        ("c", 3, None),
    ]
    assert rows[3]["_detail"] == "malformed: no header line came with the record"
    assert '"qty#2":"8","qty#3":"9"' in rows[1]["_extra"]


def test_csv_without_header_and_other_delimiters() -> None:
    source = Source(PushSource(), CsvFormat(header=False, delimiter="|", quote="'", columns=("a", "b", "c")))
    declared = pipeline(column("b", "int64"), column("a", "string"), source=source)
    rows = refine(declared, b"x|1|3", b"'it''s|'|2|", b'"x|3|', b"x|1")
    assert [(row["a"], row["b"], row["_extra"]) for row in rows[:3]] == [
        ("x", 1, '{"c":"3"}'),
        ("it's|", 2, None),
        ('"x', 3, None),
    ]
    assert rows[3]["_detail"] == "malformed: 2 fields, but there are 3: x|1"
    plain = Source(PushSource(), CsvFormat(header=False, delimiter="\t", quote="", columns=("a", "b")))
    assert refine(pipeline(column("a", "string"), source=plain), b'"x\ty"')[0]["a"] == '"x'


cells = st.text(st.sampled_from(["a", "1", ",", '"', " ", "\n", "é", ";", "'"]), max_size=6)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.lists(cells, min_size=4, max_size=4), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])),
            st.text(st.sampled_from(["a", ",", '"']), max_size=12),
        ),
        min_size=30,
        max_size=60,
    )
)
def test_csv_lines_mean_what_the_grammar_says(orders: Refinery, batch: list[tuple[list[str], int] | str]) -> None:
    lines = [entry if isinstance(entry, str) else written(*entry) for entry in batch]
    rows = orders.rows(*[line.encode() for line in lines], headers=[[("csv.header", b"a,b,c,d")]] * len(lines))
    for row, line in zip(rows, lines, strict=True):
        wanted = parsed(line)
        if wanted is None or len(wanted) != 4:
            assert row["_failed"] == ["malformed"], line
        else:
            assert [row[name] for name in "abcd"] == [cell or None for cell in wanted], line


@pytest.fixture(scope="module")
def orders() -> Refinery:
    return Refinery(pipeline(*(column(name, "string") for name in "abcd"), source=Source(PushSource(), CsvFormat())))


def written(row: list[str], quoting: int) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, lineterminator="\n").writerow(row)
    return out.getvalue().removesuffix("\n")


def parsed(line: str) -> list[str] | None:
    """RFC 4180, one character after the other; None where the line does not follow it."""
    found, position = [], 0
    while True:
        if line[position : position + 1] == '"':
            match = re.compile(r'"((?:[^"]|"")*)"').match(line, position)
            if match is None:
                return None
            found.append(match[1].replace('""', '"'))
        else:
            match = re.compile(r'[^",]*').match(line, position)
            assert match is not None
            found.append(match[0])
        position = match.end()
        if position == len(line):
            return found
        if line[position] != ",":
            return None
        position += 1


# -- text -------------------------------------------------------------------------------------------------------------

LINES = pipeline(
    column("ip", "string"),
    column("at", "timestamp", "when", format="%d/%b/%Y:%H:%M:%S %z"),
    column("price", "decimal(10,2)"),
    column("n", "int64", "payload", "n"),
    source=Source(
        PushSource(),
        TextFormat(r"(?P<ip>\S+) \[(?P<when>[^\]]+)\](?: (?<user>\w+))?( x)? ?(?P<payload>.*)", json="payload"),
    ),
)
START = "1.2.3.4 [02/Jan/2026:03:04:05 +0200]"


def test_text_groups_and_members_of_the_json_group() -> None:
    lines = [
        START + ' bob x {"price":1.50,"n":3,"z":2.50,"y":[1, {"a":null}]}',
        START + " ",
        START + " [1.50]",
        START + ' {"price":"x","price":2}',
    ]
    rows = refine(LINES, *[line.encode() for line in lines])
    assert [(row["ip"], row["price"], row["n"]) for row in rows] == [
        ("1.2.3.4", Decimal("1.50"), 3),
        ("1.2.3.4", None, None),
        ("1.2.3.4", None, None),
        ("1.2.3.4", None, None),
    ]
    assert rows[0]["at"].isoformat() == "2026-01-02T01:04:05+00:00"
    # `payload.n` takes a part of the payload, `price` a whole member of it.
    assert rows[0]["_extra"] == '{"user":"bob","z":2.50,"y":[1,{"a":null}]}'
    assert [row["_extra"] for row in rows[1:]] == [None, '{"payload":[1.50]}', None]
    assert [row["_failed"] for row in rows] == [[], [], [], ["type:price"]]


def test_a_member_that_only_where_reads_is_kept_as_undeclared() -> None:
    source = Source(
        PushSource(), TextFormat("(?P<at>[^ ]*) (?P<payload>.*)", json="payload"), where=Expression("kind = 't'")
    )
    rows = refine(pipeline(column("n", "int64"), source=source), b'1 {"kind":"t","n":3}', b'1 {"kind":"u","n":3}')
    assert [row["_status"] for row in rows] == [0, 2]
    assert rows[0]["_extra"] == '{"at":"1","kind":"t"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nope", "does not match the pattern: nope"),
        (START.encode() + b' {"price":}', 'payload is not JSON: {"price":}'),
        (START.encode() + b' {"price":1,}', "not JSON: trailing comma is not allowed at 10"),
        (START.encode() + b' {"z":NaN}', "not JSON: unexpected character, expected a JSON value at 5"),
        (START.encode() + b" " + b"[" * 100_000 + b"]" * 100_000, "nested 100000 deep; at most 500"),
        (START.encode() + b" \xff{}", "not UTF-8: " + START + " {}"),
    ],
)
def test_lines_that_do_not_match_are_malformed(line: bytes, reason: str) -> None:
    rows = refine(LINES, line, START.encode() + b" {}")
    assert [row["_failed"] for row in rows] == [["malformed"], []]
    assert rows[0]["_detail"] == f"malformed: {reason}"


def test_groups_of_patterns() -> None:
    assert group_names(r"(a)(?:b)(?P<c>[(](?<d>[]()]+))\(\Q((\E(?i)(?i:x)[^](](z)") == [None, "c", "d", None]


def test_text_fields_are_typed_as_text() -> None:
    source = Source(PushSource(), TextFormat(r"(?P<n>[^;]*);(?P<b>[^;]*);(?P<j>[^;]*);(?P<f>.*)"))
    declared = pipeline(
        column("n", "int64"), column("b", "boolean"), column("j", "json"), column("f", "float64"), source=source
    )
    rows = refine(
        declared, b'12;true;{ "x" : 1.50 };1e3', b"1e1;false;1.50;-0.5", b";;;", b'"12";"true";[1,];1_0', b"x;1;nan;nan"
    )
    assert [(row["n"], row["b"], row["j"], row["f"]) for row in rows] == [
        (12, True, '{"x":1.50}', 1000.0),
        (10, False, "1.50", -0.5),
        (None, None, None, None),
        (None, None, None, None),
        (None, None, None, None),
    ]
    assert [row["_failed"] for row in rows[2:]] == [[], *[["type:n", "type:b", "type:j", "type:f"]] * 2]


def test_a_pattern_that_is_none_is_a_finding() -> None:
    declared = pipeline(column("a", "string"), source=Source(PushSource(), TextFormat("(?P<a>x")))
    assert [finding.code for finding in resolve(declared, {}).findings] == ["pattern"]
