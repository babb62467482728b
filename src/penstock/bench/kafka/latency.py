"""From an event to silver, at 10,000 events a second: Kafka's timestamp of a record until the commit that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.bench import project
from penstock.bench.kafka.commits import latencies
from penstock.bench.kafka.setting import WARM_EVENTS
from penstock.bench.kafka.topic import Topic
from penstock.bench.measuring import Beside, listed, reconcile
from penstock.errors import check

if TYPE_CHECKING:
    from penstock.bench.kafka.engines import Engine
    from penstock.bench.kafka.setting import Setting
    from penstock.bench.project import Planted

RATE = 10_000
SECONDS = 30.0
WARM_SECONDS = 5.0
"""Events of the first seconds must reconcile, but are not counted."""

FIRST_EVENTS = 20_000
"""Events that the topic holds when an engine begins to follow it."""


def measure(setting: Setting) -> dict[str, Any]:
    """Percentiles of every accepted event, per engine.

    Raises:
        LawBroken: a record did not end where it must.
    """
    seconds = setting.options.seconds or SECONDS
    setting.say(f"latency: {RATE:,} ticks a second for {seconds:.0f} s, after {WARM_SECONDS:.0f} s that do not count")
    found = {}
    with setting.all_engines() as engines:
        with Topic(setting.brokers) as warm:
            planted = warm.fill(WARM_EVENTS)
            for name, engine in engines.items():
                setting.absorbed(engine, f"latency-warm-{name}", warm, planted, batch_rows=WARM_EVENTS // 3)
        for name, engine in engines.items():
            found[name] = _followed(setting, engine, name, int((seconds + WARM_SECONDS) * RATE))
    return {"rate": RATE, "seconds": seconds, **found}


def _followed(setting: Setting, engine: Engine, name: str, events: int) -> dict[str, Any]:
    with Topic(setting.brokers) as topic:
        planted = topic.fill(FIRST_EVENTS)
        _plan(planted, FIRST_EVENTS, events)
        folder = setting.project(f"latency-{name}", topic)
        engine.order(do="follow", folder=str(folder), topic=topic.name)
        engine.answer()
        with (
            engine.watch() as watch,
            Beside("stream", setting.brokers, topic.name, FIRST_EVENTS, events, RATE) as sender,
        ):
            sent = sender.result()
        engine.order(do="stop", records=planted.events)
        told = engine.answer()
    counts = told.get("counts") or engine.ask(do="count", folder=str(folder))["counts"]
    reconcile(planted, counts)
    column = "arrived" if name == "peer" else "_timestamp"
    waited = latencies(folder / "lake" / "silver" / "ticks", column, sent["began"] + WARM_SECONDS)
    check(len(waited) > 0, "no event was counted")
    p50, p99 = np.percentile(waited, (50, 99)).tolist()
    took = watch.as_json()
    setting.say(
        f"{engine.name}: event -> silver p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, at most {waited.max():,.0f} ms; "
        f"{len(waited):,} events counted, {planted.events:,} reconciled"
    )
    setting.say("  CPU seconds: " + listed({kind: round(value, 1) for kind, value in took["processor"].items()}))
    return {
        "milliseconds": {"p50": p50, "p99": p99, "max": float(waited.max())},
        "events": len(waited),
        "counts": counts,
        **took,
    }


def _plan(planted: Planted, first: int, events: int) -> None:
    """Add what the sender will put in."""
    for sent in project.ticks(events, first=first):
        planted.add(sent)
