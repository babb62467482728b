"""Which changes of an applied declaration are refused: those that would change the meaning of rows already written.

`CHANGES_ALLOWED` lists what may change; it is in force from the next batch on. Everything else is another pipeline, and
each refusal says what to keep.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from penstock.declare.durations import in_words, span_in_words
from penstock.declare.locating import Locator, locate
from penstock.declare.nodes import shorten
from penstock.model.finding import Finding
from penstock.model.pipeline import Column, Expression, Gold, Lookup, Pipeline, SimulateSource, Source, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

CHANGES_ALLOWED = (
    "a silver column added at the end",
    "a rule added, changed or removed; `required` and `future_after` are rules",
    "`late_after`: the watermark moves by it from now on, and closed windows stay closed",
    "a gold table added: it is filled from silver's history",
    "a reference added, another `file` for one, one removed that no column uses, a type for a column that had none",
    "`description`, `on_data_loss`, comments and layout",
    "`events` of a simulated source raised: the records before stay the same",
)
"""What may change in a declaration that has been applied, for people."""

SPACES_OR_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|\s+""")

COLUMN_PARTS = ("type", "path", "lookup", "sql", "unit", "format", "timezone", "fold")
"""What decides a column's values. `required` is a rule, and rules may change."""

WRITTEN_AS = {"path": "from"}
"""Fields of nouns that have another name in the declaration."""


def compare(applied: Pipeline, declared: Pipeline) -> tuple[Finding, ...]:
    """What of `declared` would change the meaning of rows written under `applied`, each at its place in `declared`.

    Empty when nothing would: the declaration may become the next contract (or says the same). Refused are another name;
    another source (kind, path, partitions, simulated world, seed, rate or faults, fewer `events`), `format`, `records`
    or `where`; another silver table, `key`, `unique_within`, `event_time` or `order`; a column dropped, moved, put
    before others, or with another type or origin; a reference's key or declared types; a gold table dropped or changed
    in anything. SQL is compared without its spacing, settings put in by `${NAME}` as they are now.
    """
    changes = Changes(locate(declared.text, declared.file))
    if applied.name != declared.name:
        changes.refuse(("pipeline",), "changed-pipeline", "the pipeline", applied.name, declared.name)
    compare_source(applied.source, declared.source, changes)
    compare_references(applied, declared, changes)
    compare_silver(applied, declared, changes)
    compare_columns(applied.silver.columns, declared.silver.columns, changes)
    compare_gold(applied.gold, declared.gold, changes)
    return tuple(sorted(set(changes.findings)))


class Changes:
    """Collects refusals, each at the place that its path of keys leads to."""

    def __init__(self, find: Locator) -> None:
        self.find = find
        self.findings: list[Finding] = []

    def add(self, path: tuple[str, ...], code: str, message: str, keep: str) -> None:
        repair = f"{keep}, or declare a pipeline beside this one, with other names for it and its tables."
        self.findings.append(Finding(self.find(path), code, message, repair))

    def refuse(self, path: tuple[str, ...], code: str, what: str, was: object, now: object) -> None:
        """`what` was one thing and is another; nothing where the two mean the same."""
        if canonical(was) != canonical(now):
            keep = f"Keep {shown(was)}" if was not in (None, ()) else "Remove it"
            self.add(path, code, f"{what} was {shown(was)} and would be {shown(now)}", keep)

    def refuse_parts(self, path: tuple[str, ...], code: str, what: str, was: object, now: object) -> None:
        """The same for every field of two nouns of one kind."""
        for part in dataclasses.fields(was):  # type: ignore[arg-type]  # nouns are dataclasses
            if not part.compare:
                continue
            label = f"`{part.name}` of {what}"
            self.refuse((*path, part.name), code, label, getattr(was, part.name), getattr(now, part.name))


def compare_source(was: Source, now: Source, changes: Changes) -> None:
    old, new = was.origin, now.origin
    if old.kind != new.kind:
        changes.refuse(("source", new.kind), "changed-source", "the source", old.kind, new.kind)
    elif isinstance(old, SimulateSource) and isinstance(new, SimulateSource) and not is_shorter(old, new):
        same = dataclasses.replace(new, events=old.events)
        changes.refuse_parts(("source", new.kind), "changed-source", "the source", old, same)
    else:
        changes.refuse_parts(("source", new.kind), "changed-source", "the source", old, new)
    if was.format.kind != now.format.kind:
        changes.refuse(("source", "format"), "changed-source", "the format", was.format.kind, now.format.kind)
    else:
        path = ("source", "format", now.format.kind)
        changes.refuse_parts(path, "changed-source", "the format", was.format, now.format)
    changes.refuse(("source", "records"), "changed-source", "`records`", was.records, now.records)
    changes.refuse(("source", "where"), "changed-source", "`where`", was.where, now.where)


def is_shorter(was: SimulateSource, now: SimulateSource) -> bool:
    """Records that were promised would not come any more."""
    return now.events is not None and (was.events is None or now.events < was.events)


