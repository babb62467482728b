"""Every bound in Penstock, by name, with its reason. Relations between bounds are checked at the end, at import.

Units stand last in a name: `_rows`, `_bytes`, `_seconds`. What a user may change has the same name in `settings.py`; the value here is its default.
"""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# -- records and batches ----------------------------------------------------------------------------------------------

RECORD_BYTES_MAX = 16 * MIB
"""A larger record is kept as a hash and a length. Room for a 10 MB message; small enough that a batch of them fits."""

BATCH_ROWS_MAX = 200_000
"""Rows in one batch. Larger ones gain little speed and cost memory; see benchmarks/README.md."""

BATCH_BYTES_MAX = 128 * MIB
"""Raw bytes in one batch; bounds memory when records are large."""

BATCH_INTERVAL_MIN_SECONDS = 0.25
"""Time between two commits of a busy pipeline; bounds the growth of the logs."""

if BATCH_BYTES_MAX < 2 * RECORD_BYTES_MAX:
    raise AssertionError("a batch must hold at least two of the largest records")
