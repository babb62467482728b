"""Columns of the silver table: where each value comes from, and which options its type takes."""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import TYPE_CHECKING

from penstock.declare.composites import ListOf, Record
from penstock.declare.nodes import Scalar, shorten
from penstock.declare.paths import parse_path
from penstock.declare.report import nearest
from penstock.declare.shapes import (
    EXPRESSION_SHAPE,
    TRUTH_SHAPE,
    WORD_SHAPE,
    Word,
    Wrong,
    choice,
    parse_text,
)
from penstock.declare.spec import Field, Located, Named, Parsed, Section
from penstock.declare.types import TYPE_SHAPE
from penstock.limits import KEY_COLUMNS_MAX
from penstock.model.fields import FieldPath
from penstock.model.pipeline import Column, Lookup

if TYPE_CHECKING:
    from penstock.declare.references import References
    from penstock.declare.report import Report
    from penstock.model.finding import Mark
    from penstock.model.types import ColumnType

STRPTIME_LETTERS = "aAwdbBmyYHIpMSfgnzZjUWcxXGuV%"
"""What may follow `%` in DuckDB's strptime; most of them also after `%-`."""


def parse_timezone(node: Scalar) -> str:
    """The name of a zone in the IANA database. Raises Wrong."""
    if node.text in zone_names():
        return node.text
    near = nearest(node.text, zone_names())
    repair = f"Did you mean `{near}`?" if near else "Write an IANA name such as `Europe/Berlin` or `UTC`."
    raise Wrong("unknown-timezone", f"`{shorten(node.text)}` is not a time zone", repair)


@functools.cache
def zone_names() -> frozenset[str]:
    """The IANA zones of the tzdata package: the same ones on every machine."""
    names = importlib.resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(names) - {"Factory"}


def parse_time_format(node: Scalar) -> str:
    """A strptime format. Raises Wrong."""
    text = parse_text(node)
    letters = re.findall(r"%(-?.?)", text, re.DOTALL)
    if not letters:
        raise Wrong("bad-time-format", f"`{shorten(text)}` has no `%` in it", 'Write for example "%d.%m.%Y %H:%M:%S".')
    for letter in letters:
        plain = letter.removeprefix("-")
        if len(plain) != 1 or plain not in STRPTIME_LETTERS:
            message = f"`%{shorten(letter)}` means nothing in a time format"
            raise Wrong(
                "bad-time-format", message, f"Known letters: {' '.join(STRPTIME_LETTERS)}.", text.find("%" + letter)
            )
    return text


TIMEZONE_SHAPE = Word("a time zone such as `Europe/Berlin`", parse_timezone)
TIME_FORMAT_SHAPE = Word("a strptime format", parse_time_format)

TYPE = Field("type", TYPE_SHAPE, "The type. A value is accepted only if it holds it exactly.", "type: int64")
REQUIRED = Field("required", TRUTH_SHAPE, "NULL fails the rule `required:<column>`.", "required: true", "`false`")
FROM = Field(
    "from",
    WORD_SHAPE,
    "The [path](#field-paths) to the value in the event.",
    "from: payload.price",
    "the column's name",
)
LOOKUP_FROM = Field("from", WORD_SHAPE, "The reference and its column.", "from: instruments.currency", required=True)
ON = Field(
    "on",
    ListOf(WORD_SHAPE, KEY_COLUMNS_MAX, "columns"),
    "The columns that hold the reference's key, in its order.",
    "on: [sym]",
    "columns named like the reference's key",
)
LOOKUP = Section("lookup", "a lookup", "A value from a reference.", (LOOKUP_FROM, ON))
LOOKUP_FIELD = Field(
    "lookup",
    Record(LOOKUP, short=LOOKUP_FROM),
    "`reference.column` of the row whose key equals this row's columns of the same names; NULL where there is none.",
    "lookup: instruments.currency",
)
SQL = Field("sql", EXPRESSION_SHAPE, "An expression over other columns, in any order.", "sql: price * quantity")
UNIT = Field(
    "unit",
    choice("s", "ms", "us", "ns"),
    "Numbers are time since 1970-01-01 UTC in this unit (timestamp and date).",
    "unit: ms",
)
FORMAT = Field(
    "format", TIME_FORMAT_SHAPE, "How a text is written (timestamp and date).", 'format: "%d.%m.%Y %H:%M"', "ISO 8601"
)
TIMEZONE = Field("timezone", TIMEZONE_SHAPE, "The zone of a text that names none.", "timezone: Europe/Berlin", "`UTC`")
FOLD = Field(
    "fold",
    choice("earlier", "later"),
    "Which instant a local time means that occurs twice when clocks go back.",
    "fold: later",
    "`earlier`",
)
COLUMN = Section(
    "column",
    "a column",
    "A column of the silver table. Without `from`, `lookup` or `sql` its value is the field of its own name.",
    (TYPE, REQUIRED, FROM, LOOKUP_FIELD, ON, SQL, UNIT, FORMAT, TIMEZONE, FOLD),
    example='type: timestamp\nfrom: payload.at\nformat: "%d.%m.%Y %H:%M"\ntimezone: Europe/Berlin\nrequired: true',
)
COLUMN_SHAPE = Record(COLUMN, short=TYPE)


