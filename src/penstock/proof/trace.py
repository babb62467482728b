"""`penstock trace`: from a row back to the raw bytes it was made from, and from a record forward to its windows.

Every file that is read is verified first. What a trace shows is in `facts.py`; how rows are found by a user's condition
is in `lookup.py`. The cut is the pipeline's last ledger row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.errors import UsageError
from penstock.lake.layout import Kind
from penstock.limits import GIB, TRACE_ROWS_MAX
from penstock.model.batch import Disposition
from penstock.model.columns import (
    BATCH,
    INDEX,
    INGESTED_AT,
    OFFSET,
    PARTITION,
    PLACE,
    SOURCE,
    WINDOW_END,
    WINDOW_START,
)
from penstock.proof.events import RAW_COLUMNS, EventSql
from penstock.proof.facts import EventFact, RecordFact, Trace, WindowFact
from penstock.proof.lookup import matching, parse_table, within
from penstock.proof.origins import Origins, event_of, find_owner, place_of
from penstock.proof.recompute import Recomputation
from penstock.proof.syntax import quote
from penstock.proof.windows import CALENDAR, END, START, TIME, WindowSql
from penstock.proof.witness import Witness, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.lake.datafile import DataFile
    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Gold, Pipeline
    from penstock.model.position import Place
    from penstock.proof.tables import View

    Row = dict[str, Any]

_ORDER = (*PLACE, INDEX)


def trace_back(
    lake: Lake,
    parse: Callable[[str], Pipeline],
    table: str,
    where: str,
    *,
    limit: int = TRACE_ROWS_MAX,
    memory_bytes: int = GIB,
    threads: int = 2,
) -> Trace:
    """From rows of a gold, silver or rejects table to the records they were made from.

    Args:
        table: `gold.bars`, `silver.ticks` or `rejects.ticks`.
        where: a condition over the table's columns, in SQL.
        limit: rows at most, and for gold also silver rows per window.

    Raises:
        UsageError: there is no such table.
        QueryError: `where` is no condition over it.
        LakeCorrupt: a file that is needed is not what was written.
    """
    kind, name = parse_table(table)
    with Witness(memory_bytes=memory_bytes, threads=threads, filesystem=lake.storage.filesystem) as witness:
        owner = find_owner(lake, witness, parse, kind, name, threads)
        return _Tracer(Origins(lake, witness, owner, threads), limit, memory_bytes).back(kind, name, where)


def trace_forward(
    lake: Lake,
    parse: Callable[[str], Pipeline],
    pipeline: str,
    place: Place,
    *,
    memory_bytes: int = GIB,
    threads: int = 2,
) -> Trace:
    """From a record to where each of its events ended, and to the windows they are in.

    Raises:
        UsageError: there is no such pipeline, or bronze has no record at that place.
        LakeCorrupt: a file that is needed is not what was written.
    """
    with Witness(memory_bytes=memory_bytes, threads=threads, filesystem=lake.storage.filesystem) as witness:
        owner = find_owner(lake, witness, parse, Kind.BRONZE, pipeline, threads)
        return _Tracer(Origins(lake, witness, owner, threads), TRACE_ROWS_MAX, memory_bytes).forward(place)


@dataclass
class _Tracer:
    origins: Origins
    limit: int
    memory_bytes: int

    @property
    def witness(self) -> Witness:
        return self.origins.witness

    @property
    def pipeline(self) -> Pipeline:
        return self.origins.owner.pipeline

    # -- back ---------------------------------------------------------------------------------------------------------

    def back(self, kind: Kind, name: str, where: str) -> Trace:
        pipeline = self.pipeline
        cut = self.origins.cut()
        view = self.origins.read(kind, name)
        time = {Kind.GOLD: WINDOW_START, Kind.SILVER: pipeline.silver.event_time}.get(kind, INGESTED_AT)
        order = (WINDOW_START,) if kind is Kind.GOLD else _ORDER
        found = matching(
            view,
            where,
            bound=f"{BATCH} <= {cut}",
            order=order,
            limit=self.limit,
            time=time,
            memory_bytes=self.memory_bytes,
            filesystem=self.witness.filesystem,
        )
        table = f"{kind}.{name}"
        if kind is Kind.GOLD:
            gold = next(one for one in pipeline.gold if one.name == name)
            windows = self._windows_back(gold, found, cut)
            batches = {event.batch for window in windows for event in window.events}
            batches |= {row[BATCH] for row in rows_of(found)}
            return Trace(pipeline.name, table, windows=windows, batches=self.origins.batches(batches))
        rows = rows_of(found)
        records = self.origins.records([event_of(row) for row in rows])
        events = tuple(_event(row, records) for row in rows)
        return Trace(
            pipeline.name, table, events=events, batches=self.origins.batches({event.batch for event in events})
        )

    def _windows_back(self, gold: Gold, found: pa.Table, cut: int) -> tuple[WindowFact, ...]:
        """The gold rows, each with the silver rows of its window and group."""
        if not found.num_rows:
            return ()
        silver = self.pipeline.silver
        rows = rows_of(found)
        low = min(found.column(WINDOW_START).cast(pa.int64()).to_pylist())
        high = max(found.column(WINDOW_END).cast(pa.int64()).to_pylist())
        view = self.origins.read(Kind.SILVER, silver.table, lambda file: within(file, silver.event_time, low, high))
        picked = found.select([WINDOW_START, WINDOW_END, *gold.by])
        picked = picked.rename_columns([f"$k{number}" for number in range(picked.num_columns)])
        picked = picked.append_column("$n", pa.array(range(found.num_rows), pa.int64()))
        time = quote(silver.event_time)
        inside = f's.{time} >= p."$k0" AND s.{time} < p."$k1"'
        for number, column in enumerate(gold.by, 2):
            inside += f' AND s.{quote(column)} IS NOT DISTINCT FROM p."$k{number}"'
        chosen = f"SELECT * FROM {view.relation()} WHERE {BATCH} <= {cut} AND {self._gold_condition(gold, view)}"
        ranked = f'PARTITION BY p."$n" ORDER BY s.{time}, s.{BATCH}, {", ".join(f"s.{name}" for name in _ORDER)}'
        with self.witness.registered("picked_windows", picked):
            members = self.witness.rows(
                f'SELECT p."$n", count(*) OVER (PARTITION BY p."$n") AS "$total", s.* '
                f"FROM picked_windows p JOIN ({chosen}) s "
                f'ON {inside} QUALIFY row_number() OVER ({ranked}) <= {self.limit} ORDER BY p."$n", s.{time}, '
                f"{', '.join(f's.{name}' for name in _ORDER)}"
            )
        records = self.origins.records([event_of(row) for row in members])
        facts = []
        for number, row in enumerate(rows):
            mine = [member for member in members if member["$n"] == number]
            total = mine[0]["$total"] if mine else 0
            events = tuple(
                _event({key: value for key, value in member.items() if key not in ("$n", "$total")}, records)
                for member in mine
            )
            group = {name: row[name] for name in gold.by}
            facts.append(WindowFact(f"gold.{gold.name}", row[WINDOW_START], row[WINDOW_END], group, row, events, total))
        return tuple(facts)

    def _gold_condition(self, gold: Gold, silver: View) -> str:
        types = self.witness.types
        shape = f"SELECT * FROM {silver.relation()} LIMIT 0"
        declared = self.pipeline.silver
        return Recomputation(
            gold,
            self.witness.syntax,
            lambda sql: types(f"SELECT {sql} AS v FROM ({shape})")["v"],
            lambda _, __: False,
            declared.order,
        ).condition()

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, place: Place) -> Trace:
        pipeline = self.pipeline
        record = next(iter(self.origins.records([(place, 0, 0)], any_batch=True).values()), None)
        if record is None:
            raise UsageError(
                f"bronze of {pipeline.name} has no record at {place}",
                hint="A place is SOURCE/PARTITION/OFFSET, as `penstock sql` shows them in bronze.",
            )
        cut = self.origins.cut()
        events = self._events_of(record, cut)
        batches = self.origins.batches({record.batch})
        return Trace(pipeline.name, f"bronze.{pipeline.name}", record=record, events=events, batches=batches)

    def _events_of(self, record: RecordFact, cut: int) -> tuple[EventFact, ...]:
        """Every event of a record, and where it ended."""
        indexes, chosen = self._parsed(record)
        rows: dict[int, Row] = {}
        for kind, name in ((Kind.SILVER, self.pipeline.silver.table), (Kind.REJECTS, self.pipeline.name)):
            rows.update({found[INDEX]: found for found in self._rows_at(kind, name, record)})
        events = []
        for index in sorted({*range(indexes), *rows}):
            row: Row | None = rows.get(index)
            if record.batch > cut:
                events.append(EventFact(record.place, index, record.batch, "in flight"))
            elif row is None:
                disposition = "missing" if chosen.get(index, True) else Disposition.SKIPPED.value
                events.append(EventFact(record.place, index, record.batch, disposition))
            else:
                event = _event(row, {})
                windows = self._windows_of(row, cut) if event.disposition == Disposition.ACCEPTED else ()
                events.append(replace(event, windows=windows))
        return tuple(events)

    def _parsed(self, record: RecordFact) -> tuple[int, dict[int, bool]]:
        """How many events a record holds, and which `where` selects, by the contract of its batch."""
        contract = self.origins.contract_of(record.batch)
        reading = EventSql(contract.source, self.witness)
        bronze = f"({self._bronze_of(record.place, record.batch)})"
        counted = self.witness.rows(reading.counts(bronze))
        chosen: dict[int, bool] = {}
        if reading.source.where is not None:
            chosen = {row[INDEX]: row["chosen"] for row in self.witness.rows(reading.selected(bronze))}
        return (counted[0]["events"] if counted else 0), chosen

    def _bronze_of(self, place: Place, batch: int) -> str:
        view = self.origins.read(Kind.BRONZE, self.pipeline.name, lambda file: _may_hold(file, place, batch))
        return view.select(RAW_COLUMNS, f"{BATCH} = {batch} AND {_at(place)}")

    def _rows_at(self, kind: Kind, name: str, record: RecordFact) -> list[Row]:
        if not self.origins.has(kind, name):
            return []
        view = self.origins.read(kind, name, lambda file: _may_hold(file, record.place, record.batch))
        return self.witness.rows(
            f"SELECT * FROM {view.relation()} WHERE {BATCH} = {record.batch} AND {_at(record.place)}"
        )

    def _windows_of(self, row: Row, cut: int) -> tuple[WindowFact, ...]:
        """The windows of all gold tables that a silver row is in, with their rows where they are closed."""
        pipeline = self.pipeline
        found: list[WindowFact] = []
        place = place_of(row)
        silver = self.origins.read(Kind.SILVER, pipeline.silver.table, lambda file: _may_hold(file, place, row[BATCH]))
        one = f"{BATCH} = {row[BATCH]} AND {INDEX} = {row[INDEX]} AND {_at(place)}"
        for gold in pipeline.gold:
            windows = WindowSql(gold.window)
            chosen = f"SELECT * FROM {silver.relation()} WHERE {one} AND {self._gold_condition(gold, silver)}"
            timed = f'(SELECT *, epoch_us({quote(pipeline.silver.event_time)}) AS "{TIME}" FROM ({chosen}))'
            calendar = pa.table({"slot": pa.array([], pa.int64())})
            if windows.is_calendar:
                day = windows.local_day(f'make_timestamptz("{TIME}")')
                calendar = windows.calendar(
                    self.witness.arrays(f"SELECT CAST({day} AS BIGINT) AS day FROM {timed}")["day"].tolist()
                )
            with self.witness.registered(CALENDAR, calendar):
                placed = self.witness.table(
                    f'SELECT make_timestamptz("{START}") AS {WINDOW_START}, make_timestamptz("{END}") AS {WINDOW_END}, '
                    f"{', '.join([*map(quote, gold.by), '1 AS one'])} FROM ({windows.place(timed)}) ORDER BY 1"
                )
            found += self._gold_rows(gold, placed, cut)
        return tuple(found)

    def _gold_rows(self, gold: Gold, placed: pa.Table, cut: int) -> list[WindowFact]:
        rows: list[Row] = []
        keys = [WINDOW_START, *gold.by]
        if placed.num_rows and self.origins.has(Kind.GOLD, gold.name):
            starts = sorted(placed.column(WINDOW_START).cast(pa.int64()).to_pylist())
            view = self.origins.read(
                Kind.GOLD, gold.name, lambda file: within(file, WINDOW_START, starts[0], starts[-1])
            )
            on = " AND ".join(f"g.{quote(key)} IS NOT DISTINCT FROM p.{quote(key)}" for key in keys)
            with self.witness.registered("placed_windows", placed):
                rows = self.witness.rows(
                    f"SELECT g.* FROM {view.relation()} g SEMI JOIN placed_windows p ON {on} WHERE g.{BATCH} <= {cut}"
                )
        known = {tuple(row[key] for key in keys): row for row in rows}
        return [
            WindowFact(
                f"gold.{gold.name}",
                window[WINDOW_START],
                window[WINDOW_END],
                {name: window[name] for name in gold.by},
                known.get(tuple(window[key] for key in keys)),
            )
            for window in rows_of(placed)
        ]


def _may_hold(file: DataFile, place: Place, batch: int) -> bool:
    return within(file, BATCH, batch, batch) and within(file, OFFSET, place.offset, place.offset)


def _at(place: Place) -> str:
    return f"{SOURCE} = {place.source} AND {PARTITION} = {place.partition} AND {OFFSET} = {place.offset}"


def _event(row: Row, records: Mapping[tuple[Place, int], RecordFact]) -> EventFact:
    """The event a row of silver or rejects stands for."""
    place, index, batch = event_of(row)
    winner = None
    if row.get("winner_offset") is not None:
        winner = "/".join(str(row[f"winner_{part}"]) for part in ("source", "partition", "offset"))
        winner = f"{winner}#{row['winner_index']}"
    return EventFact(
        place=place,
        index=index,
        batch=batch,
        disposition=row.get("disposition") or Disposition.ACCEPTED.value,
        row=row,
        reasons=tuple(row.get("failed") or row.get("_flags") or ()),
        detail=row.get("detail"),
        winner=winner,
        record=records.get((place, batch)),
    )
