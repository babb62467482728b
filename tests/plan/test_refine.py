"""Refine on JSON: what is malformed, what is extra, rules, lookups, sql columns, keys."""

from __future__ import annotations

import json
from decimal import Decimal

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from penstock.limits import JSON_NESTING_MAX
from penstock.model.pipeline import Action, Column, Expression, JsonFormat, Lookup, PushSource, Reference, Rule, Source
from penstock.model.types import ColumnType
from penstock.plan.resolve import resolve
from plan import oracle
from plan.refining import NOW, Refinery, column, path, pipeline, records, refine

STRING, INT = ColumnType("string"), ColumnType("int64")
SIMPLE = pipeline(column("a", "int64"), column("j", "json"), column("s", "string"))

MALFORMED = [
    b"", b" ", b"null", b"12", b"[1]", b'"x"', b"{", b'{"a":1', b'{"a":1}}', b'{"a":1} x', b'{"a":1}\x00', b"{'a':1}",
    b'{"a":1,}', b'{"a":1 , }', b'{"j":[1,]}', b'{"z":{"b":[1,2 ,\n]}}', b"{,}", b'{"a":NaN}', b'{"j":nan}',
    b'{"s":NaN}', b'{"z":NaN}', b'{"z":[1, -Infinity]}', b'{"j":{"x":-inf}}', b'{"a":Infinity}', b'{"a":INF}',
    b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":1.}', b'{"a":0x10}', b'{"a":1/**/}', b'{"a":1}//', b'{a:1}',
    b'\xef\xbb\xbf{"a":1}', b'{"s":"\xff"}', b'{"s":"\xc3"}', b'{"s":"\xed\xa0\x80"}', b'\xff{"a":1}', b'{"a":1}\xff',
    b'{"s":"\\ud800"}', b'{"z":"\\udc00x"}', b'{"s":"\t"}', b'{"s":"\x00"}', b'{"s":"\\x"}', b'{"a":True}', b'{"a":tru}',
]  # fmt: skip


def test_each_way_of_being_malformed_is_seen_and_stays_alone() -> None:
    good = b'{"a":1}'
    batch = [value for bad in MALFORMED for value in (bad, good)]
    rows = refine(SIMPLE, *batch)
    assert [row["_failed"] for row in rows] == [["malformed"], []] * len(MALFORMED)
    assert all(row["_detail"].startswith("malformed: ") for row in rows[::2])
    assert {row["_detail"] for row in rows[1::2]} == {None}


def test_words_that_only_look_dangerous_are_fine() -> None:
    values = [
        b'{"s":"NaN","z":"Infinity"}',
        b'{"s":", ]","z":[",}"]}',
        b'{"s":"x","z":": nan"}',
        b' {"s" : "x" , "a" : null }\r\n',
        b'{"s":"\\ud83d\\ude00"}',
        b'{"s":"\x7f\xef\xbf\xbf"}',
        b'{"j":1e400}',
        b"{}",
    ]
    assert [row["_status"] for row in refine(SIMPLE, *values)] == [0] * len(values)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b'{"a":12,"s":"x","j":[1.50,{"b":null}]}', b'{ "a" : 1, "zz":[true, "\\n"] }\n']),
            st.lists(
                st.tuples(
                    st.integers(0, 45),
                    st.integers(0, 3),
                    st.sampled_from(
                        [b"", b",", b"}", b"]", b"[", b'"', b"NaN", b"-inf", b" ", b"\xff", b"1", b"\\", b":"]
                    ),
                ),
                max_size=3,
            ),
        ),
        min_size=60,
        max_size=60,
    )
)
def test_damaged_documents_are_judged_as_the_oracle_judges(
    refinery: Refinery, damaged: list[tuple[bytes, list[tuple[int, int, bytes]]]]
) -> None:
    batch = []
    for value, edits in damaged:
        for start, length, text in edits:
            value = value[:start] + text + value[start + length :]
        batch.append(value)
    for row, value in zip(refinery.rows(*batch), batch, strict=True):
        try:
            members = oracle.parse(value)
        except oracle.Malformed:
            assert row["_failed"] == ["malformed"], value
        else:
            assert row["_failed"] != ["malformed"], (value, row["_detail"])
            extra = {name: member for name, member in members.items() if name not in ("a", "s", "j")}
            assert row["_extra"] == (oracle.write(extra) if extra else None), value


