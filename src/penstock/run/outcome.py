"""From refined events and the verdict on duplicates to the rows of silver and rejects, and their counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import RuleStopped, check
from penstock.model.batch import BatchCounts, Disposition
from penstock.model.columns import (
    BATCH,
    EXTRA,
    FLAGS,
    INDEX,
    INGESTED_AT,
    OFFSET,
    PARTITION,
    PLACE,
    SOURCE,
    TIMESTAMP,
)
from penstock.plan.nouns import QUARANTINED, SKIPPED, UNDECIDED, VALID
from penstock.run.duplicates import PlacedKeys, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from penstock.run.duplicates import Duplicates

_PLACES_SHOWN = 5


@dataclass(frozen=True)
class Outcome:
    """What one batch comes to. `silver` and `rejects` have the tables' columns, without partition columns."""

    silver: pa.Table
    rejects: pa.Table
    counts: BatchCounts
    event_time_max: int | None
    """The latest accepted event time, in microseconds since the epoch."""


def settle(
    batch: int,
    records: pa.Table,
    events: pa.Table,
    duplicates: Duplicates | None,
    *,
    contract: int,
    silver_columns: tuple[str, ...],
) -> Outcome:
    """Decide where each event ends.

    Args:
        records: the batch's bronze rows in order of place, to which `_row` of `events` points.
        events: the engine's refined events, in any order.
        duplicates: the keys of accepted events; None where events have no key and so never compete.

    Raises:
        RuleStopped: an event failed a rule whose action is `stop`.
    """
    refuse_stopped(records, events)
    order = _order_of_place(events)
    status = _numpy(events["_status"])
    valid, quarantined = order[status[order] == VALID], order[status[order] == QUARANTINED]
    if duplicates is None:
        accepted, lost, verdict = valid, valid[:0], None
    else:
        verdict = duplicates.settle(_keys_of_events(records, events, valid))
        accepted, lost = valid[verdict.accepted], valid[~verdict.accepted]
    # A NULL among the quarantined would make floats of them all, which hold microseconds up to the year 2255 only.
    event_time = _numpy(pc.fill_null(events["_event_time"].cast(pa.int64()), 0))
    silver = _silver_rows(batch, records, events, accepted, event_time, silver_columns)
    rejected = np.zeros(len(status), np.bool_)
    rejected[quarantined] = rejected[lost] = True
    rejects = _reject_rows(batch, records, events.take(pa.array(order[rejected[order]])), verdict, contract)
    counts = BatchCounts(
        records=records.num_rows,
        events=int(np.count_nonzero(status != UNDECIDED)),
        accepted=len(accepted),
        quarantined=len(quarantined),
        duplicate=len(lost),
        skipped=int(np.count_nonzero(status == SKIPPED)),
        flagged=_count_nonempty(silver[FLAGS]),
        rules=count_rules(silver[FLAGS], rejects["failed"]),
    )
    total = counts.accepted + counts.quarantined + counts.duplicate + counts.skipped
    check(total == counts.events, f"batch {batch}: {counts.events} events, but {total} dispositions")
    return Outcome(silver, rejects, counts, int(event_time[accepted].max()) if len(accepted) else None)


def refuse_stopped(records: pa.Table, events: pa.Table) -> None:
    """Raise RuleStopped where an event failed a rule with the action `stop`."""
    lengths = pc.fill_null(pc.list_value_length(events["_stop"]), 0)
    if not pc.any(pc.greater(lengths, 0)).as_py():
        return
    stopped = events.filter(pc.greater(lengths, 0))
    stopped = stopped.take(pa.array(_order_of_place(stopped)))
    rules = sorted(set(pc.list_flatten(stopped["_stop"]).to_pylist()))
    rows = _with_places(records, stopped.slice(0, _PLACES_SHOWN), [*PLACE, INDEX]).to_pylist()
    places = ", ".join(f"{row[SOURCE]}/{row[PARTITION]}/{row[OFFSET]}#{row[INDEX]}" for row in rows)
    more = f" and {stopped.num_rows - len(rows)} more" if stopped.num_rows > len(rows) else ""
    raise RuleStopped(
        f"rule {', '.join(rules)} failed at {places}{more}; nothing after bronze was committed",
        hint="Look at the records with `penstock sql`, then change the rule and run again.",
    )


def placed_keys(rows: pa.Table) -> PlacedKeys:
    """The keys and places of rows (columns `_bucket`, `_key_hi`, `_key_lo`, place and `_index`)."""
    return PlacedKeys(
        bucket=_numpy(rows["_bucket"]),
        high=_numpy(rows["_key_hi"]),
        low=_numpy(rows["_key_lo"]),
        source=_numpy(rows[SOURCE]),
        partition=_numpy(rows[PARTITION]),
        offset=_numpy(rows[OFFSET]),
        index=_numpy(rows[INDEX]),
    )


def _keys_of_events(records: pa.Table, events: pa.Table, chosen: NDArray[np.intp]) -> PlacedKeys:
    """The keys of the chosen events, in that order, with the places of their records."""
    row = _numpy(events["_row"])[chosen]
    return PlacedKeys(
        bucket=_numpy(events["_bucket"])[chosen],
        high=_numpy(events["_key_hi"])[chosen],
        low=_numpy(events["_key_lo"])[chosen],
        source=_numpy(records[SOURCE])[row],
        partition=_numpy(records[PARTITION])[row],
        offset=_numpy(records[OFFSET])[row],
        index=_numpy(events[INDEX])[chosen],
    )


