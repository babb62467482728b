"""Law 1: the events of a batch's records are exactly its accepted, quarantined, duplicate and skipped events.

Works through the batches in ranges that fit in memory. Every comparison is of whole sets of places, exact and without
digests; the ledger's counts are then compared with what was found. Skipped events leave no row: `where` is evaluated
again over the raw bytes (`events.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.limits import AUDIT_CHUNK_ROWS_MAX
from penstock.model.batch import Disposition
from penstock.model.columns import BATCH, FLAGS, INDEX, OFFSET, PLACE
from penstock.proof.events import RAW_COLUMNS, EventSql
from penstock.proof.places import GROUP, PLACE_SQL, Places, group_text, pack
from penstock.proof.report import Law

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from penstock.model.pipeline import Source
    from penstock.proof.ledger import Ledger
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Arrays, Witness

_QUARANTINED, _DUPLICATE = 1, 2


@dataclass
class Conservation:
    """The check of one pipeline. `source_of` gives the source that a contract declares; `sparse` are incarnations whose
    offsets have gaps: what is missing there only the ledger's counts tell."""

    witness: Witness
    source_of: Callable[[int], Source]
    ledger: Ledger
    bronze: View
    silver: View
    rejects: View
    report: PipelineReport
    sparse: frozenset[int] = frozenset()

    def run(self, from_batch: int, progress: Callable[[str], None]) -> None:
        """Check the batches from `from_batch` on, and fill the report's counts.

        Raises:
            duckdb.Error: a table is not what its name says.
            QueryError: `where` cannot be understood.
        """
        for first, last, contract in self.ledger.chunks(from_batch, AUDIT_CHUNK_ROWS_MAX):
            _Chunk(self, first, last, self.source_of(contract)).check()
            progress(f"checked batches {first} to {last} of {self.ledger.last}")


