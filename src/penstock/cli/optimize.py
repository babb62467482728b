"""`penstock optimize`: merge small files, and cluster by columns."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.output import note, print_json, print_table, size
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--zorder", metavar="COLUMNS", help="Cluster by these columns, separated by commas.")
@json_option
@pass_session
def command(session: Session, tables: tuple[str, ...], zorder: str | None, as_json: bool) -> None:
    """Merge small files into large ones; positions, rows, readers and time travel stay as they are.

    Without TABLE all tables of all pipelines. With --zorder, rows that are near in these columns come to lie in the
    same files, so that queries over them read less.

    \b
    Examples:
      penstock -C shop optimize
      penstock -C shop optimize silver.ticks --zorder instrument_id,event_time
    """
    columns = tuple(name.strip() for name in (zorder or "").split(",") if name.strip())
    done = session.project().optimize(tables, zorder=columns, report=note)
    if as_json:
        print_json([dataclasses.asdict(one) for one in done])
        return
    headers = ("table", "files before", "files after", "bytes before", "bytes after")
    rows = [(d.table, d.files_before, d.files_after, size(d.bytes_before), size(d.bytes_after)) for d in done]
    print_table(headers, rows, headers[1:])
