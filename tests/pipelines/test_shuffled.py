"""Every case has one answer whatever the order of its records, with byte-identical repetitions among them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pipelines import cases, shuffling

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", cases.CASES)
def test_shuffled(case: str, tmp_path: Path) -> None:
    draw = random.Random(case)
    straight = cases.make_project(case, tmp_path / "straight")
    cases.run(straight)
    golden = shuffling.Answer(cases.expected(case), shuffling.answer(straight).records)
    doubles, wanted = golden.doubled(draw) if shuffling.is_keyed(straight) else ([], golden)
    folder = cases.make_project(case, tmp_path / "shuffled")
    shuffling.write(folder, golden.shuffled(doubles, draw))
    cases.run(folder, draw.choice((4, 9, 1_000)))
    assert shuffling.answer(folder).comparable() == wanted.comparable()
    assert cases.violations(folder) == []
