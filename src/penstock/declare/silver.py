"""`silver:` of a declaration: the table of accepted events, its identity, time, columns and rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from penstock.declare.columns import COLUMN_SHAPE, build_column, lookup_on, path_mark
from penstock.declare.composites import ListOf, MapOf, Record
from penstock.declare.durations import DURATION_SHAPE, SECOND, in_words
from penstock.declare.nodes import shorten
from penstock.declare.shapes import EXPRESSION_SHAPE, NAME_SHAPE, WORD_SHAPE, choice
from penstock.declare.source import check_event_path, report_repeated
from penstock.declare.spec import Field, Located, Named, Parsed, Section
from penstock.limits import COLUMNS_MAX, KEY_COLUMNS_MAX, RULES_MAX, UNIQUE_WITHIN_SECONDS_MIN
from penstock.model.columns import TIMESTAMP as TIMESTAMP_COLUMN
from penstock.model.columns import WINDOW_END, WINDOW_START
from penstock.model.pipeline import BUILT_IN_RULES, Action, Column, Rule, Silver, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.declare.references import References
    from penstock.declare.report import Report
    from penstock.model.types import ColumnType

CHECK = Field(
    "check",
    EXPRESSION_SHAPE,
    "SQL over the columns. A row passes only when it is TRUE; FALSE, NULL and an error fail.",
    "check: price > 0",
    required=True,
)
OTHERWISE = Field(
    "otherwise",
    choice(
        Action.QUARANTINE.value,
        Action.FLAG.value,
        Action.STOP.value,
        later=("null", "default", "clamp", "route", "drop"),
    ),
    "What happens to a row that fails: it goes to the rejects, it is accepted with the rule's name in `_flags`, or the "
    "pipeline stops before anything of the batch is committed.",
    "otherwise: flag",
    "`quarantine`",
)
RULE = Section(
    "rule", "a rule", "A condition on every row. All failing rules of a row are recorded.", (CHECK, OTHERWISE)
)

TABLE = Field("table", NAME_SHAPE, "The table's name, unique in the lake.", "table: market_ticks", required=True)
KEY = Field(
    "key",
    ListOf(WORD_SHAPE, KEY_COLUMNS_MAX, "columns"),
    "The columns that say which event this is: of several with the same key the first is accepted, the others are "
    "duplicates. They are required and never floats. Without a key every event counts.",
    "key: [instrument_id, venue, sequence]",
)
UNIQUE_WITHIN = Field(
    "unique_within",
    DURATION_SHAPE,
    "Keys are unique within stretches of event time of this length, aligned to 1970-01-01 UTC; the same key in another "
    "stretch is another event. Bounds what has to be remembered.",
    "unique_within: 1 day",
    "the whole history",
)
EVENT_TIME = Field(
    "event_time",
    WORD_SHAPE,
    "The timestamp column that says when the event happened. It is required.",
    "event_time: traded_at",
    "`_timestamp`, the record's own time",
)
ORDER = Field(
    "order",
    ListOf(WORD_SHAPE, KEY_COLUMNS_MAX, "columns"),
    "Columns that break ties of event time in `first`, `last` and latest.",
    "order: [sequence]",
)
LATE_AFTER = Field(
    "late_after",
    DURATION_SHAPE,
    "How far the watermark stays behind the latest event time. Later rows are accepted all the same, and correct their "
    "closed windows.",
    "late_after: 10 seconds",
    "`0`",
)
FUTURE_AFTER = Field(
    "future_after",
    DURATION_SHAPE,
    "Rows further ahead of their arrival fail the rule `future`: they would close windows too early.",
    "future_after: 5 minutes",
    "no bound",
)
COLUMNS = Field(
    "columns",
    MapOf(COLUMN_SHAPE, COLUMNS_MAX, "columns"),
    "The columns in the table's order. Fields of the event that no column reads are kept in `_extra`.",
    "columns:\n  price: float64",
    required=True,
)
RULES = Field(
    "rules",
    MapOf(Record(RULE, short=CHECK), RULES_MAX, "rules"),
    "The rules.",
    "rules:\n  sane_price: price > 0",
)
SILVER = Section(
    "silver",
    "the silver table",
    "The table of accepted events: typed, enriched, unique.",
    (TABLE, KEY, UNIQUE_WITHIN, EVENT_TIME, ORDER, LATE_AFTER, FUTURE_AFTER, COLUMNS, RULES),
)

RESERVED_RULES = (*BUILT_IN_RULES, "expired")
RESERVED_COLUMNS = (WINDOW_START, WINDOW_END)


@dataclass(frozen=True)
class ColumnTypes:
    """What is known of the columns by name, those with findings included: their type, or None where not known.

    `complete` is false where the columns could not be read at all: then any name may be one.
    """

    types: Mapping[str, ColumnType | None]
    complete: bool = True

    def check(self, name: Located[str], what: str, report: Report) -> bool:
        """A finding unless the name is a column's."""
        if name.value in self.types or not self.complete:
            return True
        message = f"{what} names `{shorten(name.value)}`, which is no column of the silver table"
        report.add(name.mark, "unknown-column", message, report.suggest(name.value, self.types, "columns"))
        return False


