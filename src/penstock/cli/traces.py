"""Draws what a trace found: from a row down to the raw bytes, or from a record up to its windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import count, moment, printable, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.proof.facts import BatchFact, EventFact, RecordFact, Trace, WindowFact

RAW_CHARACTERS_MAX = 400
"""Of a record's raw value, as a person looks at it; `--json` prints all of it."""


def print_trace(trace: Trace) -> None:
    """The whole trace on standard output."""
    if trace.record is not None:
        click.echo(click.style(f"record {trace.pipeline}:{trace.record.place}", bold=True))
        _record(trace.record, 1)
    for window in trace.windows:
        _window(window, 0)
    for event in trace.events:
        _event(event, 0 if trace.record is None else 1)
    if not (trace.windows or trace.events or trace.record):
        click.echo("no row fits the condition")
    for batch in trace.batches:
        _batch(batch)


def _window(window: WindowFact, depth: int) -> None:
    group = ", ".join(f"{name} = {printable(value)}" for name, value in window.group.items())
    where = f"{window.table}  {moment(window.start)} to {moment(window.end)}" + (f"  {group}" if group else "")
    _line(depth, click.style(where, bold=True))
    if window.row is None:
        _line(depth + 1, "not closed yet: it has no row")
    else:
        _line(depth + 1, _values(window.row, {*window.group, "window_start", "window_end"}))
    if window.events_total:
        shown = "" if len(window.events) == window.events_total else f", of which {len(window.events):,} are shown"
        _line(depth + 1, f"made from {count(window.events_total, 'silver row')}{shown}:")
    for event in window.events:
        _event(event, depth + 2)


def _event(event: EventFact, depth: int) -> None:
    colour = {"accepted": "green", "missing": "red"}.get(event.disposition, "yellow")
    _line(depth, f"event {event.name}: {click.style(event.disposition, fg=colour)} in batch {event.batch}")
    if event.reasons:
        _line(depth + 1, f"{'flags' if event.disposition == 'accepted' else 'failed'}: {', '.join(event.reasons)}")
    if event.winner is not None:
        _line(depth + 1, f"the one that was first: {event.winner}")
    if event.detail:
        for text in event.detail.splitlines():
            _line(depth + 1, printable(text))
    if event.row is not None and event.disposition == "accepted":
        _line(depth + 1, _values(event.row, set()))
    if event.record is not None:
        _record(event.record, depth + 1)
    for window in event.windows:
        _window(window, depth + 1)


def _record(record: RecordFact, depth: int) -> None:
    facts = [f"bronze {record.place}", f"received {moment(record.ingested_at)}"]
    if record.file is not None:
        facts.append(f"file {printable(record.file)}")
    if record.key is not None:
        facts.append(f"key {readable(record.key)}")
    _line(depth, ", ".join(facts))
    for name, value in record.headers:
        _line(depth, f"header {printable(name)}: {printable(value)}")
    raw = "null" if record.value is None else readable(record.value)
    cut = f"… ({len(raw):,} characters in all)" if len(raw) > RAW_CHARACTERS_MAX else ""
    _line(depth, click.style(raw[:RAW_CHARACTERS_MAX], fg="cyan") + cut)


def _batch(batch: BatchFact) -> None:
    references = ", ".join(f"{name} version {version}" for name, version in batch.references) or "none"
    sources = ", ".join(
        f"{source.number} is {source.identity.kind} {printable(source.identity.name)} ({source.identity.unique_id})"
        for source in batch.sources
    )
    click.echo()
    _line(0, click.style(f"batch {batch.batch}", bold=True) + f", finished {moment(batch.written_at)}")
    _line(1, f"contract {batch.contract} ({batch.contract_hash[:12]}), refine version {batch.refine:016x}")
    _line(1, f"references: {references}")
    _line(1, f"ranges: {', '.join(batch.ranges) or 'none'}" + (f"; source {sources}" if sources else ""))


def _values(row: Mapping[str, Any], without: set[str]) -> str:
    """The user's columns of a row, ours left out."""
    shown = {name: value for name, value in row.items() if not name.startswith("_") and name not in without}
    return ", ".join(f"{name} {_value(value)}" for name, value in shown.items())


def _value(value: Any) -> str:
    return "NULL" if value is None else printable(value)


def _line(depth: int, text: str) -> None:
    click.echo(f"{'  ' * depth}{text}")
