"""`source:` of a declaration: where events come from, in which format, and which of them count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.declare.composites import ListOf, OneOf, Record
from penstock.declare.kafka import KAFKA, build_kafka
from penstock.declare.paths import PATH_SHAPE
from penstock.declare.patterns import PATTERN_SHAPE, group_names
from penstock.declare.shapes import (
    CHARACTER_SHAPE,
    EXPRESSION_SHAPE,
    FILE_PATH_SHAPE,
    TEXT_SHAPE,
    TRUTH_SHAPE,
    WORD_SHAPE,
    choice,
    fraction,
    whole,
)
from penstock.declare.spec import Field, Parsed, Section
from penstock.limits import COLUMNS_MAX, PUSH_PARTITIONS_MAX, SIMULATED_RATE_MAX
from penstock.model.pipeline import (
    CsvFormat,
    FilesSource,
    Format,
    JsonFormat,
    Origin,
    ParquetFormat,
    PushSource,
    SimulateSource,
    Source,
    TextFormat,
)

if TYPE_CHECKING:
    from penstock.declare.nodes import Node
    from penstock.declare.report import Report
    from penstock.model.fields import FieldPath
    from penstock.model.finding import Mark

# -- where from -------------------------------------------------------------------------------------------------------

PARTITIONS = Field(
    "partitions",
    whole(1, PUSH_PARTITIONS_MAX),
    "Partitions of the log. With more than one, records are spread by the hash of their key; those without go to 0.",
    "partitions: 4",
    "1",
    connection=True,
)
PUSH = Section("push", "a push source", "Records pushed by `penstock ingest` into a local, durable log.", (PARTITIONS,))

PATH = Field(
    "path",
    FILE_PATH_SHAPE,
    "The folder, relative to the project's. Files are read in path order, each once; names that end in `.tmp` or "
    "`.part` or begin with a dot wait.",
    "path: incoming",
    required=True,
    connection=True,
)
FILES = Section("files", "a files source", "A folder of files, plain or compressed (`.gz`, `.zst`).", (PATH,))

WORLD = Field(
    "world", choice("market", "iot"), "Which world is made up.", "world: market", required=True, connection=True
)
SEED = Field("seed", whole(0, 2**53), "The same seed gives the same records.", "seed: 7", "1", connection=True)
RATE = Field(
    "rate", whole(1, SIMULATED_RATE_MAX), "Records a second of wall time.", "rate: 50000", "10000", connection=True
)
FAULTS = Field(
    "faults",
    fraction(0, 1),
    "The share of records that are broken, doubled, late or out of order.",
    "faults: 0.05",
    "0.02",
    connection=True,
)
EVENTS = Field("events", whole(1, 2**53), "Records in all.", "events: 1000000", "without end", connection=True)
SIMULATE = Section(
    "simulate",
    "a simulated source",
    "A seeded producer of a made-up world, read directly by the pipeline.",
    (WORLD, SEED, RATE, FAULTS, EVENTS),
)

# -- formats ----------------------------------------------------------------------------------------------------------

HEADER = Field(
    "header",
    TRUTH_SHAPE,
    "Each file's first line names the fields.",
    "header: false",
    "`true`, or `false` where `columns` are given",
)
DELIMITER = Field("delimiter", CHARACTER_SHAPE, "What stands between fields.", 'delimiter: ";"', "`,`")
QUOTE = Field("quote", CHARACTER_SHAPE, "What fields are quoted with; doubled inside.", 'quote: "\'"', '`"`')
NULL = Field(
    "null", ListOf(TEXT_SHAPE, 100, "texts"), "Texts that mean NULL, besides the empty one.", "null: [NA, '-']"
)
CSV_COLUMNS = Field(
    "columns",
    ListOf(WORD_SHAPE, COLUMNS_MAX, "names", lone=False),
    "The names of the fields where no line of the file gives them.",
    "columns: [ts, sensor, value]",
)
CSV = Section("csv", "a CSV format", "Delimited text.", (HEADER, DELIMITER, QUOTE, NULL, CSV_COLUMNS))

PATTERN = Field(
    "pattern",
    PATTERN_SHAPE,
    "Matches a whole line; its named groups are the fields.",
    r"pattern: '(?P<level>[A-Z]+) (?P<payload>.*)'",
    required=True,
)
JSON_GROUP = Field("json", WORD_SHAPE, "The group that holds JSON; its members are fields, too.", "json: payload")
TEXT = Section("text", "a text format", "Lines matched by a regular expression.", (PATTERN, JSON_GROUP))
JSON = Section("json", "the JSON format", "A record is one JSON value by RFC 8259.", ())
PARQUET = Section("parquet", "the Parquet format", "Files only: each row becomes an event.", ())

# -- the section ------------------------------------------------------------------------------------------------------

PUSH_FIELD = Field("push", Record(PUSH), "Records pushed into the local log.", "push: {}")
FILES_FIELD = Field("files", Record(FILES, short=PATH), "A folder of files.", "files: {path: incoming}")
SIMULATE_FIELD = Field("simulate", Record(SIMULATE, short=WORLD), "Made-up records.", "simulate: {world: market}")
KAFKA_FIELD = Field("kafka", Record(KAFKA), "A Kafka topic.", 'kafka: {topic: ticks, brokers: "${KAFKA_BROKERS}"}')
FORMAT = Field(
    "format",
    OneOf("format", (JSON, CSV, TEXT, PARQUET), later=("avro", "protobuf")),
    "How a record is written.",
    "format: json",
    "`json`",
)
RECORDS = Field(
    "records",
    PATH_SHAPE,
    "The path to a list inside the record: each element is an event, and `^.name` reaches the record around it.",
    "records: data",
)
WHERE = Field(
    "where",
    EXPRESSION_SHAPE,
    "Which events count, over the raw fields. FALSE and NULL are skipped (and counted).",
    "where: type = 'trade'",
)
ON_DATA_LOSS = Field(
    "on_data_loss",
    choice("stop", "record"),
    "What happens when the source no longer has records that were not read: stop, or go on and record the range.",
    "on_data_loss: record",
    "`stop`",
)
ORIGINS = (PUSH_FIELD, FILES_FIELD, KAFKA_FIELD, SIMULATE_FIELD)
SOURCE = Section(
    "source",
    "the source",
    "Where events come from: one of `push`, `files`, `kafka`, `simulate`, and how to read it.",
    (*ORIGINS, FORMAT, RECORDS, WHERE, ON_DATA_LOSS),
    example="files: {path: incoming}\nformat: {csv: {delimiter: \";\"}}\nwhere: type = 'trade'",
)


def build_source(parsed: Parsed, report: Report) -> Source | None:
    """The source as a noun; None with findings."""
    origin = build_origin(parsed, report)
    form = build_format(parsed, report)
    records = parsed.get(RECORDS)
    if form is not None:
        check_format(parsed, form, report)
    if records is not None:
        if records.value.is_meta or records.value.envelope:
            message = f"`{records.value}` does not lie in the record's value"
            report.add(records.mark, "records-path", message, "Name the list inside the record: `records: data`.")
        elif form is not None and (form.kind == "csv" or (isinstance(form, TextFormat) and form.json is None)):
            message = f"a {form.kind} record holds no lists"
            report.add(parsed.mark(RECORDS), "records-path", message, "Remove `records`.")
    if origin is None or form is None:
        return None
    return Source(
        origin,
        form,
        None if records is None else records.value,
        parsed.maybe(WHERE),
        parsed.value(ON_DATA_LOSS, "stop"),
    )


def build_origin(parsed: Parsed, report: Report) -> Origin | None:
    written = [origin for origin in ORIGINS if parsed.has(origin)]
    if not written:
        repair = "Add `push: {}`, `files: {path: incoming}`, `kafka: {...}` or `simulate: {world: market}`."
        report.add(parsed.node.mark, "missing-field", "the source says not where events come from", repair)
    for extra in written[1:]:
        message = f"`{extra.name}` stands beside `{written[0].name}`: a pipeline has one source"
        report.add(parsed.mark(extra), "conflicting-fields", message, "Keep one; a second source is a second pipeline.")
    if len(written) != 1:
        return None
    push, files, simulate = parsed.get(PUSH_FIELD), parsed.get(FILES_FIELD), parsed.get(SIMULATE_FIELD)
    if push is not None:
        return PushSource(push.value.value(PARTITIONS, 1))
    if files is not None:
        path = files.value.get(PATH)
        return None if path is None else FilesSource(path.value)
    kafka = parsed.get(KAFKA_FIELD)
    if kafka is not None:
        return build_kafka(kafka.value, report)
    if simulate is not None:
        options = simulate.value
        world, events = options.get(WORLD), options.get(EVENTS)
        if world is None:
            return None
        return SimulateSource(
            world.value,
            options.value(SEED, 1),
            options.value(RATE, 10_000),
            options.value(FAULTS, 0.02),
            None if events is None else events.value,
        )
    return None


def build_format(parsed: Parsed, report: Report) -> Format | None:
    given = parsed.get(FORMAT)
    if given is None:
        return None if parsed.has(FORMAT) else JsonFormat()
    section, options = given.value
    if section is CSV:
        return build_csv(options, report)
    if section is TEXT:
        return build_text(options, report)
    return ParquetFormat() if section is PARQUET else JsonFormat()


def build_csv(options: Parsed, report: Report) -> CsvFormat:
    columns = options.get(CSV_COLUMNS)
    names = tuple(name.value for name in columns.value) if columns is not None else ()
    header = options.value(HEADER, not options.has(CSV_COLUMNS))
    if header and options.has(CSV_COLUMNS):
        message = "`columns` name the fields, and `header: true` says that each file does"
        report.add(options.mark(CSV_COLUMNS), "csv-columns", message, "Keep one of them.")
    if not header and not options.has(CSV_COLUMNS):
        message = "without a header line `columns` must name the fields"
        report.add(options.mark(HEADER), "csv-columns", message, "Add `columns: [...]`.")
    if columns is not None:
        if not names:
            report.add(columns.mark, "csv-columns", "`columns` is empty", "Name every field of a line, in order.")
        report_repeated([(name.value, name.node) for name in columns.value], "the field", report)
    delimiter, quote = options.value(DELIMITER, ","), options.value(QUOTE, '"')
    if delimiter == quote:
        mark = options.mark(DELIMITER if options.has(DELIMITER) else QUOTE)
        report.add(mark, "csv-quote", f"`{delimiter}` is both delimiter and quote", "Change one of them.")
    null = tuple(text.value for text in options.value(NULL, ()))
    return CsvFormat(header, delimiter, quote, null, names)


def build_text(options: Parsed, report: Report) -> TextFormat | None:
    pattern, group = options.get(PATTERN), options.get(JSON_GROUP)
    if pattern is None:
        return None
    if group is not None and group.value not in pattern.value.groups:
        message = f"the pattern has no group `{group.value}`"
        report.add(group.mark, "unknown-group", message, report.suggest(group.value, pattern.value.groups, "groups"))
    return TextFormat(pattern.value.text, None if group is None else group.value)


def check_format(parsed: Parsed, form: Format, report: Report) -> None:
    """Formats and sources that do not go together."""
    if form.kind == "parquet" and not parsed.has(FILES_FIELD):
        report.add(parsed.mark(FORMAT), "format-source", "Parquet is read from files only", "Use `files: {path: ...}`.")
    if form.kind != "json" and parsed.has(SIMULATE_FIELD):
        message = f"the simulator writes JSON, not {form.kind}"
        report.add(parsed.mark(FORMAT), "format-source", message, "Remove `format`.")


def report_repeated(names: list[tuple[str, Node]], what: str, report: Report) -> None:
    """A finding for every name that stood before in the same list."""
    seen: set[str] = set()
    for name, node in names:
        if name.lower() in seen:
            report.add(node.mark, "repeated-name", f"{what} `{name}` is named twice", "Remove one.")
        seen.add(name.lower())


def check_event_path(path: FieldPath, mark: Mark, source: Source, report: Report) -> None:
    """Findings for a path that can find nothing in events of this source."""
    if path.envelope and source.records is None:
        message = f"`{path}` reaches around the event, but the source has no `records`"
        report.add(mark, "no-envelope", message, "Remove `^.`, or declare `records`.")
    if path.is_meta or path.envelope:
        return
    form = source.format
    if isinstance(form, CsvFormat):
        if len(path.steps) > 1:
            report.add(mark, "path-in-csv", f"`{path}`: a CSV field has nothing inside", "Read it as a `json` column.")
        elif form.columns and path.root not in form.columns:
            message = f"`columns` of the format has no `{path.root}`"
            report.add(mark, "unknown-csv-field", message, report.suggest(path.root, form.columns, "fields"))
    if isinstance(form, TextFormat) and form.json is None:
        groups = group_names(form.pattern)
        if path.root not in groups:
            message = f"the pattern has no group `{path.root}`"
            report.add(mark, "unknown-group", message, report.suggest(path.root, groups, "groups"))
        elif len(path.steps) > 1:
            message = f"`{path}`: the group `{path.root}` has nothing inside"
            report.add(mark, "path-in-text", message, f"Declare `json: {path.root}` in the format.")
