"""The same work as Penstock's main workload by Spark Structured Streaming and Delta, as one writes it today.

    penstock bench kafka --against benchmarks/structured_streaming.py
    python benchmarks/structured_streaming.py BROKERS

It takes orders on standard input, one JSON object a line, and answers each with one on standard output:

    {"do": "absorb", "topic": NAME, "folder": PATH, "batch_rows": ROWS}    all that the topic holds: seconds
    {"do": "follow", "topic": NAME, "folder": PATH}    answers when the queries are through with what was there
    {"do": "stop"}                                     ends them when they are through with all there is
    {"do": "count", "folder": PATH}                    where the records ended

PATH holds `instruments.csv`; below `lake` in it come four Delta tables: bronze (each record as it came), silver (typed,
checked, looked up, unique), rejects (what broke a rule, with its bytes), and one-minute bars of closed windows. Three
queries: Kafka to bronze, Kafka to silver and rejects (parsed once, split in `foreachBatch`), silver to bars.

Tuned as the documentation of both says: as many shuffle partitions as cores, RocksDB with changelog checkpoints, zstd,
large triggers where there is a backlog, no micro-batch without data where it brings nothing. What it does not do: bars
get no late row, a duplicate leaves no trace, a reject names one reason, and files are not forced to the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as every Spark program does
from tools import servers

if TYPE_CHECKING:
    from pyspark.sql.streaming import DataStreamWriter, StreamingQuery

CORES = 2
HEAP = "4g"
FOLLOW_ROWS = 1_000_000

SCHEMA = (
    "instrument_id string, venue string, sequence bigint, ts bigint, price decimal(18,8), quantity double, "
    "side string, condition string, order_id string, _corrupt string"
)
PARSING = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt", "allowNonNumericNumbers": "false"}
COLUMNS = [
    *("instrument_id", "venue", "sequence", "event_time", "price", "quantity", "side", "condition", "order_id"),
    *("currency", "notional", "flags", "partition", "offset", "arrived"),
]
REJECTED = ["value", "partition", "offset", "arrived", "failed"]
KEY = ["instrument_id", "venue", "sequence"]
UNIQUE_WITHIN = "1 day"
LATE_AFTER = "10 seconds"
RULES = {
    "malformed": "is_text and _corrupt is null and instrument_id is not null",
    "required": "venue is not null and sequence is not null and event_time is not null and price is not null",
    "future": "event_time <= arrived + interval 5 minutes",
    "known_instrument": "currency is not null",
    "sane_price": "price between -500 and 1e6",
    "sane_quantity": "quantity > 0",
    "known_venue": "venue in ('XNAS', 'XNYS', 'BATS', 'IEXG')",
}
EMPTY_BATCHES = "spark.sql.streaming.noDataMicroBatches.enabled"
SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.driver.memory": HEAP,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": str(CORES),
    "spark.databricks.delta.snapshotPartitions": str(CORES),
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": "1",
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
    "spark.sql.streaming.metricsEnabled": "false",
}


class Work:
    """One topic into four tables below `folder`."""

    def __init__(self, spark: SparkSession, brokers: str, order: dict) -> None:
        self._spark = spark
        self._brokers = brokers
        self._topic = order["topic"]
        self._rows = order.get("batch_rows", FOLLOW_ROWS)
        folder = Path(order["folder"])
        self.lake = folder / "lake"
        self._checkpoints = folder / "checkpoints"
        for path in (self.lake, self._checkpoints):
            shutil.rmtree(path, ignore_errors=True)
        self._instruments = spark.read.csv(str(folder / "instruments.csv"), header=True)

    def records(self) -> DataFrame:
        """The topic from its beginning, so many records in a trigger."""
        reader = self._spark.readStream.format("kafka").option("kafka.bootstrap.servers", self._brokers)
        reader = reader.option("subscribe", self._topic).option("startingOffsets", "earliest")
        return reader.option("maxOffsetsPerTrigger", self._rows).load()

    def events(self) -> DataFrame:
        """Every record with its typed columns, and the rule it broke, if any."""
        text = F.col("value").cast("string")
        parsed = self.records().select(
            "value",
            "partition",
            "offset",
            F.col("timestamp").alias("arrived"),
            F.is_valid_utf8(text).alias("is_text"),
            F.from_json(text, SCHEMA, PARSING).alias("event"),
        )
        typed = parsed.select("*", "event.*").drop("event").withColumn("event_time", F.timestamp_millis("ts"))
        joined = typed.join(F.broadcast(self._instruments), "instrument_id", "left")
        broken = [F.when(~F.coalesce(F.expr(rule), F.lit(False)), name) for name, rule in RULES.items()]
        notional = F.col("price").cast("double") * F.col("quantity")
        flags = F.when(notional < 1e9, F.array().cast("array<string>")).otherwise(F.array(F.lit("big_trade")))
        return joined.withColumns({"notional": notional, "flags": flags, "failed": F.coalesce(*broken)})

    def unique(self) -> DataFrame:
        """Events without the doubles of sound ones. A reject is told apart by its place, and a double of nothing; its
        time, which may be anything, is hidden from the watermark."""
        is_sound = F.col("failed").isNull()
        columns = {
            "place": F.when(~is_sound, F.concat_ws("/", "partition", "offset")),
            "moment": F.when(is_sound, F.col("event_time")),
            "value": F.when(~is_sound, F.col("value")),
        }
        rows = self.events().withColumns(columns).withWatermark("moment", UNIQUE_WITHIN)
        return rows.dropDuplicatesWithinWatermark([*KEY, "place"])

    def bars(self) -> DataFrame:
        """One row per instrument and closed minute of silver."""
        order, price, quantity = F.struct("event_time", "sequence"), F.col("price"), F.col("quantity")
        return (
            self._spark.readStream.format("delta")
            .load(str(self.lake / "silver" / "ticks"))
            .withWatermark("event_time", LATE_AFTER)
            .groupBy(F.window("event_time", "1 minute").alias("window"), "instrument_id")
            .agg(
                F.min_by(price, order).alias("open"),
                F.max(price).alias("high"),
                F.min(price).alias("low"),
                F.max_by(price, order).alias("close"),
                F.sum(quantity).alias("volume"),
                (F.sum(price.cast("double") * quantity) / F.sum(quantity)).alias("vwap"),
                F.count("*").alias("trades"),
            )
            .withColumns({"window_start": F.col("window.start"), "window_end": F.col("window.end")})
            .drop("window")
        )

    # -- queries ------------------------------------------------------------------------------------------------------

    def start_events(self, **trigger: object) -> list[StreamingQuery]:
        """Kafka to bronze, and Kafka to silver and rejects."""
        self._spark.conf.set(EMPTY_BATCHES, "false")
        bronze = self.records().drop("topic", "timestampType").withColumn("ingested_at", F.current_timestamp())
        return [
            self._writer(bronze, "bronze", trigger).format("delta").start(str(self.lake / "bronze" / "ticks")),
            self._writer(self.unique(), "silver", trigger).foreachBatch(self._split).start(),
        ]

    def start_bars(self, **trigger: object) -> StreamingQuery:
        """Silver to bars; a micro-batch without data brings the windows that the last one closed."""
        self._spark.conf.set(EMPTY_BATCHES, "true")
        return self._writer(self.bars(), "bars", trigger).format("delta").start(str(self.lake / "gold" / "bars_1m"))

    def _split(self, rows: DataFrame, number: int) -> None:
        rows.persist()
        for name, condition, columns in (
            ("silver", "failed is null", COLUMNS),
            ("rejects", "failed is not null", REJECTED),
        ):
            writer = rows.filter(condition).select(columns).write.format("delta").mode("append")
            once = {"txnAppId": f"ticks-{name}", "txnVersion": number}
            writer.options(**once).save(str(self.lake / name / "ticks"))
        rows.unpersist()

    def _writer(self, rows: DataFrame, name: str, trigger: dict) -> DataStreamWriter:
        writer = rows.writeStream.queryName(name).outputMode("append").trigger(**trigger)
        return writer.option("checkpointLocation", str(self._checkpoints / name))


class Following:
    """Queries that follow their topic until `stop`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._queries = work.start_events(processingTime="0 seconds")
        for query in self._queries:
            query.processAllAvailable()
        self._queries.append(work.start_bars(processingTime="0 seconds"))
        self._queries[-1].processAllAvailable()

    def stop(self) -> None:
        """End when all that the topic holds has passed. Bars are the last."""
        for query in self._queries:
            query.processAllAvailable()
            query.stop()


