"""The inputs a batch was derived with are still there: contracts, incarnations and reference versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import PenstockError
from penstock.model.columns import BATCH, INDEX, PLACE
from penstock.proof.report import Law, place_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from penstock.model.pipeline import Pipeline
    from penstock.proof.ledger import Ledger
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness


@dataclass(frozen=True)
class Applied:
    """The contracts of a pipeline by version, as far as they can be read, and its incarnations' numbers.

    `topics` are the incarnations that are Kafka topics, whose offsets have gaps and which begin anywhere; `starts` is
    where incarnations were told to begin, by source and partition.
    """

    contracts: Mapping[int, Pipeline]
    versions: frozenset[int]
    incarnations: frozenset[int]
    topics: frozenset[int] = frozenset()
    starts: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def records_loss(self, contract: int) -> bool:
        """Whether a contract allows to go on after records that were lost."""
        found = self.contracts.get(contract)
        return found is not None and found.source.on_data_loss == "record"


def read_contracts(witness: Witness, view: View, parse: Callable[[str], Pipeline], report: PipelineReport) -> Applied:
    """Every contract, parsed again; one whose text is not what was applied, or cannot be parsed, is reported.

    Raises:
        duckdb.Error: the table cannot be read.
    """
    rows = witness.rows(f"SELECT kind, version, hash, text, source_kind FROM {view.relation()} ORDER BY kind, version")
    contracts: dict[int, Pipeline] = {}
    for kind in ("contract", "source"):
        numbers = [row["version"] for row in rows if row["kind"] == kind]
        if numbers != list(range(1, len(numbers) + 1)):
            shown = [f"{kind} {number}" for number in numbers]
            report.broken(Law.DETERMINISM, view.name, f"the numbers of a {kind} have gaps or repeat", places=shown)
    for row in rows:
        if row["kind"] != "contract":
            continue
        text, shown = row["text"] or "", [f"contract {row['version']}"]
        if hashlib.sha256(text.encode()).hexdigest() != row["hash"]:
            report.broken(Law.DETERMINISM, view.name, "the text of a contract is not the one applied", places=shown)
        try:
            contracts[row["version"]] = parse(text)
        except PenstockError as error:
            message = f"a contract cannot be understood: {error.message}"
            report.broken(Law.DETERMINISM, view.name, message, places=shown)
    return Applied(
        contracts,
        frozenset(row["version"] for row in rows if row["kind"] == "contract"),
        frozenset(row["version"] for row in rows if row["kind"] == "source"),
        frozenset(row["version"] for row in rows if row["kind"] == "source" and row["source_kind"] == "kafka"),
        {place: offset for row in rows if row["kind"] == "source" for place, offset in _starts(row)},
    )


def _starts(row: Mapping[str, Any]) -> list[tuple[tuple[int, int], int]]:
    """Where an incarnation was told to begin."""
    told = json.loads(row["text"] or "{}")
    return [((row["version"], int(partition)), int(offset)) for partition, offset in told.items()]


def check_pins(
    witness: Witness, ledger: Ledger, applied: Applied, references: Mapping[str, View], report: PipelineReport
) -> None:
    """Every contract, incarnation and reference version that the ledger names exists.

    Raises:
        duckdb.Error: a table cannot be read.
    """
    name = ledger.view.name
    for batch, contract in _firsts(ledger.counts[BATCH], ledger.contracts):
        if contract not in applied.versions:
            report.broken(
                Law.DETERMINISM, name, "a contract is not known", batch=batch, places=[f"contract {contract}"]
            )
    for batch, source in _firsts(ledger.ranges["batch"], ledger.ranges["source"]):
        if source not in applied.incarnations:
            report.broken(Law.DETERMINISM, name, "a source is not known", batch=batch, places=[f"incarnation {source}"])
    pinned = witness.rows(
        f"SELECT p.reference AS name, p.version AS version, min(batch) AS batch FROM "
        f'(SELECT {BATCH} AS batch, unnest("references") AS p FROM {ledger.view.relation()}) GROUP BY ALL ORDER BY ALL'
    )
    kept = {
        reference: {row["v"] for row in witness.rows(f"SELECT DISTINCT _version AS v FROM {view.relation()}")}
        for reference, view in references.items()
    }
    for row in pinned:
        if row["version"] not in kept.get(row["name"], ()):
            shown = [f"references/{row['name']} version {row['version']}"]
            report.broken(Law.DETERMINISM, name, "a reference version is not known", batch=row["batch"], places=shown)


def check_reject_contracts(
    witness: Witness, ledger: Ledger, rejects: View, from_batch: int, report: PipelineReport
) -> None:
    """Rejects name the contract that the ledger names for their batch.

    Raises:
        duckdb.Error: a table cannot be read.
    """
    rows = rejects.select([*PLACE, INDEX, BATCH, "contract"], rejects.in_batches(from_batch, ledger.last))
    wrong = (
        f"FROM ({rows}) r JOIN ({ledger.view.select([BATCH, 'contract'])}) l USING ({BATCH}) "
        f"WHERE r.contract IS DISTINCT FROM l.contract"
    )
    total = witness.value(f"SELECT count(*)::BIGINT {wrong}")
    if total:
        found = witness.rows(f"SELECT r.* {wrong} LIMIT 10")
        shown = [place_text(row) for row in found]
        message = "rows name another contract than the ledger"
        report.broken(Law.DETERMINISM, rejects.name, message, batch=found[0][BATCH], places=shown, total=total)


def _firsts(batches: NDArray[np.int64], values: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The distinct values, each with the first batch that has it."""
    found, rows = np.unique(values, return_index=True)
    return list(zip(batches[rows].tolist(), found.tolist(), strict=True))
