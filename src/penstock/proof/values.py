"""What every silver row promises: required values are there, flags are rules that flag, no event is from the future."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.limits import VIOLATION_EXAMPLES_MAX
from penstock.model.columns import BATCH, FLAGS, INDEX, INGESTED_AT, PLACE
from penstock.model.pipeline import Action
from penstock.proof.report import Law, place_text
from penstock.proof.syntax import quote, text_literal

if TYPE_CHECKING:
    from penstock.model.pipeline import Pipeline
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness


def check_values(
    witness: Witness, pipeline: Pipeline, silver: View, batches: tuple[int, int], report: PipelineReport
) -> None:
    """Check the rows of some batches (both ends inclusive) against the contract they were derived with.

    Raises:
        duckdb.Error: the table is not what the contract says.
    """
    declared = pipeline.silver
    required = {column.name for column in declared.columns if column.required}
    required |= {*declared.key, declared.event_time, *PLACE, INDEX, INGESTED_AT}
    doubtful = sorted(required - (silver.full or set()))
    tests = {f"rows have no {name}": (Law.DETERMINISM, f"{quote(name)} IS NULL") for name in doubtful}
    flags = [rule.name for rule in declared.rules if rule.otherwise is Action.FLAG]
    known = ", ".join(text_literal(name) for name in flags)
    tests["rows have a flag that is no rule"] = (
        Law.DETERMINISM,
        f"len({FLAGS}) > 0 AND NOT list_has_all([{known}]::VARCHAR[], {FLAGS})",
    )
    if declared.future_after is not None:
        future = f"epoch_us({quote(declared.event_time)}) > epoch_us({INGESTED_AT}) + {declared.future_after}"
        tests["rows are too far in the future"] = (Law.LATE, future)
    columns = sorted({*required, *PLACE, INDEX, FLAGS, BATCH, INGESTED_AT})
    rows = silver.select(columns, silver.in_batches(*batches))
    counted = ", ".join(f"count(*) FILTER (WHERE {test})::BIGINT AS c{n}" for n, (_, test) in enumerate(tests.values()))
    totals = list(witness.rows(f"SELECT {counted} FROM ({rows})")[0].values())
    for total, (message, (law, test)) in zip(totals, tests.items(), strict=True):
        if total:
            found = witness.rows(
                f"SELECT {', '.join(PLACE)}, {INDEX} FROM ({rows}) WHERE {test} LIMIT {VIOLATION_EXAMPLES_MAX}"
            )
            report.broken(law, silver.name, message, places=[place_text(row) for row in found], total=total)
