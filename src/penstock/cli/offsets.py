"""`penstock offsets`: where pipelines are in their topics."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.lags import LAG_HEADERS, lag_row
from penstock.cli.output import print_json, print_table
from penstock.cli.session import Session, json_option, pass_session


@click.group()
def command() -> None:
    """Show where pipelines are in their topics, and let one go on elsewhere.

    \b
    Examples:
      penstock -C shop offsets show
      penstock -C shop offsets reset ticks --to -1h
    """


@command.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@json_option
@pass_session
def show(session: Session, pipelines: tuple[str, ...], as_json: bool) -> None:
    """Show each partition: what the topic holds, and the next offset that the lake needs.

    \b
    Example:
      penstock -C shop offsets show ticks --json
    """
    found = session.project().describe_topics(pipelines)
    if as_json:
        print_json({one.pipeline: [dataclasses.asdict(lag) for lag in one.partitions] for one in found})
        return
    for one in found:
        click.echo(click.style(f"pipeline {one.pipeline}", bold=True) + f", topic {one.topic}")
        print_table(LAG_HEADERS, [lag_row(lag) for lag in one.partitions], LAG_HEADERS)


@command.command()
@click.argument("pipeline", required=False)
@click.option("--to", required=True, help="earliest, latest, an offset, a time (UTC), or a span before now (-1h).")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this one; may be repeated."
)
@click.option("--execute", is_flag=True, help="Do it. Without this the plan is printed, and nothing is changed.")
@json_option
@pass_session
def reset(
    session: Session, pipeline: str | None, to: str, partitions: tuple[int, ...], execute: bool, as_json: bool
) -> None:
    """Let a pipeline go on elsewhere in its topic: a new incarnation of the source begins there.

    Prints the plan, and what it means for the data. Acts with --execute only, and not while the pipeline runs. PIPELINE
    may be left out where the project has one that reads from Kafka.

    \b
    Examples:
      penstock -C shop offsets reset ticks --to latest
      penstock -C shop offsets reset ticks --to 2026-01-31T12:00:00Z --partition 3 --execute
    """
    done = session.project().reset_offsets(pipeline, to, partitions=partitions, execute=execute)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    headers = ("partition", "the lake is at", "goes on at", "read again", "never read")
    print_table(headers, [[f"{value:,}" for value in dataclasses.astuple(move)] for move in done.moves], headers)
    for sentence in done.meaning:
        click.echo(sentence)
    if done.executed:
        click.echo(f"Done: incarnation {done.incarnation} of the source begins there with the next run.")
    else:
        click.echo("Nothing was changed. Add --execute to do it.")
