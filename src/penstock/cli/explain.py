"""`penstock explain`: what the pipelines will do, before they do it."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.output import print_json, print_table
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@json_option
@pass_session
def command(session: Session, pipelines: tuple[str, ...], as_json: bool) -> None:
    """Show what the pipelines will do: tables, columns with types and lineage, the SQL of the refine step, rules.

    \b
    Example:
      penstock -C shop explain ticks
    """
    explanations = session.project().explain(pipelines)
    if as_json:
        print_json({name: dataclasses.asdict(explanation) for name, explanation in explanations.items()})
        return
    for number, (name, explanation) in enumerate(explanations.items()):
        if number:
            click.echo()
        click.echo(click.style(f"pipeline {name}", bold=True))
        for table in explanation.tables:
            click.echo(f"\n{click.style(table.name.replace('/', '.'), bold=True)}\n{table.meaning}\n")
            print_table(
                ("column", "type", "from"), [(column.name, column.type, column.lineage) for column in table.columns]
            )
        click.echo(f"\n{click.style('rules', bold=True)}")
        print_table(("rule", "if not", "meaning"), explanation.rules)
        click.echo(f"\n{click.style('refine', bold=True)}\n{explanation.refine_sql}")
        for gold, sql in explanation.gold_sql:
            click.echo(f"\n{click.style(gold.replace('/', '.'), bold=True)}\n{sql}")
