"""Some hundred short simulations of weeks; `make weeks` runs others, and longer ones."""

from __future__ import annotations

import os

import pytest

from simulation.weeks import live

SEEDS = int(os.environ.get("PENSTOCK_WEEKS", "90"))
SEEDS_PER_TEST = 6


@pytest.mark.integration
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("first", range(1, SEEDS + 1, SEEDS_PER_TEST))
def test_short_ones(first: int) -> None:
    for seed in range(first, min(first + SEEDS_PER_TEST, SEEDS + 1)):
        live(seed)