def compare_references(applied: Pipeline, declared: Pipeline, changes: Changes) -> None:
    before = {reference.name: reference for reference in applied.references}
    for now in declared.references:
        was = before.get(now.name)
        if was is None:
            continue
        path = ("references", now.name)
        changes.refuse((*path, "key"), "changed-reference", f"the key of `{now.name}`", was.key, now.key)
        types = dict(now.columns)
        for column, kind in was.columns:
            what = f"the type of `{now.name}.{column}`"
            changes.refuse((*path, "columns", column), "changed-reference", what, kind, types.get(column))


def compare_silver(applied: Pipeline, declared: Pipeline, changes: Changes) -> None:
    was, now = applied.silver, declared.silver
    changes.refuse(("silver", "table"), "changed-table", "the silver table", was.table, now.table)
    changes.refuse(("silver", "key"), "changed-key", "the key", was.key, now.key)
    within = [None if silver.unique_within is None else in_words(silver.unique_within) for silver in (was, now)]
    changes.refuse(("silver", "unique_within"), "changed-key", "`unique_within`", *within)
    changes.refuse(("silver", "event_time"), "changed-time", "the event time", was.event_time, now.event_time)
    changes.refuse(("silver", "order"), "changed-time", "`order`", was.order, now.order)


def compare_columns(was: Sequence[Column], now: Sequence[Column], changes: Changes) -> None:
    """Applied columns come first, in their order, each as it was."""
    names = [column.name for column in now]
    path = ("silver", "columns")
    kept = [column for column in was if column.name in names]
    for column in was:
        if column.name not in names:
            message = f"the column `{column.name}` is gone"
            changes.add(path, "dropped-column", message, "Keep the column (a renamed one is another column)")
    for position, column in enumerate(kept):
        if names[position] != column.name:
            message = f"the column `{names[position]}` stands where `{column.name}` was"
            changes.add((*path, names[position]), "moved-column", message, "Keep the order and add columns at the end")
            break
    by_name = {column.name: column for column in now}
    for column in kept:
        for part in COLUMN_PARTS:
            written = WRITTEN_AS.get(part, part)
            what = f"`{written}` of the column `{column.name}`"
            changes.refuse(
                (*path, column.name, written),
                "changed-column",
                what,
                getattr(column, part),
                getattr(by_name[column.name], part),
            )


def compare_gold(was: Sequence[Gold], now: Sequence[Gold], changes: Changes) -> None:
    after = {gold.name: gold for gold in now}
    for old in was:
        new = after.get(old.name)
        if new is None:
            changes.add(("gold",), "dropped-gold", f"the gold table `{old.name}` is gone", "Keep it")
            continue
        path = ("gold", old.name)
        changes.refuse((*path, "window"), "changed-gold", f"the window of `{old.name}`", old.window, new.window)
        changes.refuse((*path, "by"), "changed-gold", f"`by` of `{old.name}`", old.by, new.by)
        changes.refuse((*path, "where"), "changed-gold", f"`where` of `{old.name}`", old.where, new.where)
        compare_measures(old, new, changes)


def compare_measures(was: Gold, now: Gold, changes: Changes) -> None:
    path = ("gold", was.name, "measures")
    names = [tuple(measure.name for measure in gold.measures) for gold in (was, now)]
    if names[0] != names[1]:
        changes.refuse(path, "changed-gold", f"the measures of `{was.name}`", *names)
    after = {measure.name: measure.expression for measure in now.measures}
    for measure in was.measures:
        if measure.name in after:
            what = f"the measure `{measure.name}` of `{was.name}`"
            changes.refuse((*path, measure.name), "changed-gold", what, measure.expression, after[measure.name])


# -- values -----------------------------------------------------------------------------------------------------------


def canonical(value: object) -> object:
    """What two values are compared by: SQL without its spacing, everything else as it is."""
    return spaced(value.sql) if isinstance(value, Expression) else value


def spaced(sql: str) -> str:
    """SQL with one blank for every run of white space outside quotes; as it is where it has other kinds of quotes."""
    if any(other in sql for other in ("--", "/*", "$", "\\")):
        return sql.strip()
    return SPACES_OR_QUOTED.sub(lambda match: match[1] or " ", sql).strip()


def shown(value: object) -> str:
    """A value for a person."""
    if value is None:
        return "not given"
    if isinstance(value, Expression):
        return f"`{shorten(value.sql)}`"
    if isinstance(value, Lookup):
        return f"`{value.reference}.{value.column}` on {', '.join(value.on)}"
    if isinstance(value, Window):
        tail = "" if value.is_tumbling else f" every {span_in_words(value.every)}"
        zone = "" if value.timezone == "UTC" else f" in {value.timezone}"
        return f"`{span_in_words(value.size)}{tail}{zone}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(part) for part in value)}]`"
    return f"`{shorten(str(value))}`"
