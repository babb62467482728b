"""`tests/*.yaml`: given events and references, the rows that must come out. The nouns are read here, run elsewhere.

```yaml
pipeline: ticks
given:
  ingested_at: 2026-01-31T12:00:00Z
  events:
    - {id: A, price: 12.50}              # becomes the JSON text {"id": "A", "price": 12.50}
    - raw: '{"id": "A", "price": 12.5'   # the record's text as it is
    - record: {value: {id: B}, key: k1, timestamp: 2026-01-31T11:59:59Z, headers: {origin: x}}
  references:
    instruments: [{instrument_id: A, currency: EUR}]
expect:
  accepted: [{id: A, price: 12.5, currency: EUR}]
  rejected: [{failed: [malformed]}, {failed: ["required:price"]}]
  gold: {bars_1m: [{id: A, trades: 1}]}
  duplicate: 0
  skipped: 0
```

An expected row names the columns it cares about. A list that is not given is not checked; one that is given holds all
rows, in any order unless `in_order: true`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from penstock.declare.composites import ListOf, MapOf, Record, read_section
from penstock.declare.jsonvalues import JSON_ROW_SHAPE, ROW_SHAPE, Converted, JsonValue, json_text
from penstock.declare.nodes import Fields, Node, Scalar, describe
from penstock.declare.reading import read
from penstock.declare.report import Report
from penstock.declare.shapes import NAME_SHAPE, TEXT_SHAPE, TRUTH_SHAPE, Word, Wrong, whole
from penstock.declare.spec import Field, Located, Parsed, Reading, Schema, Section
from penstock.declare.times import TIME_SHAPE
from penstock.limits import GOLD_TABLES_MAX, REFERENCES_MAX, YAML_NODES_MAX
from penstock.model.pipeline import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.finding import Finding, Mark

ROWS_MAX = YAML_NODES_MAX
"""Rows in one list: the file's own bound is the only one."""


