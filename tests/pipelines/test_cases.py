"""Every case has one answer: straight, in any batch split, killed at any step and resumed; and it audits clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipelines import cases

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", cases.CASES)
def test_straight(case: str, tmp_path: Path) -> None:
    folder = cases.make_project(case, tmp_path / case)
    cases.run(folder)
    assert cases.tables(folder) == cases.expected(case)
    assert cases.violations(folder) == []


@pytest.mark.parametrize("case", cases.CASES)
def test_explained(case: str, tmp_path: Path) -> None:
    assert cases.explained(cases.make_project(case, tmp_path / case)) == cases.expected_explanation(case)


@pytest.mark.parametrize("rows", [3, 11])
@pytest.mark.parametrize("case", cases.CASES)
def test_split(case: str, rows: int, tmp_path: Path) -> None:
    folder = cases.make_project(case, tmp_path / case)
    cases.run(folder, rows)
    assert cases.tables(folder) == cases.expected(case)
    assert cases.violations(folder) == []


@pytest.mark.parametrize("case", cases.CASES)
def test_run_again_changes_nothing(case: str, tmp_path: Path) -> None:
    folder = cases.make_project(case, tmp_path / case)
    cases.run(folder, 10)
    cases.run(folder, 3)
    assert cases.tables(folder) == cases.expected(case)
    assert cases.violations(folder) == []


@pytest.mark.integration
@pytest.mark.parametrize("step", cases.STEPS)
@pytest.mark.parametrize("case", cases.CASES)
def test_killed_and_resumed(case: str, step: str, tmp_path: Path) -> None:
    folder = cases.make_project(case, tmp_path / case)
    killed = [cases.run_killed(folder, step, batch, 9) for batch in (1, 2)]
    cases.run(folder, 9)
    assert cases.tables(folder) == cases.expected(case)
    assert cases.violations(folder) == []
    assert any(killed) or step == "gold"
