"""The ledger as the witness reads it: one row per batch, ranges without gap or overlap, one account to check against.

The last row is the cut that an audit looks at. `conservation.py` compares the tables' rows with what is said here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.lake.layout import LEDGER_COUNTS
from penstock.model.columns import BATCH, batch_txn
from penstock.proof.report import Law

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from penstock.proof.pins import Applied
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Arrays, Witness


@dataclass(frozen=True)
class Ledger:
    """The ledger up to its last row. Times are microseconds or None.

    `counts` has BATCH and LEDGER_COUNTS, `ranges` has batch, source, partition, start, end; both ordered by batch.
    """

    view: View
    last: int
    counts: Arrays
    ranges: Arrays
    contracts: NDArray[np.int64]
    closed_until: int | None
    versions: dict[str, int]

    def chunks(self, from_batch: int, rows_max: int) -> Iterator[tuple[int, int, int]]:
        """Ranges of batches (both ends inclusive) that hold about `rows_max` records or events at most and were derived
        with one contract: first, last, contract."""
        sizes = np.maximum(self.counts["records"], self.counts["events"])
        first, held, pinned = from_batch, 0, None
        for batch, size, contract in zip(
            self.counts[BATCH].tolist(), sizes.tolist(), self.contracts.tolist(), strict=True
        ):
            if batch < from_batch:
                continue
            if pinned is not None and (contract != pinned or (held and held + size > rows_max)):
                yield first, batch - 1, pinned
                first, held = batch, 0
            held, pinned = held + size, contract
        if pinned is not None:
            yield first, self.last, pinned


def read(witness: Witness, view: View, pipeline: str, applied: Applied, report: PipelineReport) -> Ledger | None:
    """The ledger's rows, with what is wrong with them reported; None where there are none."""
    columns = [f"coalesce({name}, -1)::BIGINT AS {name}" for name in (BATCH, *LEDGER_COUNTS, "contract")]
    counts = witness.arrays(f"SELECT {', '.join(columns)} FROM {view.relation()} ORDER BY {BATCH}")
    batches = counts[BATCH]
    position = view.txns.get(batch_txn(pipeline), 0)
    last = int(batches.max()) if len(batches) else 0
    if last != position:
        report.broken(
            Law.POSITION, view.name, f"the position is batch {position}, the last row is batch {last}", batch=last
        )
    if not last:
        return None
    _check_numbers(batches, view, report)
    _check_sums(counts, view, report)
    ranges = witness.arrays(
        f"SELECT batch, r.source::BIGINT AS source, r.partition::BIGINT AS partition, r.start_offset AS start, "
        f'r.end_offset AS "end" FROM (SELECT {BATCH} AS batch, unnest(ranges) AS r FROM {view.relation()}) '
        f'ORDER BY batch, source, partition, start, "end"'
    )
    check_ranges(ranges, dict(zip(batches.tolist(), counts["contract"].tolist(), strict=True)), applied, view, report)
    final = witness.rows(
        f"SELECT epoch_us(closed_until) AS closed_until, epoch_us(watermark) AS watermark, versions "
        f"FROM {view.relation()} WHERE {BATCH} = {last}"
    )[0]
    _check_times(witness, view, report)
    versions = {entry["table"]: entry["version"] for entry in final["versions"] or ()}
    return Ledger(view, last, counts, ranges, counts["contract"], final["closed_until"], versions)


def closed_until(witness: Witness, view: View, batch: int) -> int | None:
    """What was closed after a batch, in microseconds."""
    found = witness.rows(f"SELECT epoch_us(closed_until) AS at FROM {view.relation()} WHERE {BATCH} = {batch}")
    return found[0]["at"] if found else None


