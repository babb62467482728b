"""Which rows of gold go into a file together, when files with corrected windows are replaced.

Late rows mostly touch the windows that closed last. Were all rows of a replaced file written into the new one, that
file would take up every window that closes, and each batch would rewrite all of gold. So long runs of windows that are
left alone become files of their own, and what is near a corrected window stays with it: the next late rows find it in a
small file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.limits import GOLD_RUN_ROWS, GOLD_RUNS_MAX
from penstock.model.columns import WINDOW_START

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parted(
    rows: pa.Table, touched: NDArray[np.int64], run_rows: int = GOLD_RUN_ROWS
) -> tuple[list[pa.Table], pa.Table]:
    """Rows of gold in two kinds: runs of `run_rows` rows and more between touched windows; and all others, in memory of
    their own. There are GOLD_RUNS_MAX runs at most: where late rows touch windows all over, they have to be longer.

    Args:
        rows: with a `window_start`, in any order.
        touched: window starts in microseconds, sorted.
    """
    starts = _starts(rows)
    if (np.diff(starts) < 0).any():
        rows = rows.sort_by(WINDOW_START)
        starts = _starts(rows)
    run_rows = max(run_rows, -(-len(starts) // GOLD_RUNS_MAX))
    # Left alone from the end of one touched window to the start of the next.
    firsts = [0, *starts.searchsorted(touched, "right").tolist()]
    ends = [*starts.searchsorted(touched, "left").tolist(), len(starts)]
    runs: list[pa.Table] = []
    is_other = np.ones(len(starts), bool)
    for first, end in zip(firsts, ends, strict=True):
        if end - first >= run_rows:
            runs.append(rows.slice(first, end - first))
            is_other[first:end] = False
    return runs, rows.filter(pa.array(is_other))


def unique_starts(rows: pa.Table) -> NDArray[np.int64]:
    """The window starts of rows in microseconds, each once, sorted."""
    return np.unique(_starts(rows))


def _starts(rows: pa.Table) -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows[WINDOW_START].cast(pa.int64()).to_numpy()
    return found
