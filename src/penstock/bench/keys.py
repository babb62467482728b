"""Fifty million keys in one bucket: what must be remembered to find every double, in bounded memory.

The records are small, so that their keys are what counts. One in a hundred repeats an earlier one, from anywhere in
what came before: most doubles have their original in a part of the index that has gone to a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.bench import project
from penstock.bench.measuring import (
    Options,
    Say,
    audited,
    child,
    listed,
    megabytes,
    reconcile,
    say_audit,
    say_run,
    scratch,
)
from penstock.limits import BATCH_ROWS_MAX, KEY_INDEX_BYTES_MAX
from penstock.model.batch import Disposition
from penstock.sources.noise import draw, unit
from penstock.sources.worlds import START_US

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EVENTS = 50_000_000
FILES = 10
STEP = 1_000_000
DAY_MS = 86_400_000
DOUBLE_EVERY = 100

PIPELINE = """\
pipeline: keys
description: Nothing but keys, unique within a day.
source:
  files: {path: incoming}
  format: json
silver:
  table: keys
  key: [id]
  unique_within: 1 day
  event_time: at
  columns:
    id: {type: int64, required: true}
    at: {type: timestamp, unit: ms, required: true}
gold:
  per_hour: {window: 1 hour, measures: {events: count()}}
"""


def main(options: Options, say: Say) -> dict[str, Any]:
    """Peak memory, and how much of the index went to files.

    Raises:
        LawBroken: a double was not found, or a first one taken for a double; or the audit finds a violation.
    """
    with scratch() as folder:
        planted = make(folder, options.events or EVENTS)
        say(
            f"workload: {planted.events:,} records of {planted.bytes_per_event:.0f} bytes within one day, in {FILES} "
            f"files; planted: {listed(planted.faults)}"
        )
        measured = child("run", folder, BATCH_ROWS_MAX)
        reconcile(planted, measured["counts"])
        measured["events_per_second"] = planted.events / measured["seconds"]
        say(
            f"peak memory: {megabytes(measured['peak_bytes'])}, of which {megabytes(measured['mapped_peak_bytes'])} "
            f"are files that the kernel may drop; {megabytes(measured['spilled_bytes'])} of the index went to files "
            f"(its share of memory is {megabytes(KEY_INDEX_BYTES_MAX)}); {measured['events_per_second']:,.0f} events/s"
        )
        say_run(say, measured)
        say("  seconds by step (steps overlap): " + listed({k: round(v, 2) for k, v in measured["steps"].items()}))
        if options.audit:
            measured["audit"] = audited(folder, planted.events)
            say_audit(say, measured["audit"])
    return {"workload": vars(planted), **measured}


def make(folder: Path, events: int) -> project.Planted:
    """Write the project."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / project.INPUT).mkdir()
    (folder / "penstock.yaml").write_text("lake: lake\n")
    (folder / "pipelines" / "keys.yaml").write_text(PIPELINE)
    size, doubles = 0, 0
    for number in range(FILES):
        path = folder / project.INPUT / f"keys-{number}.ndjson"
        first, end = (events * part // FILES for part in (number, number + 1))
        with path.open("wb") as file:
            for start in range(first, end, STEP):
                ordinals = np.arange(start, min(start + STEP, end))
                keys = keys_of(ordinals)
                doubles += int(np.count_nonzero(keys != ordinals))
                file.write(_json_lines(keys, keys * DAY_MS // events))
        size += path.stat().st_size
    expected = {Disposition.ACCEPTED.value: events - doubles, Disposition.DUPLICATE.value: doubles}
    return project.Planted(events, size, {"doubled": doubles}, expected)


def keys_of(ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
    """The key of each record: its ordinal; for one in DOUBLE_EVERY, that of an earlier record that is no double."""
    back = (unit(draw(project.SEED, "double", ordinals)) * ordinals).astype(np.int64)
    original = np.where(_is_double(back), back - 1, back)
    return np.where(_is_double(ordinals), original, ordinals)


def _is_double(ordinals: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.equal(ordinals % DOUBLE_EVERY, DOUBLE_EVERY - 1)


def _json_lines(keys: NDArray[np.int64], milliseconds: NDArray[np.int64]) -> bytes:
    numbers = [pa.array(values).cast(pa.string()) for values in (keys, START_US // 1_000 + milliseconds)]
    parts = [pa.scalar('{"id":'), numbers[0], pa.scalar(',"at":'), numbers[1], pa.scalar("}\n"), pa.scalar("")]
    text = pc.binary_join_element_wise(*parts)
    return b"".join(text.cast(pa.binary()).to_pylist())
