"""`gold:` of a declaration: windows of event time, what they are grouped by, and what is measured in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.declare.columns import TIMEZONE_SHAPE
from penstock.declare.composites import ListOf, MapOf, Record
from penstock.declare.durations import DAY, SPAN_SHAPE, span_in_words, span_length
from penstock.declare.shapes import EXPRESSION_SHAPE, TEXT_SHAPE, WORD_SHAPE
from penstock.declare.silver import ColumnTypes, column_list
from penstock.declare.spec import Field, Named, Parsed, Section
from penstock.limits import KEY_COLUMNS_MAX, MEASURES_MAX, WINDOWS_PER_ROW_MAX
from penstock.model.columns import WINDOW_END, WINDOW_START
from penstock.model.pipeline import Gold, Measure, Span, SpanUnit, Window

if TYPE_CHECKING:
    from penstock.declare.report import Report

SIZE = Field("size", SPAN_SHAPE, "How long a window is.", "size: 5 minutes", required=True)
EVERY = Field(
    "every",
    SPAN_SHAPE,
    "How often a window starts; the size is a multiple of it. A row counts in every window it lies in.",
    "every: 1 minute",
    "the size: windows follow each other",
)
TIMEZONE = Field(
    "timezone",
    TIMEZONE_SHAPE,
    "The zone whose days and weeks are meant; only with windows of days or weeks.",
    "timezone: Europe/Berlin",
    "`UTC`",
)
SESSION = Field("session", TEXT_SHAPE, "This version has windows of a fixed size: `window: 1 minute`.", later=True)
WINDOW = Section(
    "window",
    "a window",
    "Stretches of event time. Under a day they are aligned to 1970-01-01 UTC, days to local midnight, weeks to Monday.",
    (SIZE, EVERY, TIMEZONE, SESSION),
)

WINDOW_FIELD = Field(
    "window",
    Record(WINDOW, short=SIZE),
    "The windows.",
    "window: 1 minute",
    required=True,
)
BY = Field(
    "by",
    ListOf(WORD_SHAPE, KEY_COLUMNS_MAX, "columns"),
    "Silver columns: one row per window and combination of their values. NULL is a value of its own.",
    "by: [instrument_id]",
    "none: one row per window",
)
WHERE = Field(
    "where",
    EXPRESSION_SHAPE,
    "Which rows count, over the silver columns.",
    "where: not list_contains(_flags, 'big_trade')",
)
MEASURES = Field(
    "measures",
    MapOf(EXPRESSION_SHAPE, MEASURES_MAX, "measures"),
    "What is measured: SQL over count, count_distinct, sum, min, max, avg, first, last, stddev and quantile.",
    "measures:\n  volume: sum(quantity)",
    required=True,
)
CURRENT = Field("current", TEXT_SHAPE, "Gold tables have a `window` in this version.", later=True)
HISTORY = Field("history", TEXT_SHAPE, "Gold tables have a `window` in this version.", later=True)
GOLD = Section(
    "gold",
    "a gold table",
    "Aggregates of the silver table: one row per closed window and group.",
    (WINDOW_FIELD, BY, WHERE, MEASURES, CURRENT, HISTORY),
)
GOLD_SHAPE = Record(GOLD)

UTC = "UTC"
TAKEN_NAMES = (WINDOW_START, WINDOW_END)


def build_gold(entry: Named[Parsed], known: ColumnTypes, report: Report) -> Gold | None:
    """The gold table as a noun; None with findings."""
    if entry.value is None:
        return None
    parsed = entry.value.value
    before = len(report)
    by = column_list(parsed, BY, "`by`", known, report)
    window = build_window(parsed, report)
    measures = build_measures(parsed, by, report)
    if window is None or not measures or len(report) > before:
        return None
    return Gold(entry.name, window, by, measures, parsed.maybe(WHERE), entry.mark)


def build_measures(parsed: Parsed, by: tuple[str, ...], report: Report) -> tuple[Measure, ...]:
    given = parsed.get(MEASURES)
    if given is None:
        return ()
    if not given.value:
        report.add(given.mark, "empty-list", "the gold table measures nothing", "Add for example `trades: count()`.")
    for measure in given.value:
        if measure.name in by:
            message = f"the measure `{measure.name}` has the name of a column in `by`"
            report.add(measure.mark, "name-clash", message, "Rename the measure.")
        elif measure.name in TAKEN_NAMES:
            message = f"`{measure.name}` is a column of every gold table"
            report.add(measure.mark, "reserved-name", message, "Rename the measure.")
    return tuple(Measure(measure.name, measure.value.value) for measure in given.value if measure.value is not None)


# -- windows ----------------------------------------------------------------------------------------------------------


def build_window(parsed: Parsed, report: Report) -> Window | None:
    given = parsed.get(WINDOW_FIELD)
    if given is None:
        return None
    options = given.value
    size, every = options.get(SIZE), options.get(EVERY)
    zone = options.get(TIMEZONE)
    timezone = UTC if zone is None else zone.value
    if size is None or (every is None and options.has(EVERY)) or (zone is None and options.has(TIMEZONE)):
        return None
    sizes = same_unit(size.value, size.value if every is None else every.value, timezone)
    if sizes is None:
        mark = options.mark(EVERY)
        message = "days in a time zone are not all of the same length in hours"
        report.add(mark, "window-units", message, "Write size and every both in days or weeks, or remove `timezone`.")
        return None
    whole, step = sizes
    if whole.count % step.count:
        message = f"the size {span_in_words(whole)} is no multiple of {span_in_words(step)}"
        report.add(
            options.mark(EVERY), "window-multiple", message, "Change one, so that every window starts with another."
        )
        return None
    if whole.count // step.count > WINDOWS_PER_ROW_MAX:
        message = f"every row would count in {whole.count // step.count} windows, more than {WINDOWS_PER_ROW_MAX}"
        report.add(options.mark(EVERY), "too-many", message, "Start windows less often.")
        return None
    if step.unit is SpanUnit.MICROSECOND and timezone not in (UTC, "Etc/UTC"):
        message = "a time zone matters to windows of days and weeks only"
        repair = "Write `1 day` instead of hours." if span_length(step) % DAY == 0 else "Remove `timezone`."
        report.add(options.mark(TIMEZONE), "window-timezone", message, repair)
        return None
    return Window(whole, step, timezone)


def same_unit(size: Span, every: Span, timezone: str) -> tuple[Span, Span] | None:
    """Size and step in the step's unit, which the windows are aligned to; None where there is no common length."""
    if size.unit is every.unit:
        return size, every
    if SpanUnit.MICROSECOND in (size.unit, every.unit):
        if timezone != UTC:
            return None
        return (
            Span(span_length(size), SpanUnit.MICROSECOND),
            Span(span_length(every), SpanUnit.MICROSECOND),
        )
    if every.unit is SpanUnit.DAY:
        return Span(size.count * 7, SpanUnit.DAY), every
    if size.count % 7:
        return Span(size.count, SpanUnit.DAY), Span(every.count * 7, SpanUnit.DAY)
    return Span(size.count // 7, SpanUnit.WEEK), every
