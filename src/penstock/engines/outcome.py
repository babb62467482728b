"""From refined events and the verdict on duplicates to the rows of silver and rejects, and their counts.

Every engine does it with this code: over a whole batch, or over each share of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.engines.contract import PlacedKeys
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
from penstock.sources.contract import UTC_MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from penstock.engines.contract import Verdict

PLACES_SHOWN = 5


@dataclass(frozen=True)
class Outcome:
    """What a batch, or a share of one, comes to. `silver` and `rejects` have the tables' columns, without partition
    columns."""

    silver: pa.Table
    rejects: pa.Table
    counts: BatchCounts
    event_time_max: int | None
    """The latest accepted event time, in microseconds since the epoch."""


@dataclass(frozen=True)
class Stopped:
    """Events that failed a rule with the action `stop`: the rules, how many events, and the first few by place."""

    rules: tuple[str, ...]
    events: int
    first: tuple[tuple[int, int, int, int], ...]
    """(`_source`, `_partition`, `_offset`, `_index`), in order; at most PLACES_SHOWN."""


class Events:
    """Refined events and the records they come from.

    Args:
        records: bronze rows in order of place, to which `_row` of `refined` points.
        refined: the engine's events, in any order; see `plan.RefinePlan`.
    """

    def __init__(self, records: pa.Table, refined: pa.Table) -> None:
        self.records = records
        self.refined = refined
        self._status = _numpy(refined["_status"])
        self._order = _order_of_place(refined)
        in_order = self._status[self._order]
        self._valid = self._order[in_order == VALID]
        self._quarantined = self._order[in_order == QUARANTINED]

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self._status != UNDECIDED))

    @property
    def skipped(self) -> int:
        return int(np.count_nonzero(self._status == SKIPPED))

    def stopped(self) -> Stopped | None:
        """What failed a rule with the action `stop`; None for nothing."""
        lengths = pc.fill_null(pc.list_value_length(self.refined["_stop"]), 0)
        if not pc.any(pc.greater(lengths, 0)).as_py():
            return None
        stopped = self.refined.filter(pc.greater(lengths, 0))
        stopped = stopped.take(pa.array(_order_of_place(stopped)))
        rules = sorted(set(pc.list_flatten(stopped["_stop"]).to_pylist()))
        rows = _with_places(self.records, stopped.slice(0, PLACES_SHOWN), [*PLACE, INDEX]).to_pylist()
        first = tuple((row[SOURCE], row[PARTITION], row[OFFSET], row[INDEX]) for row in rows)
        return Stopped(tuple(rules), stopped.num_rows, first)

    def keys(self) -> PlacedKeys:
        """The keys of the valid events, in order of place."""
        row = _numpy(self.refined["_row"])[self._valid]
        return PlacedKeys(
            bucket=_numpy(self.refined["_bucket"])[self._valid],
            high=_numpy(self.refined["_key_hi"])[self._valid],
            low=_numpy(self.refined["_key_lo"])[self._valid],
            source=_numpy(self.records[SOURCE])[row],
            partition=_numpy(self.records[PARTITION])[row],
            offset=_numpy(self.records[OFFSET])[row],
            index=_numpy(self.refined[INDEX])[self._valid],
        )

    def settle(self, batch: int, verdict: Verdict | None, *, contract: int, silver_columns: tuple[str, ...]) -> Outcome:
        """Where each event ends. `verdict` is about `keys`; None where events have no key and so never compete."""
        valid, events = self._valid, self.refined
        accepted, lost = (valid, valid[:0]) if verdict is None else (valid[verdict.accepted], valid[~verdict.accepted])
        # A NULL among the quarantined would make floats of them all, which hold microseconds up to the year 2255 only.
        event_time = _numpy(pc.fill_null(events["_event_time"].cast(pa.int64()), 0))
        silver = self._silver_rows(batch, accepted, event_time, silver_columns)
        rejected = np.zeros(len(self._status), np.bool_)
        rejected[self._quarantined] = rejected[lost] = True
        rows = events.take(pa.array(self._order[rejected[self._order]]))
        rejects = self._reject_rows(batch, rows, verdict, contract)
        counts = BatchCounts(
            records=self.records.num_rows,
            events=self.count,
            accepted=len(accepted),
            quarantined=len(self._quarantined),
            duplicate=len(lost),
            skipped=self.skipped,
            flagged=_count_nonempty(silver[FLAGS]),
            rules=count_rules(silver[FLAGS], rejects["failed"]),
        )
        total = counts.accepted + counts.quarantined + counts.duplicate + counts.skipped
        check(total == counts.events, f"batch {batch}: {counts.events} events, but {total} dispositions")
        return Outcome(silver, rejects, counts, int(event_time[accepted].max()) if len(accepted) else None)

    def _silver_rows(
        self, batch: int, accepted: NDArray[np.intp], event_time: NDArray[np.int64], columns: tuple[str, ...]
    ) -> pa.Table:
        """The accepted rows in order of event time, so that the file needs no second sort."""
        names = [*columns, *PLACE, INDEX, TIMESTAMP, INGESTED_AT]
        order = accepted[np.argsort(event_time[accepted], kind="stable")] if len(accepted) else accepted
        rows = self.refined.select(["_row", *columns, INDEX, FLAGS, EXTRA]).combine_chunks().take(pa.array(order))
        rows = _with_places(self.records, rows, [*names, FLAGS, EXTRA])
        return rows.add_column(len(names), BATCH, pa.repeat(pa.scalar(batch, pa.int64()), rows.num_rows))

    def _reject_rows(self, batch: int, rows: pa.Table, verdict: Verdict | None, contract: int) -> pa.Table:
        """The rows of rejects for events, in order of place: what is valid among them has lost by `verdict`."""
        size = rows.num_rows
        is_duplicate = _numpy(rows["_status"]) == VALID
        placed = _with_places(self.records, rows, [*PLACE, INDEX, TIMESTAMP, INGESTED_AT])

        def winner(part: str, kind: pa.DataType) -> pa.Array:
            filled = np.zeros(size, np.int64)
            if verdict is not None:
                filled[is_duplicate] = getattr(verdict, part)[~verdict.accepted]
            return pa.array(filled, kind, mask=~is_duplicate)

        # An element stands for itself: a large record must not be copied once for each of its elements.
        whole = pc.if_else(pc.is_null(rows["_element"]), rows["_row"], None)
        raw = self.records["value"].take(whole) if size else pa.array([], pa.binary())
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


def refuse_stopped(stopped: Sequence[Stopped | None]) -> None:
    """Raise RuleStopped where something did, in one of the shares of a batch."""
    found = [one for one in stopped if one is not None]
    if not found:
        return
    rules = ", ".join(sorted({rule for one in found for rule in one.rules}))
    events = sum(one.events for one in found)
    first = sorted(place for one in found for place in one.first)[:PLACES_SHOWN]
    places = ", ".join(f"{source}/{partition}/{offset}#{index}" for source, partition, offset, index in first)
    more = f" and {events - len(first)} more" if events > len(first) else ""
    raise RuleStopped(
        f"rule {rules} failed at {places}{more}; nothing after bronze was committed",
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


def count_rules(*lists: pa.ChunkedArray) -> tuple[tuple[str, int], ...]:
    """How often each rule name occurs in columns of lists of rule names, by name."""
    totals: dict[str, int] = {}
    for names in lists:
        for entry in pc.value_counts(pc.list_flatten(names)).to_pylist():
            totals[entry["values"]] = totals.get(entry["values"], 0) + entry["counts"]
    return tuple(sorted(totals.items()))


def recount(records: int, events: int, skipped: int, silver: pa.Table, rejects: pa.Table) -> BatchCounts:
    """The counts of a batch that silver has absorbed: from the stored rows, and from the events for what left none."""
    duplicate = pc.sum(pc.equal(rejects["disposition"], Disposition.DUPLICATE.value)).as_py() or 0
    return BatchCounts(
        records=records,
        events=events,
        accepted=silver.num_rows,
        quarantined=rejects.num_rows - duplicate,
        duplicate=duplicate,
        skipped=skipped,
        flagged=_count_nonempty(silver[FLAGS]),
        rules=count_rules(silver[FLAGS], rejects["failed"]),
    )


def widened(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Silver rows with the columns of `schema` that a later contract added, which are null: a batch is finished with
    the contract of its pins, and read by the gold tables of today."""
    for field in schema:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


