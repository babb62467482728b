"""`penstock tables`: what the lake holds."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.output import note, print_json, print_table, size
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@json_option
@pass_session
def command(session: Session, as_json: bool) -> None:
    """List the tables of the lake, with rows, files and bytes.

    \b
    Example:
      penstock -C shop tables
    """
    tables = session.project().tables()
    if as_json:
        print_json([dataclasses.asdict(table) for table in tables])
        return
    if not tables:
        note("the lake has no tables yet: `penstock run --once` makes them")
        return
    headers = ("table", "rows", "files", "bytes", "version", "batch")
    rows = [(t.name, f"{t.rows:,}", t.files, size(t.bytes), t.version, t.batch) for t in tables]
    print_table(headers, rows, headers[1:])
