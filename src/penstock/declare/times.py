"""Points in time as text: ISO 8601 -> microseconds since the epoch, UTC."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from penstock.declare.nodes import shorten
from penstock.declare.shapes import Word, Wrong

if TYPE_CHECKING:
    from penstock.declare.nodes import Scalar

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse_time(node: Scalar) -> int:
    """Microseconds since the epoch; a text without a zone is UTC. Raises Wrong."""
    try:
        moment = datetime.datetime.fromisoformat(node.text)
    except ValueError as error:
        message = f"`{shorten(node.text)}` is no point in time"
        raise Wrong("bad-time", message, "Write for example `2026-01-31T12:00:00Z`.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


TIME_SHAPE = Word("a time such as `2026-01-31T12:00:00Z`", parse_time)