@pytest.fixture(scope="module")
def refinery() -> Refinery:
    return Refinery(SIMPLE)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("template", [b'{"j":%s}', b'{"s":%s}', b'{"z":%s}', b'{"z":%s,"z":1}', b'{"a":%s,"b":[1,]}'])
def test_nesting_has_a_limit_and_nothing_breaks_at_100_000_brackets(template: bytes) -> None:
    for depth in (JSON_NESTING_MAX, 2_000, 100_000):
        row = refine(SIMPLE, template.replace(b"%s", nested(depth)), b'{"a":1}')[0]
        assert row["_failed"] == ["malformed"], depth
        assert "nested" in row["_detail"] or b"[1,]" in template
    if b"[1,]" not in template and b'"s"' not in template:
        assert refine(SIMPLE, template.replace(b"%s", nested(JSON_NESTING_MAX - 1)))[0]["_status"] == 0
    wide = b'{"z":[' + b",".join([b"[]"] * 5_000) + b"]}"
    assert refine(SIMPLE, wide)[0]["_extra"] == wide.decode()


def test_the_first_of_duplicate_keys_wins_everywhere() -> None:
    row = refine(SIMPLE, b'{"a":1,"a":"x","z":1.50,"z":2,"q\\"":[1, 2],"z":3}')[0]
    assert (row["a"], row["_extra"], row["_status"]) == (1, '{"z":1.50,"q\\"":[1,2]}', 0)


def test_missing_values() -> None:
    rows = refine(SIMPLE, None, None, headers=[[], [("penstock.too_large", b"1")]])
    assert [row["_failed"] for row in rows] == [["malformed"], ["too_large"]]
    assert rows[0]["_detail"] == "malformed: no value (a tombstone)"
    assert rows[1]["_detail"].startswith("too_large: larger")


def test_undeclared_fields_keep_their_text_and_partly_used_roots_are_kept_whole() -> None:
    declared = pipeline(column("a", "int64"), column("n", "int64", "o", "n"), column("l", "string", "list", 1))
    rows = refine(
        declared,
        b'{"a":1,"o":{"n":2,"m":1.50},"list":["p","q"],"x":0.10000000000000000001,"y":12.50,"z":null}',
        b'{"a":1}',
        b'{"a":1,"o":3,"list":{"1":"x"}}',
        b'{"a":1,"b":2}'.replace(b'"b"', b'"B"'),
    )
    assert rows[0]["n"] == 2
    assert rows[0]["l"] == "q"
    assert rows[0]["_extra"] == (
        '{"o":{"n":2,"m":1.50},"list":["p","q"],"x":0.10000000000000000001,"y":12.50,"z":null}'
    )
    assert rows[1]["_extra"] is None
    assert (rows[2]["n"], rows[2]["_extra"]) == (None, '{"o":3,"list":{"1":"x"}}')
    assert rows[3]["_extra"] == '{"B":2}'


def test_names_that_differ_in_case_or_overlap_are_read_apart() -> None:
    declared = pipeline(
        column("low", "int64", "a"),
        column("high", "int64", "A"),
        column("whole", "json", "o"),
        column("part", "int64", "o", "x"),
        column("item", "int64", "o", "list", 0),
        column("odd", "string", "q\"'é n"),
        column("keeper", "int64", "n"),
    )
    row = refine(declared, '{"a":1,"A":2,"o":{"x":3,"list":[4]},"q\\"\'é n":"v","n":5}'.encode())[0]
    assert (row["low"], row["high"], row["part"], row["item"], row["odd"], row["keeper"]) == (1, 2, 3, 4, "v", 5)
    assert (row["whole"], row["_extra"]) == ('{"x":3,"list":[4]}', None)


