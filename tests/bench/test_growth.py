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


def test_a_lake_in_a_folder_stands_in_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "STORE_COMPARED", 3)
    said: list[str] = []
    found = growth.in_store(bench.Options(events=20_000), said.append)
    assert found["workload"] == {"events": 20_000, "batches": 10}
    assert found["ratio"]["seconds"] > 0
    assert any("reconcile" in line for line in said)
