"""`penstock history`: the commits of a table."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.output import moment, print_json, print_table
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@click.argument("table")
@click.option("--limit", default=20, show_default=True, help="How many, the newest first; 0 for all.")
@json_option
@pass_session
def command(session: Session, table: str, limit: int, as_json: bool) -> None:
    """Show the commits of a table, the newest first: version, time, batch, files and rows.

    \b
    Example:
      penstock -C shop history gold.bars_1m
    """
    commits = session.project().history(table, limit=limit or None)
    if as_json:
        print_json([dataclasses.asdict(commit) for commit in commits])
        return
    headers = ("version", "time", "operation", "batch", "files added", "files removed", "rows added")
    rows = [
        (c.version, moment(c.time), c.operation, c.batch, c.files_added, c.files_removed, c.rows_added) for c in commits
    ]
    print_table(headers, rows, ("version", "batch", "files added", "files removed", "rows added"))
