"""Printing for people and for programs. The only place that draws; commands hand it facts."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def print_json(value: Any) -> None:
    """One JSON value on standard output, indented for a terminal, on one line for a program."""
    options = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0)
    click.echo(orjson.dumps(value, option=options))


def note(text: str) -> None:
    """A remark for the person, on standard error: it never mixes with facts that are piped on."""
    click.echo(text, err=True)


def console(*, stderr: bool = False) -> Console:
    """A rich console that writes plain text where there is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that `--help` need not pay

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()) -> None:
    """A table on standard output. Columns named in `numbers` are set to the right.

    On a terminal long cells are wrapped, and rows of more columns than fit are written one below the other; elsewhere
    every value is on its row, whole.
    """
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [[printable(value) for value in row] for row in rows]
    terminal = sys.stdout.isatty()
    target = console()
    if terminal and _narrowest(headers, cells) > target.width:
        _print_records(headers, cells)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for header in headers:
        justify: Any = "right" if header in numbers else "left"
        table.add_column(Text(header), justify=justify, overflow="fold", no_wrap=header in numbers or not terminal)
    for row in cells:
        table.add_row(*map(Text, row))
    if terminal:
        target.print(table)
        return
    target.width = UNLIMITED_WIDTH
    with target.capture() as captured:
        target.print(table, crop=False)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _narrowest(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """The width below which a table of these cells cannot be read: columns shorter than COLUMN_WIDTH_MIN stay whole."""
    longest = [max((len(row[index]) for row in cells), default=0) for index in range(len(headers))]
    widths = [min(COLUMN_WIDTH_MIN, max(len(header), most)) for header, most in zip(headers, longest, strict=True)]
    return sum(widths) + 3 * len(headers)


def _print_records(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(cells, 1):
        click.echo(click.style(f"row {number}", bold=True))
        print_facts(zip(headers, row, strict=True))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line, values below each other."""
    shown = [(name, printable(value)) for name, value in facts]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"  {name:<{width}}  {value}".rstrip())


COLUMN_WIDTH_MIN = 20
"""Characters a column gets on a terminal before its cells are wrapped: a time without a fraction, a short word."""

UNLIMITED_WIDTH = 100_000
"""Width where no terminal sets one: wide enough for any value a table shows."""


def printable(value: object) -> str:
    """A value in a table's cell: numbers grouped, NULL empty, control characters visible."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return readable(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, list | dict | tuple):
        return plain(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
    return plain(str(value))


def plain(text: str) -> str:
    """`text` on one line and harmless on a terminal: control characters, escapes among them, are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def readable(value: bytes) -> str:
    """Bytes as text where they are UTF-8, else as hexadecimal."""
    try:
        return plain(value.decode())
    except UnicodeDecodeError:
        return "\\x" + value.hex()


def moment(value: datetime | int | None) -> str:
    """A time (or microseconds since the epoch) in UTC, without a fraction that is zero."""
    if value is None:
        return ""
    if isinstance(value, int):
        try:
            value = EPOCH + timedelta(microseconds=value)
        except OverflowError:
            return f"{value} us"
    text = value.astimezone(UTC).isoformat(sep=" ") if value.tzinfo else value.isoformat(sep=" ")
    return text.replace("+00:00", "Z")


def count(value: int, noun: str, plural: str = "") -> str:
    """`1 row`, `2,000 rows`, `3 batches`."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def size(value: int | float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people: `0.3 s`, `5 min 12 s`, `2 h 3 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