def build_column(entry: Named[Parsed], references: References, report: Report) -> Column | None:
    """The column as a noun; None with findings."""
    if entry.value is None:
        return None
    parsed = entry.value.value
    before = len(report)
    origins = [origin for origin in (FROM, LOOKUP_FIELD, SQL) if parsed.has(origin)]
    for extra in origins[1:]:
        message = f"`{extra.name}` stands beside `{origins[0].name}`: a column has one origin"
        report.add(parsed.mark(extra), "conflicting-fields", message, "Keep one of them.")
    if len(origins) > 1:
        return None
    is_lookup = parsed.has(LOOKUP_FIELD) or (parsed.has(ON) and parsed.has(FROM))
    path = None if is_lookup or parsed.has(SQL) else column_path(entry, parsed, report)
    lookup = column_lookup(parsed, references, report) if is_lookup else None
    sql = parsed.get(SQL)
    kind = column_type(entry, parsed, lookup, references, report)
    if parsed.has(ON) and not is_lookup:
        report.add(parsed.mark(ON), "option-without-use", "`on` belongs to a lookup", "Add `lookup: reference.column`.")
    check_time_options(parsed, kind, from_event=path is not None, report=report)
    if len(report) > before or (path is None and lookup is None and sql is None) or (kind is None and lookup is None):
        return None
    return Column(
        name=entry.name,
        type=kind,
        path=path,
        lookup=lookup,
        sql=None if sql is None else sql.value,
        required=parsed.value(REQUIRED, False),
        unit=parsed.maybe(UNIT),
        format=parsed.maybe(FORMAT),
        timezone=parsed.maybe(TIMEZONE),
        fold=parsed.value(FOLD, "earlier"),
        mark=entry.mark,
    )


def column_path(entry: Named[Parsed], parsed: Parsed, report: Report) -> FieldPath | None:
    given = parsed.get(FROM)
    if given is None:
        return None if parsed.has(FROM) else FieldPath((entry.name,))
    return located_path(given, report)


def path_mark(parsed: Parsed, name: Mark) -> Mark:
    """Where a column's path stands: at `from`, or at its name."""
    given = parsed.get(FROM)
    return name if given is None else given.mark


def located_path(given: Located[str], report: Report) -> FieldPath | None:
    try:
        return parse_path(given.value)
    except Wrong as wrong:
        inside = wrong.offset is not None and isinstance(given.node, Scalar)
        mark = given.node.at(wrong.offset or 0) if inside and isinstance(given.node, Scalar) else given.mark
        report.add(mark, wrong.code, wrong.message, wrong.repair)
        return None


# -- lookups ----------------------------------------------------------------------------------------------------------


