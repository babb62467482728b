"""Events a second from a topic into bronze, silver, rejects, gold: every engine in turn, warm, on the same topic."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench.kafka.bars import common_bars
from penstock.bench.kafka.setting import SPARK_BATCH_ROWS, WARM_EVENTS
from penstock.bench.kafka.topic import PARTITIONS, Topic
from penstock.bench.late import same_gold
from penstock.bench.measuring import audited, listed, megabytes, say_audit, say_run
from penstock.limits import BATCH_ROWS_MAX

if TYPE_CHECKING:
    from penstock.bench.kafka.setting import Setting
    from penstock.bench.project import Planted

EVENTS = 2_000_000
ROUNDS = 2

BATCH_ROWS = {"embedded": BATCH_ROWS_MAX, "spark": SPARK_BATCH_ROWS, "peer": SPARK_BATCH_ROWS}
"""Rows in a batch: what the embedded engine takes by default, and a million where a batch has a high fixed cost."""


def measure(setting: Setting) -> dict[str, Any]:
    """Per engine: events a second, CPU time, memory (medians of the rounds); and the ratios.

    Raises:
        LawBroken: a record ended elsewhere, two engines made different bars, or the audit finds a violation.
    """
    say, events = setting.say, setting.options.events or EVENTS
    with Topic(setting.brokers) as warm, Topic(setting.brokers) as topic, setting.all_engines() as engines:
        planted_warm, planted = warm.fill(min(WARM_EVENTS, events)), topic.fill(events)
        say(
            f"rates: {events:,} ticks of {planted.bytes_per_event:.0f} bytes in {PARTITIONS} partitions, 5 rules, one "
            f"lookup, unique within a day, one-minute bars, after {planted_warm.events:,} that do not count; planted: "
            f"{listed(planted.faults)}"
        )
        for name, engine in engines.items():
            setting.absorbed(engine, f"warm-{name}", warm, planted_warm, batch_rows=BATCH_ROWS[name])
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
        for number in range(1, ROUNDS + 1):
            for name, engine in engines.items():
                folder = f"rates-{name}-{number}"
                measured = setting.absorbed(engine, folder, topic, planted, batch_rows=BATCH_ROWS[name])
                runs[name].append(measured)
                say(f"{engine.name}, round {number}: {measured['events_per_second']:,.0f} events/s")
                say_run(say, measured)
                say("  CPU seconds: " + listed({kind: round(took, 1) for kind, took in measured["processor"].items()}))
    return {"workload": vars(planted), **_compared(setting, planted, runs)}


def _compared(setting: Setting, planted: Planted, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    say = setting.say
    last = {name: Path(measured[-1]["folder"]) for name, measured in runs.items()}
    windows = same_gold(last["embedded"], last["spark"])
    say(f"bars: {windows:,} in both lakes, equal; the counts of every run are the simulator's")
    figures = {
        name: {
            key: median(run[key] for run in measured)
            for key in ("events_per_second", "cpu_seconds_per_million", "peak_bytes")
        }
        for name, measured in runs.items()
    }
    ratios = {}
    if "peer" in runs:
        equal, other = common_bars(penstock.open(last["embedded"]), last["peer"])
        say(f"bars of the peer: {equal:,} are ours, {other:,} lack the late rows that ours have")
        peer = figures["peer"]["events_per_second"]
        ratios = {name: found["events_per_second"] / peer for name, found in figures.items()}
    for name, found in figures.items():
        ratio = f", {ratios[name]:.1f} times the peer" if ratios else ""
        say(
            f"{name}: {found['events_per_second']:,.0f} events/s, {found['cpu_seconds_per_million']:.2f} CPU s per "
            f"million, peak {megabytes(found['peak_bytes'])}{ratio}"
        )
    audits = {}
    for name in ("embedded", "spark") if setting.options.audit else ():
        audits[name] = audited(last[name], planted.events)
        say_audit(say, audits[name])
    return {"rounds": runs, "figures": figures, "ratios": ratios, "windows": windows, "audits": audits}
