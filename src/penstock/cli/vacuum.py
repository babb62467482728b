"""`penstock vacuum`: delete files that nothing within the kept period needs."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.output import note, print_json, print_table, size
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@json_option
@pass_session
def command(session: Session, tables: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete files that no version within the kept period (kept_days) needs.

    \b
    Example:
      penstock -C shop vacuum --dry-run
    """
    done = session.project().vacuum(tables, dry_run=dry_run, report=note)
    if as_json:
        print_json([dataclasses.asdict(one) for one in done])
        return
    headers = ("table", "files", "bytes")
    print_table(headers, [(one.table, one.files, size(one.bytes)) for one in done], headers[1:])
    files, total = sum(one.files for one in done), sum(one.bytes for one in done)
    click.echo(f"{'would delete' if dry_run else 'deleted'} {files:,} files, {size(total)}")