def test_meta_fields() -> None:
    declared = pipeline(
        column("key", "string", "_key"),
        column("raw", "binary", "_key"),
        column("at", "timestamp", "_timestamp"),
        column("seq", "int32", "_headers", "seq"),
        column("file", "string", "_file"),
    )
    headers = [[("seq", b"7"), ("seq", b"8"), ("file.path", "é.csv".encode())], [("seq", b"x")], []]
    rows = refine(declared, b"{}", b"{}", b"{}", headers=headers, keys=[b"k", b"\xff", None], timestamps=[NOW, None, 0])
    assert [row["key"] for row in rows] == ["k", None, None]
    assert [row["raw"] for row in rows] == [b"k", b"\xff", None]
    assert [row["seq"] for row in rows] == [7, None, None]
    assert [row["file"] for row in rows] == ["é.csv", None, None]
    assert [row["_failed"] for row in rows] == [[], ["type:key", "type:seq", "required:_timestamp"], []]


# -- rules, sql columns, lookups --------------------------------------------------------------------------------------


def sql(name: str, type_text: str, text: str, **more: bool) -> Column:
    return Column(name, ColumnType.parse(type_text), sql=Expression(text), **more)


def test_rules_pass_only_when_true_and_all_failing_ones_are_named() -> None:
    declared = pipeline(
        column("a", "int64", required=True),
        column("b", "int64"),
        rules=(
            Rule("positive", Expression("b > 0")),
            Rule("calm", Expression("a < 100"), Action.FLAG),
            Rule("sane", Expression("a // b > 0")),
            Rule("halt", Expression("a <> 13"), Action.STOP),
        ),
    )
    rows = refine(
        declared, b'{"a":2,"b":1}', b'{"a":100,"b":1}', b'{"a":2}', b'{"b":-1}', b'{"a":13,"b":0}', b'{"a":"x","b":1}'
    )
    assert [row["_failed"] for row in rows] == [
        [],
        [],
        ["positive", "sane"],
        ["required:a", "positive", "sane", "halt"],
        ["positive", "sane", "halt"],
        ["type:a", "sane", "halt"],
    ]
    assert [row["_flags"] for row in rows] == [[], ["calm"], [], [], [], []]
    assert [row["_stop"] for row in rows] == [[], [], [], ["halt"], ["halt"], ["halt"]]
    assert rows[4]["_detail"] == "positive: b > 0 is not true; sane: a // b > 0 is not true; halt: a <> 13 is not true"
    assert rows[5]["_detail"].startswith('type:a: "x" is not an int64; ')


def test_sql_columns_in_any_order_and_their_errors() -> None:
    declared = pipeline(
        sql("c", "int8", "b + 100"),
        sql("b", "int64", "a * 2", required=True),
        column("a", "int64"),
        sql("half", "int64", "a / 2"),
        sql("text", "decimal(10,2)", "concat(a, '.5')"),
        sql("boom", "int64", "9223372036854775807 + a"),
        sql("ratio", "float64", "1 / a"),
    )
    rows = refine(declared, b'{"a":2}', b'{"a":3}', b'{"a":0}', b'{"a":"x"}', b"{}", b'{"a":-1}')
    names = ("c", "b", "half", "text", "boom", "ratio")
    assert [rows[5][name] for name in names] == [98, -2, None, Decimal("-1.50"), 9223372036854775806, -1.0]
    assert [row["_failed"] for row in rows] == [
        ["error:boom"],
        ["error:half", "error:boom"],
        ["error:ratio"],
        ["type:a", "required:b"],
        ["required:b"],
        ["error:half"],
    ]
    assert "half: 1.5 is not an int64" in rows[1]["_detail"]
    assert "error:boom: 9223372036854775807 + a raised an error" in rows[0]["_detail"]


