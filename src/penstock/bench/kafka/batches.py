"""What a batch costs apart from its rows: batches of one and of a thousand events, one after the other.

From the same runs and one with large batches comes what the driver of the Spark engine has to do: so much per batch,
so much per million events; it says how many workers one driver can keep busy.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.bench.kafka.setting import SPARK_BATCH_ROWS, WARM_EVENTS
from penstock.bench.kafka.topic import Topic
from penstock.bench.measuring import listed
from penstock.errors import LawBroken

if TYPE_CHECKING:
    from penstock.bench.kafka.engines import Engine
    from penstock.bench.kafka.setting import Setting

ROWS = (1, 1_000)
BATCHES = 40
WARM_BATCHES = 10


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds and CPU time of a small batch, for both engines.

    Raises:
        LawBroken: a record was lost.
    """
    setting.say(f"batches: {BATCHES} of {ROWS[0]} and of {ROWS[1]:,} events, each when the ledger has the one before")
    found: dict[str, Any] = {}
    for name in setting.engines:
        with setting.engine(name) as engine:
            with Topic(setting.brokers) as warm:
                planted = warm.fill(WARM_EVENTS // 3)
                setting.absorbed(engine, f"batches-{name}-warm", warm, planted, batch_rows=SPARK_BATCH_ROWS)
            found[name] = {str(rows): _singly(setting, engine, rows) for rows in ROWS}
    return found


def _singly(setting: Setting, engine: Engine, rows: int) -> dict[str, Any]:
    with Topic(setting.brokers) as topic:
        folder = setting.project(f"batches-{engine.name}-{rows}", topic, batch_interval_min_ms=0)
        order = {"rows": rows, "batches": BATCHES, "warm": WARM_BATCHES}
        engine.order(do="singly", folder=str(folder), topic=topic.name, **order)
        engine.answer()
        with engine.watch() as watch:
            engine.order()
            told = engine.answer()
    records = (BATCHES + WARM_BATCHES) * rows
    if told["counts"]["records"] != records:
        raise LawBroken(f"of {records} records, {told['counts']['records']} arrived", hint="Run `penstock audit`.")
    took, waits = np.array(told["took"]) * 1_000, np.array(told["waits"]) * 1_000
    processor = {kind: seconds / len(took) * 1_000 for kind, seconds in watch.processor.items()}
    setting.say(
        f"{engine.name}, batches of {rows:,}: median {median(took):,.0f} ms, p99 {np.percentile(took, 99):,.0f} ms; "
        f"from the broker's acknowledgement until the ledger {median(waits):,.0f} ms"
    )
    setting.say("  CPU milliseconds a batch: " + listed({kind: round(value) for kind, value in processor.items()}))
    return {
        "milliseconds": float(median(took)),
        "milliseconds_p99": float(np.percentile(took, 99)),
        "until_ledger_milliseconds": float(median(waits)),
        "cpu_milliseconds": processor,
        "batches": told["batches"],
        "steps": told["steps"],
    }
