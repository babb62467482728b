"""From refined events and the verdict on duplicates to the rows of silver and rejects, and their counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import RuleStopped, check
from penstock.model.batch import BatchCounts, Disposition
from penstock.model.columns import BATCH, EXTRA, FLAGS, INDEX, INGESTED_AT, OFFSET, PARTITION, SOURCE, TIMESTAMP
from penstock.run.duplicates import PlacedKeys, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.run.duplicates import Duplicates

VALID, QUARANTINED, SKIPPED = 0, 1, 2
"""The values of `_status` in refined events."""

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
        records: the batch's bronze rows, to which `_row` of `events` points.
        events: the engine's refined events, in (`_row`, `_index`) order.
        duplicates: the keys of accepted events; None where events have no key and so never compete.

    Raises:
        RuleStopped: an event failed a rule whose action is `stop`.
    """
    refuse_stopped(events)
    status = _numpy(events["_status"])
    valid = np.flatnonzero(status == VALID)
    if duplicates is None:
        accepted, lost, verdict = valid, valid[:0], None
    else:
        verdict = duplicates.settle(placed_keys(events).take(valid))
        accepted, lost = valid[verdict.accepted], valid[~verdict.accepted]
    # A NULL among the quarantined would make floats of them all, which hold microseconds up to the year 2255 only.
    event_time = _numpy(pc.fill_null(events["_event_time"].cast(pa.int64()), 0))
    silver = _silver_rows(batch, events, accepted, event_time, silver_columns)
    quarantined = np.flatnonzero(status == QUARANTINED)
    rejects = _reject_rows(batch, records, events, quarantined, lost, verdict, contract)
    counts = BatchCounts(
        records=records.num_rows,
        events=len(status),
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


def refuse_stopped(events: pa.Table) -> None:
    """Raise RuleStopped where an event failed a rule with the action `stop`."""
    lengths = pc.fill_null(pc.list_value_length(events["_stop"]), 0)
    if not pc.any(pc.greater(lengths, 0)).as_py():
        return
    stopped = events.filter(pc.greater(lengths, 0))
    rules = sorted(set(pc.list_flatten(stopped["_stop"]).to_pylist()))
    rows = stopped.slice(0, _PLACES_SHOWN).select([SOURCE, PARTITION, OFFSET, INDEX]).to_pylist()
    places = ", ".join(f"{row[SOURCE]}/{row[PARTITION]}/{row[OFFSET]}#{row[INDEX]}" for row in rows)
    more = f" and {stopped.num_rows - len(rows)} more" if stopped.num_rows > len(rows) else ""
    raise RuleStopped(
        f"rule {', '.join(rules)} failed at {places}{more}; nothing after bronze was committed",
        hint="Look at the records with `penstock sql`, then change the rule and run again.",
    )


def placed_keys(events: pa.Table) -> PlacedKeys:
    """The keys and places of events (columns `_bucket`, `_key_hi`, `_key_lo`, place and `_index`)."""
    return PlacedKeys(
        bucket=_numpy(events["_bucket"]),
        high=_numpy(events["_key_hi"]),
        low=_numpy(events["_key_lo"]),
        source=_numpy(events[SOURCE]),
        partition=_numpy(events[PARTITION]),
        offset=_numpy(events[OFFSET]),
        index=_numpy(events[INDEX]),
    )


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
        events=events.num_rows,
        accepted=silver.num_rows,
        quarantined=rejects.num_rows - duplicate,
        duplicate=duplicate,
        skipped=pc.sum(pc.equal(events["_status"], SKIPPED)).as_py() or 0,
        flagged=_count_nonempty(silver[FLAGS]),
        rules=count_rules(silver[FLAGS], rejects["failed"]),
    )


def _silver_rows(
    batch: int, events: pa.Table, accepted: NDArray[np.intp], event_time: NDArray[np.int64], columns: tuple[str, ...]
) -> pa.Table:
    """The accepted rows in order of event time, so that the file needs no second sort."""
    names = [*columns, SOURCE, PARTITION, OFFSET, INDEX, TIMESTAMP, INGESTED_AT]
    order = accepted[np.argsort(event_time[accepted], kind="stable")] if len(accepted) else accepted
    rows = events.select([*names, FLAGS, EXTRA]).combine_chunks().take(pa.array(order))
    return rows.add_column(len(names), BATCH, pa.repeat(pa.scalar(batch, pa.int64()), rows.num_rows))


def _reject_rows(
    batch: int,
    records: pa.Table,
    events: pa.Table,
    quarantined: NDArray[np.intp],
    lost: NDArray[np.intp],
    verdict: Verdict | None,
    contract: int,
) -> pa.Table:
    chosen = np.sort(np.concatenate([quarantined, lost]))
    rows = events.take(pa.array(chosen))
    size = len(chosen)
    is_duplicate = np.isin(chosen, lost)

    def winner(part: str, kind: pa.DataType) -> pa.Array:
        filled = np.zeros(size, np.int64)
        if verdict is not None:
            filled[is_duplicate] = getattr(verdict, part)[~verdict.accepted]
        return pa.array(filled, kind, mask=~is_duplicate)

    raw = records["value"].take(rows["_row"]) if size else pa.array([], pa.binary())
    value = pc.coalesce(rows["_element"].cast(pa.binary()), raw.cast(pa.binary()))
    disposition = pa.array(np.where(is_duplicate, Disposition.DUPLICATE.value, Disposition.QUARANTINED.value))
    return pa.table(
        {
            **{name: rows[name] for name in (SOURCE, PARTITION, OFFSET, INDEX, TIMESTAMP, INGESTED_AT)},
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