def build_silver(
    parsed: Parsed, source: Source | None, references: References, report: Report
) -> tuple[Silver | None, ColumnTypes]:
    """The silver table as a noun, and its columns for what else names them; None with findings."""
    before = len(report)
    entries = parsed.value(COLUMNS, ())
    built = {entry.name: build_column(entry, references, report) for entry in entries}
    types = {name: None if column is None else column.type for name, column in built.items()}
    known = ColumnTypes(types, complete=parsed.get(COLUMNS) is not None)
    check_columns(parsed, entries, built, source, known, report)
    key = check_key(parsed, known, report)
    event_time = check_event_time(parsed, known, built, report)
    order = column_list(parsed, ORDER, "`order`", known, report)
    check_durations(parsed, report)
    rules = build_rules(parsed.value(RULES, ()), report)
    table = parsed.get(TABLE)
    if table is None or len(report) > before or not built:
        return None, known
    implied = {*key, event_time}
    columns = [column for column in built.values() if column is not None]
    unique, future = parsed.get(UNIQUE_WITHIN), parsed.get(FUTURE_AFTER)
    silver = Silver(
        table=table.value,
        columns=tuple(replace(column, required=column.required or column.name in implied) for column in columns),
        key=key,
        unique_within=None if unique is None else unique.value,
        event_time=event_time,
        order=order,
        late_after=parsed.value(LATE_AFTER, 0),
        future_after=None if future is None else future.value,
        rules=rules,
    )
    return silver, known


# -- columns ----------------------------------------------------------------------------------------------------------


def check_columns(
    parsed: Parsed,
    entries: tuple[Named[Parsed], ...],
    built: Mapping[str, Column | None],
    source: Source | None,
    known: ColumnTypes,
    report: Report,
) -> None:
    columns = parsed.get(COLUMNS)
    if columns is not None and not entries:
        report.add(columns.mark, "empty-list", "the silver table has no columns", "Declare at least one.")
    for entry in entries:
        if entry.name in RESERVED_COLUMNS:
            message = f"`{entry.name}` is a column of every gold table"
            report.add(entry.mark, "reserved-name", message, "Rename the column, with `from:` its old name.")
        column = built.get(entry.name)
        if column is None or entry.value is None:
            continue
        if column.path is not None and source is not None:
            check_event_path(column.path, path_mark(entry.value.value, entry.mark), source, report)
        if column.lookup is not None:
            check_lookup_columns(entry, column, known, report)
    check_lookup_cycles(built, report)


def check_lookup_columns(entry: Named[Parsed], column: Column, known: ColumnTypes, report: Report) -> None:
    """The columns a lookup goes by exist, whether written as `on` or taken from the reference's key."""
    if entry.value is None or column.lookup is None:
        return
    written = lookup_on(entry.value.value)
    if written is not None:
        for name in written.value:
            known.check(name, "`on`", report)
        return
    for key in column.lookup.on:
        if key not in known.types and known.complete:
            message = f"the lookup goes by `{key}`, the key of `{column.lookup.reference}`, which is no column here"
            report.add(entry.mark, "lookup-on", message, "Name the columns that hold the key: `on: [...]`.")