def as_bronze(records: pa.Table, incarnation: int, now: int) -> pa.Table:
    """Records as a source gives them, as bronze columns; what has no time of ingestion gets `now` (microseconds)."""
    ingested = records["ingested_at"]
    if ingested.null_count:
        ingested = ingested.fill_null(pa.scalar(now, UTC_MICROSECONDS))
    return pa.table(
        {
            SOURCE: pa.repeat(pa.scalar(incarnation, pa.int32()), records.num_rows),
            PARTITION: records["partition"],
            OFFSET: records["offset"],
            TIMESTAMP: records["timestamp"],
            INGESTED_AT: ingested,
            "key": records["key"],
            "value": records["value"],
            "headers": records["headers"],
        }
    )


def numbered(rows: pa.Table, batch: int) -> pa.Table:
    """The rows with `_batch`."""
    return rows.append_column(BATCH, pa.repeat(pa.scalar(batch, pa.int64()), rows.num_rows))


def _order_of_place(events: pa.Table) -> NDArray[np.intp]:
    """Positions of the events in order of their places; `_row` is in that order, and so `_index` within a record."""
    row, index = _numpy(events["_row"]), _numpy(events[INDEX])
    order: NDArray[np.intp] = np.lexsort((index, row)) if index.any() else np.argsort(row, kind="stable")
    return order


def _with_places(records: pa.Table, events: pa.Table, names: Sequence[str]) -> pa.Table:
    """Columns of events and of their records, in the order of `names`."""
    taken = records.select([name for name in names if name not in events.schema.names]).take(events["_row"])
    return pa.table({name: taken[name] if name in taken.schema.names else events[name] for name in names})


def _count_nonempty(lists: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.greater(pc.fill_null(pc.list_value_length(lists), 0), 0)).as_py() or 0)


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.combine_chunks().to_numpy(zero_copy_only=False)
    return values
