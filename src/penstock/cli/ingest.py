"""`penstock ingest`: push records from files or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.output import count, note, print_json
from penstock.cli.session import Session, json_option, pass_session
from penstock.ops.ingest import STANDARD_INPUT

if TYPE_CHECKING:
    from penstock.ops.ingest import Ingested

REFUSED_SHOWN_MAX = 20
"""Refused records named one by one; the rest is counted."""


@click.command()
@click.argument("pipeline")
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@json_option
@pass_session
def command(session: Session, pipeline: str, files: tuple[str, ...], as_json: bool) -> int:
    """Push records from files or standard input (`-`, the default) into a pipeline's log.

    Lines, CSV records or Parquet rows by the file's name and the declared format; .gz and .zst too. Prints the places
    of the records (source/partition/first..end) and returns 0 only when every record is on disk. A record over the
    size limit is refused and named, the others are kept, and the exit code is 2.

    \b
    Examples:
      penstock -C shop ingest ticks events.ndjson.gz
      tail -f events.ndjson | penstock -C shop ingest ticks
    """
    done: list[Ingested] = []
    with session.project().pusher(pipeline) as pusher:
        for name in files or (STANDARD_INPUT,):
            if name == STANDARD_INPUT:
                ingested = pusher.stream(sys.stdin.buffer)
            else:
                ingested = pusher.file(Path(name))
            done.append(ingested)
            if not as_json:
                places = ", ".join(map(str, ingested.ranges)) or "nothing"
                click.echo(f"{ingested.name}: {count(ingested.records, 'record')}: {places}")
    refused = [record for ingested in done for record in ingested.refused]
    if as_json:
        print_json([_as_json(ingested) for ingested in done])
    for record in refused[:REFUSED_SHOWN_MAX]:
        note(f"refused: {record}")
    if refused:
        note(f"{count(len(refused), 'record')} over the limit record_bytes_max; the others are kept")
    return 2 if refused else 0


def _as_json(ingested: Ingested) -> dict[str, object]:
    return {
        "name": ingested.name,
        "records": ingested.records,
        "ranges": [
            {"source": one.source, "partition": one.partition, "start": one.start, "end": one.end}
            for one in ingested.ranges
        ],
        "refused": [{"ordinal": record.ordinal, "bytes": record.bytes} for record in ingested.refused],
    }
