"""The Spark engine: the same steps, with a batch's rows in the hands of Spark's executors.

The driver plans ranges, tells duplicates by digests and commits; `worker.py` is what runs in an executor: it reads its
ranges, refines with the same code as the embedded engine, and writes Parquet files itself. `shares.py` is what travels
between the two; rows never do. A batch takes two stages: bronze with refining, then silver with rejects.
"""
