"""Pipelines and records made up from a seed: columns, key, rules, windows and measures, and what is sent to them.

A record is made together with what each of its columns must become (`MISFIT`: no value of the type), so that
`made_oracle.py` needs no parser and no cast.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

MISFIT = object()
PUSH = "push: {}"
START = 1_711_756_800_000
"""2024-03-30, midnight UTC, in milliseconds: the clocks of Berlin go forward on the next day."""

SPAN = 60 * 3_600_000
"""How long events go on, in milliseconds."""


@dataclass(frozen=True)
class Kind:
    """A column type: a fitting value with what becomes of it, and values that do not fit."""

    text: str
    fitting: Callable[[random.Random], tuple[Any, Any]]
    misfits: tuple[Any, ...]
    is_number: bool = False


def _word(draw: random.Random) -> tuple[Any, Any]:
    word = draw.choice(("", "a", "b", "c", "ü\u2028", "NULL"))
    return word, word


def _whole(draw: random.Random) -> tuple[Any, Any]:
    number = draw.choice((0, -1, draw.randrange(-100, 100), draw.randrange(-100, 100)))
    return draw.choice((number, str(number), float(number))), number


def _float(draw: random.Random) -> tuple[Any, Any]:
    number = draw.choice((0.0, draw.uniform(-1e3, 1e3), draw.uniform(-1e3, 1e3), draw.uniform(-1e-9, 1e9)))
    return number, number


def _decimal(draw: random.Random) -> tuple[Any, Any]:
    number = Decimal(draw.randrange(-99_999, 99_999)).scaleb(-2)
    return str(number), number


def _truth(draw: random.Random) -> tuple[Any, Any]:
    value = draw.random() < 0.5
    return draw.choice((value, str(value).lower())), value


KINDS = (
    Kind("string", _word, (True, [1], {"a": 1})),
    Kind("int32", _whole, (1.5, "x", 2**31, True, "0x10"), is_number=True),
    Kind("int64", _whole, (-0.25, "", 2**63, [1]), is_number=True),
    Kind("float64", _float, ("abc", False), is_number=True),
    Kind("decimal(9,2)", _decimal, (1.234, "12345678.90", "1e", True), is_number=True),
    Kind("boolean", _truth, (1, "yes")),
)


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    required: bool


@dataclass(frozen=True)
class Rule:
    """`column` compared with `bound`: `>=` a number, or `<>` a word."""

    name: str
    column: str
    bound: Any
    action: str

    @property
    def sql(self) -> str:
        return f"{self.column} <> '{self.bound}'" if isinstance(self.bound, str) else f"{self.column} >= {self.bound}"

    def passes(self, value: Any) -> bool:
        if value is None:
            return False
        return bool(value != self.bound if isinstance(self.bound, str) else value >= self.bound)


@dataclass(frozen=True)
class Window:
    """`size` and `every` in seconds; a window of days is one of a time zone's."""

    size: int
    every: int
    zone: str | None = None

    @property
    def text(self) -> str:
        if self.zone is not None:
            return f"{{size: {self.size // 86_400} days, timezone: {self.zone}}}"
        return f"{{size: {self.size} seconds, every: {self.every} seconds}}"


WINDOWS = (
    Window(60, 60),
    Window(900, 900),
    Window(3_600, 900),
    Window(7_200, 7_200),
    Window(86_400, 86_400, "Europe/Berlin"),
)


@dataclass(frozen=True)
class Gold:
    """`measures` are (name, function, column); `where` is a rule that rows of the table pass."""

    name: str
    window: Window
    by: tuple[str, ...]
    measures: tuple[tuple[str, str, str], ...]
    where: Rule | None


