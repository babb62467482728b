"""A lake in an object store against one on this machine's disk."""

from __future__ import annotations

import uuid
from statistics import median
from typing import TYPE_CHECKING, Any

from penstock.bench.kafka.rates import EVENTS
from penstock.bench.kafka.setting import WARM_EVENTS
from penstock.bench.kafka.topic import Topic
from penstock.bench.measuring import listed, say_run
from penstock.errors import UsageError
from penstock.limits import BATCH_ROWS_MAX

if TYPE_CHECKING:
    from penstock.bench.kafka.engines import Engine
    from penstock.bench.kafka.setting import Setting

ROUNDS = 2


def measure(setting: Setting) -> dict[str, Any]:
    """The embedded engine's rate in both places, and the ratio.

    Raises:
        LawBroken: a record did not end where it must.
        UsageError: no store was named.
    """
    store = setting.options.lake
    if store is None:
        raise UsageError(
            "the part `store` needs an object store",
            hint="`make s3-up` starts one and prints how to reach it; then give --lake s3://BUCKET/PREFIX.",
        )
    prefix = f"{store.rstrip('/')}/penstock-bench-{uuid.uuid4().hex[:12]}"
    with setting.engine("embedded") as engine:
        return _rates(setting, engine, prefix)


def _rates(setting: Setting, engine: Engine, prefix: str) -> dict[str, Any]:
    say, events = setting.say, setting.options.events or EVENTS
    places = {"disk": "lake", "store": prefix}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
    with Topic(setting.brokers) as warm, Topic(setting.brokers) as topic:
        planted_warm, planted = warm.fill(min(WARM_EVENTS, events)), topic.fill(events)
        say(f"store: {events:,} ticks by the embedded engine into a lake on disk and one in {setting.options.lake}")
        for name, place in places.items():
            lake = place if name == "disk" else f"{place}/warm"
            folder = f"store-warm-{name}"
            setting.absorbed(engine, folder, warm, planted_warm, lake=lake, batch_rows=BATCH_ROWS_MAX)
        for number in range(1, ROUNDS + 1):
            for name, place in places.items():
                lake = place if name == "disk" else f"{place}/rates-{number}"
                folder = f"store-{name}-{number}"
                measured = setting.absorbed(engine, folder, topic, planted, lake=lake, batch_rows=BATCH_ROWS_MAX)
                runs[name].append(measured)
                say(f"{name}, round {number}: {measured['events_per_second']:,.0f} events/s")
                say_run(say, measured)
                say(
                    "  seconds by step (steps overlap): "
                    + listed({k: round(v, 2) for k, v in measured["steps"].items()})
                )
    rates = {name: median(run["events_per_second"] for run in measured) for name, measured in runs.items()}
    ratio = rates["store"] / rates["disk"]
    say(f"store against disk: {ratio:.2f}")
    return {"workload": vars(planted), "rounds": runs, "events_per_second": rates, "ratio": ratio}
