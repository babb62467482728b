"""Where a pipeline goes on in its topic: shown, and moved by opening a new incarnation there.

The lake's position is not edited: an incarnation begins where the operator says, and everything below and above keeps
its places. What is read again gets new places; what is left out is never read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import UsageError
from penstock.lake import layout
from penstock.lake.contracts import Contracts
from penstock.lake.fence import take_over
from penstock.model.position import SourceIdentity
from penstock.ops.facts import parse_since
from penstock.ops.topics import of_kafka, positions
from penstock.sources.kafka_client import Cluster
from penstock.sources.kafka_topics import reach

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from penstock.lake.lake import Lake
    from penstock.model.pipeline import Pipeline
    from penstock.sources.kafka_topics import PartitionReach


@dataclass(frozen=True)
class Move:
    """A partition of the plan: from where the lake is to where it goes on. `again` counts the offsets that are read
    again, `skipped` those that are never read, gone or not; some of either may hold no record."""

    partition: int
    at: int
    to: int
    again: int
    skipped: int


@dataclass(frozen=True)
class Reset:
    """A plan, or what was done. `incarnation` is the number that the new one has or would have."""

    pipeline: str
    topic: str
    incarnation: int
    moves: tuple[Move, ...]
    executed: bool
    meaning: tuple[str, ...]


def reset(
    pipeline: Pipeline, folder: Path, lake: Lake, to: str, *, partitions: Sequence[int], execute: bool, now: int
) -> Reset:
    """Plan, and with `execute` carry out, that the pipeline goes on elsewhere in its topic.

    Args:
        to: `earliest`, `latest`, an offset, a time (ISO 8601, UTC) or a span before now (`-1h`).
        partitions: only these; the others go on where they are.
        now: microseconds since the epoch.

    Raises:
        UsageError: `to` is none of these, or there is no such partition.
        SourceLost: there is no such topic.
        TransientError: the brokers do not answer.
        Fenced: a writer of the pipeline is alive.
    """
    [(_, origin)] = of_kafka([pipeline])
    cluster = Cluster(origin.cluster, folder)
    try:
        unique_id = cluster.topic(origin.topic).unique_id
        there = reach(cluster, origin.topic)
        unknown = set(partitions) - {one.partition for one in there}
        if unknown:
            raise UsageError(f"{origin.topic} has no partition {min(unknown)}", hint=f"It has 0 to {len(there) - 1}.")
        chosen = [one for one in there if not partitions or one.partition in partitions]
        wanted = _targets(cluster, origin.topic, chosen, to, now)
        identity = SourceIdentity("kafka", origin.topic, unique_id)
        if not execute:
            return _plan(pipeline, identity, lake, there, wanted, executed=False)
        with lake.lock(pipeline.name):
            return _execute(pipeline, identity, lake, there, wanted, now)
    finally:
        cluster.close()


def _targets(cluster: Cluster, topic: str, chosen: Sequence[PartitionReach], to: str, now: int) -> dict[int, int]:
    """Partition -> the offset that `to` means there, as far as the topic has it."""
    text = to.strip()
    if text in ("earliest", "latest"):
        return {one.partition: getattr(one, text) for one in chosen}
    if re.fullmatch(r"\d{1,18}", text, re.ASCII):
        wanted = {one.partition: int(text) for one in chosen}
    else:
        try:
            moment = parse_since(text.removeprefix("-"), now)
        except UsageError:
            raise UsageError(
                f"--to {to}: neither an offset nor a time",
                hint="Write earliest, latest, an offset, 2026-01-31T12:00:00Z, or a span before now such as -1h.",
            ) from None
        assert moment is not None
        wanted = cluster.offsets(topic, [one.partition for one in chosen], moment // 1_000)
    return {one.partition: min(max(wanted[one.partition], one.earliest), one.latest) for one in chosen}


def _plan(
    pipeline: Pipeline,
    identity: SourceIdentity,
    lake: Lake,
    there: Sequence[PartitionReach],
    wanted: dict[int, int],
    *,
    executed: bool,
) -> Reset:
    position = positions(lake, pipeline.name, identity.unique_id)
    moves = []
    for one in there:
        at = position.get(one.partition, 0 if position else one.earliest)
        to = wanted.get(one.partition, at)
        again = max(0, min(at, one.latest) - to) if one.partition in position else 0
        moves.append(Move(one.partition, at, to, again, max(0, to - at)))
    table = lake.table(layout.table_name(layout.Kind.CONTRACTS, pipeline.name))
    known = () if table is None else Contracts(table).incarnations()
    return Reset(
        pipeline.name, identity.name, len(known) + 1, tuple(moves), executed, _meaning(pipeline, moves, bool(position))
    )


def _meaning(pipeline: Pipeline, moves: Sequence[Move], has_run: bool) -> tuple[str, ...]:
    """What the plan does to the data, in sentences."""
    again, skipped = sum(move.again for move in moves), sum(move.skipped for move in moves)
    said = []
    if again:
        silver = pipeline.silver
        if silver.key:
            within = "" if silver.unique_within is None else ", within `unique_within`"
            fate = f"those that silver has go to rejects as duplicates ({', '.join(silver.key)}{within})"
        else:
            fate = "without a key, silver and gold have each of them twice"
        said.append(f"Up to {again:,} records are read again, at new places: {fate}.")
    if skipped:
        said.append(f"Up to {skipped:,} records are never read.")
    if any(move.at > move.to and not move.again for move in moves):
        said.append("Where the topic ends before the lake does, it goes on at the topic's end.")
    if has_run and all(move.at == move.to for move in moves):
        said.append("The lake goes on where it is.")
    said.append("What the lake holds stays, with its places.")
    return tuple(said)


def _execute(
    pipeline: Pipeline,
    identity: SourceIdentity,
    lake: Lake,
    there: Sequence[PartitionReach],
    wanted: dict[int, int],
    now: int,
) -> Reset:
    """Become the writer of every table, so that one elsewhere stops, and open the incarnation in one commit."""
    name = pipeline.name
    contracts = lake.create(layout.contracts_spec(name))
    names = [
        layout.table_name(layout.Kind.BRONZE, name),
        layout.table_name(layout.Kind.REJECTS, name),
        layout.table_name(layout.Kind.SILVER, pipeline.silver.table),
        *(layout.table_name(layout.Kind.GOLD, gold.name) for gold in pipeline.gold),
        layout.table_name(layout.Kind.LEDGER, name),
    ]
    tables = [table for one in names if (table := lake.table(one)) is not None]
    writer = take_over(name, [contracts])
    if tables:
        for table in tables:
            table.refresh()
        take_over(name, tables, writer=writer)
    done = _plan(pipeline, identity, lake, there, wanted, executed=True)
    starts = {move.partition: move.to for move in done.moves}
    opened = Contracts(contracts).open_incarnation(writer, identity, now, starts)
    return Reset(name, identity.name, opened.number, done.moves, True, done.meaning)
