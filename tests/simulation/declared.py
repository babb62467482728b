"""A declaration as a value: what a simulation changes of it, its YAML, and the changes that must be refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

HOUR = 3_600
WINDOWS = {"minutes": 60, "sites": 300, "hours": HOUR, "quarters": 900}
"""Gold tables and the length of their windows, in seconds."""

GOLD = {
    "minutes": "{window: 1 minute, by: [site], measures: {n: count(), total: sum(value), latest: last(value)}}",
    "sites": '{window: 5 minutes, measures: {sites: count_distinct(site), median: "quantile(value, 0.5)"}}',
    "hours": "{window: 1 hour, by: [factor], measures: {n: count(), low: min(value), first_id: first(id)}}",
    "quarters": "{window: {size: 30 minutes, every: 15 minutes}, measures: {n: count(), high: max(value)}}",
}
SPANS = {"minutes": 60, "sites": 300, "hours": HOUR, "quarters": 1_800}
"""The size of a window; that of hopping ones is a multiple of their distance."""

ADDED_COLUMNS = ("note: {type: string}", "grade: {type: int32}")

TEXT = """\
pipeline: {name}
description: {description}
source:
  {source}
  format: json
  where: kind <> 'noise'
references:
  places: {{file: places.csv, key: site, columns: {{factor: int64}}}}
silver:
  table: {name}_rows
{identity}  event_time: at
  order: [id]
  late_after: {late_after} seconds
  future_after: {future_after} minutes
  columns:
    id: {{type: int64, required: true}}
    site: {{type: string, required: true}}
    at: {{type: timestamp, unit: ms, required: true}}
    value: {{type: "decimal(12,3)", required: true}}
    factor: {{lookup: places.factor}}
{columns}  rules:
    sane: {{check: value >= {least}}}
{rules}gold:
{gold}
"""

REFUSED: tuple[tuple[str, str], ...] = (
    ("  event_time: at\n", "  event_time: _timestamp\n"),
    ("  order: [id]\n", "  order: [site]\n"),
    ("where: kind <> 'noise'", "where: kind = 'reading'"),
    ('"decimal(12,3)"', '"decimal(14,3)"'),
    ("    factor: {lookup: places.factor}\n", ""),
    ("at: {type: timestamp, unit: ms, required: true}", "at: {type: timestamp, unit: us, required: true}"),
    ("window: 1 minute", "window: 2 minutes"),
    ("key: site, columns: {factor: int64}", "key: site, columns: {factor: int32}"),
    ("total: sum(value)", "total: sum(value + 0)"),
    ("_rows\n", "_others\n"),
)
"""What is replaced by what in a declaration to change the meaning of rows that are there."""


@dataclass(frozen=True)
class Declared:
    """One declaration. `key`, `unique_within` and `origin` stay as they are; the rest may change."""

    name: str
    origin: str = "push"
    key: bool = True
    unique_within: int | None = 86_400
    least: int = 0
    flagged_from: int | None = 90
    stopped_from: int | None = None
    unknown_site: str = "quarantine"
    late_after: int = 30
    future_after: int = 60
    columns: int = 0
    gold: tuple[str, ...] = ("minutes", "sites")
    description: str = "Readings."

    @property
    def silver(self) -> str:
        return f"{self.name}_rows"

    def yaml(self) -> str:
        identity = "  key: [id]\n" if self.key else ""
        if self.key and self.unique_within is not None:
            identity += f"  unique_within: {self.unique_within} seconds\n"
        rules = ""
        if self.unknown_site != "ignore":
            rules += f"    known: {{check: factor is not null, otherwise: {self.unknown_site}}}\n"
        if self.flagged_from is not None:
            rules += f"    small: {{check: value < {self.flagged_from}, otherwise: flag}}\n"
        if self.stopped_from is not None:
            rules += f"    bounded: {{check: value is null or value < {self.stopped_from}, otherwise: stop}}\n"
        return TEXT.format(
            name=self.name,
            description=self.description,
            source="push: {}" if self.origin == "push" else f"files: {{path: {self.name}_incoming}}",
            identity=identity,
            late_after=self.late_after,
            future_after=self.future_after,
            columns="".join(f"    {column}\n" for column in ADDED_COLUMNS[: self.columns]),
            least=self.least,
            rules=rules,
            gold="\n".join(f"  {self.name}_{gold}: {GOLD[gold]}" for gold in self.gold),
        )


def first(name: str, draw: random.Random) -> Declared:
    """A declaration to begin with."""
    key = draw.random() < 0.85
    return Declared(
        name,
        origin=draw.choice(("push", "push", "files")),
        key=key,
        unique_within=draw.choice((None, HOUR, 86_400, 86_400)) if key else None,
        late_after=draw.choice((0, 10, 30, 600)),
        gold=draw.choice((("minutes",), ("minutes", "sites"), ("minutes", "quarters"))),
    )


CHANGES: tuple[Callable[[Declared, random.Random], Declared], ...] = (
    lambda was, draw: replace(was, least=draw.choice((-8, -4, 0, 4))),
    lambda was, draw: replace(was, flagged_from=draw.choice((None, 60, 80, 90))),
    lambda was, draw: replace(was, unknown_site=draw.choice(("quarantine", "flag", "ignore"))),
    lambda was, draw: replace(was, late_after=draw.choice((0, 5, 30, 300, 3_000))),
    lambda was, draw: replace(was, future_after=draw.choice((1, 60, 600))),
    lambda was, draw: replace(was, columns=min(len(ADDED_COLUMNS), was.columns + 1)),
    lambda was, draw: replace(was, gold=(*was.gold, *[name for name in GOLD if name not in was.gold][:1])),
    lambda was, draw: replace(was, stopped_from=draw.choice((None, 70, 99))),
    lambda was, draw: replace(was, description=f"Readings, {draw.randrange(1_000)}."),
)
"""Changes that apply from the next batch on."""
