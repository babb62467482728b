"""`penstock audit`: the laws, checked from the files."""

from __future__ import annotations

import click

from penstock.cli.output import count, print_json, print_table
from penstock.cli.session import Session, json_option, pass_session

COUNTS = ("records", "accepted", "quarantined", "duplicate", "skipped", "flagged", "batches")


@click.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@click.option("--from", "from_batch", type=click.IntRange(1), default=1, metavar="N", help="Check from this batch on.")
@json_option
@pass_session
def command(session: Session, pipelines: tuple[str, ...], from_batch: int, as_json: bool) -> int:
    """Prove that every event is accounted for: the laws, checked from the files by code that writes none of them.

    Every event of every record ends in exactly one place, each once; positions and ledger say what the tables hold;
    gold is computed again from silver. Exit code 3 where a law is broken.

    \b
    Example:
      penstock -C shop audit
    """
    report = session.project().audit(pipelines, from_batch=from_batch)
    if as_json:
        print_json(report.as_json())
        return 0 if report.clean else 3
    if not report.pipelines:
        click.echo("the lake has no pipelines yet: `penstock run --once` makes their tables")
        return 0
    rows = []
    for name, found in report.pipelines.items():
        facts = found.as_json()
        rows.append([name, *(f"{facts[one]:,}" for one in COUNTS), len(found.violations)])
    headers = ("pipeline", *COUNTS, "violations")
    print_table(headers, rows, headers[1:])
    for name, found in report.pipelines.items():
        for violation in found.violations:
            batch = "" if violation.batch is None else f", batch {violation.batch}"
            click.echo(f"\n{click.style(f'law {violation.law:d} broken', fg='red')}: {name}, {violation.table}{batch}")
            click.echo(f"  {violation.message}")
            if violation.places:
                more = violation.total - len(violation.places)
                click.echo(f"  {', '.join(violation.places)}" + (f" and {more:,} more" if more > 0 else ""))
        if found.losses:
            click.echo(f"\n{click.style('lost', fg='yellow')}: {name}, recorded as `on_data_loss: record` asks")
            click.echo(f"  {', '.join(found.losses)}: {count(found.lost_offsets, 'offset')} in all")
    if report.clean:
        click.echo("\nno law is broken: every event is in exactly one place, and gold is what silver gives")
        return 0
    click.echo(f"\n{count(len(report.violations), 'violation')}")
    return 3
