"""`penstock bench`: measure this machine."""

from __future__ import annotations

from pathlib import Path

import click

from penstock import bench
from penstock.cli.output import note, print_json
from penstock.cli.session import json_option


@click.command()
@click.option("--events", type=click.IntRange(1000), default=2_000_000, show_default=True, help="How many ticks.")
@click.option(
    "--batch-rows", type=click.IntRange(1), multiple=True, help="Rows in a batch; may be given several times."
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A script of the same shape to run in turn; see benchmarks/README.md.",
)
@click.option("--no-audit", is_flag=True, help="Do not audit the result of each run.")
@json_option
def command(events: int, batch_rows: tuple[int, ...], against: Path | None, no_audit: bool, as_json: bool) -> None:
    """Measure this machine: events a second from a file to bronze, silver, gold and ledger, with reconciled counts.

    \b
    Example:
      penstock bench --events 1000000
    """
    options = {"batch_rows": batch_rows} if batch_rows else {}
    say = note if as_json else click.echo
    figures = bench.main(events=events, against=against, audit=not no_audit, say=say, **options)
    if as_json:
        print_json(figures)
