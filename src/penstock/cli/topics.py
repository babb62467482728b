"""`penstock topics`: the Kafka topics that pipelines declare."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from penstock.cli.lags import LAG_HEADERS, lag_row
from penstock.cli.output import print_facts, print_json, print_table
from penstock.cli.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ops.topics import TopicState


@click.group()
def command() -> None:
    """Make, list and describe the Kafka topics of pipelines, as they declare them.

    \b
    Examples:
      penstock -C shop topics create
      penstock -C shop topics describe ticks
    """


@command.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@json_option
@pass_session
def create(session: Session, pipelines: tuple[str, ...], as_json: bool) -> None:
    """Make the topics that are not there (of all pipelines, or those named). Others are left as they are.

    \b
    Example:
      penstock -C shop topics create ticks
    """
    _print(session.project().topics(pipelines, create=True), as_json)


@command.command("list")
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@json_option
@pass_session
def list_command(session: Session, pipelines: tuple[str, ...], as_json: bool) -> None:
    """List the declared topics: whether they are there, and what in them is not as declared.

    \b
    Example:
      penstock -C shop topics list
    """
    _print(session.project().topics(pipelines), as_json)


@command.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@json_option
@pass_session
def describe(session: Session, pipelines: tuple[str, ...], as_json: bool) -> None:
    """Describe topics: id, settings, and each partition beside what the lake has of it.

    \b
    Example:
      penstock -C shop topics describe ticks
    """
    found = session.project().describe_topics(pipelines)
    if as_json:
        print_json({one.pipeline: dataclasses.asdict(one) | {"settings": dict(one.settings)} for one in found})
        return
    for one in found:
        click.echo(click.style(f"topic {one.topic}", bold=True) + f", read by {one.pipeline}")
        print_facts([("id", one.unique_id), ("copies", one.replication), *one.settings])
        print_table(LAG_HEADERS, [lag_row(lag) for lag in one.partitions], LAG_HEADERS)


def _print(states: Sequence[TopicState], as_json: bool) -> None:
    if as_json:
        print_json([dataclasses.asdict(one) for one in states])
        return
    rows = [
        (
            one.pipeline,
            one.topic,
            "" if one.partitions is None else one.partitions,
            "created" if one.created else "missing" if one.partitions is None else "there",
            "; ".join(one.differences),
        )
        for one in states
    ]
    print_table(("pipeline", "topic", "partitions", "state", "not as declared"), rows, ("partitions",))