def test_cycles_and_unknown_lookups_are_findings() -> None:
    declared = pipeline(
        column("a", "int64"),
        sql("b", "int64", "c + 1"),
        sql("c", "int64", "b + 1"),
        Column("d", None, lookup=Lookup("nowhere", "x", ("a",))),
        Column("e", None, lookup=Lookup("known", "y", ("a",))),
        Column("f", None, lookup=Lookup("known", "x", ("a",))),
        column("g", "date", format="%Y %Q"),
        column("h", "int64", "_timestamp"),
        references=(Reference("known", "k.csv", ("k",)),),
    )
    found = resolve(declared, {"known": {"k": STRING, "x": INT}}).findings
    assert [finding.code for finding in found] == [
        "unknown-reference", "unknown-column", "lookup-type", "format", "path-type", "cycle", "cycle",
    ]  # fmt: skip


def test_lookups_join_by_key_keep_order_and_feed_sql_columns() -> None:
    declared = pipeline(
        column("k", "string"),
        column("n", "int32"),
        Column("name", None, lookup=Lookup("things", "name", ("k", "m"))),
        Column("size", None, lookup=Lookup("things", "size", ("k", "m")), required=True),
        sql("m", "int64", "n + 1"),
        sql("double", "int64", "size * 2"),
        references=(Reference("things", "t.csv", ("kind", "number")),),
    )
    types = {"things": {"kind": STRING, "number": INT, "name": STRING, "size": INT}}
    size = 20_000
    table = pa.table(
        {
            "kind": ["x"] * size,
            "number": pa.array(range(size), pa.int64()),
            "name": [f"thing {number}" for number in range(size)],
            "size": pa.array(range(size), pa.int64()),
        }
    )
    refinery = Refinery(declared, types, {"things": table})
    values = [json.dumps({"k": "x" if n % 3 else "y", "n": n}).encode() for n in reversed(range(600))]
    rows = refinery.rows(*values, b'{"k":"x"}')
    assert [row["_row"] for row in rows] == list(range(601))
    assert [row["double"] for row in rows[:600]] == [2 * (n + 1) if n % 3 else None for n in reversed(range(600))]
    assert rows[0]["name"] == "thing 600"
    assert rows[-1]["_failed"] == ["required:size"]


def test_where_selects_by_raw_fields() -> None:
    source = Source(PushSource(), JsonFormat(), where=Expression("type = 'trade' and qty > 5 and _headers.x = 'y'"))
    declared = pipeline(column("a", "int64", required=True), source=source)
    y = [("x", b"y")]
    rows = refine(
        declared,
        b'{"type":"trade","qty":10,"a":1}',
        b'{"type":"trade","qty":"9","a":1}',
        b'{"type":"trade","qty":5,"a":1}',
        b'{"qty":10,"a":1}',
        b'{"type":"trade","qty":"many"}',
        b'{"type":"quote","a":"x"}',
        b'{"type":"quote",}',
        b'{"type":"trade","qty":10}',
        b'{"type":"trade","qty":10,"a":1}',
        headers=[*[y] * 8, []],
    )
    assert [row["_status"] for row in rows] == [0, 0, 2, 2, 2, 2, 1, 1, 2]
    assert rows[0]["_extra"] == '{"type":"trade","qty":10}'
    assert rows[5]["_failed"] == []
    assert rows[6]["_failed"] == ["malformed"]


# -- event time, buckets, keys ----------------------------------------------------------------------------------------

KEYED = pipeline(
    column("a", "string"),
    column("b", "string"),
    column("n", "decimal(10,2)"),
    column("t", "timestamp", unit="us"),
    key=("a", "b", "n"),
    event_time="t",
    unique_within=86_400_000_000,
    future_after=300_000_000,
)


def event(a: str, b: str, n: str, t: int) -> bytes:
    return json.dumps({"a": a, "b": b, "n": n, "t": t}).encode()


