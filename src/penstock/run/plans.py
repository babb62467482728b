"""Compiled plans by pins: batches of a restart may have been derived with an older contract or reference version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.plan.compile import compile as compile_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.lake.contracts import Contracts
    from penstock.model.batch import Pins
    from penstock.model.pipeline import Pipeline
    from penstock.plan.nouns import Plan
    from penstock.run.references import ReferenceKeeper


class Plans:
    """The plan for each pair of contract and reference versions, compiled once."""

    def __init__(self, contracts: Contracts, references: ReferenceKeeper, parse: Callable[[str], Pipeline]) -> None:
        self._contracts = contracts
        self._references = references
        self._parse = parse
        self._compiled: dict[tuple[int, tuple[tuple[str, int], ...]], Plan] = {}

    def plan(self, pins: Pins) -> Plan:
        """The plan to derive a batch with under `pins`."""
        key = (pins.contract, pins.references)
        if key not in self._compiled:
            pipeline = self._parse(self._contracts.get(pins.contract).text)
            self._compiled[key] = compile_plan(pipeline, self._references.columns(pins.references))
        return self._compiled[key]
