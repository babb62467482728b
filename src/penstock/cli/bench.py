"""`penstock bench`: measure this machine."""

from __future__ import annotations

from pathlib import Path

import click

from penstock import bench
from penstock.bench.kafka import PARTS
from penstock.cli.output import note, print_json
from penstock.cli.session import json_option

ALL = "all"
ABOUT = {name: workload.about for name, workload in bench.WORKLOADS.items()} | {
    ALL: "each of these that needs no server, in this order"
}


@click.command(epilog="\b\nWorkloads:\n" + "\n".join(f"  {name:<8} {about}" for name, about in ABOUT.items()))
@click.argument("names", nargs=-1, metavar="[WORKLOAD...]", type=click.Choice(list(ABOUT)))
@click.option("--events", type=click.IntRange(1000), help="How many events (`keys`: keys) instead of the usual number.")
@click.option(
    "--batch-rows", type=click.IntRange(1), multiple=True, help="`ticks`: rows in a batch; several times for several."
)
@click.option("--seconds", type=click.FloatRange(1), help="`latency`, `kafka`: how long to push.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="`ticks`, `kafka`: a script of the same shape to run in turn; see benchmarks/README.md.",
)
@click.option("--brokers", metavar="HOST:PORT", help="`kafka`: the broker to measure with, else $KAFKA_BROKERS.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(list(PARTS)),
    help="`kafka`: only this part; several times for several.",
)
@click.option(
    "--lake", metavar="URI", help="Make lakes of `ticks`, `memory`, `store`, `kafka` below this URI; they stay."
)
@click.option("--no-audit", is_flag=True, help="Do not audit the result of each run.")
@json_option
def command(
    names: tuple[str, ...],
    events: int | None,
    batch_rows: tuple[int, ...],
    seconds: float | None,
    against: Path | None,
    brokers: str | None,
    parts: tuple[str, ...],
    lake: str | None,
    no_audit: bool,
    as_json: bool,
) -> None:
    """Measure this machine: one workload after the other, `ticks` without a name.

    A figure is printed only when the rows reconcile with what was planted and the audit finds nothing; otherwise the
    exit code is 3.

    \b
    Example:
      penstock bench --events 1000000
      penstock bench late push --json
    """
    options = bench.Options(events, batch_rows, seconds, against, not no_audit, lake, parts, brokers)
    say = note if as_json else click.echo
    chosen = bench.WITHOUT_SERVERS if ALL in names else tuple(dict.fromkeys(names)) or (bench.MAIN,)
    versions = bench.versions()
    say("versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    figures = {}
    for name in chosen:
        say(f"\n{name}: {ABOUT[name]}")
        figures[name] = bench.WORKLOADS[name].measure(options, say)
    if as_json:
        print_json({"versions": versions, "workloads": figures})
