"""The workloads behind the figures: each prints its workload, its versions and row counts that reconcile.

A workload makes its input, measures in child processes (`child.py`), and says a figure only after every record is known
to have ended where it must. `measuring.py` is what they share; `WORKLOADS` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.bench import growth, keys, late, latency, push, ticks
from penstock.bench.measuring import Options, Say, versions

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAIN", "WORKLOADS", "Options", "Workload", "versions"]

MAIN = "ticks"


@dataclass(frozen=True)
class Workload:
    """A workload: what it measures, and how."""

    about: str
    measure: Callable[[Options, Say], dict[str, Any]]


WORKLOADS = {
    MAIN: Workload("events/s from a file to bronze, silver, gold and ledger, by batch size", ticks.main),
    "late": Workload("ten files, one instrument each, against the same events in order of time", late.main),
    "keys": Workload("peak memory with 50 million keys in one bucket", keys.main),
    "latency": Workload("from a push that is due to the answer of a query, at 50,000 events/s", latency.main),
    "push": Workload("acknowledged pushes of 1,000 records, from one client and from four", push.main),
    "growth": Workload("a batch, and a restart, after 100,000 batches against the first 50", growth.main),
    "store": Workload("with --lake: a batch in a store after 500 batches against the first 50", growth.in_store),
    "memory": Workload("peak memory of a run over ten million events, and of its audit", ticks.memory),
}
"""Name -> workload, in the order of `penstock bench all`."""
