"""How long records took to be in a table: from their Kafka timestamp until the commit that holds them.

Read from a Delta table's own log, so that it is the same for whoever wrote it: the log entry's file was made when the
commit was there; commits that only move rows (`dataChange` is false) do not count.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq

from penstock.errors import check
from penstock.sources.contract import UTC_MICROSECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def latencies(table: Path, column: str, since: float) -> NDArray[np.float64]:
    """Milliseconds for each row whose time in `column` is at or after `since` (seconds since the epoch)."""
    found = [np.empty(0)]
    entries = sorted((table / "_delta_log").glob("*.json"))
    check(entries[0].name == f"{0:020d}.json", "the first entries of the log are gone")
    for entry in entries:
        committed = entry.stat().st_mtime
        for line in entry.read_text().splitlines():
            added = json.loads(line).get("add")
            if added and added["dataChange"]:
                times = pq.read_table(table / unquote(added["path"]), columns=[column])[column]
                microseconds = times.cast(UTC_MICROSECONDS).cast("int64").to_numpy()
                found.append((committed - microseconds[microseconds >= since * 1e6] / 1e6) * 1_000)
    return np.concatenate(found)
