"""The power fails after each file operation of a chain of three tables; what is left must be recoverable, without a loss."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from penstock.errors import LawBroken, PenstockError
from penstock.lake import layout
from penstock.lake.fence import Writer, take_over
from penstock.lake.lake import Lake
from penstock.lake.ledger import Ledger
from penstock.lake.recovery import recover
from penstock.lake.storage import LocalStorage
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.columns import batch_txn, offset_txn
from penstock.model.position import Range
from penstock.model.types import ColumnType
from penstock.testing.powerloss import PowerLossStorage, State, distinct_states

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.lake.table import Table

ROWS = 4
DAY = 86_400_000_000
STATES_MAX = 110


def bronze_rows(batch: int) -> pa.Table:
    offsets = list(range((batch - 1) * ROWS, batch * ROWS))
    spec = layout.bronze_spec("p")
    return pa.table(
        {
            "_source": pa.array([1] * ROWS, pa.int32()),
            "_partition": pa.array([0] * ROWS, pa.int32()),
            "_offset": offsets,
            "_ingested_at": pa.array([batch * DAY] * ROWS, layout.TIME),
            "_batch": [batch] * ROWS,
            "value": pa.array([str(offset).encode() for offset in offsets], pa.binary()),
        }
    ).select(
        [
            name
            for name in spec.schema.names
            if name in ("_source", "_partition", "_offset", "_ingested_at", "_batch", "value")
        ]
    )


def silver_rows(batch: int) -> pa.Table:
    rows = bronze_rows(batch)
    return (
        rows.drop_columns(["value"])
        .append_column("number", rows["_offset"])
        .append_column("at", pa.array([batch * 20 * DAY] * ROWS, layout.TIME))
    )


SILVER = layout.silver_spec("s", [("number", ColumnType("int64")), ("at", ColumnType("timestamp"))], "at")


class Chain:
    """Bronze, silver and ledger of one pipeline, written in the protocol's order."""

    def __init__(self, storage: LocalStorage) -> None:
        self.lake = Lake(storage)
        self.reports = recover(self.lake, "p")
        self.bronze = self.lake.create(layout.bronze_spec("p"))
        self.silver = self.lake.create(SILVER)
        self.ledger = self.lake.create(layout.ledger_spec("p"))
        self.writer: Writer = take_over("p", [self.bronze, self.silver, self.ledger])

    def at(self, table: Table) -> int:
        return table.txn(batch_txn("p")) or 0

    def run(self, last: int, storage: Any = None) -> None:
        for batch in range(self.at(self.ledger) + 1, last + 1):
            if self.at(self.bronze) < batch:
                files = self.bronze.write(bronze_rows(batch))
                self.bronze.commit(self.writer, batch=batch, add=files, txns={offset_txn("p", 1, 0): batch * ROWS})
            if storage is not None:
                storage.mark = batch  # what is in bronze may be acknowledged to the source
            if self.at(self.silver) < batch:
                self.silver.commit(self.writer, batch=batch, add=self.silver.write(silver_rows(batch)))
            if batch == 2:
                self.bronze.checkpoint()
                self.silver.checkpoint()
            if batch == 3:  # upkeep: two files become one
                self.compact(self.silver)
            versions = ((self.bronze.name, self.bronze.version), (self.silver.name, self.silver.version))
            counts = BatchCounts(records=ROWS)
            row = LedgerRow(
                batch, (Range(1, 0, (batch - 1) * ROWS, batch * ROWS),), counts, Pins(0, 0), None, None, versions
            )
            Ledger(self.ledger).append(self.writer, row)

    def compact(self, table: Table) -> None:
        files = table.files()
        if len(files) > 1:
            rows = pa.concat_tables(list(table.read(files=files)))
            table.commit(self.writer, batch=None, add=table.write(rows), remove=files, data_change=False)


class Quick(LocalStorage):
    """Syncs nothing: what is tried after a power loss is not cut short again."""

    def _sync(self, path: str, flags: int, operation: str) -> None:
        pass


def offsets(table: Table) -> list[int]:
    return sorted(value for rows in table.read() for value in rows["_offset"].to_pylist())


