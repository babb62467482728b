"""For a files source: every offset of the ledger lies in exactly one file of the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.proof.report import Law

if TYPE_CHECKING:
    from penstock.proof.ledger import Ledger
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness

HOLDING = "state IN ('reading', 'complete', 'lost')"
"""The states of files that hold offsets; `records` is -1 for the one that is still being read."""

_STATES = "('reading', 'complete', 'repeated', 'lost', 'unreadable', 'ignored')"


def files_sql(view: View) -> str:
    """SQL: source, path, first, end (NULL while being read) of every file that holds offsets, as last recorded."""
    latest = (
        f"SELECT * FROM {view.relation()} QUALIFY row_number() OVER "
        f"(PARTITION BY source, path, first_offset ORDER BY sequence DESC) = 1"
    )
    return (
        f"SELECT source, path, state, sha256, first_offset AS first, "
        f'CASE WHEN records >= 0 THEN first_offset + records END AS "end" FROM ({latest}) WHERE {HOLDING}'
    )


def check_manifest(witness: Witness, view: View, ledger: Ledger, report: PipelineReport) -> None:
    """Files follow each other without gap or overlap and reach as far as the ledger.

    Raises:
        duckdb.Error: the table cannot be read.
    """
    numbers = witness.rows(
        f"SELECT count(*)::BIGINT AS rows, count(DISTINCT sequence)::BIGINT AS numbers, min(sequence) AS first, "
        f"max(sequence) AS last, count(*) FILTER (WHERE state NOT IN {_STATES})::BIGINT AS strange "
        f"FROM {view.relation()}"
    )[0]
    rows = numbers["rows"]
    if rows and (numbers["numbers"], numbers["first"], numbers["last"]) != (rows, 1, rows):
        report.broken(Law.CONSERVATION, view.name, f"does not hold the rows 1 to {rows} once each")
    if numbers["strange"]:
        report.broken(Law.CONSERVATION, view.name, "files have an unknown state", total=numbers["strange"])
    following = 'lead(first) OVER (PARTITION BY source ORDER BY first, "end" NULLS LAST)'
    ordered = f"SELECT *, {following} AS next FROM ({files_sql(view)})"
    for test, message in (
        ('next < "end"', "files share offsets"),
        ('next > "end" OR (next IS NOT NULL AND "end" IS NULL)', "offsets between two files are in none"),
    ):
        found = witness.rows(
            f'SELECT source, path, first, "end", next FROM ({ordered}) WHERE {test} ORDER BY source, first'
        )
        shown = [f"{row['source']}/0/{row['first']}..{row['end']} of {row['path']}" for row in found]
        if found:
            report.broken(Law.CONSERVATION, view.name, message, places=shown, total=len(found))
    reach = {
        row["source"]: (row["first"], row["last"])
        for row in witness.rows(
            f'SELECT source, min(first) AS first, CASE WHEN NOT bool_or("end" IS NULL) THEN max("end") END AS last '
            f"FROM ({files_sql(view)}) GROUP BY source"
        )
    }
    ends: dict[int, int] = {}
    for source, end in zip(ledger.ranges["source"].tolist(), ledger.ranges["end"].tolist(), strict=True):
        ends[source] = max(end, ends.get(source, 0))
    for source, end in ends.items():
        first, last = reach.get(source, (1, 0))
        if first != 0 or (last is not None and last < end):
            shown = [f"{source}/0: files hold {first}..{last}, the ledger 0..{end}"]
            report.broken(Law.CONSERVATION, view.name, "records are in no file", places=shown)
