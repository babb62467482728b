"""`penstock trace`: from a row back to the raw bytes, or from a record forward."""

from __future__ import annotations

import click

from penstock.cli.output import print_json
from penstock.cli.session import Session, json_option, pass_session
from penstock.cli.traces import print_trace
from penstock.errors import UsageError


@click.command()
@click.argument("table", required=False)
@click.option("--where", metavar="SQL", help="Which rows of TABLE.")
@click.option("--forward", metavar="PIPELINE:SOURCE/PARTITION/OFFSET", help="A record's place in bronze.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows at most.")
@json_option
@pass_session
def command(
    session: Session, table: str | None, where: str | None, forward: str | None, limit: int, as_json: bool
) -> None:
    """Follow a row back to the raw bytes, or a record forward.

    Back: from rows of gold, silver or rejects to the silver rows and bronze records they were made from, with the
    contract and reference versions that were in force. Forward: from a record to where each of its events ended, and
    the windows they are in. Every file that is read is checked first.

    \b
    Examples:
      penstock -C shop trace gold.bars_1m --where "instrument_id = 'INST-00042' and trades > 1"
      penstock -C shop trace rejects.ticks --where "list_contains(failed, 'malformed')" --limit 3
      penstock -C shop trace --forward ticks:1/0/4711
    """
    if (table is None) == (forward is None):
        raise UsageError(
            "name either a table with --where, or a record with --forward",
            hint="For example: penstock trace silver.ticks --where \"venue = 'XNAS'\"",
        )
    project = session.project()
    if forward is not None:
        trace = project.trace_forward(forward)
    else:
        assert table is not None
        trace = project.trace(table, where=where or "true", limit=limit)
    if as_json:
        print_json(trace.as_json())
    else:
        print_trace(trace)
