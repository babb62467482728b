"""From the declaration in a file to the contract in force: what may change, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import DeclarationError, SourceLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.lake.contracts import Contracts
    from penstock.lake.fence import Writer
    from penstock.model.finding import Finding
    from penstock.model.pipeline import Pipeline
    from penstock.model.position import SourceIdentity


def refuse_changes_of_meaning(
    contracts: Contracts,
    declared: Pipeline,
    parse: Callable[[str], Pipeline],
    compare: Callable[[Pipeline, Pipeline], tuple[Finding, ...]],
) -> None:
    """Raise DeclarationError where the declaration would change the meaning of rows that are written already."""
    applied = contracts.latest()
    if applied is not None:
        findings = compare(parse(applied.text), declared)
        if findings:
            raise DeclarationError(findings)


def apply_contract(
    contracts: Contracts, writer: Writer, declared: Pipeline, parse: Callable[[str], Pipeline], now: int
) -> int:
    """The number of the contract in force: a new one when the declaration means something else than the last one."""
    applied = contracts.latest()
    if applied is not None and parse(applied.text) == declared:
        return applied.version
    return contracts.apply(writer, declared.text, now).version


def choose_incarnation(
    contracts: Contracts, writer: Writer, identity: SourceIdentity, now: int, *, accept_new: bool
) -> int:
    """The incarnation number of a source: a known one's, or a new one's where the operator asked for it.

    Raises:
        SourceLost: the source is not the one the lake knows.
    """
    known = contracts.incarnations()
    if known and known[-1].identity == identity:
        return known[-1].number
    if known and not accept_new:
        last = known[-1].identity
        raise SourceLost(
            f"the {last.kind} source {last.name} had the id {last.unique_id}, but now {identity.name} "
            f"has the id {identity.unique_id}: it was made anew, so what it still held is gone",
            hint="Bring the old source back, or accept the new one with `penstock run --new-incarnation`.",
        )
    return contracts.open_incarnation(writer, identity, now).number
