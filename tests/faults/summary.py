"""Sums up at the end of a test run what was done to Penstock: kills, power losses, damaged files, planted bugs.

A test tells its part with `record_property("faults: states", 110)`; parts of one name are added up, over all workers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

MARK = "faults: "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    sums: Counter[str] = Counter()
    seeds: set[str] = set()
    failed = 0
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            told = [(name[len(MARK) :], value) for name, value in report.user_properties if name.startswith(MARK)]
            failed += bool(told) and outcome == "failed"
            for name, value in told:
                if name == "seed":
                    seeds.add(str(value))
                else:
                    sums[name] += value
    if not sums:
        return
    terminalreporter.section("faults")
    for name, value in sorted(sums.items()):
        terminalreporter.write_line(f"{name:<52}{value:>9,}")
    if seeds:
        terminalreporter.write_line(f"{'seeds':<52}{', '.join(sorted(seeds)):>9}")
    terminalreporter.write_line(f"{'tests in which a law was broken':<52}{failed:>9,}")
