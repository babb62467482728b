"""Declarations made from their grammar, mostly sound: `check` never raises, and what it lets through runs and audits clean.

tests/declare/test_declare_fuzz.py draws any mixture of fields, most of which are findings; here most can run.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import penstock
from attacks import attacked, fuzzed

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "12"))

TYPES = st.sampled_from(
    [
        "string",
        "int8",
        "int32",
        "int64",
        "float32",
        "float64",
        "boolean",
        "date",
        "timestamp",
        "binary",
        "json",
        "decimal(38,10)",
        "decimal(9,0)",
    ]
)
PATHS = st.sampled_from(["a", "b", "c.d", "c.e[0]", "_key", "_file", "_timestamp", '"odd name"', "f"])
NUMBERS = st.sampled_from(["n", "p", "1", "0", "-2.5", "length(s)", "extract(hour from at)", "nothing"])
OPERATORS = st.sampled_from(["+", "-", "*", "/", "%", "//"])
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("abs({})".format, inner),
        st.builds("round({}, 2)".format, inner),
        st.builds("case when {} > {} then {} end".format, inner, inner, inner),
        st.builds("try_cast({} as integer)".format, inner),
    ),
    max_leaves=5,
)
CONDITIONS = st.one_of(
    st.builds("{} > {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("{} is not null".format, EXPRESSIONS),
    st.sampled_from(["s like 'a%'", "s in ('a', 'b')", "regexp_matches(s, '^a')", "p between -5 and 1e6", "s"]),
)
AGGREGATES = st.one_of(
    st.just("count()"),
    st.builds("{}({})".format, st.sampled_from(["sum", "min", "max", "avg", "first", "last", "stddev"]), EXPRESSIONS),
    st.builds("count_distinct({})".format, NUMBERS),
    st.builds("quantile({}, {})".format, NUMBERS, st.sampled_from(["0", "0.5", "1"])),
    st.builds("sum({}) / count()".format, NUMBERS),
)
WINDOWS = st.sampled_from(
    [
        "1 minute",
        "1 day",
        "1 week",
        {"size": "1 hour", "every": "15 minutes"},
        {"size": "1 day", "timezone": "Asia/Kathmandu"},
    ]
)


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "n": {"type": "int64"},
        "p": {"type": draw(st.sampled_from(["float64", "decimal(18,8)"]))},
        "s": {"type": "string"},
        "at": {"type": "timestamp", "unit": draw(st.sampled_from(["s", "ms", "us"]))},
    }
    for number in range(draw(st.integers(0, 4))):
        column: dict[str, Any] = {"type": draw(TYPES), "from": draw(PATHS)}
        if not draw(st.integers(0, 4)):
            column["required"] = True
        columns[f"x{number}"] = column
    for number in range(draw(st.integers(0, 2))):
        columns[f"y{number}"] = {"type": "float64", "sql": draw(EXPRESSIONS)}
    silver: dict[str, Any] = {"table": "t", "event_time": "at", "columns": columns}
    if draw(st.booleans()):
        silver |= {"key": draw(st.sampled_from([["n"], ["s", "n"], ["at"], ["p"]])), "unique_within": "1 day"}
    if draw(st.booleans()):
        silver["late_after"] = draw(st.sampled_from(["0 s", "10 s", "2 days"]))
    outcomes = st.sampled_from(["quarantine", "flag"])
    silver["rules"] = {
        f"r{number}": {"check": draw(CONDITIONS), "otherwise": draw(outcomes)}
        for number in range(draw(st.integers(0, 3)))
    }
    source: dict[str, Any] = {"push": {}, "format": "json"}
    if draw(st.booleans()):
        source["where"] = draw(st.sampled_from(["n > 0", "s <> 'b'", "c.d is null", "n % 2 = 0 or s = 'a'"]))
    made = {"pipeline": "p", "source": source, "silver": silver}
    if draw(st.integers(0, 3)):
        measures = {f"m{number}": draw(AGGREGATES) for number in range(draw(st.integers(1, 3)))}
        made["gold"] = {
            "g": {"window": draw(WINDOWS), "by": draw(st.sampled_from([["s"], ["n", "s"]])), "measures": measures}
        }
    return made


EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "n": st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.just("x")),
        "p": st.one_of(st.sampled_from(["1.5", "-0.00000001", "9999999999"]), st.floats(allow_nan=False, allow_infinity=False)),
        "s": st.one_of(st.none(), st.sampled_from("ab"), st.text(max_size=4)),
        "at": st.one_of(st.integers(0, 10**10), st.integers(-(10**14), 10**14)),
        "a": st.one_of(st.integers(), st.text(max_size=5), st.booleans()),
        "b": st.sampled_from(["2024-02-29", "2024-01-01T00:00:00Z", "aGk=", 1.5, True, {"x": [1]}]),
        "c": st.one_of(st.none(), st.just({"d": 1, "e": [2]}), st.just({"e": []}), st.just([])),
        "odd name": st.integers(-200, 200),
    },
)  # fmt: skip


def test_what_check_lets_through_runs() -> None:
    ran = 0

    @fuzzed.bounded(EXAMPLES)
    @given(declarations(), st.lists(EVENTS, max_size=30))
    def check(made: dict[str, Any], events: list[dict[str, Any]]) -> None:
        nonlocal ran
        with tempfile.TemporaryDirectory() as name:
            folder = attacked.make(Path(name), json.dumps(made))  # JSON is YAML
            findings = penstock.open(folder).check()
            assert all(finding.mark.line >= 1 and finding.repair for finding in findings)
            if findings:
                return
            ran += 1
            penstock.open(folder).ingest("p", [json.dumps(event, ensure_ascii=False).encode() for event in events])
            fuzzed.assert_conserved(folder, attacked.absorb(folder))

    check()
    assert ran >= EXAMPLES // 4, "most of them should be sound"
