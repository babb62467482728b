"""The growth workload, small: a lake with a made-up past is sound, goes on, and is started again."""

from __future__ import annotations

import json

import pytest

from penstock import bench
from penstock.bench import growth

pytestmark = pytest.mark.integration


def test_growth_reconciles_and_says_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PAST": 1_200, "BATCH_ROWS": 500, "BATCHES": 4, "ROUNDS": 1}.items():
        monkeypatch.setattr(growth, name, value)
    said: list[str] = []
    figures = bench.WORKLOADS["growth"].measure(bench.Options(events=10_000), said.append)
    assert said[0].startswith("workload: ")
    for begin in ("  rows: ", "old against fresh: ", "live files of the largest table: ", "restart: "):
        assert any(line.startswith(begin) for line in said), said
    assert json.loads(json.dumps(figures))["workload"]["events"] >= 10_000