class _Chunk:
    """Batches `first`..`last`. Arrays named after tables hold one entry per row."""

    def __init__(self, check: Conservation, first: int, last: int, source: Source) -> None:
        self._check = check
        self._events = EventSql(source, check.witness)
        self._first, self._last = first, last
        arrays = check.witness.arrays
        self._bronze = arrays(
            f"SELECT {PLACE_SQL}, {BATCH} FROM ({check.bronze.select([*PLACE, BATCH], self._inside(check.bronze))})"
        )
        self._silver = arrays(
            f"SELECT {PLACE_SQL}, coalesce({INDEX}, -1)::BIGINT AS {INDEX}, {BATCH}, coalesce(len({FLAGS}), 0) > 0 AS "
            f"flagged FROM ({check.silver.select([*PLACE, INDEX, BATCH, FLAGS], self._inside(check.silver))})"
        )
        kinds = f"WHEN '{Disposition.QUARANTINED}' THEN {_QUARANTINED} WHEN '{Disposition.DUPLICATE}' THEN {_DUPLICATE}"
        self._rejects = arrays(
            f"SELECT {PLACE_SQL}, coalesce({INDEX}, -1)::BIGINT AS {INDEX}, {BATCH}, "
            f"CASE disposition {kinds} ELSE 0 END AS kind "
            f"FROM ({check.rejects.select([*PLACE, INDEX, BATCH, 'disposition'], self._inside(check.rejects))})"
        )

    def _inside(self, view: View) -> str:
        return view.in_batches(self._first, self._last)

    def check(self) -> None:
        self._places = Places(self._bronze)
        self._batch_of = np.zeros(self._places.size, np.int64)
        self._batch_of[self._places.slot] = self._bronze[BATCH]
        if (self._places.times > 1).any():
            again = np.flatnonzero(self._places.times[self._places.slot] > 1)
            extra = int((self._places.times[self._places.times > 1] - 1).sum())
            self._note(Law.CONSERVATION, "bronze", "records are there twice", self._bronze, again, extra)
        self._check_ranges()
        events = self._events_per_record()
        self._base = np.concatenate([[0], np.cumsum(events)])
        accepted = self._settle("silver", self._silver, events)
        rejected = self._settle("rejects", self._rejects, events)
        strange = np.flatnonzero(self._rejects["kind"] == 0)
        self._note(Law.CONSERVATION, "rejects", "rows have no known disposition", self._rejects, strange)
        total = int(self._base[-1])
        times_accepted = np.bincount(accepted, minlength=total)
        times_rejected = np.bincount(rejected, minlength=total)
        self._note_events("silver", "events are there twice", times_accepted > 1)
        self._note_events("rejects", "events are there twice", times_rejected > 1)
        self._note_events("rejects", "events are in silver as well", (times_accepted > 0) & (times_rejected > 0))
        chosen = self._chosen(total)
        present = (times_accepted + times_rejected) > 0
        self._note_events("silver", "events are neither in silver nor in rejects", chosen & ~present)
        self._note_events("silver", "events are there though `where` does not select them", ~chosen & present)
        self._check_counts(np.bincount(self._record_of(np.flatnonzero(~chosen)), minlength=self._places.size))
        self._check_rules()

    # -- bronze against the ledger's ranges ----------------------------------------------------------------------------

    def _check_ranges(self) -> None:
        ledger, places = self._check.ledger, self._places
        ranges = ledger.ranges
        rows = np.flatnonzero((ranges["batch"] >= self._first) & (ranges["batch"] <= self._last))
        groups = pack(ranges["source"][rows], ranges["partition"][rows])
        covered = np.zeros(places.size, np.bool_)
        other = np.zeros(places.size, np.bool_)
        present = places.times > 0
        for row, group in zip(rows.tolist(), groups.tolist(), strict=True):
            start, end = int(ranges["start"][row]), int(ranges["end"][row])
            low, high = places.between(group, start, end)
            covered[low:high] = True
            other[low:high] |= self._batch_of[low:high] != ranges["batch"][row]
            here = present[low:high]
            if int(ranges["source"][row]) not in self._check.sparse and int(np.count_nonzero(here)) != end - start:
                found = np.array([places.offset(low + slot) for slot in _edges(here)], np.int64)
                self._missing(group, start, end, found, int(np.count_nonzero(here)), int(ranges["batch"][row]))
        for message, wrong in (
            ("records are outside of the ledger's ranges", present & ~covered),
            ("records have another batch than the ledger's range they are in", present & other),
        ):
            slots = np.flatnonzero(wrong)
            shown = [places.text(slot) for slot in slots[:10].tolist()]
            self._broken(Law.CONSERVATION, "bronze", message, shown, len(slots))

    def _missing(self, group: int, start: int, end: int, found: NDArray[np.int64], held: int, batch: int) -> None:
        """Report the gaps between the offsets that are there. `found` has those at the edges of gaps."""
        edges = np.concatenate([[start - 1], found, [end]])
        gaps = np.flatnonzero(np.diff(edges) > 1)
        shown = [f"{group_text(group)}/{edges[gap] + 1}..{edges[gap + 1]}" for gap in gaps[:10].tolist()]
        self._check.report.broken(
            Law.CONSERVATION,
            self._check.bronze.name,
            "records are missing",
            batch=batch,
            places=shown,
            total=end - start - held,
        )

    # -- events --------------------------------------------------------------------------------------------------------

    def _raw(self) -> str:
        return f"({self._check.bronze.select(RAW_COLUMNS, self._inside(self._check.bronze))})"

    def _events_per_record(self) -> NDArray[np.int64]:
        events = (self._places.times > 0).astype(np.int64)
        reading = self._events
        if reading.source.records is not None:
            counted = self._check.witness.arrays(_placed(reading.counts(self._raw()), "events"))
            number = self._places.find(counted)
            events[number[number >= 0]] = counted["events"][number >= 0]
        return events

    def _chosen(self, total: int) -> NDArray[np.bool_]:
        """Which events `where` selects, by their ordinal."""
        chosen = np.ones(total, np.bool_)
        reading = self._events
        if reading.source.where is not None:
            judged = self._check.witness.arrays(_placed(reading.selected(self._raw()), INDEX, "chosen"))
            number = self._places.find(judged)
            known = number >= 0
            chosen[self._base[number[known]] + judged[INDEX][known]] = judged["chosen"][known]
        return chosen

    def _settle(self, table: str, rows: Arrays, events: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ordinals of the events that the rows of a table stand for; what stands for none is reported."""
        number = self._places.find(rows)
        known = number >= 0
        if self._places.size:
            known &= self._batch_of[number] == rows[BATCH]
        message = "rows have no record of the same batch in bronze"
        self._note(Law.CONSERVATION, table, message, rows, np.flatnonzero(~known))
        index = rows[INDEX]
        inside = known.copy()
        inside[known] = (index[known] >= 0) & (index[known] < events[number[known]])
        self._note(
            Law.CONSERVATION,
            table,
            "rows are of an event their record does not hold",
            rows,
            np.flatnonzero(known & ~inside),
        )
        ordinals: NDArray[np.int64] = self._base[number[inside]] + index[inside]
        return ordinals

    def _record_of(self, events: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the records that hold events."""
        return np.searchsorted(self._base, events, side="right") - 1

    # -- the ledger's counts -------------------------------------------------------------------------------------------

    def _check_counts(self, skipped_of_record: NDArray[np.int64]) -> None:
        report, counts = self._check.report, self._check.ledger.counts
        size = self._last - self._first + 1

        def per_batch(batches: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.bincount(batches - self._first, minlength=size)

        skipped = np.zeros(size, np.int64)
        some = np.flatnonzero(skipped_of_record)
        np.add.at(skipped, self._batch_of[some] - self._first, skipped_of_record[some])
        kind = self._rejects["kind"]
        found = {
            "records": per_batch(self._bronze[BATCH]),
            "accepted": per_batch(self._silver[BATCH]),
            "quarantined": per_batch(self._rejects[BATCH][kind == _QUARANTINED]),
            "duplicate": per_batch(self._rejects[BATCH][kind == _DUPLICATE]),
            "skipped": skipped,
            "flagged": per_batch(self._silver[BATCH][self._silver["flagged"]]),
        }
        mine = np.flatnonzero((counts[BATCH] >= self._first) & (counts[BATCH] <= self._last))
        slots = counts[BATCH][mine] - self._first
        report.batches += len(np.unique(slots))
        for name, values in found.items():
            setattr(report, name, getattr(report, name) + int(values.sum()))
            wrong = np.flatnonzero(counts[name][mine] != values[slots])
            shown = [
                f"batch {counts[BATCH][mine[row]]}: ledger {counts[name][mine[row]]}, rows {values[slots[row]]}"
                for row in wrong[:10].tolist()
            ]
            one = int(counts[BATCH][mine[wrong[0]]]) if len(wrong) == 1 else None
            message = f"the count of {name} is not what the rows say"
            if len(wrong):
                report.broken(
                    Law.CONSERVATION, self._check.ledger.view.name, message, batch=one, places=shown, total=len(wrong)
                )

    def _check_rules(self) -> None:
        """The ledger's counts per rule are those of the rules named in rows."""

        def named_in(view: View, column: str) -> str:
            rows = view.select([BATCH, column], f"{self._inside(view)} AND len({column}) > 0")
            return f"SELECT {BATCH} AS batch, unnest({column}) AS rule FROM ({rows})"

        named = f"{named_in(self._check.silver, FLAGS)} UNION ALL {named_in(self._check.rejects, 'failed')}"
        said = (
            f"SELECT {BATCH} AS batch, unnest(rules) AS r FROM "
            f"({self._check.ledger.view.select([BATCH, 'rules'], self._inside(self._check.ledger.view))})"
        )
        wrong = self._check.witness.rows(
            f"SELECT coalesce(f.batch, l.batch) AS batch, coalesce(f.rule, l.rule) AS rule, "
            f"coalesce(f.rows, 0) AS found, coalesce(l.rows, 0) AS said FROM "
            f"(SELECT batch, rule, count(*)::BIGINT AS rows FROM ({named}) GROUP BY batch, rule) f FULL JOIN "
            f"(SELECT batch, r.rule AS rule, sum(r.rows)::BIGINT AS rows FROM ({said}) GROUP BY ALL) l "
            f"ON f.batch = l.batch AND f.rule = l.rule WHERE coalesce(f.rows, 0) <> coalesce(l.rows, 0) ORDER BY ALL"
        )
        shown = [f"batch {row['batch']}, {row['rule']}: ledger {row['said']}, rows {row['found']}" for row in wrong]
        message = "the count of a rule is not what the rows say"
        one = wrong[0]["batch"] if len(wrong) == 1 else None
        if wrong:
            self._check.report.broken(
                Law.CONSERVATION, self._check.ledger.view.name, message, batch=one, places=shown, total=len(wrong)
            )

    # -- reporting -----------------------------------------------------------------------------------------------------

    def _note(
        self, law: Law, table: str, message: str, rows: Arrays, wrong: NDArray[np.int64], total: int | None = None
    ) -> None:
        """Report rows of a table by their places."""
        shown = []
        for row in wrong[:10].tolist():
            place = f"{group_text(int(rows[GROUP][row]))}/{rows[OFFSET][row]}"
            shown.append(f"{place}#{rows[INDEX][row]}" if INDEX in rows else place)
        batches = np.unique(rows[BATCH][wrong]) if len(wrong) else wrong
        one = int(batches[0]) if len(batches) == 1 else None
        self._broken(law, table, message, shown, len(wrong) if total is None else total, one)

    def _note_events(self, table: str, message: str, wrong: NDArray[np.bool_]) -> None:
        """Report events by their ordinals."""
        events = np.flatnonzero(wrong)
        records = self._record_of(events)
        shown = [
            self._places.text(int(record), int(event - self._base[record]))
            for event, record in zip(events[:10], records[:10], strict=True)
        ]
        batches = np.unique(self._batch_of[records])
        one = int(batches[0]) if len(batches) == 1 else None
        self._broken(Law.CONSERVATION, table, message, shown, len(events), one)

    def _broken(
        self, law: Law, table: str, message: str, places: list[str], total: int, batch: int | None = None
    ) -> None:
        if total:
            view = {"bronze": self._check.bronze, "silver": self._check.silver, "rejects": self._check.rejects}[table]
            self._check.report.broken(law, view.name, message, batch=batch, places=places, total=total)


def _placed(sql: str, *columns: str) -> str:
    """SQL of the places of a query's rows, as `Places` reads them, with some of its columns."""
    return f"SELECT {', '.join([PLACE_SQL, *columns])} FROM ({sql})"


def _edges(present: NDArray[np.bool_]) -> list[int]:
    """The positions of what is present beside something that is not, or at an end."""
    inside = np.flatnonzero(present)
    if not len(inside):
        return []
    beside = np.ones(len(inside), np.bool_)
    beside[1:-1] = (np.diff(inside)[1:] > 1) | (np.diff(inside)[:-1] > 1)
    found: list[int] = inside[beside].tolist()
    return found
