"""Laws 3 and 4: no row lies at or above its table's position, and no table is ahead of what it was derived from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.model.columns import BATCH, OFFSET, PARTITION, SOURCE, batch_txn, offset_txn
from penstock.proof.report import Law

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.proof.ledger import Ledger
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness


def check_rows_below(witness: Witness, pipeline: str, view: View, report: PipelineReport) -> None:
    """Every row's batch is one that the table has absorbed. Notes the batches there are in the view.

    Raises:
        duckdb.Error: the table cannot be read.
    """
    position = view.txns.get(batch_txn(pipeline), 0)
    found = witness.rows(
        f"SELECT count(*) FILTER (WHERE {BATCH} > {position})::BIGINT AS above, "
        f"min({BATCH}) AS first, max({BATCH}) AS last, "
        f"count(*) FILTER (WHERE {BATCH} IS NULL OR {BATCH} < 1)::BIGINT AS below FROM ({view.select([BATCH])})"
    )[0]
    if found["last"] is not None and not found["below"]:
        view.batches = found["first"], found["last"]
    if found["above"]:
        report.broken(
            Law.POSITION,
            view.name,
            "rows are above the table's position",
            batch=found["last"],
            places=[f"position {position}"],
            total=found["above"],
        )
    if found["below"]:
        report.broken(Law.POSITION, view.name, "rows are of no batch", total=found["below"])


def check_offsets(witness: Witness, pipeline: str, bronze: View, ledger: Ledger, report: PipelineReport) -> None:
    """Every record's offset is below the next offset that bronze names, and the ledger's ranges end at most there.

    Raises:
        duckdb.Error: the table cannot be read.
    """
    ranges = ledger.ranges
    ends: dict[tuple[int, int], int] = {}
    for source, partition, end in zip(*(ranges[name].tolist() for name in ("source", "partition", "end")), strict=True):
        ends[source, partition] = max(end, ends.get((source, partition), 0))
    rows = witness.rows(
        f"SELECT {SOURCE} AS s, {PARTITION} AS p, max({OFFSET}) AS last "
        f"FROM ({bronze.select([SOURCE, PARTITION, OFFSET])}) GROUP BY ALL"
    )
    held = {(row["s"], row["p"]): row["last"] for row in rows if None not in row.values()}
    is_last = bronze.txns.get(batch_txn(pipeline)) == ledger.last
    for source, partition in sorted({*ends, *held}):
        position = bronze.txns.get(offset_txn(pipeline, source, partition), 0)
        place = f"{source}/{partition}"
        if held.get((source, partition), -1) >= position:
            at = f"{place}/{held[source, partition]}, position {position}"
            report.broken(Law.POSITION, bronze.name, "records are at or above the next offset", places=[at])
        end = ends.get((source, partition), 0)
        if end > position or (is_last and end != position):
            at = f"{place}: ledger {end}, position {position}"
            report.broken(
                Law.POSITION, bronze.name, "the next offset is not where the ledger's ranges end", places=[at]
            )


def check_order(
    pipeline: str,
    bronze: View,
    silver: View,
    rejects: View,
    golds: Sequence[View],
    ledger: View,
    report: PipelineReport,
) -> None:
    """What a table has absorbed, everything upstream of it has absorbed before."""
    txn = batch_txn(pipeline)
    at = {view.name: view.txns.get(txn, 0) for view in (bronze, silver, rejects, ledger, *golds)}
    # Rejects of the next batch may be there, provisionally, before silver's.
    pairs = [(silver, bronze, 0), (ledger, bronze, 0), (ledger, silver, 0), (rejects, bronze, 0), (rejects, silver, 1)]
    pairs += [(gold, silver, 0) for gold in golds]
    for down, up, ahead in pairs:
        if at[down.name] > at[up.name] + ahead:
            report.broken(
                Law.ORDER,
                down.name,
                f"has absorbed batch {at[down.name]}, {up.name} only {at[up.name]}",
                batch=at[down.name],
            )
