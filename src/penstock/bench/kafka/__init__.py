"""Kafka to tables, by both engines and by a script of the same shape, on the same topics: rates, batches, latency.

Each part makes its topics, lets processes that stay warm absorb them in turn (`engines.py`, `absorbing.py`), and says a
figure when every record is where the simulator says. `PARTS` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.bench.kafka import batches, cores, latency, rates, store, topic
from penstock.bench.kafka.setting import Setting
from penstock.bench.measuring import Options, Say, scratch

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "rates": rates.measure,
    "batches": batches.measure,
    "latency": latency.measure,
    "cores": cores.measure,
    "store": store.measure,
}
"""Name -> part, in their order. `store` is measured where a store is named."""


def main(options: Options, say: Say) -> dict[str, Any]:
    """Every part, or those asked for.

    Raises:
        LawBroken: the counts do not reconcile, engines differ, or the audit finds a violation.
        UsageError: there is no broker, or a part lacks what it needs.
    """
    brokers = topic.brokers(options.brokers)
    chosen = options.parts or tuple(name for name in PARTS if name != "store" or options.lake is not None)
    found: dict[str, Any] = {}
    for name in chosen:
        with scratch() as folder:
            found[name] = PARTS[name](Setting(options, say, brokers, folder))
    return found
