"""What an engine supplies to the loop. Everything else (order, commits, positions, restart, proof) is shared code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    import pyarrow as pa

    from penstock.plan.nouns import RefinePlan

    Relation: TypeAlias = pa.Table | pa.RecordBatchReader


class Engine(Protocol):
    """Runs the plan's SQL over Arrow data, the same SQL with the same meaning in every engine.

    Calls come from several threads at once. An engine keeps nothing between calls that its results depend on, so any
    call may be repeated. It does not promise the order of rows unless the SQL does.
    """

    def refine(self, plan: RefinePlan, records: pa.Table, references: Mapping[str, pa.Table]) -> pa.Table:
        """The events of `records` (bronze columns), one row each, in any order; `_row` is the ordinal of the record.

        `references` maps a reference's name to its rows. The columns are those `plan.RefinePlan` documents.
        """

    def query(self, sql: str, relations: Mapping[str, Relation]) -> pa.Table:
        """The result of one SELECT over the named relations; a reader is consumed, in bounded memory."""

    def schema(self, sql: str, relations: Mapping[str, pa.Schema]) -> pa.Schema:
        """The columns that `sql` gives over empty relations of these schemas.

        Raises:
            QueryError: the SQL does not fit the columns' types, with the engine's words.
        """

    def register(self, plan: RefinePlan) -> None:
        """Make the functions of a plan known to `query` and `schema`; `refine` does so itself."""

    def close(self) -> None:
        """Let go of threads, memory and temporary files."""