def absorb(work: Work) -> dict:
    """All that the topic holds, query after query: two at a time, and bars when silver is complete."""
    start = time.perf_counter()
    queries = work.start_events(availableNow=True)
    for query in queries:
        query.awaitTermination()
    bars = work.start_bars(availableNow=True)
    bars.awaitTermination()
    batches = sum(progress.numInputRows > 0 for progress in queries[-1].recentProgress)
    return {"seconds": time.perf_counter() - start, "batches": batches}


def count(spark: SparkSession, folder: str) -> dict:
    """Where the records ended. A duplicate is one that is in neither table."""
    rows = {
        name: spark.read.format("delta").load(f"{folder}/lake/{name}/ticks").count()
        for name in ("bronze", "silver", "rejects")
    }
    records, accepted, quarantined = rows.values()
    duplicate = records - accepted - quarantined
    found = {"records": records, "events": records, "accepted": accepted, "quarantined": quarantined}
    return {"counts": found | {"duplicate": duplicate, "skipped": 0}}


def say(answer: dict) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(brokers: str) -> None:
    builder = SparkSession.builder.master(f"local[{CORES}]").appName("structured-streaming")
    builder = builder.config("spark.jars", ",".join(map(str, servers.jars("spark"))))
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    following = None
    answer: dict = {"ready": True}
    say(answer)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "absorb":
            answer = absorb(Work(spark, brokers, order))
        elif order["do"] == "follow":
            following, answer = Following(Work(spark, brokers, order)), {"ready": True}
        elif order["do"] == "stop" and following is not None:
            following.stop()
            following, answer = None, {"stopped": True}
        elif order["do"] == "count":
            answer = count(spark, order["folder"])
        say(answer)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
