"""The lake: Delta tables that survive crashes, rivals and flipped bits. Start at `lake.py`, then `table.py`.

Layout of the tables: `layout.py`. Bytes on disk: `storage.py`. Parquet: `parquet.py`, `reading.py`. Commits:
`table.py` over `log.py`; who may commit: `fence.py`; what a crash left: `recovery.py`; the past: `past.py` over
`history.py`. delta-rs: `handle.py`. Upkeep: `checkpoint.py`, `maintenance.py`.
"""
