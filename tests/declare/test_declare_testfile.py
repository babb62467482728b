"""Test files: what is given and what is expected, numbers exactly as written."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from declare.marked import expected
from penstock.declare import ExpectedRow, GivenRecord, PipelineTest, load_test_file
from penstock.declare.testfile import Expected, Given

TEXT = """\
pipeline: ticks
given:
  ingested_at: 2026-01-31T12:00:00Z
  events:
    - {id: A, price: 12.50, n: 12345678901234567890, ok: true, none: null, "yes": no, list: [1, {a: 0x10}]}
    - raw: '{"id": "A"'
    - just text
    - record: {value: {id: B}, key: k1, timestamp: 2026-01-31T13:59:59.5+02:00, headers: {origin: x}}
    - record: {base64: /w==}
    - record: {key: deleted}
    - {raw: 12}
    - {raw: a, id: b}
  references:
    instruments: [{instrument_id: A, lot: 1.50}]
expect:
  in_order: true
  accepted:
    - {id: A, price: 12.50, list: [1, 2.5, {a: b}], at: 2026-01-31T00:00:00Z, none: ~}
  rejected: []
  gold: {bars: [{trades: 1}]}
  duplicate: 2
  skipped: 0
"""

NOON = 1_769_860_800_000_000


def load(text: str) -> PipelineTest:
    test, findings = load_test_file(text, "tests/one.yaml")
    assert findings == ()
    assert test is not None
    return test


def test_a_test_file_becomes_these_nouns() -> None:
    assert load(TEXT) == PipelineTest(
        "one",
        "ticks",
        Given(
            (
                GivenRecord(
                    b'{"id": "A", "price": 12.50, "n": 12345678901234567890, "ok": true, "none": null, "yes": "no", '
                    b'"list": [1, {"a": 16}]}'
                ),
                GivenRecord(b'{"id": "A"'),
                GivenRecord(b"just text"),
                GivenRecord(b'{"id": "B"}', b"k1", NOON - 500_000, (("origin", b"x"),)),
                GivenRecord(b"\xff"),
                GivenRecord(None, b"deleted"),
                GivenRecord(b'{"raw": 12}'),
                GivenRecord(b'{"raw": "a", "id": "b"}'),
            ),
            (("instruments", ('{"instrument_id": "A", "lot": 1.50}',)),),
            NOON,
        ),
        Expected(
            accepted=(
                ExpectedRow(
                    {
                        "id": "A",
                        "price": Decimal("12.50"),
                        "list": [1, Decimal("2.5"), {"a": "b"}],
                        "at": "2026-01-31T00:00:00Z",
                        "none": None,
                    }
                ),
            ),
            rejected=(),
            gold=(("bars", (ExpectedRow({"trades": 1}),)),),
            duplicate=2,
            skipped=0,
            in_order=True,
        ),
        "tests/one.yaml",
    )


def test_what_is_not_given_is_not_checked() -> None:
    test = load("pipeline: ticks\ngiven: {events: []}\nexpect: {}\n")
    assert test.expected == Expected()
    assert test.given == Given(())


CASES = {
    "no events": "pipeline: a\ngiven: «missing-field»{ingested_at: 2026-01-31}\nexpect: {}\n",
    "time": "pipeline: a\ngiven: {events: [], ingested_at: «bad-time»noon}\nexpect: {}\n",
    "not a number of JSON": "pipeline: a\ngiven:\n  events: [«not-json»{a: .inf}]\nexpect: {}\n",
    "huge": "pipeline: a\ngiven:\n  events: []\nexpect: {accepted: [«not-json»{a: 1e99999999999999999999}]}\n",
    "event": "pipeline: a\ngiven:\n  events: [«wrong-shape»[1]]\nexpect: {}\n",
    "row": "pipeline: a\ngiven: {events: []}\nexpect: {accepted: [«wrong-shape»1]}\n",
    "two values": "pipeline: a\ngiven:\n  events: [{record: {raw: a, «conflicting-fields»base64: aa==}}]\nexpect: {}\n",
    "base64": "pipeline: a\ngiven:\n  events: [{record: {base64: «wrong-shape»'?'}}]\nexpect: {}\n",
    "record": "pipeline: a\ngiven:\n  events: [{record: {«unknown-field»vlaue: a}}]\nexpect: {}\n",
    "expectation": "pipeline: a\ngiven: {events: []}\nexpect: {«unknown-field»acepted: []}\n",
    "count": "pipeline: a\ngiven: {events: []}\nexpect: {duplicate: «out-of-range»-1}\n",
}


@pytest.mark.parametrize("name", CASES)
def test_finding_stands_at_its_place_and_alone(name: str) -> None:
    text, places = expected(CASES[name])
    test, findings = load_test_file(text, "one.yaml")
    assert test is None
    assert [(finding.mark.line, finding.mark.column, finding.code) for finding in findings] == places


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("aé\"'\\: #\n", max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_events_mean_the_same_as_json(value: object) -> None:
    """JSON is YAML: an event written as JSON comes out as that JSON value."""
    test = load(f'pipeline: a\ngiven: {{events: [{{"v": {json.dumps(value)}}}]}}\nexpect: {{}}\n')
    (record,) = test.given.records
    assert record.value is not None
    assert json.loads(record.value) == {"v": value}
    assert YAML(typ="safe", pure=True).load(record.value.decode())["v"] == value
