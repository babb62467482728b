"""Law 5: a gold table is what silver gives, for exactly the closed windows. The SQL is `recompute.py`'s.

Windows are compared in ranges of their start, so that memory depends on how many rows one range has, never on the
table. In both directions: what silver gives and gold lacks, what gold has and silver does not give, what differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.limits import AUDIT_WINDOW_ROWS_MAX, VIOLATION_EXAMPLES_MAX
from penstock.model.columns import BATCH, INDEX, PLACE, ROWS, WINDOW_END, WINDOW_START
from penstock.proof.recompute import MeasureSql, Recomputation, tolerance_name
from penstock.proof.report import Law
from penstock.proof.syntax import quote
from penstock.proof.windows import CALENDAR, END, START, TIME, WindowSql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.model.pipeline import Gold, Silver
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness

_FOREVER = 1 << 62
_HISTOGRAM_MICROS_MIN = 60_000_000
"""Silver rows are counted per minute at the finest, to divide windows into ranges: half a million counts a year."""

_EXPECTED, _ACTUAL, _MATCHED = "expected_windows", "actual_windows", "matched_windows"


@dataclass
class GoldCheck:
    """One gold table against silver, at a cut.

    `closed_until` is in microseconds, None where no window is closed yet. Windows that no batch from `from_batch` on
    can have touched are left out; `closed_before` is what was closed before that batch.
    """

    witness: Witness
    declared: Gold
    declared_silver: Silver
    silver: View
    gold: View
    batch_max: int
    closed_until: int | None
    from_batch: int
    closed_before: int | None
    report: PipelineReport

    def run(self) -> None:
        """Compare every range of windows.

        Raises:
            duckdb.Error: a table is not what its declaration says.
            QueryError: an expression of the declaration cannot be understood.
        """
        self._windows = WindowSql(self.declared.window)
        self._time = quote(self.declared_silver.event_time)
        self._sums: dict[str, float] = {}
        self._problems: dict[str, tuple[int, list[str]]] = {}
        for low, high, touched in self._ranges():
            if touched:
                self._compare(low, high)
        for message, (total, examples) in self._problems.items():
            self.report.broken(Law.GOLD, self.gold.name, message, places=examples, total=total)

    # -- ranges -------------------------------------------------------------------------------------------------------

    def _ranges(self) -> Iterator[tuple[int, int, bool]]:
        """Ranges [low, high) of window starts that cover all time, and whether something in them is to be checked."""
        if self.silver.rows <= AUDIT_WINDOW_ROWS_MAX and self.from_batch == 1:
            yield -_FOREVER, _FOREVER, True
            return
        reach = self._windows.reach_micros
        grain = max(_HISTOGRAM_MICROS_MIN, reach)
        silver = self.silver.select([BATCH, self.declared_silver.event_time], self.silver.in_batches(1, self.batch_max))
        counted = self.witness.arrays(
            f"SELECT slot, CAST(count(*) AS BIGINT) AS rows, max({BATCH}) AS batch FROM (SELECT {BATCH}, "
            f"CAST(floor(epoch_us({self._time}) / {grain}.0) AS BIGINT) AS slot FROM ({silver}) "
            f"WHERE {self._time} IS NOT NULL) GROUP BY slot ORDER BY slot"
        )
        low, held, latest, before = -_FOREVER, 0, 0, 0
        for slot, rows, batch in zip(*(counted[name].tolist() for name in ("slot", "rows", "batch")), strict=True):
            if held and held + rows > AUDIT_WINDOW_ROWS_MAX:
                # Rows of the slots on both sides of a border can lie in windows on the other side of it.
                high = slot * grain
                yield low, high, max(latest, batch) >= self.from_batch or not self._was_closed(high + reach)
                low, held, latest = high, 0, before
            held, latest, before = held + rows, max(latest, batch), batch
        yield low, _FOREVER, True

    def _was_closed(self, end: int) -> bool:
        return self.closed_before is not None and end <= self.closed_before

    # -- one range ----------------------------------------------------------------------------------------------------

    def _compare(self, low: int, high: int) -> None:
        run = self.witness.run
        inside = f"{WINDOW_START} >= {_instant(low)} AND {WINDOW_START} < {_instant(high)}"
        if low == -_FOREVER:
            inside = f"({inside} OR {WINDOW_START} IS NULL)"
        try:
            measures = self._recompute(low, high)
            actual = [name for name in self.gold.types if name in self._gold_columns()]
            run(
                f"CREATE OR REPLACE TEMP TABLE {_ACTUAL} AS SELECT * REPLACE (epoch_us({WINDOW_START}) AS "
                f"{WINDOW_START}, epoch_us({WINDOW_END}) AS {WINDOW_END}) FROM ({self.gold.select(actual, inside)})"
            )
            self._twice()
            self._match(measures)
            self._unmatched()
            self._different(measures)
        finally:
            for name in (_EXPECTED, _ACTUAL, _MATCHED):
                run(f"DROP TABLE IF EXISTS {name}")

    def _gold_columns(self) -> set[str]:
        measures = {measure.name for measure in self.declared.measures}
        return {WINDOW_START, WINDOW_END, *self.declared.by, *measures, ROWS}

    def _recompute(self, low: int, high: int) -> list[MeasureSql]:
        """Fill the table of expected windows."""
        shape = f"SELECT * FROM {self.silver.relation()} LIMIT 0"
        types = self.witness.types
        recomputation = Recomputation(
            self.declared,
            self.witness.syntax,
            lambda sql: types(f"SELECT {sql} AS value FROM ({shape})")["value"],
            self._sums_below,
            self.declared_silver.order,
        )
        known = recomputation.columns() & set(self.silver.types)
        columns = sorted({*known, *PLACE, INDEX, BATCH, self.declared_silver.event_time})
        time = f"epoch_us({self._time})"
        bounds = self.silver.in_batches(1, self.batch_max)
        bounds += f" AND {self._time} IS NOT NULL" if low == -_FOREVER else f" AND {self._time} >= {_instant(low)}"
        bounds += "" if high == _FOREVER else f" AND {self._time} < {_instant(high + self._windows.reach_micros)}"
        selected = self.silver.select(columns, f"{bounds} AND {recomputation.condition()}")
        rows = f'(SELECT *, {time} AS "{TIME}" FROM ({selected}))'
        placed = (
            f'SELECT * FROM ({self._windows.place(rows)}) WHERE "{START}" >= {low} AND "{START}" < {high} '
            f'AND "{END}" <= {-_FOREVER if self.closed_until is None else self.closed_until}'
        )
        with self.witness.registered(CALENDAR, self._calendar(selected)):
            self.witness.run(f"CREATE OR REPLACE TEMP TABLE {_EXPECTED} AS {recomputation.grouped(placed)}")
        return recomputation.measures()

    def _sums_below(self, sql: str, bound: float) -> bool:
        """Whether the absolute values of an expression over all of silver add up to less than a bound."""
        if sql not in self._sums:
            self._sums[sql] = self.witness.value(
                f"SELECT coalesce(max(abs(CAST({sql} AS DOUBLE))) * count(*), 0) AS total FROM {self.silver.relation()}"
            )
        return self._sums[sql] < bound

    def _calendar(self, selected: str) -> pa.Table:
        if not self._windows.is_calendar:
            return pa.table({"slot": pa.array([], pa.int64())})
        day = self._windows.local_day(self._time)
        days = self.witness.arrays(f"SELECT DISTINCT CAST({day} AS BIGINT) AS day FROM ({selected})")["day"]
        return self._windows.calendar(days.tolist())

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def _match(self, measures: list[MeasureSql]) -> None:
        """Join both sides on window and group, keeping only the pairs that are not wholly equal."""
        keys = [WINDOW_START, *self.declared.by]
        on = " AND ".join(f"e.{quote(key)} IS NOT DISTINCT FROM a.{quote(key)}" for key in keys)
        differs = [f"{_differs(measure)} AS {quote('differs ' + measure.name)}" for measure in measures]
        tests = [f"e.{ROWS} IS DISTINCT FROM a.{ROWS}", f"e.{WINDOW_END} IS DISTINCT FROM a.{WINDOW_END}"]
        tests += [_differs(measure) for measure in measures]
        shown = [f"coalesce(e.{quote(key)}, a.{quote(key)}) AS {quote(key)}" for key in keys]
        sides = [
            f"{side}.{quote(name)} AS {quote(f'{side} {name}')}"
            for name in (WINDOW_END, ROWS, *(measure.name for measure in measures))
            for side in "ea"
        ]
        self.witness.run(
            f"CREATE OR REPLACE TEMP TABLE {_MATCHED} AS SELECT {', '.join([*shown, *sides, *differs])}, "
            f"e.here IS NULL AS extra, a.here IS NULL AS missing "
            f"FROM (SELECT *, TRUE AS here FROM {_EXPECTED}) e FULL JOIN (SELECT *, TRUE AS here FROM {_ACTUAL}) a "
            f"ON {on} WHERE e.here IS NULL OR a.here IS NULL OR {' OR '.join(tests)}"
        )

    def _twice(self) -> None:
        keys = ", ".join(quote(key) for key in (WINDOW_START, *self.declared.by))
        found = self.witness.rows(
            f"SELECT {keys}, CAST(count(*) AS BIGINT) AS times FROM {_ACTUAL} GROUP BY {keys} HAVING count(*) > 1"
        )
        if found:
            self._note("has more than one row for a window", [self._name(row) for row in found], len(found))

    def _unmatched(self) -> None:
        closed = -_FOREVER if self.closed_until is None else self.closed_until
        kinds = (
            ("has no row for a closed window that silver has rows for", "missing"),
            ("has a window that is not closed yet", f'extra AND "a {WINDOW_END}" > {closed}'),
            ("has a window that silver has no rows for", f'extra AND "a {WINDOW_END}" <= {closed}'),
            ("has a window without start or end", f'extra AND "a {WINDOW_END}" IS NULL'),
        )
        for message, condition in kinds:
            self._collect(message, condition, lambda row: self._name(row))

    def _different(self, measures: list[MeasureSql]) -> None:
        both = "NOT extra AND NOT missing"
        for name in (WINDOW_END, ROWS):
            condition = f'{both} AND "e {name}" IS DISTINCT FROM "a {name}"'
            self._collect(f"has a wrong {name}", condition, lambda row, name=name: self._values(row, name))
        for measure in measures:
            self._collect(
                f"has a wrong {measure.name}",
                f"{both} AND {quote('differs ' + measure.name)}",
                lambda row, name=measure.name: self._values(row, name),
            )

    def _collect(self, message: str, condition: str, show: Any) -> None:
        total = self.witness.value(f"SELECT CAST(count(*) AS BIGINT) FROM {_MATCHED} WHERE {condition}")
        if total:
            keys = ", ".join(quote(key) for key in (WINDOW_START, *self.declared.by))
            rows = self.witness.rows(
                f"SELECT * FROM {_MATCHED} WHERE {condition} ORDER BY {keys} LIMIT {VIOLATION_EXAMPLES_MAX}"
            )
            self._note(message, [show(row) for row in rows], total)

    def _note(self, message: str, examples: list[str], total: int) -> None:
        known, shown = self._problems.get(message, (0, []))
        self._problems[message] = known + total, [*shown, *examples][:VIOLATION_EXAMPLES_MAX]

    def _name(self, row: dict[str, Any]) -> str:
        groups = "".join(f", {key}={row[key]}" for key in self.declared.by)
        return f"{WINDOW_START}={instant_text(row[WINDOW_START])}{groups}"

    def _values(self, row: dict[str, Any], name: str) -> str:
        expected, actual = row[f"e {name}"], row[f"a {name}"]
        if name == WINDOW_END:
            expected, actual = instant_text(expected), instant_text(actual)
        return f"{self._name(row)}: {actual}, silver gives {expected}"


def _differs(measure: MeasureSql) -> str:
    """SQL: whether the two sides of a measure differ by more than they may."""
    expected, actual = f"e.{quote(measure.name)}", f"a.{quote(measure.name)}"
    unequal = f"{expected} IS DISTINCT FROM {actual}"
    if measure.tolerance is None:
        return f"({unequal})"
    difference = f"abs(CAST({expected} AS DOUBLE) - CAST({actual} AS DOUBLE))"
    allowed = f"e.{quote(tolerance_name(measure.name))}"
    return f"({unequal} AND NOT coalesce({difference} <= {allowed}, FALSE))"


def instant_text(micros: int | None) -> str:
    """An instant in ISO 8601, or its microseconds where no calendar reaches."""
    if micros is None:
        return "null"
    try:
        return str(pa.scalar(micros, pa.timestamp("us")).as_py().isoformat()) + "Z"
    except (ValueError, OverflowError):
        return f"{micros} us"


def _instant(micros: int) -> str:
    """SQL of an instant, or of the nearest one DuckDB has."""
    return f"make_timestamptz({max(-(1 << 60), min(micros, 1 << 60))})"