@dataclass(frozen=True)
class GivenRecord:
    """A record as a source would deliver it. `timestamp` is in microseconds since the epoch, UTC."""

    value: bytes | None
    key: bytes | None = None
    timestamp: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    mark: Mark = field(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class ExpectedRow:
    """Columns with the values they must have: None, bool, int, Decimal, str, lists and dicts of them."""

    columns: Mapping[str, JsonValue]
    mark: Mark = field(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class Given:
    """What goes in. References have rows as JSON text; `ingested_at` None means that the runner chooses a time."""

    records: tuple[GivenRecord, ...]
    references: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ingested_at: int | None = None


@dataclass(frozen=True)
class Expected:
    """What must come out; None where it is not checked. `gold` has the tables named in the file only."""

    accepted: tuple[ExpectedRow, ...] | None = None
    rejected: tuple[ExpectedRow, ...] | None = None
    gold: tuple[tuple[str, tuple[ExpectedRow, ...]], ...] = ()
    duplicate: int | None = None
    skipped: int | None = None
    in_order: bool = False


@dataclass(frozen=True)
class PipelineTest:
    """One test file. `name` is the file's name without its ending; the marks say where to point when it fails."""

    name: str
    pipeline: str
    given: Given
    expected: Expected
    file: str = ""
    mark: Mark = field(default=NOWHERE, compare=False)
    pipeline_mark: Mark = field(default=NOWHERE, compare=False)


# -- records ----------------------------------------------------------------------------------------------------------


def any_json(node: Node) -> bytes:
    return json_text(node).encode()


def parse_base64(node: Scalar) -> bytes:
    try:
        return base64.b64decode(node.text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Wrong("wrong-shape", "the text is not base64", "Encode the record's bytes as base64.") from error


VALUE = Field(
    "value", Converted("any value", any_json, {}), "The record as a value, written as JSON.", "value: {id: A}"
)
RAW = Field("raw", TEXT_SHAPE, "The record's text as it is.", 'raw: "not json"')
BASE64 = Field("base64", Word("base64", parse_base64), "The record's bytes.", "base64: /w==")
RECORD_KEY = Field("key", TEXT_SHAPE, "The record's key.", "key: A")
RECORD_TIME = Field("timestamp", TIME_SHAPE, "The record's own time.", "timestamp: 2026-01-31T12:00:00Z")
HEADERS = Field(
    "headers", MapOf(TEXT_SHAPE, 100, "headers", free=True), "The record's headers.", "headers: {origin: x}"
)
RECORD = Section(
    "record",
    "a record",
    "One record with what is around it; at most one of `value`, `raw` and `base64`.",
    (VALUE, RAW, BASE64, RECORD_KEY, RECORD_TIME, HEADERS),
    example="value: {id: A}\nkey: A\nheaders: {origin: x}",
)


class EventShape:
    """An event: a mapping that becomes JSON, a text as it is, `{raw: text}`, or `{record: {...}}`."""

    words = "an event: its fields, or `raw: text`, or `record: {...}`"

    def read(self, node: Node, reading: Reading) -> Located[GivenRecord] | None:
        if isinstance(node, Fields) and len(node.entries) == 1:
            entry = node.entries[0]
            if entry.key.text == "record" and isinstance(entry.value, Fields):
                return given_record(read_section(RECORD, entry.value, reading), reading)
            if entry.key.text == "raw" and isinstance(entry.value, Scalar) and entry.value.kind == "string":
                return Located(GivenRecord(entry.value.text.encode(), mark=node.mark), node)
        if isinstance(node, Scalar) and node.kind == "string":
            return Located(GivenRecord(node.text.encode(), mark=node.mark), node)
        if not isinstance(node, Fields):
            repair = "Write the event's fields, or `raw: text`."
            reading.add(node, "wrong-shape", f"expected {self.words}, found {describe(node)}", repair)
            return None
        value = VALUE.shape.read(node, reading)
        return None if value is None else Located(GivenRecord(value.value, mark=node.mark), node)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        record = Record(RECORD).schema(definitions)
        envelope = {"type": "object", "properties": {"record": record}, "required": ["record"]}
        return {"anyOf": [{"type": "string"}, envelope, {"type": "object"}]}

    def sections(self) -> tuple[Section, ...]:
        return (RECORD,)


def given_record(parsed: Parsed, reading: Reading) -> Located[GivenRecord] | None:
    """A record with what is around it; two values for one record are a finding."""
    given = [option for option in (VALUE, RAW, BASE64) if parsed.has(option)]
    if len(given) > 1:
        message = f"`{given[1].name}` stands beside `{given[0].name}`: a record has one value"
        reading.report.add(parsed.mark(given[1]), "conflicting-fields", message, "Keep one of them.")
        return None
    raw, key = parsed.maybe(RAW), parsed.maybe(RECORD_KEY)
    value = raw.encode() if raw is not None else parsed.maybe(VALUE) or parsed.maybe(BASE64)
    headers = tuple(
        (header.name, header.value.value.encode()) for header in parsed.value(HEADERS, ()) if header.value is not None
    )
    record = GivenRecord(
        value, None if key is None else key.encode(), parsed.maybe(RECORD_TIME), headers, parsed.node.mark
    )
    return Located(record, parsed.node)


# -- the file ---------------------------------------------------------------------------------------------------------

ROWS = ListOf(ROW_SHAPE, ROWS_MAX, "rows", lone=False)
EVENTS = Field(
    "events",
    ListOf(EventShape(), ROWS_MAX, "events", lone=False),
    "The events in the order of their arrival: the fields of one, which become JSON with every number as written; a "
    "text, which is taken as it is; or `record:` with a record's parts.",
    "events:\n  - {id: A, price: 12.50}\n  - raw: not json",
    required=True,
)
GIVEN_REFERENCES = Field(
    "references",
    MapOf(ListOf(JSON_ROW_SHAPE, ROWS_MAX, "rows", lone=False), REFERENCES_MAX, "references"),
    "Rows of references, in place of their files.",
    "references:\n  instruments: [{instrument_id: A, currency: EUR}]",
)
INGESTED_AT = Field(
    "ingested_at", TIME_SHAPE, "When the events arrive; what `now()` means.", "ingested_at: 2026-01-31T12:00:00Z"
)
GIVEN = Section("given", "what is given", "What goes into the pipeline.", (EVENTS, GIVEN_REFERENCES, INGESTED_AT))

ACCEPTED = Field("accepted", ROWS, "Rows of the silver table.", "accepted: [{id: A, price: 12.5}]")
REJECTED = Field("rejected", ROWS, "Rows of the rejects.", "rejected: [{failed: [malformed]}]")
GOLD = Field(
    "gold", MapOf(ROWS, GOLD_TABLES_MAX, "gold tables"), "Rows of gold tables.", "gold:\n  bars_1m: [{trades: 1}]"
)
DUPLICATE = Field("duplicate", whole(0, 2**53), "How many events are duplicates.", "duplicate: 1")
SKIPPED = Field("skipped", whole(0, 2**53), "How many events `where` did not select.", "skipped: 0")
IN_ORDER = Field("in_order", TRUTH_SHAPE, "Rows come in the order given.", "in_order: true", "`false`")
EXPECT = Section(
    "expect",
    "what is expected",
    "What must come out. A list that is not given is not checked; one that is given holds every row, and of each row "
    "the columns that matter.",
    (ACCEPTED, REJECTED, GOLD, DUPLICATE, SKIPPED, IN_ORDER),
)

PIPELINE = Field("pipeline", NAME_SHAPE, "The pipeline that is tested.", "pipeline: ticks", required=True)
GIVEN_FIELD = Field("given", Record(GIVEN), "What goes in.", "given:\n  events: [{id: A}]", required=True)
EXPECT_FIELD = Field("expect", Record(EXPECT), "What must come out.", "expect:\n  accepted: [{id: A}]", required=True)
TEST_FILE = Section(
    "test",
    "a test",
    "One test, in `tests/<name>.yaml`; `penstock test` runs them all.",
    (PIPELINE, GIVEN_FIELD, EXPECT_FIELD),
    extensions=True,
)


def load_test_file(text: str, file: str) -> tuple[PipelineTest | None, tuple[Finding, ...]]:
    """The test that `text` declares, with all findings at once; None exactly where there are some."""
    report = Report(file)
    node = read(text, report)
    located = None if node is None else Record(TEST_FILE).read(node, Reading(report, {}))
    test = None if located is None else build_test(located.value, file)
    return (test if report.is_clean else None), report.findings()


def build_test(parsed: Parsed, file: str) -> PipelineTest | None:
    pipeline, given, expect = parsed.get(PIPELINE), parsed.get(GIVEN_FIELD), parsed.get(EXPECT_FIELD)
    if pipeline is None or given is None or expect is None:
        return None
    return PipelineTest(
        PurePath(file).stem,
        pipeline.value,
        build_given(given.value),
        build_expected(expect.value),
        file,
        parsed.node.mark,
        pipeline.mark,
    )


def build_given(parsed: Parsed) -> Given:
    references = tuple(
        (named.name, tuple(row.value for row in named.value.value))
        for named in parsed.value(GIVEN_REFERENCES, ())
        if named.value is not None
    )
    records = tuple(record.value for record in parsed.value(EVENTS, ()))
    return Given(records, references, parsed.maybe(INGESTED_AT))


def build_expected(parsed: Parsed) -> Expected:
    accepted, rejected = parsed.maybe(ACCEPTED), parsed.maybe(REJECTED)
    gold = tuple((named.name, rows(named.value.value)) for named in parsed.value(GOLD, ()) if named.value is not None)
    return Expected(
        None if accepted is None else rows(accepted),
        None if rejected is None else rows(rejected),
        gold,
        parsed.maybe(DUPLICATE),
        parsed.maybe(SKIPPED),
        parsed.value(IN_ORDER, False),
    )


def rows(located: tuple[Located[dict[str, JsonValue]], ...]) -> tuple[ExpectedRow, ...]:
    return tuple(ExpectedRow(row.value, row.mark) for row in located)
