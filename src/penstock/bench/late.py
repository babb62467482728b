"""Ten files of one instrument each, read one after another, against the same events in order of time.

Every file after the first starts a day behind where the last one ended, as recordings do that are loaded instrument by
instrument: nearly everything is late, and nearly every window is corrected or added after it was closed.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

import penstock
from penstock.bench import project
from penstock.bench.measuring import Options, Say, audited, child, listed, reconcile, say_audit, say_run, scratch
from penstock.errors import LawBroken
from penstock.limits import BATCH_ROWS_MAX
from penstock.sources.worlds import Sent

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 2_000_000
FILES = 10
DAY_SECONDS = 86_400


def main(options: Options, say: Say) -> dict[str, Any]:
    """Events a second of both orders, and their ratio.

    Raises:
        LawBroken: the counts do not reconcile, the two gold tables differ, or the audit finds a violation.
    """
    events = options.events or EVENTS
    with scratch() as folder:
        planted = make(folder / "ordered", folder / "late", events)
        say(
            f"workload: {events:,} ticks of {planted.bytes_per_event:.0f} bytes of {FILES} instruments over a day, as "
            f"{FILES} files in order of time, and as {FILES} files of one instrument each; planted: "
            f"{listed(planted.faults)}"
        )
        runs = {name: _run(folder / name, planted, options, say) for name in ("ordered", "late")}
        windows = same_gold(folder / "ordered", folder / "late")
        ratio = runs["late"]["events_per_second"] / runs["ordered"]["events_per_second"]
        cpu = runs["ordered"]["cpu_seconds"] / runs["late"]["cpu_seconds"]
        say(f"late against ordered: {ratio:.2f} by time, {cpu:.2f} by CPU time; {windows:,} windows, equal in both")
    return {"workload": vars(planted), **runs, "ratio": ratio, "cpu_ratio": cpu, "windows": windows}


def make(ordered: Path, late: Path, events: int) -> project.Planted:
    """Write both projects, from the same records."""
    planted = project.Planted()
    rate = max(1, events // DAY_SECONDS)
    for folder in (ordered, late):
        project.declare(folder, project.FILES)
    with ExitStack() as stack:
        by_time = [stack.enter_context(_file(ordered, number).open("wb")) for number in range(FILES)]
        by_instrument = [stack.enter_context(_file(late, number).open("wb")) for number in range(FILES)]
        for sent in map(few_instruments, project.ticks(events, rate)):
            first = planted.events
            planted.add(sent)
            values, digits = sent.block["value"], sent.block["key"]
            for number in range(FILES):
                start, end = (max(0, min(events * part // FILES - first, len(values))) for part in (number, number + 1))
                by_time[number].write(project.lines(values.slice(start, end - start)))
                by_instrument[number].write(project.lines(values.filter(pc.equal(digits, str(number).encode()))))
    return planted


def few_instruments(sent: Sent) -> Sent:
    """The same records of FILES instruments only: all but the last digit of a number is zero. The key is that digit."""
    values = pc.replace_substring_regex(sent.block["value"], rb"INST-\d{4}(\d)", rb"INST-0000\1")
    block = sent.block.set_column(sent.block.schema.get_field_index("value"), "value", values)
    digit = pc.binary_slice(sent.block["key"], -1)
    return Sent(block.set_column(block.schema.get_field_index("key"), "key", digit), sent.truth)


def _file(folder: Path, number: int) -> Path:
    return folder / project.INPUT / f"ticks-{number}.ndjson"


def _run(folder: Path, planted: project.Planted, options: Options, say: Say) -> dict[str, Any]:
    measured = child("run", folder, BATCH_ROWS_MAX)
    reconcile(planted, measured["counts"])
    measured["events_per_second"] = planted.events / measured["seconds"]
    say(f"{folder.name}: {measured['events_per_second']:,.0f} events/s")
    say_run(say, measured)
    say("  seconds by step (steps overlap): " + listed({k: round(v, 2) for k, v in measured["steps"].items()}))
    if options.audit:
        measured["audit"] = audited(folder, planted.events)
        say_audit(say, measured["audit"])
    return measured


def same_gold(first: Path, second: Path) -> int:
    """The number of windows, which are the same in both lakes: measures exactly, the quotient of floats nearly.

    Raises:
        LawBroken: they are not.
    """
    query = "select * exclude (_batch) from gold.bars_1m order by window_start, instrument_id"
    left, right = (penstock.open(folder).sql(query) for folder in (first, second))
    exact = [name for name in left.column_names if name != "vwap"]
    near = (
        left.num_rows == right.num_rows
        and pc.all(
            pc.less_equal(pc.abs(pc.subtract(left["vwap"], right["vwap"])), pc.multiply(pc.abs(left["vwap"]), 1e-9))
        ).as_py()
    )
    if not near or left.select(exact) != right.select(exact):
        raise LawBroken(
            f"the same events in another order gave other bars ({left.num_rows:,} and {right.num_rows:,} windows)",
            hint="Please report this, with the output of `penstock audit`.",
        )
    windows: int = left.num_rows
    return windows
