"""How the partitions of a topic beside the lake are shown: by `status`, `topics describe` and `offsets show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli.output import duration

if TYPE_CHECKING:
    from penstock.ops.topics import PartitionLag

LAG_HEADERS = ("partition", "earliest", "latest", "position", "behind", "by time")


def lag_row(one: PartitionLag) -> tuple[object, ...]:
    """A row under LAG_HEADERS."""
    return (
        one.partition,
        f"{one.earliest:,}",
        f"{one.latest:,}",
        "" if one.position is None else f"{one.position:,}",
        f"{one.records:,}",
        "" if one.seconds is None else duration(one.seconds),
    )