def _order_of_place(events: pa.Table) -> NDArray[np.intp]:
    """Positions of the events in order of their places; `_row` is in that order, and so `_index` within a record."""
    row, index = _numpy(events["_row"]), _numpy(events[INDEX])
    order: NDArray[np.intp] = np.lexsort((index, row)) if index.any() else np.argsort(row, kind="stable")
    return order


def _with_places(records: pa.Table, events: pa.Table, names: Sequence[str]) -> pa.Table:
    """Columns of events and of their records, in the order of `names`."""
    taken = records.select([name for name in names if name not in events.schema.names]).take(events["_row"])
    return pa.table({name: taken[name] if name in taken.schema.names else events[name] for name in names})


def count_rules(*lists: pa.ChunkedArray) -> tuple[tuple[str, int], ...]:
    """How often each rule name occurs in columns of lists of rule names, by name."""
    totals: dict[str, int] = {}
    for names in lists:
        for entry in pc.value_counts(pc.list_flatten(names)).to_pylist():
            totals[entry["values"]] = totals.get(entry["values"], 0) + entry["counts"]
    return tuple(sorted(totals.items()))


def recount(records: pa.Table, events: pa.Table, silver: pa.Table, rejects: pa.Table) -> BatchCounts:
    """The counts of a batch that silver has absorbed: from the stored rows, and from the events for what left none."""
    duplicate = pc.sum(pc.equal(rejects["disposition"], Disposition.DUPLICATE.value)).as_py() or 0
    return BatchCounts(
        records=records.num_rows,
        events=pc.sum(pc.not_equal(events["_status"], UNDECIDED)).as_py() or 0,
        accepted=silver.num_rows,
        quarantined=rejects.num_rows - duplicate,
        duplicate=duplicate,
        skipped=pc.sum(pc.equal(events["_status"], SKIPPED)).as_py() or 0,
        flagged=_count_nonempty(silver[FLAGS]),
        rules=count_rules(silver[FLAGS], rejects["failed"]),
    )


def _silver_rows(
    batch: int,
    records: pa.Table,
    events: pa.Table,
    accepted: NDArray[np.intp],
    event_time: NDArray[np.int64],
    columns: tuple[str, ...],
) -> pa.Table:
    """The accepted rows in order of event time, so that the file needs no second sort."""
    names = [*columns, *PLACE, INDEX, TIMESTAMP, INGESTED_AT]
    order = accepted[np.argsort(event_time[accepted], kind="stable")] if len(accepted) else accepted
    rows = events.select(["_row", *columns, INDEX, FLAGS, EXTRA]).combine_chunks().take(pa.array(order))
    rows = _with_places(records, rows, [*names, FLAGS, EXTRA])
    return rows.add_column(len(names), BATCH, pa.repeat(pa.scalar(batch, pa.int64()), rows.num_rows))


def _reject_rows(batch: int, records: pa.Table, rows: pa.Table, verdict: Verdict | None, contract: int) -> pa.Table:
    """The rows of rejects for events, in order of place: what is valid among them has lost by `verdict`."""
    size = rows.num_rows
    is_duplicate = _numpy(rows["_status"]) == VALID
    placed = _with_places(records, rows, [*PLACE, INDEX, TIMESTAMP, INGESTED_AT])

    def winner(part: str, kind: pa.DataType) -> pa.Array:
        filled = np.zeros(size, np.int64)
        if verdict is not None:
            filled[is_duplicate] = getattr(verdict, part)[~verdict.accepted]
        return pa.array(filled, kind, mask=~is_duplicate)

    # An element stands for itself: a large record must not be copied once for each of its elements.
    whole = pc.if_else(pc.is_null(rows["_element"]), rows["_row"], None)
    raw = records["value"].take(whole) if size else pa.array([], pa.binary())
    value = pc.coalesce(rows["_element"].cast(pa.binary()), raw.cast(pa.binary()))
    disposition = pa.array(np.where(is_duplicate, Disposition.DUPLICATE.value, Disposition.QUARANTINED.value))
    return pa.table(
        {
            **{name: placed[name] for name in placed.schema.names},
            BATCH: pa.repeat(pa.scalar(batch, pa.int64()), size),
            "disposition": disposition.cast(pa.string()),
            "failed": rows["_failed"],
            "detail": rows["_detail"],
            "value": value,
            "winner_source": winner("winner_source", pa.int32()),
            "winner_partition": winner("winner_partition", pa.int32()),
            "winner_offset": winner("winner_offset", pa.int64()),
            "winner_index": winner("winner_index", pa.int32()),
            "contract": pa.repeat(pa.scalar(contract, pa.int64()), size),
        }
    )


def _count_nonempty(lists: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.greater(pc.fill_null(pc.list_value_length(lists), 0), 0)).as_py() or 0)


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.combine_chunks().to_numpy(zero_copy_only=False)
    return values
