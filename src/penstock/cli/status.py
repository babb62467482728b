"""`penstock status`: how far each pipeline is."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.lags import LAG_HEADERS, lag_row
from penstock.cli.output import moment, print_facts, print_json, print_table
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@json_option
@pass_session
def command(session: Session, as_json: bool) -> None:
    """Show how far each pipeline is: batches, rows by outcome, watermark, what waits at the source.

    \b
    Example:
      penstock -C shop status
    """
    statuses = session.project().status()
    if as_json:
        print_json({status.pipeline: dataclasses.asdict(status) for status in statuses})
        return
    for number, status in enumerate(statuses):
        if number:
            click.echo()
        click.echo(click.style(f"pipeline {status.pipeline}", bold=True))
        facts = [
            ("source", status.source),
            ("contract", status.contract),
            ("batches", f"{status.batches:,}"),
            ("last batch", moment(status.last_batch_at)),
            ("records", f"{status.records:,}"),
            ("accepted", f"{status.accepted:,}"),
            ("quarantined", f"{status.quarantined:,}"),
            ("duplicate", f"{status.duplicate:,}"),
            ("skipped", f"{status.skipped:,}"),
            ("flagged", f"{status.flagged:,}"),
            ("waiting", "unknown" if status.waiting is None else f"{status.waiting:,}"),
            ("watermark", moment(status.watermark)),
            ("closed until", moment(status.closed_until)),
        ]
        if status.source_error is not None:
            facts.append(("source says", status.source_error))
        print_facts(facts)
        if status.lag:
            print_table(LAG_HEADERS, [lag_row(one) for one in status.lag], LAG_HEADERS)