def column_lookup(parsed: Parsed, references: References, report: Report) -> Lookup | None:
    """`reference.column` with the columns it is looked up by."""
    inner = parsed.get(LOOKUP_FIELD)
    if inner is not None:
        target, on = inner.value.get(LOOKUP_FROM), inner.value.get(ON)
        if parsed.has(ON) and inner.value.has(ON):
            report.add(parsed.mark(ON), "conflicting-fields", "`on` is given twice", "Keep one of them.")
        on = on or parsed.get(ON)
    else:
        target, on = parsed.get(FROM), parsed.get(ON)
    if target is None:
        return None
    path = located_path(target, report)
    if path is None:
        return None
    if len(path.steps) != 2 or path.envelope or not all(isinstance(step, str) for step in path.steps):
        message = f"`{shorten(target.value)}` is not `reference.column`"
        report.add(target.mark, "bad-lookup", message, "Write for example `instruments.currency`.")
        return None
    name, column = str(path.steps[0]), str(path.steps[1])
    if name not in references.by_name and references.complete:
        message = f"there is no reference `{shorten(name)}`"
        report.add(target.mark, "unknown-reference", message, report.suggest(name, references.by_name, "references"))
        return None
    reference = references.by_name.get(name)
    if reference is None:
        return None
    if on is not None and len(on.value) != len(reference.key):
        message = f"the key of `{name}` is {', '.join(reference.key)}, and `on` names {len(on.value)} columns"
        report.add(on.mark, "lookup-on", message, "Name one column for each column of the key.")
        return None
    return Lookup(name, column, tuple(part.value for part in on.value) if on is not None else reference.key)


def lookup_on(parsed: Parsed) -> Located[tuple[Located[str], ...]] | None:
    """The `on` as written, for findings about its columns."""
    inner = parsed.get(LOOKUP_FIELD)
    return (inner.value.get(ON) if inner is not None else None) or parsed.get(ON)


# -- types and their options ------------------------------------------------------------------------------------------


def column_type(
    entry: Named[Parsed],
    parsed: Parsed,
    lookup: Lookup | None,
    references: References,
    report: Report,
) -> ColumnType | None:
    """The column's type; of a lookup that declares none, the reference's, where it declares one."""
    given = parsed.get(TYPE)
    declared = None
    if lookup is not None:
        reference = references.by_name.get(lookup.reference)
        declared = dict(reference.columns).get(lookup.column) if reference is not None else None
    if given is None:
        is_lookup = parsed.has(LOOKUP_FIELD) or parsed.has(ON)
        if not is_lookup and not parsed.has(TYPE):
            report.add(
                entry.mark, "missing-field", f"the column `{shorten(entry.name)}` has no type", "Add `type: string`."
            )
        return declared
    if declared is not None and declared != given.value and lookup is not None:
        message = f"`{lookup.reference}.{lookup.column}` is declared {declared} in its reference and {given.value} here"
        report.add(given.mark, "lookup-type", message, "Remove the type here.")
    return given.value


def check_time_options(parsed: Parsed, kind: ColumnType | None, *, from_event: bool, report: Report) -> None:
    """`unit`, `format`, `timezone` and `fold` say how a raw value is read as time, so they need one."""
    for option in (UNIT, FORMAT, TIMEZONE, FOLD):
        if not parsed.has(option):
            continue
        if not from_event and (parsed.has(LOOKUP_FIELD) or parsed.has(SQL) or parsed.has(ON)):
            message = f"`{option.name}` is for values of the event"
            report.add(parsed.mark(option), "option-without-use", message, "Remove it.")
        elif kind is not None and kind.kind not in ("timestamp", "date"):
            message = f"`{option.name}` is for timestamp and date, not for {kind}"
            report.add(parsed.mark(option), "option-without-use", message, "Remove it, or change the type.")
    if parsed.has(UNIT):
        for option in (FORMAT, TIMEZONE, FOLD):
            if parsed.has(option):
                message = f"`{option.name}` reads text and `unit` numbers"
                report.add(parsed.mark(option), "conflicting-fields", message, "Keep one of them.")
    elif parsed.has(FOLD) and not parsed.has(TIMEZONE):
        message = "without a `timezone` no local time occurs twice"
        report.add(parsed.mark(FOLD), "option-without-use", message, "Add `timezone`, or remove `fold`.")
