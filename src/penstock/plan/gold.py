"""Compiles a gold table to SQL: rows to partials, partials to fewer partials, partials to final rows.

The measures come bound from `measures.py`, their states from `aggregates.py`, the windows from `windows.py`; here they
are put together. `recompute_sql` is the same final step over the partial of all rows at once, so that both ways agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import DeclarationError
from penstock.model.columns import INDEX, PLACE, ROWS, WINDOW_END, WINDOW_START
from penstock.plan.attempts import attempt
from penstock.plan.expressions import TypedNames, bind, system_types
from penstock.plan.measures import bind_measures, value_name
from penstock.plan.numerics import cannot_fail
from penstock.plan.sqlparser import parse
from penstock.plan.sqltext import Layers, any_of, identifier, names_where
from penstock.plan.windows import TIME, WINDOW, ExactWindows, LocalWindows, windowing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.model.finding import Finding
    from penstock.model.pipeline import Gold, Silver, Window
    from penstock.model.types import ColumnType
    from penstock.plan.measures import BoundMeasure, BoundMeasures

OVERFLOWS = "_overflows"
"""In final rows: the names of measures that are NULL because they could not be computed."""


@dataclass(frozen=True)
class GoldPlan:
    """A gold table as SQL for DuckDB with `TimeZone='UTC'`. Each text reads its relation once, so a stream will do.

    `partial_sql`   rows -> `window_start TIMESTAMPTZ`, the `by` columns, `_rows BIGINT`, states; a row counts in every
                    window it lies in. Empty where the table is not mergeable.
    `merge_sql`     partials -> the same columns, one row per window and group. Empty where it is not mergeable.
    `final_sql`     partials -> `window_start, window_end`, the `by` columns, the measures, `_rows`,
                    `_overflows VARCHAR[]`, one row per window and group. Empty where it is not mergeable.
    `recompute_sql` rows -> the same columns as `final_sql`.
    `window_sql`    rows -> DISTINCT `window_start` and the `by` columns: the windows these rows touch.

    `rows` are silver rows with at least the columns `reads`, `partials` what `partial_sql` or `merge_sql` gave.
    `lineage` maps a measure to the silver columns and measures it is made of, `measure_types` to its type, as far as it
    is known without an engine.
    """

    name: str
    window: Window
    by: tuple[str, ...]
    measures: tuple[str, ...]
    mergeable: bool
    partial_sql: str
    merge_sql: str
    final_sql: str
    recompute_sql: str
    window_sql: str
    lineage: tuple[tuple[str, tuple[str, ...]], ...]
    measure_types: tuple[tuple[str, str], ...]
    windows: ExactWindows | LocalWindows
    reads: tuple[str, ...]

    @property
    def rows_sql(self) -> str:
        """What new rows come to: their partials, or where there are none the windows they touch."""
        return self.partial_sql if self.mergeable else self.window_sql

    def window_end(self, start: int) -> int:
        """The end of the window that starts at `start`; of another instant, of the last window begun by then."""
        return self.windows.window_end(start)

    def first_window_start(self, after: int) -> int:
        """The start of the first window that ends after an instant: windows before it are closed at that instant."""
        return self.windows.first_window_start(after)

    def last_window_end(self, micros: int) -> int:
        """The end of the last window that holds an instant."""
        return self.windows.last_window_end(micros)


def compile_gold(gold: Gold, silver_columns: Sequence[tuple[str, ColumnType]], silver: Silver) -> GoldPlan:
    """The plan of a gold table over silver's columns (name and type, in table order).

    Raises:
        DeclarationError: with all findings of `gold_findings`.
    """
    columns = _scope(silver_columns)
    bound = bind_measures(gold, columns, silver)
    found = gold_findings(gold, silver_columns, silver)
    if found or isinstance(bound, tuple):
        raise DeclarationError(found)
    return _Compiler(gold, silver, columns, bound).plan()


def gold_findings(gold: Gold, silver_columns: Sequence[tuple[str, ColumnType]], silver: Silver) -> tuple[Finding, ...]:
    """Everything that keeps a gold table from being compiled. Never raises."""
    columns = _scope(silver_columns)
    found: list[Finding] = []
    if gold.where is not None:
        where = bind(gold.where, columns, condition=True)
        found += where if isinstance(where, tuple) else ()
    measures = bind_measures(gold, columns, silver)
    found += measures if isinstance(measures, tuple) else ()
    return tuple(sorted(set(found)))


def _scope(silver_columns: Sequence[tuple[str, ColumnType]]) -> dict[str, ColumnType]:
    return system_types() | dict(silver_columns)


class _Compiler:
    """Writes the SQL of one gold table."""

    def __init__(self, gold: Gold, silver: Silver, columns: Mapping[str, ColumnType], bound: BoundMeasures) -> None:
        self._gold = gold
        self._silver = silver
        self._columns = columns
        self._bound = bound
        self._windows = windowing(gold.window)
        self._by = tuple(identifier(name) for name in gold.by)

    def plan(self) -> GoldPlan:
        mergeable = self._bound.aggregates.mergeable
        partial, merged = self._partial(), self._merge("partials")
        measures = {measure.name: measure for measure in self._bound}
        return GoldPlan(
            name=self._gold.name,
            window=self._gold.window,
            by=self._gold.by,
            measures=tuple(measure.name for measure in self._gold.measures),
            mergeable=mergeable,
            partial_sql=partial if mergeable else "",
            merge_sql=merged if mergeable else "",
            final_sql=self._final(f"(\n{merged}\n)") if mergeable else "",
            recompute_sql=self._final(f"(\n{partial}\n)"),
            window_sql=f"SELECT DISTINCT {self._listed(f'make_timestamptz({WINDOW}) AS {WINDOW_START}')}\n"
            f"FROM ({self._windows.place(self._rows())})",
            lineage=tuple(
                (measure.name, (*measures[measure.name].columns, *measures[measure.name].measures))
                for measure in self._gold.measures
            ),
            measure_types=tuple((measure.name, measures[measure.name].type) for measure in self._gold.measures),
            windows=self._windows,
            reads=self._reads(),
        )

    def _reads(self) -> tuple[str, ...]:
        """The silver columns that the texts over `rows` name."""
        names = {*PLACE, INDEX, self._silver.event_time, *self._silver.order, *self._gold.by}
        names.update(name for measure in self._bound for name in measure.columns)
        if self._gold.where is not None:
            where = bind(self._gold.where, self._columns, condition=True)
            assert not isinstance(where, tuple), "findings come first"
            names.update(where.columns)
        return tuple(sorted(names))

    def _listed(self, first: str, *rest: str) -> str:
        return ",\n  ".join((first, *self._by, *rest))

    def _rows(self) -> str:
        """The rows that count, with their event time in microseconds."""
        event_time = identifier(self._silver.event_time)
        condition = f"{event_time} IS NOT NULL"
        if self._gold.where is not None:
            where = bind(self._gold.where, self._columns, condition=True)
            assert not isinstance(where, tuple), "findings come first"
            safe = cannot_fail(parse(self._gold.where.sql), TypedNames(self._columns).type_of)
            condition += f" AND {where.sql if safe else attempt(where.sql) + '.v'}"
        return f"(SELECT *, epoch_us({event_time}) AS {TIME} FROM rows WHERE {condition})"

    def _partial(self) -> str:
        """Rows to states. Hopping windows whose states merge take the way over panes as long as a step: a row is
        looked at once, and only panes are multiplied."""
        windows = self._windows
        panes = isinstance(windows, ExactWindows) and windows.size > windows.every and self._bound.aggregates.mergeable
        if not panes:
            return self._reduce(windows.place(self._rows()))
        assert isinstance(windows, ExactWindows)
        pane = ExactWindows(windows.every, windows.every, windows.anchor)
        reduced = self._reduce(pane.place(self._rows()))
        starts = f"range(epoch_us({WINDOW_START}), epoch_us({WINDOW_START}) - {windows.size}, -{windows.every})"
        spread = (
            f"SELECT * EXCLUDE (_pane) REPLACE (make_timestamptz(_pane) AS {WINDOW_START})\n"
            f"FROM (SELECT *, unnest({starts}) AS _pane FROM (\n{reduced}\n))"
        )
        return self._merge(f"(\n{spread}\n)")

    def _reduce(self, placed: str) -> str:
        attempts = self._bound.aggregates.attempts
        if attempts:
            items = ", ".join(f"{attempt(sql)} AS {name}" for sql, name in attempts.items())
            placed = f"SELECT *, {items} FROM ({placed})"
        states = (f"{state.partial} AS {state.name}" for state in self._bound.aggregates.states)
        columns = self._listed(f"make_timestamptz({WINDOW}) AS {WINDOW_START}", f"count(*) AS {ROWS}", *states)
        return f"SELECT {columns}\nFROM ({placed})\nGROUP BY {', '.join((WINDOW, *self._by))}"

    def _merge(self, partials: str) -> str:
        aggregates = self._bound.aggregates
        keys = ", ".join((WINDOW_START, *self._by))
        if aggregates.means:
            items = ", ".join(f"{sql} AS {name}" for name, sql in aggregates.means.items())
            partials = f"(SELECT *, {items} FROM {partials} WINDOW whole AS (PARTITION BY {keys}))"
        states = (f"{state.merge} AS {state.name}" for state in aggregates.states)
        columns = self._listed(WINDOW_START, f"CAST(sum({ROWS}) AS BIGINT) AS {ROWS}", *states)
        return f"SELECT {columns}\nFROM {partials}\nGROUP BY {keys}"

    def _final(self, partials: str) -> str:
        layers = Layers(["*"], f"FROM {self._windows.with_ends(partials)}")
        results = self._bound.aggregates.results
        layers.add([(result.name, result.value) for result in results])
        layers.add([(f"_failed{result.name}", result.failed) for result in results if result.failed != "FALSE"])
        failing = {result.name: f"_failed{result.name}" for result in results if result.failed != "FALSE"}
        for group in self._bound.groups:
            layers.add(
                [(f"_m_{measure.name}", attempt(measure.sql) if measure.may_fail else measure.sql) for measure in group]
            )
            layers.add([(f"_x_{measure.name}", self._has_failed(measure, failing)) for measure in group])
            values = []
            for measure in group:
                value = identifier(f"_m_{measure.name}") + (".v" if measure.may_fail else "")
                values.append(
                    (f"_r_{measure.name}", f"CASE WHEN NOT {identifier(f'_x_{measure.name}')} THEN {value} END")
                )
            layers.add(values)
        failed = names_where([(identifier(f"_x_{measure.name}"), measure.name) for measure in self._gold.measures])
        layers.select(
            (
                WINDOW_START,
                f"make_timestamptz(_window_end) AS {WINDOW_END}",
                *self._by,
                *(f"{value_name(measure.name)} AS {identifier(measure.name)}" for measure in self._gold.measures),
                ROWS,
                f"{failed} AS {OVERFLOWS}",
            )
        )
        return layers.sql()

    def _has_failed(self, measure: BoundMeasure, failing: Mapping[str, str]) -> str:
        """The condition under which a measure is NULL for a reason other than its rows' NULLs."""
        value = identifier(f"_m_{measure.name}")
        conditions = [failing[name] for name in measure.aggregates if name in failing]
        conditions += [identifier(f"_x_{name}") for name in measure.measures]
        if measure.may_fail:
            conditions.append(f"{value} IS NULL")
            value += ".v"
        if measure.may_be_float:
            # Division by zero and overflow of floats do not raise; they give what no column of ours can hold.
            infinite = f"NOT isfinite(TRY_CAST({value} AS DOUBLE))"
            conditions.append(f"(typeof({value}) IN ('DOUBLE', 'FLOAT') AND {infinite})")
        return f"coalesce({any_of(conditions)}, FALSE)"