def check_lookup_cycles(built: Mapping[str, Column | None], report: Report) -> None:
    """A lookup by a column that is looked up by it, directly or not."""
    edges = {
        name: column.lookup.on for name, column in built.items() if column is not None and column.lookup is not None
    }
    for column in built.values():
        if column is None or column.lookup is None:
            continue
        reached: set[str] = set()
        ahead = list(column.lookup.on)
        while ahead:
            following = ahead.pop()
            if following not in reached:
                reached.add(following)
                ahead.extend(edges.get(following, ()))
        if column.name in reached:
            message = f"`{column.name}` is looked up by itself"
            report.add(column.mark, "cycle", message, "Look it up by columns of the event.")


# -- key, time, order -------------------------------------------------------------------------------------------------


def column_list(
    parsed: Parsed, field: Field[tuple[Located[str], ...]], what: str, known: ColumnTypes, report: Report
) -> tuple[str, ...]:
    """The columns a field names, findings for unknown and repeated ones."""
    names = parsed.value(field, ())
    for name in names:
        known.check(name, what, report)
    report_repeated([(name.value, name.node) for name in names], "the column", report)
    return tuple(name.value for name in names)


def check_key(parsed: Parsed, known: ColumnTypes, report: Report) -> tuple[str, ...]:
    key = column_list(parsed, KEY, "the key", known, report)
    given = parsed.get(KEY)
    if given is not None and not key:
        report.add(given.mark, "empty-list", "the key names no column", "Remove `key`: then every event counts.")
    for part in parsed.value(KEY, ()):
        kind = known.types.get(part.value)
        if kind is not None and kind.is_float:
            message = f"the key column `{part.value}` is {kind}: floats are not compared for equality"
            report.add(part.mark, "float-key", message, "Use decimal, an integer or string.")
    if parsed.has(UNIQUE_WITHIN) and not parsed.has(KEY):
        message = "without a `key` there is nothing to be unique"
        report.add(parsed.mark(UNIQUE_WITHIN), "unique-without-key", message, "Add `key`, or remove `unique_within`.")
    return key


def check_event_time(parsed: Parsed, known: ColumnTypes, built: Mapping[str, Column | None], report: Report) -> str:
    given = parsed.get(EVENT_TIME)
    if given is None or given.value == TIMESTAMP_COLUMN:
        return TIMESTAMP_COLUMN
    if given.value.startswith("_"):
        message = f"`{shorten(given.value)}` cannot be the event time"
        report.add(given.mark, "unknown-column", message, "Name a timestamp column, or `_timestamp`.")
        return given.value
    if known.check(given, "`event_time`", report):
        kind, column = known.types.get(given.value), built.get(given.value)
        if kind is not None and kind.kind != "timestamp":
            message = f"the event time `{given.value}` is {kind}"
            report.add(given.mark, "event-time-type", message, "Declare the column with `type: timestamp`.")
        elif kind is None and column is not None:
            message = f"the type of the event time `{given.value}` is not declared"
            report.add(given.mark, "event-time-type", message, "Declare the column with `type: timestamp`.")
    return given.value


def check_durations(parsed: Parsed, report: Report) -> None:
    unique = parsed.get(UNIQUE_WITHIN)
    if unique is not None and unique.value < UNIQUE_WITHIN_SECONDS_MIN * SECOND:
        message = f"`unique_within` of {in_words(unique.value)} is less than {UNIQUE_WITHIN_SECONDS_MIN} second"
        report.add(unique.mark, "out-of-range", message, "Write a longer one, such as `1 day`.")


# -- rules ------------------------------------------------------------------------------------------------------------


def build_rules(entries: tuple[Named[Parsed], ...], report: Report) -> tuple[Rule, ...]:
    """The rules that could be read, in their order."""
    rules = []
    for entry in entries:
        if entry.name in RESERVED_RULES:
            message = f"`{entry.name}` is a rule that is always there"
            report.add(entry.mark, "reserved-name", message, "Give the rule another name.")
        if entry.value is None:
            continue
        parsed = entry.value.value
        check = parsed.get(CHECK)
        if check is not None:
            action = Action(parsed.value(OTHERWISE, Action.QUARANTINE.value))
            rules.append(Rule(entry.name, check.value, action, entry.mark))
    return tuple(rules)
