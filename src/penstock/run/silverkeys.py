"""The keys of accepted events, read back from silver bucket by bucket: what `duplicates.py` starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from penstock.engines.outcome import placed_keys
from penstock.lake.reading import Condition
from penstock.model.columns import INDEX, PLACE
from penstock.run.rows import micros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.engines.contract import Engine, PlacedKeys
    from penstock.lake.table import Table
    from penstock.model.pipeline import Silver
    from penstock.plan.nouns import RefinePlan


class SilverKeys:
    """Digests as the refine step makes them, from silver's typed columns."""

    def __init__(self, table: Table, plan: RefinePlan, silver: Silver, engine: Engine) -> None:
        self._table = table
        self._plan = plan
        self._silver = silver
        self._engine = engine

    def load(self, bucket: int) -> Iterator[PlacedKeys]:
        """The keys of one bucket, in pieces of bounded size."""
        width, condition = self._silver.unique_within, None
        if width is not None:
            time = pc.field(self._silver.event_time)
            within = (time >= micros(bucket * width)) & (time < micros((bucket + 1) * width))
            condition = Condition((self._silver.event_time,), within)
        columns = sorted({*self._silver.key, self._silver.event_time, *PLACE, INDEX})
        for rows in self._table.read(columns=columns, condition=condition):
            if rows.num_rows:
                yield placed_keys(self._engine.query(self._plan.key_sql, {"rows": rows}))
