"""Which rows of gold go into a file together, when files with corrected windows are replaced.

Late rows mostly touch the windows that closed last. Were all rows of a replaced file written into the new one, that
file would take up every window that closes, and each batch would rewrite all of gold. So long runs of windows that are
left alone become files of their own, and what is near a corrected window stays with it: the next late rows find it in a
small file.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.limits import GOLD_RUN_ROWS
from penstock.model.columns import WINDOW_START

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parted(
    rows: pa.Table, touched: NDArray[np.int64], run_rows: int = GOLD_RUN_ROWS
) -> tuple[list[pa.Table], list[pa.Table]]:
    """Rows of gold in two kinds: runs of `run_rows` rows and more between touched windows; and all others.

    Args:
        rows: with a `window_start`, in any order.
        touched: window starts in microseconds, sorted.
    """
    starts = _starts(rows)
    if (np.diff(starts) < 0).any():
        rows = rows.sort_by(WINDOW_START)
        starts = _starts(rows)
    edges = np.stack([starts.searchsorted(touched, "left"), starts.searchsorted(touched, "right")], axis=1)
    runs: list[pa.Table] = []
    others: list[pa.Table] = []
    # Left alone from the end of one touched window to the start of the next, touched from there to its end.
    for number, (start, end) in enumerate(pairwise([0, *edges.ravel().tolist(), len(starts)])):
        if start == end:
            continue
        is_run = number % 2 == 0 and end - start >= run_rows
        (runs if is_run else others).append(rows.slice(start, end - start))
    return runs, others


def unique_starts(rows: pa.Table) -> NDArray[np.int64]:
    """The window starts of rows in microseconds, each once, sorted."""
    return np.unique(_starts(rows))


def _starts(rows: pa.Table) -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows[WINDOW_START].cast(pa.int64()).to_numpy()
    return found
