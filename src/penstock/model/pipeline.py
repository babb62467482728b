"""A pipeline as declared: the frozen nouns that `declare` builds from YAML and `plan` compiles.

Every noun refuses nonsense that would be nonsense in any file; what needs a file's context (unknown columns, cycles,
names that clash) is a finding of `declare`, and what needs SQL is a finding of `plan`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from penstock.model.finding import Mark
from penstock.model.kafka import KafkaSource, RejectsTopic

if TYPE_CHECKING:
    from penstock.model.fields import FieldPath
    from penstock.model.types import ColumnType

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""Names of pipelines, tables, columns, rules and measures: the same in folders, metrics and URLs."""

NOWHERE = Mark("", 1, 1)


@dataclass(frozen=True)
class Expression:
    """SQL as the user wrote it (DuckDB's dialect) and where; `mark` is the place of its first character.

    `runs` maps offsets in `sql` to the file where the two do not simply run side by side (several lines, escapes): each
    is (offset, line, column), from that offset up to the next one's.
    """

    sql: str
    mark: Mark = field(default=NOWHERE, compare=False)
    runs: tuple[tuple[int, int, int], ...] = field(default=(), compare=False, repr=False)

    def at(self, offset: int) -> Mark:
        """The place in the file of the character at `offset` (zero-based, clipped to the text) of `sql`."""
        offset = min(max(offset, 0), len(self.sql))
        index = bisect_right(self.runs, offset, key=lambda run: run[0]) - 1
        if index < 0:
            return Mark(self.mark.file, self.mark.line, self.mark.column + offset)
        start, line, column = self.runs[index]
        return Mark(self.mark.file, line, column + offset - start)


# -- source -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PushSource:
    """Records pushed by the command line (later HTTP) into the local log."""

    partitions: int = 1
    kind: str = "push"


@dataclass(frozen=True)
class FilesSource:
    """A folder of files, relative to the project folder."""

    path: str
    kind: str = "files"


@dataclass(frozen=True)
class SimulateSource:
    """A seeded producer of a made-up world (`market` or `iot`), read directly by the pipeline.

    `events` is how many records there are in all; None means without end, at `rate` records a second of wall time.
    """

    world: str
    seed: int = 1
    rate: int = 10_000
    faults: float = 0.02
    events: int | None = None
    kind: str = "simulate"


Origin = PushSource | FilesSource | KafkaSource | SimulateSource


@dataclass(frozen=True)
class JsonFormat:
    kind: str = "json"


@dataclass(frozen=True)
class ParquetFormat:
    """Files only: each row becomes a record of JSON text."""

    kind: str = "parquet"


@dataclass(frozen=True)
class CsvFormat:
    """Delimited text. With `header` each file's first line names the fields; else `columns` does."""

    header: bool = True
    delimiter: str = ","
    quote: str = '"'
    null: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    kind: str = "csv"


@dataclass(frozen=True)
class TextFormat:
    """Lines matched whole by a regular expression (RE2); its named groups are the fields; one may hold JSON."""

    pattern: str
    json: str | None = None
    kind: str = "text"


Format = JsonFormat | CsvFormat | TextFormat | ParquetFormat


@dataclass(frozen=True)
class Source:
    """Where events come from and how a record becomes events.

    `records` is the path to a list inside the record, each element of which is an event; `where` selects events.
    `on_data_loss` is `stop` or `record`.
    """

    origin: Origin
    format: Format = JsonFormat()
    records: FieldPath | None = None
    where: Expression | None = None
    on_data_loss: str = "stop"


# -- references -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """A table of facts to look up: a CSV, NDJSON or Parquet file or a Delta table, relative to the project folder."""

    name: str
    file: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, ColumnType], ...] = ()
    mark: Mark = field(default=NOWHERE, compare=False)


@dataclass(frozen=True)
class Lookup:
    """`reference.column` of the row whose key equals the columns `on`."""

    reference: str
    column: str
    on: tuple[str, ...]


# -- silver -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A silver column. Exactly one of `path`, `lookup`, `sql` says where its value comes from.

    `type` is None only for a lookup: then the type is the reference column's.
    `unit` (s, ms, us, ns) reads numbers as time since the epoch; `format` (strptime) and `timezone` read text.
    """

    name: str
    type: ColumnType | None
    path: FieldPath | None = None
    lookup: Lookup | None = None
    sql: Expression | None = None
    required: bool = False
    unit: str | None = None
    format: str | None = None
    timezone: str | None = None
    fold: str = "earlier"
    mark: Mark = field(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        if sum(origin is not None for origin in (self.path, self.lookup, self.sql)) != 1:
            raise ValueError(f"column {self.name}: exactly one of path, lookup, sql")


class Action(StrEnum):
    """What happens to a row that fails a rule."""

    QUARANTINE = "quarantine"
    FLAG = "flag"
    STOP = "stop"


@dataclass(frozen=True)
class Rule:
    """A condition that a row passes only when it is TRUE."""

    name: str
    check: Expression
    otherwise: Action = Action.QUARANTINE
    mark: Mark = field(default=NOWHERE, compare=False)


BUILT_IN_RULES = ("malformed", "required", "type", "error", "future", "too_large")
"""Rules that are always there; `required`, `type` and `error` are followed by `:column`."""


@dataclass(frozen=True)
class Silver:
    """The table of accepted events.

    `event_time` names a column of `columns`, or is `_timestamp`. Durations are in microseconds; `unique_within` None
    means over the whole history; `future_after` None means that no row is too far ahead.
    """

    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    unique_within: int | None = None
    event_time: str = "_timestamp"
    order: tuple[str, ...] = ()
    late_after: int = 0
    future_after: int | None = None
    rules: tuple[Rule, ...] = ()


# -- gold -------------------------------------------------------------------------------------------------------------


class SpanUnit(StrEnum):
    MICROSECOND = "microsecond"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True)
class Span:
    """A length of time: exact microseconds below a day, calendar days or weeks from a day on."""

    count: int
    unit: SpanUnit

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a span of {self.count} {self.unit}s: at least 1")


@dataclass(frozen=True)
class Window:
    """Windows of `size`, one starting every `every` (equal to size: tumbling). Calendar spans are local to `timezone`.

    Under a day windows are aligned to the epoch, days to local midnight, weeks to local Monday.
    """

    size: Span
    every: Span
    timezone: str = "UTC"

    @property
    def is_tumbling(self) -> bool:
        return self.size == self.every


@dataclass(frozen=True)
class Measure:
    """A named SQL expression over aggregates of a window's rows."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Gold:
    """A gold table: one row per `by` and closed window."""

    name: str
    window: Window
    by: tuple[str, ...]
    measures: tuple[Measure, ...]
    where: Expression | None = None
    mark: Mark = field(default=NOWHERE, compare=False)


# -- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline:
    """One declaration, applied as one contract. `text` is the YAML as written, `${NAME}` unsubstituted."""

    name: str
    source: Source
    silver: Silver
    references: tuple[Reference, ...] = ()
    gold: tuple[Gold, ...] = ()
    description: str = ""
    rejects: RejectsTopic | None = field(default=None, compare=False)
    text: str = field(default="", compare=False)
    file: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"pipeline name {self.name!r}")