def test_equal_keys_and_only_those_have_equal_digests() -> None:
    day = 86_400_000_000
    rows = refine(
        KEYED,
        event("x", "y", "1", 5),
        event("x", "y", "1.00", day - 1),
        event("x", "y", "1", day),
        event("x", "y", "1", -1),
        event("xy", "", "1", 5),
        event("", "xy", "1", 5),
        event("x;1", "y", "1", 5),
        event("x", "1;y", "1", 5),
    )
    assert [row["_bucket"] for row in rows] == [0, 0, 1, -1, 0, 0, 0, 0]
    digests = [(row["_key_hi"], row["_key_lo"]) for row in rows]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 7


def test_key_columns_and_event_time_are_required_and_the_future_is_refused() -> None:
    rows = refine(KEYED, b"{}", event("x", "y", "1", NOW + 300_000_000), event("x", "y", "1", NOW + 300_000_001))
    assert [row["_failed"] for row in rows] == [
        ["required:a", "required:b", "required:n", "required:t"],
        [],
        ["future"],
    ]
    assert [row["_status"] for row in rows] == [1, 0, 1]


def test_keys_read_back_from_silver_are_the_same() -> None:
    refinery = Refinery(KEYED)
    values = [event(f"a{n % 7}", f"b{n}", f"{n}.5", n * 3_600_000_000 - 10**12) for n in range(100)]
    rows = records(values)
    table = refinery.table(rows)
    for name in ("_source", "_partition", "_offset"):
        table = table.append_column(name, rows[name])
    refinery.database.register("rows", table.select(["a", "b", "n", "t", "_source", "_partition", "_offset", "_index"]))
    names = ["_offset", "_bucket", "_key_hi", "_key_lo"]
    again = refinery.database.sql(refinery.plan.key_sql).to_arrow_table().select(names).sort_by("_offset")
    assert again.equals(table.select(names))


def test_output_columns_and_types_are_the_contract() -> None:
    schema = Refinery(pipeline(column("a", "int8"), column("d", "decimal(5,1)"))).table(records([b"{}"])).schema
    time, names = pa.timestamp("us", "UTC"), pa.list_(pa.string())
    wanted = {
        "_row": pa.int64(), "_index": pa.int32(), "a": pa.int8(), "d": pa.decimal128(5, 1), "_flags": names,
        "_extra": pa.string(), "_status": pa.uint8(), "_failed": names, "_stop": names, "_detail": pa.string(),
        "_event_time": time, "_bucket": pa.int64(), "_key_hi": pa.uint64(), "_key_lo": pa.uint64(),
        "_element": pa.string(),
    }  # fmt: skip
    assert schema.names == list(wanted)
    for name, kind in wanted.items():
        found = schema.field(name).type
        if pa.types.is_list(found):
            found = pa.list_(found.value_type)
        elif pa.types.is_timestamp(found):
            found = pa.timestamp(found.unit, found.tz.removeprefix("Etc/"))
        assert found == kind, name


def test_threads_pieces_and_batch_splits_change_nothing() -> None:
    values = [event(f"a{n % 7}", f"b{n % 50}", f"{n}.5", n) if n % 11 else b"{" + str(n).encode() for n in range(9_000)]
    rows = records(values)
    whole = Refinery(KEYED, threads=1).table(rows)
    pieces = pa.Table.from_batches(rows.to_batches(max_chunksize=1_000))
    assert Refinery(KEYED, threads=4).table(pieces).equals(whole)
    split = [Refinery(KEYED).table(rows.slice(start, 3_000)) for start in (0, 3_000, 6_000)]
    assert pa.concat_tables(split).equals(whole)


def test_no_records_give_no_events() -> None:
    assert refine(KEYED) == []