def _check_numbers(batches: NDArray[np.int64], view: View, report: PipelineReport) -> None:
    """Batches are numbered from 1 to the last one, each once."""
    found, times = np.unique(batches, return_counts=True)
    for batch in found[times > 1].tolist():
        report.broken(Law.CONSERVATION, view.name, "a batch has more than one row", batch=batch)
    expected = np.arange(1, len(found) + 1)
    if not np.array_equal(found, expected):
        missing = np.setdiff1d(np.arange(1, int(found.max()) + 1), found)
        if len(missing):
            shown = (f"batch {batch}" for batch in missing.tolist())
            report.broken(Law.CONSERVATION, view.name, "batches have no row", places=shown, total=len(missing))
        if found.min() < 1:
            report.broken(Law.CONSERVATION, view.name, "a batch has no number above 0", batch=int(found.min()))


def _check_sums(counts: Arrays, view: View, report: PipelineReport) -> None:
    total = counts["accepted"] + counts["quarantined"] + counts["duplicate"] + counts["skipped"]
    wrong = np.flatnonzero(total != counts["events"])
    if len(wrong):
        batches, events = counts[BATCH], counts["events"]
        shown = (f"batch {batches[row]}: {events[row]} events, {total[row]} dispositions" for row in wrong.tolist())
        first = int(batches[wrong[0]]) if len(wrong) == 1 else None
        report.broken(
            Law.CONSERVATION,
            view.name,
            "the dispositions do not add up to the events",
            batch=first,
            places=shown,
            total=len(wrong),
        )


def _check_times(witness: Witness, view: View, report: PipelineReport) -> None:
    """The watermark and what is closed only ever move forward."""
    for name in ("watermark", "closed_until"):
        back = witness.rows(
            f"SELECT {BATCH} AS batch FROM (SELECT {BATCH}, {name}, max({name}) OVER (ORDER BY {BATCH} ROWS BETWEEN "
            f"UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM {view.relation()}) "
            f"WHERE {name} < before OR ({name} IS NULL AND before IS NOT NULL) ORDER BY {BATCH}"
        )
        for row in back:
            report.broken(Law.POSITION, view.name, f"{name} goes back", batch=row["batch"])


def check_ranges(
    ranges: Arrays, contracts: Mapping[int, int], applied: Applied, view: View, report: PipelineReport
) -> None:
    """Within a partition of an incarnation, each batch starts where the one before ended, and the first one at 0, or
    where the incarnation was told to; a topic begins with what it had. What a topic lost later is a recorded loss where
    the contract of the batch allows one."""
    order = np.lexsort((ranges["end"], ranges["start"], ranges["batch"], ranges["partition"], ranges["source"]))
    source, partition, start, end, batch = (
        ranges[name][order] for name in ("source", "partition", "start", "end", "batch")
    )
    if not len(source):
        return
    first = np.ones(len(source), np.bool_)
    first[1:] = (source[1:] != source[:-1]) | (partition[1:] != partition[:-1])
    before = np.where(first, 0, np.concatenate([[0], end[:-1]]))
    for row in np.flatnonzero(first).tolist():
        told = applied.starts.get((int(source[row]), int(partition[row])))
        if told is not None:
            before[row] = told
        elif int(source[row]) in applied.topics:
            before[row] = start[row]
    gaps = start > before
    for row in np.flatnonzero(gaps).tolist():
        if int(source[row]) in applied.topics and applied.records_loss(contracts.get(int(batch[row]), 0)):
            report.lost(f"{source[row]}/{partition[row]}/{before[row]}..{start[row]}", int(start[row] - before[row]))
            gaps[row] = False
    for message, law, wrong in (
        ("offsets are in no batch", Law.CONSERVATION, gaps),
        ("the position went back", Law.POSITION, start < before),
        ("a range has no end", Law.CONSERVATION, end <= start),
    ):
        rows = np.flatnonzero(wrong)
        if not len(rows):
            continue
        shown = (f"{source[row]}/{partition[row]}/{before[row]}..{start[row]}" for row in rows.tolist())
        report.broken(law, view.name, message, batch=int(batch[rows[0]]), places=shown, total=len(rows))
