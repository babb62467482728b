"""Facts about a lake for `tables`, `history` and `status`: read from logs and ledgers, never from the data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson
import pyarrow.compute as pc

from penstock.errors import UsageError
from penstock.lake.contracts import Contracts
from penstock.lake.layout import LEDGER_COUNTS, Kind, split_name, table_name
from penstock.lake.ledger import Ledger
from penstock.model.columns import offset_txn
from penstock.model.pipeline import PushSource
from penstock.sources.opening import open_push_log

if TYPE_CHECKING:
    from penstock.lake.lake import Lake
    from penstock.lake.table import Entry, Table
    from penstock.model.pipeline import Pipeline
    from penstock.ops.topics import PartitionLag


@dataclass(frozen=True)
class TableFacts:
    """A table as it is now. `name` is what a query calls it; `batch` the last one it absorbed, None for none."""

    name: str
    rows: int
    files: int
    bytes: int
    version: int
    batch: int | None


@dataclass(frozen=True)
class PipelineStatus:
    """How far a pipeline is. Counts are the ledger's; times are microseconds since the epoch, None where unknown.

    `waiting` counts records that bronze does not have yet, as far as the source says it; None where it does not. `lag`
    has the partitions of a topic, and `source_error` why it did not answer.
    """

    pipeline: str
    source: str
    contract: int
    batches: int
    last_batch_at: int | None
    records: int
    accepted: int
    quarantined: int
    duplicate: int
    skipped: int
    flagged: int
    waiting: int | None
    watermark: int | None
    closed_until: int | None
    lag: tuple[PartitionLag, ...] = ()
    source_error: str | None = None


def dotted(name: str) -> str:
    """`silver/ticks` as a query writes it: `silver.ticks`."""
    kind, short = split_name(name)
    return f"{kind.value}.{short}"


def all_tables(lake: Lake) -> tuple[TableFacts, ...]:
    """Every table, in the order data goes through them."""
    order = list(Kind)
    names = sorted(lake.tables(), key=lambda name: (order.index(split_name(name)[0]), name))
    return tuple(_facts(table) for name in names if (table := lake.table(name)) is not None)


def _facts(table: Table) -> TableFacts:
    table.refresh()
    files = table.files()
    batches = [value for name, value in table.txns().items() if name.endswith("/batch")]
    return TableFacts(
        dotted(table.name),
        sum(file.rows for file in files),
        len(files),
        sum(file.size for file in files),
        table.version,
        max(batches, default=None),
    )


def status(lake: Lake, pipeline: Pipeline) -> PipelineStatus:
    """How far a declared pipeline is; all zero before its first run."""
    origin = pipeline.source.origin
    ledger_table = lake.table(table_name(Kind.LEDGER, pipeline.name))
    totals = dict.fromkeys(LEDGER_COUNTS, 0)
    last = None
    batches = 0
    if ledger_table is not None:
        ledger_table.refresh()
        ledger = Ledger(ledger_table)
        last, batches = ledger.last(), ledger.position()
        for part in ledger_table.read(columns=list(LEDGER_COUNTS)):
            for name in LEDGER_COUNTS:
                totals[name] += pc.sum(part.column(name)).as_py() or 0
    return PipelineStatus(
        pipeline=pipeline.name,
        source=origin.kind,
        contract=last.pins.contract if last else 0,
        batches=batches,
        last_batch_at=last.written_at if last else None,
        records=totals["records"],
        accepted=totals["accepted"],
        quarantined=totals["quarantined"],
        duplicate=totals["duplicate"],
        skipped=totals["skipped"],
        flagged=totals["flagged"],
        waiting=_waiting(lake, pipeline, origin) if isinstance(origin, PushSource) else None,
        watermark=last.watermark if last else None,
        closed_until=last.closed_until if last else None,
    )


def _waiting(lake: Lake, pipeline: Pipeline, origin: PushSource) -> int:
    """Records in the push log that bronze does not hold yet."""
    if not (lake.state_folder / "push" / f"{pipeline.name}.db").exists():
        return 0
    log = open_push_log(origin, pipeline=pipeline.name, state_folder=lake.state_folder)
    try:
        states = log.partitions().values()
    finally:
        log.close()
    bronze = lake.table(table_name(Kind.BRONZE, pipeline.name))
    if bronze is not None:
        bronze.refresh()
    source = incarnation(lake, pipeline.name)
    waiting = 0
    for state in states:
        position = 0 if bronze is None else bronze.txn(offset_txn(pipeline.name, source, state.partition)) or 0
        waiting += max(0, state.next_offset - position)
    return waiting


def incarnation(lake: Lake, pipeline: str) -> int:
    """The number that new records of the pipeline's source will have in their places."""
    table = lake.table(table_name(Kind.CONTRACTS, pipeline))
    if table is None:
        return 1
    table.refresh()
    known = Contracts(table).incarnations()
    return known[-1].number if known else 1


@dataclass(frozen=True)
class CommitFacts:
    """One commit of a table. `time` is in microseconds since the epoch; `batch` None where it absorbed none."""

    version: int
    time: int
    operation: str
    batch: int | None
    files_added: int
    files_removed: int
    rows_added: int


def history(table: Table, limit: int | None = None) -> tuple[CommitFacts, ...]:
    """The commits that the table's log still has, the newest first."""
    return tuple(_commit(entry) for entry in table.past.entries(limit))


def _commit(entry: Entry) -> CommitFacts:
    batches = [value for name, value in entry.txns.items() if name.endswith("/batch")]
    rows = sum(orjson.loads(add["stats"]).get("numRecords", 0) for add in entry.adds if add.get("stats"))
    return CommitFacts(
        entry.version,
        entry.timestamp,
        entry.operation,
        max(batches, default=None),
        len(entry.adds),
        len(entry.removes),
        rows,
    )


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_since(text: str | None, now: int) -> int | None:
    """Microseconds since the epoch for a time (ISO 8601, UTC without a zone) or a span before `now` (30m, 12h, 7d).

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    span = re.fullmatch(r"(\d{1,9})\s*([smhd])", text.strip(), re.ASCII)
    if span is not None:
        return now - int(span[1]) * _UNITS[span[2]] * 1_000_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since {text}: neither a time nor a span", hint="Write 2026-01-31T12:00:00Z, or 30m, 12h, 7d."
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
