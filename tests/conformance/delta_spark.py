"""A user of Spark who knows nothing of Penstock: reads and writes Delta tables with delta-spark, in a process of its own.

    python delta_spark.py JARS TASKS

JARS are separated by commas. TASKS is a file of JSON: a list of `{"sql": ..., "into": FILE}`; what a statement gives is
written to the file as an Arrow stream.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
}


def main() -> None:
    builder = SparkSession.builder.master("local[1]").config("spark.jars", sys.argv[1])
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    for task in json.loads(Path(sys.argv[2]).read_text()):
        found = session.sql(task["sql"]).toArrow()
        if "into" in task:
            with pa.OSFile(task["into"], "wb") as file, pa.ipc.new_stream(file, found.schema) as stream:
                stream.write_table(found)
    session.stop()


if __name__ == "__main__":
    main()