def test_paths_of_the_envelope_need_records() -> None:
    declared = pipeline(
        column("p", "decimal(10,2)"),
        Column("ts", INT, path=path("ts", envelope=True)),
        source=Source(PushSource(), JsonFormat(), records=path("data")),
    )
    rows = refine(
        declared,
        b'{"ts":5,"data":[{"p":1.50,"k":1.50},{"p":2},7,null,[]]}',
        b'{"ts":5,"data":[]}',
        b'{"ts":5}',
        b'{"ts":6,"data":{"p":1}}',
        b'{"ts":6,"data":[{"p":1},{"p":NaN}]}',
        b'{"ts":6,"data":[{"p":3,"p":4,"ts":1}],"data":[1,2]}',
        b"[]",
    )
    assert [(row["_row"], row["_index"], row["_status"]) for row in rows] == [
        (0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 1), (0, 4, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1), (5, 0, 0), (6, 0, 1),
    ]  # fmt: skip
    assert [row["p"] for row in rows[:2]] == [Decimal("1.50"), Decimal("2.00")]
    assert [row["ts"] for row in rows] == [5, 5, 5, 5, 5, 5, 6, 6, 6, None]
    assert (rows[0]["_element"], rows[0]["_extra"]) == ('{"p":1.50,"k":1.50}', '{"k":1.50}')
    assert [row["_element"] for row in rows[2:6]] == ["7", "null", "[]", None]
    assert rows[5]["_detail"] == "malformed: no list at data"
    assert rows[8]["_extra"] == '{"ts":1}'


def test_where_with_records() -> None:
    source = Source(PushSource(), JsonFormat(), records=path("d", "l"), where=Expression("^.kind = 't' and side = 'B'"))
    declared = pipeline(column("p", "int64"), source=source)
    rows = refine(
        declared,
        b'{"kind":"t","d":{"l":[{"p":1,"side":"B"},{"p":2,"side":"S"},{"p":3},5]}}',
        b'{"kind":"u","d":{"l":[{"p":1,"side":"B"}]}}',
        b'{"kind":"t"}',
        b'{"kind":"u","d":[]}',
        b'{"kind":"u",',
    )
    assert [(row["_row"], row["_index"], row["_status"]) for row in rows] == [
        (0, 0, 0), (0, 1, 2), (0, 2, 2), (0, 3, 1), (1, 0, 2), (2, 0, 2), (3, 0, 2), (4, 0, 1),
    ]  # fmt: skip


def test_a_key_that_is_one_text_is_no_other_text() -> None:
    rows = refine(pipeline(column("a", "string"), key=("a",)), b'{"a":"x"}', b'{"a":"x"}', b'{"a":""}', b'{"a":"x;"}')
    digests = [(row["_key_hi"], row["_key_lo"]) for row in rows]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    # The MD5 of x, read as a number with the lowest byte first: silver written by any version must give the same.
    assert digests[0] == (0xA6675C154E56C8F5, 0x34808C2661E4D49D)


PLAIN = pipeline(column("a", "int64"), column("s", "string"), column("p", "decimal(9,2)"))


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1,"s":"x","p":1.50}',
        b'{"p": 1.5, "a": 1, "s": "x, y"}',
        b'\t{ "s" : "x" }\r',
        b'{"s":"\\u00e9\\n","a":1}',
        b'{"s": "\\u00e9 \\"q\\"", "a": 1}',
    ],
)
def test_what_is_written_plainly_is_decided_at_once(value: bytes) -> None:
    refinery = Refinery(PLAIN)
    (row,) = refinery.rows(value)
    assert (row["_status"], refinery.decided) == (0, 1)


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1,"s":"x","more":1}',
        b'{"a": 1, "s": "x",}',
        b'{"a": 1, "a": 2}',
        b'{"a":1,"s":12,"p" : 1}',
        b'{"a": null, "s": "x"}',
        b'{"a": 1, "s": NaN}',
        b'{"a": 1.0, "s": ""}',
        b'{"s": "\xff"}',
        b'{"s": "x"',
        b"{}",
        b"",
    ],
)
def test_what_is_not_plain_goes_the_long_way(value: bytes) -> None:
    refinery = Refinery(PLAIN)
    refinery.rows(value)
    assert refinery.decided == 0
