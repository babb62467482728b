"""The same shape as Penstock's main workload, bare: what one writes in an afternoon, to measure against.

    python benchmarks/bare_shape.py FILE BATCH_ROWS FOLDER

Reads a file of ticks, writes bronze, silver, rejects, gold and a ledger as Delta tables, every commit fsynced,
neighbouring batches overlapping. It checks types by DuckDB's lenient JSON reader, keeps 64-bit hashes of all keys in
memory, corrects no late window, and recovers from nothing; that is the difference. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.transaction import AddAction

FIELDS = {
    "instrument_id": "VARCHAR",
    "venue": "VARCHAR",
    "sequence": "BIGINT",
    "ts": "BIGINT",
    "price": "DECIMAL(18,8)",
    "quantity": "DOUBLE",
    "side": "VARCHAR",
    "condition": "VARCHAR",
    "order_id": "VARCHAR",
}
REFINE = f"""
SELECT row, r.instrument_id, r.venue, r.sequence, make_timestamptz(r.ts * 1000) AS event_time, r.price, r.quantity,
    r.side, r.condition, r.order_id, i.currency, r.price::DOUBLE * r.quantity AS notional,
    hash(r.instrument_id, r.venue, r.sequence, r.ts // 86400000) AS key,
    coalesce(i.currency IS NOT NULL AND r.price BETWEEN -500 AND 1e6 AND r.quantity > 0
        AND r.venue IN ('XNAS', 'XNYS', 'BATS', 'IEXG') AND r.sequence IS NOT NULL AND r.ts IS NOT NULL, FALSE) AS good
FROM (SELECT row, from_json(CASE WHEN json_valid(text) THEN text END, '{json.dumps(FIELDS)}') AS r
    FROM (SELECT row, decode(value, 'ignore') AS text FROM records)) AS e
LEFT JOIN instruments AS i ON i.instrument_id = r.instrument_id
"""
BARS = """
SELECT time_bucket(INTERVAL 1 minute, event_time) AS window_start, instrument_id,
    min({'t': event_time, 's': sequence, 'v': price}) AS first, max(price) AS high, min(price) AS low,
    max({'t': event_time, 's': sequence, 'v': price}) AS last, sum(quantity) AS volume,
    sum(price::DOUBLE * quantity) AS value, count(*) AS trades
FROM silver GROUP BY ALL
"""
CLOSED = """
SELECT window_start, instrument_id, min(first).v AS open, max(high) AS high, min(low) AS low, max(last).v AS close,
    sum(volume) AS volume, sum(value) / sum(volume) AS vwap, sum(trades)::BIGINT AS trades
FROM partials WHERE window_start < $1 GROUP BY ALL ORDER BY window_start, instrument_id
"""


def sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class Table:
    """A Delta table with durable appends."""

    def __init__(self, folder: Path, sample: pa.Table) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.delta = DeltaTable.create(str(folder), sample.schema)
        self.schema = self.delta.schema()

    def append(self, rows: pa.Table, batch: int, *, dictionary: bool = True) -> None:
        name = f"{uuid.uuid4()}.parquet"
        path = self.folder / name
        parquet.write_table(
            rows,
            path,
            compression="zstd",
            compression_level=1,
            write_page_checksum=True,
            use_dictionary=dictionary,
        )
        sync(path)
        sync(self.folder)
        stats = json.dumps({"numRecords": rows.num_rows})
        self.delta.create_write_transaction(
            [AddAction(name, path.stat().st_size, {}, int(time.time() * 1000), True, stats)],
            "append",
            self.schema,
            [],
            commit_properties=CommitProperties(app_transactions=[Transaction("bare", batch)], max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
        self.delta.update_incremental()
        sync(self.folder / "_delta_log" / f"{self.delta.version():020d}.json")
        sync(self.folder / "_delta_log")


def batches(path: Path, rows: int):
    """The file in pieces of about `rows` lines."""
    size = path.stat().st_size
    with path.open("rb") as file:
        line = len(file.readline())
        file.seek(0)
        rest = b""
        while file.tell() < size or rest:
            data = rest + file.read(rows * line)
            cut = data.rfind(b"\n") + 1 or len(data)
            data, rest = data[:cut], data[cut:]
            yield csv.read_csv(
                pa.BufferReader(data),
                read_options=csv.ReadOptions(column_names=["value"], block_size=8 << 20),
                parse_options=csv.ParseOptions(delimiter="\x01", quote_char=False, escape_char=False),
                convert_options=csv.ConvertOptions(column_types={"value": pa.binary()}),
            ).combine_chunks()


def main(file: str, batch_rows: str, folder: str) -> None:
    source, lake = Path(file), Path(folder) / "bare"
    database = duckdb.connect(config={"threads": 2})
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    database.execute(f"CREATE TABLE instruments AS FROM read_csv('{source.parent.parent / 'instruments.csv'}')")
    totals = {"events": 0, "accepted": 0}
    state: dict[str, object] = {"seen": [], "watermark": 0}
    tables: dict[str, Table] = {}
    absorbing = database.cursor()

    def table(name: str, sample: pa.Table) -> Table:
        if name not in tables:
            tables[name] = Table(lake / name, sample)
        return tables[name]

    def absorb(number: int, records: pa.Table, refined: pa.Table, bronze) -> None:
        keys, good = refined["key"].to_numpy(), refined["good"].to_numpy()
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        keep = good & first
        for run in state["seen"]:
            at = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            keep &= run[at] != keys
        state["seen"].append(np.sort(keys[keep]))
        if len(state["seen"]) > 8:
            state["seen"] = [np.sort(np.concatenate(state["seen"]))]
        silver = refined.filter(pa.array(keep)).drop_columns(["key", "good"]).sort_by("event_time")
        rejects = records.filter(pa.array(~keep))
        bronze.result()
        table("rejects", rejects).append(rejects, number)
        table("silver", silver).append(silver, number)
        absorbing.register("silver", silver)
        exists = "partials" in tables
        absorbing.execute(("INSERT INTO partials " if exists else "CREATE TABLE partials AS ") + BARS)
        tables.setdefault("partials", None)
        state["watermark"] = max(state["watermark"], silver["event_time"][-1].as_py())
        until = state["watermark"].replace(second=0, microsecond=0)
        closed = absorbing.execute(CLOSED, [until]).to_arrow_table()
        if closed.num_rows:
            absorbing.execute("DELETE FROM partials WHERE window_start < $1", [until])
            table("gold", closed).append(closed, number)
        totals["events"] += records.num_rows
        totals["accepted"] += silver.num_rows
        ledger = pa.table({"batch": [number], "records": [records.num_rows], "accepted": [silver.num_rows]})
        table("ledger", ledger).append(ledger, number)

    start = time.perf_counter()
    state["watermark"] = datetime.min.replace(tzinfo=UTC)
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as absorber:
        pending = None
        for number, piece in enumerate(batches(source, int(batch_rows)), 1):
            records = piece.append_column("row", pa.array(np.arange(piece.num_rows)))
            raw = table("bronze", piece)
            bronze = writer.submit(raw.append, piece, number, dictionary=False)
            database.register("records", records)
            refined = database.sql(REFINE).to_arrow_table().sort_by("row")
            if pending is not None:
                pending.result()
            pending = absorber.submit(absorb, number, piece, refined, bronze)
        if pending is not None:
            pending.result()
    json.dump({**totals, "seconds": time.perf_counter() - start}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
