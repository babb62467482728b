"""The bars of a script of the same shape beside ours: those whose windows hold the same rows have to be equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from penstock.errors import LawBroken

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.wire import Project

KEY = ["window_start", "instrument_id"]
MEASURES = ("open", "high", "low", "close", "volume")


def common_bars(ours: Project, folder: Path) -> tuple[int, int]:
    """How many bars of the lake in `folder` are ours, and how many hold fewer rows than ours.

    Raises:
        LawBroken: one holds as many rows as ours and differs, holds more, or is no window of ours.
    """
    left = ours.sql(f"select {', '.join([*KEY, *MEASURES, 'trades'])} from gold.bars_1m")
    right = DeltaTable(str(folder / "lake" / "gold" / "bars_1m")).to_pyarrow_table(columns=left.column_names)
    right = right.cast(
        pa.schema([right.schema.field(name).with_type(left.schema.field(name).type) for name in left.column_names])
    )
    both = right.join(left, KEY, right_suffix="_ours", join_type="left outer")
    whole = both.filter(pc.equal(both["trades"], both["trades_ours"]))
    fewer = both.filter(pc.less(both["trades"], both["trades_ours"]))
    differ = [name for name in MEASURES if whole[name] != whole[f"{name}_ours"]]
    strange = both.num_rows - whole.num_rows - fewer.num_rows
    if differ or strange:
        raise LawBroken(
            f"bars of the same rows differ in {differ}, and {strange} bars are not in our lake",
            hint="Compare the two gold tables by hand.",
        )
    return whole.num_rows, fewer.num_rows
