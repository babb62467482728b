"""What a start reads back of a batch that the ledger lacks: the ranges it had, and whether it was a drain."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import Mock

import pyarrow as pa
import pytest

from lake.lakes import open_lake, owned
from penstock.engines.embedded.deriving import EmbeddedDeriver
from penstock.errors import Fenced, LakeCorrupt, SourceLost
from penstock.lake import layout, log
from penstock.lake.contracts import Contracts
from penstock.lake.ledger import Ledger
from penstock.model.columns import BATCH, OFFSET, PARTITION, SOURCE, offset_txn
from penstock.model.position import Range
from penstock.run.restart import batch_from_bronze
from penstock.run.tables import PipelineTables

if TYPE_CHECKING:
    from pathlib import Path

SPECS = (
    layout.bronze_spec("p"),
    layout.rejects_spec("p"),
    layout.silver_spec("s", [], "_timestamp"),
    layout.ledger_spec("p"),
    layout.contracts_spec("p"),
)


@pytest.fixture
def tables(tmp_path: Path) -> PipelineTables:
    writer, (bronze, rejects, silver, ledger, contracts) = owned(open_lake(tmp_path), *SPECS)
    return PipelineTables("p", writer, bronze, rejects, silver, (), Ledger(ledger), Contracts(contracts))


@pytest.mark.parametrize("error", [FileNotFoundError("log entry"), LakeCorrupt("file"), SourceLost("records")])
def test_who_was_overtaken_is_told_so_and_not_what_is_missing(
    tables: PipelineTables, tmp_path: Path, error: Exception
) -> None:
    def fail() -> None:
        with tables.owned():
            raise error

    with pytest.raises(type(error)):
        fail()
    owned(open_lake(tmp_path), *SPECS)
    with pytest.raises(Fenced):
        fail()


def commit(tables: PipelineTables, batch: int, ranges: tuple[Range, ...], offsets: tuple[int, ...] = ()) -> None:
    """Bronze's commit of a batch with records of partition 0 at `offsets`."""
    rows = pa.table(
        {
            SOURCE: pa.repeat(pa.scalar(1, pa.int32()), len(offsets)),
            PARTITION: pa.repeat(pa.scalar(0, pa.int32()), len(offsets)),
            OFFSET: pa.array(offsets, pa.int64()),
            "_timestamp": pa.array([0] * len(offsets), layout.TIME),
            "_ingested_at": pa.array([0] * len(offsets), layout.TIME),
            BATCH: pa.repeat(pa.scalar(batch, pa.int64()), len(offsets)),
        }
    )
    txns = {offset_txn("p", one.source, one.partition): one.end for one in ranges}
    tables.bronze.commit(tables.writer, batch=batch, add=tables.bronze.write(rows), txns=txns)


def deriver_of(tables: PipelineTables) -> EmbeddedDeriver:
    """One that only reads bronze."""
    return EmbeddedDeriver(Mock(), Mock(bronze=tables.bronze))


def test_ranges_without_records_are_no_drain_and_a_drain_is_one(tables: PipelineTables) -> None:
    sparse = (Range(1, 0, 0, 9), Range(1, 3, 0, 4))
    empty = (Range(1, 0, 9, 20),)
    commit(tables, 1, sparse, offsets=(2, 5))
    commit(tables, 2, empty)
    commit(tables, 3, ())
    commit(tables, 4, (Range(1, 0, 20, 21),), offsets=(20,))
    found = [batch_from_bronze(tables, deriver_of(tables), number) for number in (1, 2, 3, 4)]
    assert [batch.ranges for batch in found] == [sparse, empty, (), (Range(1, 0, 20, 21),)]
    assert [batch.is_drain for batch in found] == [False, False, True, False]
    assert [batch.work.records for batch in found] == [2, 0, 0, 1]


def test_ranges_are_found_behind_upkeep_and_a_checkpoint(tables: PipelineTables) -> None:
    commit(tables, 1, (Range(1, 0, 0, 4),), offsets=(0, 1, 2, 3))
    commit(tables, 2, (Range(1, 0, 4, 9),))
    tables.bronze.checkpoint()
    tables.bronze.commit(tables.writer, batch=None)
    assert batch_from_bronze(tables, deriver_of(tables), 2).ranges == (Range(1, 0, 4, 9),)


def test_a_batch_whose_log_entry_is_gone_is_told(tables: PipelineTables) -> None:
    commit(tables, 1, (Range(1, 0, 0, 4),), offsets=(0, 1, 2, 3))
    commit(tables, 2, (Range(1, 0, 4, 9),))
    version = tables.bronze.checkpoint()
    tables.bronze.storage.delete(log.entry_path(tables.bronze.name, version))
    with pytest.raises(LakeCorrupt, match="the log entry of batch 2 is gone"):
        batch_from_bronze(tables, deriver_of(tables), 2)
