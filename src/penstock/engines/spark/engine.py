"""Spark as an engine: queries run in the driver, as in the embedded engine; batches are derived by executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.engines.spark.deriving import SparkDeriver
from penstock.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from penstock.engines.contract import Job, Relation
    from penstock.engines.embedded.engine import EmbeddedEngine
    from penstock.engines.spark.session import Session
    from penstock.model.pipeline import Pipeline
    from penstock.plan.nouns import RefinePlan


class SparkEngine:
    """See `Engine`. `local` runs the queries that windows, duplicates and types need: over small tables."""

    def __init__(self, session: Session, local: EmbeddedEngine) -> None:
        self._session = session
        self._local = local
        self._derivers: list[SparkDeriver] = []

    def query(self, sql: str, relations: Mapping[str, Relation]) -> pa.Table:
        return self._local.query(sql, relations)

    def schema(self, sql: str, relations: Mapping[str, pa.Schema]) -> pa.Schema:
        return self._local.schema(sql, relations)

    def register(self, plan: RefinePlan) -> None:
        self._local.register(plan)

    @property
    def reads_apart(self) -> bool:
        return True

    def refuse_unreachable(self, pipeline: Pipeline) -> None:
        if pipeline.source.origin.kind == "push" and not self._session.is_local:
            raise UsageError(
                f"the push log of {pipeline.name} is on this machine, and Spark's executors are on others",
                hint="Use a Kafka source, `--master local[N]`, or the embedded engine.",
            )

    def deriver(self, job: Job) -> SparkDeriver:
        deriver = SparkDeriver(self._session, self._local, job)
        self._derivers.append(deriver)
        return deriver

    def close(self) -> None:
        for deriver in self._derivers:
            deriver.close()
        self._local.close()
