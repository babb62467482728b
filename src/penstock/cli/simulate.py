"""`penstock simulate`: made-up events, faults among them, and the truth about them."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from penstock.cli.output import count, print_json
from penstock.cli.progress import Counter
from penstock.cli.session import Session, json_option, pass_session
from penstock.errors import UsageError

if TYPE_CHECKING:
    from penstock.ops.simulation import Simulated


@click.command()
@click.argument("pipeline", required=False)
@click.option("--world", type=click.Choice(["market", "iot"]), help="Default: the one whose fields the pipeline reads.")
@click.option("--rate", type=click.IntRange(1), help="Records a second. Default: as fast as the log takes them.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="How long.")
@click.option("--events", type=click.IntRange(1), help="How many records. Default without --seconds: 100000.")
@click.option("--faults", type=click.FloatRange(0, 1), default=0.02, show_default=True, help="Share of faulty records.")
@click.option("--to", type=click.Choice(["push", "kafka"]), help="Which kind of source, where there are both.")
@click.option("--transactional", is_flag=True, help="To a topic: in transactions.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another seed, other events.")
@json_option
@pass_session
def command(
    session: Session,
    pipeline: str | None,
    world: str | None,
    rate: int | None,
    seconds: float | None,
    events: int | None,
    faults: float,
    seed: int,
    to: str | None,
    transactional: bool,
    as_json: bool,
) -> None:
    """Send made-up events to a pipeline, and write a truth file of what was sent.

    Among them are broken, doubled, late, out-of-order and mistyped ones, unknown keys and values that break rules. The
    truth file (truth/PIPELINE.FIRST-END.parquet) says for every place what was planted and where it must end. PIPELINE
    may be left out where the project has one that takes pushed records or reads from Kafka.

    \b
    Examples:
      penstock -C shop simulate --events 100000
      penstock -C shop simulate --rate 50000 --seconds 30 --faults 0.02
      penstock -C shop simulate --to kafka --transactional
    """
    if seconds is not None and rate is None and events is None:
        raise UsageError("--seconds needs --rate or --events", hint="For example: --rate 50000 --seconds 30")
    if seconds is None and events is None:
        events = 100_000
    with Counter("sent", total=events, shown=not as_json and sys.stderr.isatty()) as counter:
        done = session.project().simulate(
            pipeline,
            world=world,
            rate=rate,
            seconds=seconds,
            events=events,
            faults=faults,
            seed=seed,
            to=to,
            transactional=transactional,
            progress=counter.set,
        )
    if as_json:
        print_json(_as_json(done))
        return
    click.echo(f"{count(done.records, 'record')} of the world {done.world} sent to {done.pipeline}")
    click.echo("  planted:  " + ", ".join(f"{name} {number:,}" for name, number in done.faults))
    click.echo("  must end: " + ", ".join(f"{name} {number:,}" for name, number in done.expected))
    click.echo("  places:   " + ", ".join(map(str, done.ranges)))
    click.echo(f"  truth:    {done.truth}")


def _as_json(done: Simulated) -> dict[str, object]:
    return {
        "pipeline": done.pipeline,
        "world": done.world,
        "records": done.records,
        "faults": dict(done.faults),
        "expected": dict(done.expected),
        "ranges": [dataclasses.asdict(one) for one in done.ranges],
        "truth": str(done.truth),
    }
