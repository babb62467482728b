"""Which cases go which ways, and what every way ends with: the answer that is wanted, and a clean audit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from conformance import engines
from pipelines import cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Straight = Callable[[str], tuple[Path, engines.Answer]]

IS_FULL = os.environ.get("PENSTOCK_CONFORMANCE") == "full"
CHOSEN = ["csv_orders", "market_ticks", "nested_list", "sensor_statistics"]
"""Between them: CSV and JSON, references, late corrections, lists of events, sums of floats, duplicates, flags."""
GAPS: dict[tuple[str, str], str] = {}
"""(case, way) -> why the tables differ."""


def going(way: str, chosen: list[str]) -> pytest.MarkDecorator:
    """The test for each of these cases, or for all; one with a gap must fail."""
    found: list[Any] = []
    for case in cases.CASES if IS_FULL else chosen:
        reason = GAPS.get((case, way))
        found.append(pytest.param(case, marks=[pytest.mark.xfail(reason=reason, strict=True)] if reason else []))
    return pytest.mark.parametrize("case", found)


def assert_answer(folder: Path, wanted: engines.Answer) -> None:
    engines.assert_same(engines.answer(folder), wanted)
    assert cases.violations(folder) == []


def rows_of(wanted: engines.Answer, batches: int) -> int:
    """The size of batches that makes about so many of them."""
    records = next(rows[0]["records"] for name, rows in wanted.items() if name.startswith("ledger."))
    return max(1, -(-records // batches))


def other(engine: str) -> str:
    """The engine to switch to."""
    return next(one for one in engines.ENGINES if one != engine)