@dataclass(frozen=True)
class Made:
    """A pipeline. `unique_within` is in seconds; None: for ever."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique_within: int | None
    late_after: int
    rules: tuple[Rule, ...]
    golds: tuple[Gold, ...]

    def yaml(self, origin: str = PUSH) -> str:
        lines = ["pipeline: made", f"source: {{{origin}, format: json}}", "silver:", "  table: made"]
        if self.key:
            lines.append(f"  key: [{', '.join(self.key)}]")
            if self.unique_within is not None:
                lines.append(f"  unique_within: {self.unique_within} seconds")
        lines += ["  event_time: at", "  order: [id]", f"  late_after: {self.late_after} seconds", "  columns:"]
        lines += ["    id: {type: int64, required: true}", "    at: {type: timestamp, unit: ms, required: true}"]
        for column in self.columns:
            required = ", required: true" if column.required else ""
            lines.append(f'    {column.name}: {{type: "{column.kind.text}"{required}}}')
        if self.rules:
            lines.append("  rules:")
        for rule in self.rules:
            lines.append(f'    {rule.name}: {{check: "{rule.sql}", otherwise: {rule.action}}}')
        lines.append("gold:")
        for gold in self.golds:
            lines += [f"  {gold.name}:", f"    window: {gold.window.text}"]
            if gold.by:
                lines.append(f"    by: [{', '.join(gold.by)}]")
            if gold.where is not None:
                lines.append(f'    where: "{gold.where.sql}"')
            lines.append("    measures:")
            for name, function, column in gold.measures:
                argument = f"{column}, 0.5" if function == "quantile" else column
                lines.append(f'      {name}: "{function}({argument})"')
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Record:
    """What is sent, and the values its columns must get; None for a record that is not JSON."""

    value: bytes
    columns: dict[str, Any] | None = field(compare=False)


def pipeline(draw: random.Random) -> Made:
    columns = tuple(
        Column(f"c{number}", draw.choice(KINDS), draw.random() < 0.3) for number in range(draw.randrange(2, 6))
    )
    usable = tuple(column for column in columns if column.kind.text != "float64")
    key: tuple[str, ...] = ()
    if draw.random() < 0.75:
        key = ("id", *[column.name for column in usable[:1] if draw.random() < 0.4])
    rules = tuple(
        _rule(f"r{number}", draw.choice(columns), draw.choice(("quarantine", "flag")), draw)
        for number in range(draw.randrange(4))
    )
    golds = tuple(_gold(f"g{number}", columns, draw) for number in range(draw.randrange(1, 4)))
    return Made(
        columns,
        key,
        draw.choice((None, 3_600, 86_400)) if key else None,
        draw.choice((0, 30, 3_600, 100_000)),
        tuple(rule for rule in rules if rule is not None),
        golds,
    )


def _rule(name: str, column: Column, action: str, draw: random.Random) -> Rule | None:
    if column.kind.is_number:
        return Rule(name, column.name, draw.randrange(-60, 20), action)
    return Rule(name, column.name, "a", action) if column.kind.text == "string" else None


def _gold(name: str, columns: tuple[Column, ...], draw: random.Random) -> Gold:
    by = tuple(column.name for column in columns if column.kind.text in ("string", "boolean"))[: draw.randrange(3)]
    measures = [("n", "count", "")]
    for column in columns:
        functions = ["count", "min", "max", "first", "last", "count_distinct"]
        if column.kind.text == "boolean":
            functions = ["count", "first", "last"]
        if column.kind.is_number:
            functions += ["sum", "avg", "stddev", "quantile"]
        for function in draw.sample(functions, 2):
            measures.append((f"{function}_{column.name}", function, column.name))
    where = _rule("where", draw.choice(columns), "", draw) if draw.random() < 0.3 else None
    return Gold(name, draw.choice(WINDOWS), by, tuple(measures), where)


def records(made: Made, count: int, draw: random.Random) -> list[Record]:
    """Records in order of arrival: some late, broken, doubled byte for byte, or contesting another's key."""
    found: list[Record] = []
    for number in range(count):
        if found and draw.random() < 0.06:
            found.append(draw.choice(found))
        elif draw.random() < 0.04:
            found.append(Record(draw.choice((b"{", b"\xff", b"[]", b'{"id": 1,}')), None))
        else:
            found.append(_record(made, number, count, draw))
    return found


def _record(made: Made, number: int, count: int, draw: random.Random) -> Record:
    at = START + SPAN * number // count
    if draw.random() < 0.2:
        at -= draw.randrange(SPAN)
    document: dict[str, Any] = {"id": draw.randrange(count) if draw.random() < 0.05 else number, "at": at}
    columns: dict[str, Any] = {"id": document["id"], "at": at * 1_000}
    for column in made.columns:
        chance = draw.random()
        if chance < 0.07:
            columns[column.name] = None
            if chance < 0.04:
                document[column.name] = None
        elif chance < 0.1:
            document[column.name], columns[column.name] = draw.choice(column.kind.misfits), MISFIT
        else:
            document[column.name], columns[column.name] = column.kind.fitting(draw)
    return Record(json.dumps(document).encode(), columns)


def make_project(folder: Path, declared: Made, origin: str = PUSH) -> Path:
    """A project folder that holds the pipeline."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / "penstock.yaml").write_text("lake: lake\nlimits: {threads: 1}\n")
    (folder / "pipelines" / "made.yaml").write_text(declared.yaml(origin))
    return folder