def assert_whole(chain: Chain, acknowledged: int) -> None:
    at = {
        name: chain.at(table)
        for name, table in (("bronze", chain.bronze), ("silver", chain.silver), ("ledger", chain.ledger))
    }
    assert at["bronze"] >= acknowledged, f"acknowledged {acknowledged}, bronze has {at['bronze']}"
    assert at["bronze"] >= at["silver"] >= at["ledger"], at
    assert offsets(chain.bronze) == list(range(at["bronze"] * ROWS))
    assert offsets(chain.silver) == list(range(at["silver"] * ROWS))
    assert [row.batch for row in Ledger(chain.ledger).rows()] == list(range(1, at["ledger"] + 1))


def recorded(folder: Path, *, ignore_syncs: bool = False) -> PowerLossStorage:
    storage = PowerLossStorage(folder, ignore_syncs=ignore_syncs, mark=0)
    storage.look()
    Chain(storage).run(4, storage)
    storage.look()
    return storage


def tried(state: State, folder: Path) -> str:
    """Build the state, start on it, look, run to the end, look again; "" or what went wrong."""
    state.build(folder)
    try:
        chain = Chain(Quick(folder))
        acknowledged = state.moment.mark
        assert isinstance(acknowledged, int)
        assert_whole(chain, acknowledged)
        chain.run(4)
        assert_whole(chain, 4)
    except (AssertionError, PenstockError) as error:
        return f"{state}: {error!r}"
    finally:
        shutil.rmtree(folder)
    return ""


def sampled(storage: PowerLossStorage, limit: int) -> list[State]:
    found = list(distinct_states(storage.moments, seed=1, limit=24))
    return random.Random(7).sample(found, min(limit, len(found)))


def test_states_a_power_loss_leaves_are_recovered_without_a_loss(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    storage = recorded(tmp_path / "lake")
    found = sampled(storage, STATES_MAX)
    assert len(found) == STATES_MAX
    record_property("faults: states of three tables after a power loss", len(found))
    problems = [problem for number, state in enumerate(found) if (problem := tried(state, tmp_path / f"state{number}"))]
    assert problems == []


@pytest.mark.integration
def test_all_states_a_power_loss_leaves_are_recovered_without_a_loss(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    storage = recorded(tmp_path / "lake")
    found = sampled(storage, 1 << 30)
    record_property("faults: states of three tables after a power loss", len(found))
    for number, state in enumerate(found):
        assert tried(state, tmp_path / f"state{number}") == ""


def test_without_syncs_the_same_run_loses_data_and_the_simulator_shows_it(tmp_path: Path) -> None:
    storage = recorded(tmp_path / "lake", ignore_syncs=True)
    late = [moment for moment in storage.moments if moment.mark]
    found = random.Random(7).sample(list(distinct_states(late, seed=1, limit=3)), 20)
    problems = [problem for number, state in enumerate(found) if (problem := tried(state, tmp_path / f"state{number}"))]
    assert problems


@pytest.mark.parametrize("operation", ["sync", "sync_folder"])
def test_each_kind_of_sync_is_needed(tmp_path: Path, operation: str) -> None:
    class Forgetful(PowerLossStorage):
        def _before(self, asked: str, path: str) -> None:
            if asked != operation:
                super()._before(asked, path)

    storage = Forgetful(tmp_path / "lake", mark=0)
    Chain(storage).run(3, storage)
    storage.look()
    late = [moment for moment in storage.moments if moment.mark]
    found = random.Random(3).sample(list(distinct_states(late, seed=1, limit=4)), 20)
    assert any(tried(state, tmp_path / f"state{number}") for number, state in enumerate(found))


def test_damage_below_what_others_built_on_stops_with_the_range(tmp_path: Path) -> None:
    chain = Chain(LocalStorage(tmp_path / "lake"))
    chain.run(3)
    entry = max((tmp_path / "lake/bronze/p/_delta_log").glob("*.json"))
    entry.write_bytes(b"\0" * entry.stat().st_size)
    with pytest.raises(LawBroken, match=r"bronze/p lost batch 3, which silver/s has.*zeros only"):
        recover(Lake(LocalStorage(tmp_path / "lake")), "p")
    assert entry.exists(), "nothing is moved when recovery refuses"
