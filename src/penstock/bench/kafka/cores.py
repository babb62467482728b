"""The Spark engine with one worker core and with two, and how far one driver goes.

A driver's CPU time is so much for each batch and so much for each million events. Measured here on one machine, it says
at which rate one core of the driver is full, and how many worker cores are busy then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.bench.kafka.rates import EVENTS
from penstock.bench.kafka.setting import SPARK_BATCH_ROWS, WARM_EVENTS
from penstock.bench.kafka.topic import Topic
from penstock.bench.measuring import listed, say_run

if TYPE_CHECKING:
    from penstock.bench.kafka.setting import Setting

CORES = (1, 2)
BATCH_ROWS = (100_000, SPARK_BATCH_ROWS)
"""Two sizes of batches, so that the cost of a batch and that of a row can be told apart."""


def measure(setting: Setting) -> dict[str, Any]:
    """Events a second by cores, the driver's cost, and where one driver is full.

    Raises:
        LawBroken: a record did not end where it must.
    """
    say, events = setting.say, setting.options.events or EVENTS
    found: dict[str, Any] = {}
    with Topic(setting.brokers) as warm, Topic(setting.brokers) as topic:
        planted_warm, planted = warm.fill(min(WARM_EVENTS, events)), topic.fill(events)
        say(f"cores: {events:,} ticks by the Spark engine with {' and '.join(map(str, CORES))} worker cores")
        for cores in CORES:
            with setting.engine("spark", cores) as engine:
                setting.absorbed(engine, f"cores-{cores}-warm", warm, planted_warm, batch_rows=SPARK_BATCH_ROWS)
                for rows in BATCH_ROWS:
                    name = f"cores-{cores}-{rows}"
                    measured = setting.absorbed(engine, name, topic, planted, batch_rows=rows)
                    found[f"{cores}/{rows}"] = measured
                    say(f"{engine.name}, batches of {rows:,}: {measured['events_per_second']:,.0f} events/s")
                    say_run(say, measured)
                    took = {kind: round(value, 2) for kind, value in measured["processor"].items()}
                    say("  CPU seconds: " + listed(took))
    driver = _driver(found[f"{CORES[-1]}/{BATCH_ROWS[0]}"], found[f"{CORES[-1]}/{BATCH_ROWS[1]}"], events)
    speedup = {
        rows: found[f"{CORES[-1]}/{rows}"]["events_per_second"] / found[f"{CORES[0]}/{rows}"]["events_per_second"]
        for rows in BATCH_ROWS
    }
    by_rows = {f"batches of {rows:,}": round(by, 2) for rows, by in speedup.items()}
    say(f"{CORES[-1]} cores against {CORES[0]}, times as fast: " + listed(by_rows))
    say(
        f"driver: {driver['seconds_per_batch'] * 1e3:,.0f} CPU ms a batch and {driver['seconds_per_million']:.2f} s "
        f"per million events; workers {driver['worker_seconds_per_million']:.2f} CPU s per million"
    )
    say(
        f"one core of the driver is full at {driver['events_per_second']:,.0f} events/s in batches of "
        f"{SPARK_BATCH_ROWS:,}, with {driver['worker_cores']:.1f} worker cores busy"
    )
    return {"workload": vars(planted), "runs": found, "speedup": speedup, "driver": driver}


def _driver(small: dict[str, Any], large: dict[str, Any], events: int) -> dict[str, float]:
    """The driver's cost as a line through two runs of the same events, and what follows from it.

    Java is not counted: with a local master it is driver and executors in one.
    """
    costs = [measured["processor"]["driver"] for measured in (small, large)]
    more = small["batches"] - large["batches"]
    per_batch = max(0.0, (costs[0] - costs[1]) / more) if more else 0.0
    per_million = max(1e-9, (costs[1] - per_batch * large["batches"]) / events * 1e6)
    workers = large["processor"].get("workers", 0.0) / events * 1e6
    full = per_million + per_batch * 1e6 / SPARK_BATCH_ROWS
    return {
        "seconds_per_batch": per_batch,
        "seconds_per_million": per_million,
        "java_seconds_per_million": large["processor"].get("java", 0.0) / events * 1e6,
        "worker_seconds_per_million": workers,
        "events_per_second": 1e6 / full,
        "worker_cores": workers / full,
    }
