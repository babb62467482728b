"""Compiled plans by pins: batches of a restart may have been derived with an older contract or reference version."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from penstock.limits import PLANS_KEPT
from penstock.plan.compile import compile as compile_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.lake.contracts import Contracts
    from penstock.model.batch import Pins
    from penstock.model.pipeline import Pipeline
    from penstock.plan.nouns import Plan
    from penstock.run.references import ReferenceKeeper


class Plans:
    """The plan for each pair of contract and reference versions; those that were used last stay compiled."""

    def __init__(self, contracts: Contracts, references: ReferenceKeeper, parse: Callable[[str], Pipeline]) -> None:
        self._contracts = contracts
        self._references = references
        self._parse = parse
        self._compiled = lru_cache(PLANS_KEPT)(self._compile)

    def plan(self, pins: Pins) -> Plan:
        """The plan to derive a batch with under `pins`."""
        return self._compiled(pins.contract, pins.references)

    def _compile(self, contract: int, references: tuple[tuple[str, int], ...]) -> Plan:
        pipeline = self._parse(self._contracts.get(contract).text)
        return compile_plan(pipeline, self._references.columns(references))
