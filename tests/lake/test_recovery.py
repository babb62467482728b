"""What a power loss may leave at the end of a log is put right; anything else stops with the range that is lost."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lake.faults import SPEC, bronze_rows, column
from lake.lakes import open_lake
from penstock.errors import LakeCorrupt
from penstock.lake import layout, log, recovery
from penstock.lake.fence import take_over
from penstock.lake.ledger import Ledger
from penstock.lake.recovery import recover
from penstock.lake.tail import read_tail
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from penstock.lake.fence import Writer
    from penstock.lake.storage import Storage
    from penstock.lake.table import Table
    from penstock.lake.tail import Tail

SILVER = layout.silver_spec("s", [("at", ColumnType("timestamp"))], "at")
SPECS = (layout.contracts_spec("p"), SPEC, layout.rejects_spec("p"), SILVER, layout.ledger_spec("p"))


class World:
    """A pipeline's tables with some batches in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = open_lake(folder)
        self.tables = {spec.name: self.lake.create(spec) for spec in SPECS}
        self.writer: Writer = take_over("p", list(self.tables.values()))
        if self["contracts/p"].txn("p/source") is None:
            self["contracts/p"].commit(self.writer, batch=None, txns={"p/source": 1})

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def bronze(self, batch: int) -> None:
        files = self["bronze/p"].write(bronze_rows(batch))
        self["bronze/p"].commit(self.writer, batch=batch, add=files, txns={"p/1/0": batch * 3})

    def silver(self, batch: int, **pins: int) -> None:
        rows = pa.table({"at": pa.array([batch], layout.TIME), "_batch": [batch], "_offset": [batch]})
        txns = {f"p/pin/{name}": version for name, version in pins.items()}
        self["silver/s"].commit(self.writer, batch=batch, add=self["silver/s"].write(rows), txns=txns)

    def rejects(self, batch: int) -> None:
        self["rejects/p"].commit(self.writer, batch=batch, add=self["rejects/p"].write(bronze_rows(batch)))

    def ledger(self, batch: int) -> None:
        versions = tuple((name, self[name].version) for name in ("bronze/p", "rejects/p", "silver/s"))
        row = LedgerRow(batch, (), BatchCounts(), Pins(0, 0), None, None, versions)
        Ledger(self["ledger/p"]).append(self.writer, row)

    def batch(self, number: int) -> None:
        self.bronze(number)
        self.rejects(number)
        self.silver(number)
        self.ledger(number)

    def entry(self, table: str, back: int = 0) -> Path:
        return self.folder / log.entry_path(table, self[table].version - back)

    def recover(self, **known: object) -> list[str]:
        return recover(open_lake(self.folder), "p", **known)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "lake")
    made.batch(1)
    made.batch(2)
    return made


def first_line(data: bytes) -> bytes:
    return data[: data.index(b"\n") + 1]


DAMAGE = {
    "empty": lambda data: b"",
    "zeros": lambda data: b"\0" * len(data),
    "half zeros": lambda data: data[:60] + b"\0" * (len(data) - 60),
    "cut": lambda data: data[: len(data) // 2],
    "cut at a line": first_line,
    "without its end": lambda data: data[: data.rstrip().rindex(b"\n") + 1],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_torn_last_entry_that_nothing_was_built_on_is_moved_aside(world: World, damage: str) -> None:
    world.bronze(3)
    entry = world.entry("bronze/p")
    entry.write_bytes(DAMAGE[damage](entry.read_bytes()))
    [line] = world.recover()
    assert line.startswith(f"bronze/p: log entry {world['bronze/p'].version} was ")
    assert not entry.exists()
    assert len(list((world.folder / "bronze/p/_damaged").iterdir())) == 1
    assert world.recover() == []
    again = World(world.folder)
    assert again["bronze/p"].txn("p/batch") == 2
    again.batch(3)
    assert column(list(again["bronze/p"].read()), "_offset") == list(range(9))
    assert DeltaTable(str(world.folder / "bronze/p")).to_pyarrow_table().num_rows == 9


def test_a_last_entry_whose_file_is_not_there_is_moved_aside(world: World) -> None:
    before = {file.path for file in world["bronze/p"].files()}
    world.bronze(3)
    [added] = [file for file in world["bronze/p"].files() if file.path not in before]
    path = world.folder / "bronze/p" / added.path
    path.write_bytes(b"\0" * added.size)
    [line] = world.recover()
    assert "without its file" in line
    assert added.path in str(list((world.folder / "bronze/p").rglob("*.parquet")))
    assert World(world.folder)["bronze/p"].txn("p/batch") == 2


@pytest.mark.parametrize("damage", ["zeros", "cut at a line"])
def test_damage_below_something_built_on_it_stops_and_changes_nothing(world: World, damage: str) -> None:
    entry = world.entry("bronze/p")
    data = DAMAGE[damage](entry.read_bytes())
    entry.write_bytes(data)
    with pytest.raises(LakeCorrupt, match=r"bronze/p lost batch 2, which silver/s has \(its last log entry"):
        world.recover()
    assert entry.read_bytes() == data


def test_an_entry_that_is_gone_altogether_is_missed(world: World) -> None:
    world.entry("silver/s").unlink()
    with pytest.raises(LakeCorrupt, match="silver/s lost batch 2, which ledger/p has"):
        world.recover()


def test_a_lost_version_that_the_ledger_names_is_missed(world: World) -> None:
    world["bronze/p"].commit(world.writer, batch=None)
    world.batch(3)
    world["rejects/p"].refresh()
    version = world["rejects/p"].version
    world.entry("rejects/p").write_bytes(b"")
    with pytest.raises(LakeCorrupt, match=f"rejects/p lost version {version}, which the ledger names"):
        world.recover()


def test_torn_rejects_are_derived_again_only_while_silver_waits_for_them(world: World) -> None:
    world.bronze(3)
    world.rejects(3)
    world.entry("rejects/p").write_bytes(b"")
    assert len(world.recover()) == 1
    again = World(world.folder)
    again.rejects(3)
    again.silver(3)
    again.entry("rejects/p").write_bytes(b"")
    with pytest.raises(LakeCorrupt, match="rejects/p lost batch 3, which silver has"):
        again.recover()


def test_damage_further_up_stops(world: World) -> None:
    world.entry("bronze/p", 1).write_bytes(b"")
    with pytest.raises(LakeCorrupt, match=r"bronze/p: log entry \d+ of \d+ is empty"):
        world.recover()
    world.entry("bronze/p", 1).unlink()
    with pytest.raises(LakeCorrupt, match=r"bronze/p: log entry \d+ of \d+ is missing"):
        world.recover()


def test_a_file_of_an_earlier_entry_that_is_gone_stops_and_is_named(world: World) -> None:
    [first, _] = sorted(world["bronze/p"].files(), key=lambda file: file.stats["_batch"])
    (world.folder / "bronze/p" / first.path).unlink()
    with pytest.raises(LakeCorrupt, match=f"bronze/p: {first.path} is missing"):
        world.recover()


def test_files_that_were_replaced_and_vacuumed_are_not_missed(world: World) -> None:
    table = world["bronze/p"]
    old = table.files()
    rows = pa.concat_tables(table.read())
    table.commit(world.writer, batch=None, add=table.write(rows), remove=old, data_change=False)
    for file in old:
        (world.folder / "bronze/p" / file.path).unlink()
    assert world.recover() == []


def test_what_the_outside_knows_counts(world: World) -> None:
    assert world.recover(absorbed_elsewhere=2, trimmed={(1, 0): 6}) == []
    with pytest.raises(LakeCorrupt, match="ledger/p lost batches 3 to 5, which a store"):
        world.recover(absorbed_elsewhere=5)
    with pytest.raises(LakeCorrupt, match=r"bronze/p lost the records 1/0/6..9, which the source has forgotten"):
        world.recover(trimmed={(1, 0): 9})


def test_a_lost_contract_that_silver_was_written_under_stops(world: World) -> None:
    world["contracts/p"].commit(world.writer, batch=None, txns={"p/contract": 1})
    world.bronze(3)
    world.silver(3, contract=1)
    assert world.recover() == []
    world.entry("contracts/p").write_bytes(b"")
    with pytest.raises(LakeCorrupt, match="contracts/p lost contract 1, which silver/s was written under"):
        world.recover()


def test_rows_above_the_position_and_positions_that_go_back_stop(world: World) -> None:
    table = world["bronze/p"]
    table.commit(world.writer, batch=3, add=table.write(bronze_rows(4)))
    with pytest.raises(LakeCorrupt, match="holds rows of batch 4, above the position 3"):
        world.recover()


def test_a_position_that_goes_back_stops(world: World) -> None:
    table = world["bronze/p"]
    table.commit(world.writer, batch=None, txns={"p/batch": 1})
    with pytest.raises(LakeCorrupt, match="takes p/batch back from 2 to 1"):
        world.recover()


def test_a_creation_cut_in_half_is_done_again(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    for name, cut in (("bronze/p", 0), ("silver/s", 40), ("ledger/p", 500)):
        spec = next(spec for spec in SPECS if spec.name == name)
        lake.create(spec)
        entry = tmp_path / log.entry_path(name, 0)
        entry.write_bytes(entry.read_bytes()[:cut])
    entry = tmp_path / log.entry_path("ledger/p", 0)
    world_lines = recover(open_lake(tmp_path), "p")
    assert len(world_lines) == 3
    assert not entry.exists()
    made = World(tmp_path)
    made.batch(1)
    assert made.recover() == []


def test_any_flipped_bit_of_the_last_entry_loses_nothing_silently(world: World) -> None:
    world.bronze(3)
    entry = world.entry("bronze/p")
    whole = entry.read_bytes()
    expected = world["bronze/p"].txns()
    draw = random.Random(11)
    noticed = 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        entry.write_bytes(damaged)
        try:
            lines = world.recover()
        except LakeCorrupt:
            noticed += 1
            continue
        if lines:  # taken for torn: derived again
            noticed += 1
            (aside,) = (world.folder / "bronze/p/_damaged").iterdir()
            aside.rename(entry)
            continue
        table = open_lake(world.folder).table("bronze/p")
        assert table is not None
        try:
            found = table.txns(), column(list(table.read()), "_offset")
        except LakeCorrupt:  # a word that only delta-rs reads
            noticed += 1
            continue
        assert found == (expected, list(range(9)))
    assert noticed > 30


# -- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint_of(world: World, table: str) -> Path:
    return max((world.folder / table / "_delta_log").glob("*.checkpoint.parquet"))


CHECKPOINT_DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "a flipped bit": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "missing": Path.unlink,
}


def flipped(data: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[len(data) // 3] ^= 4
    return bytes(damaged)


@pytest.mark.parametrize("damage", CHECKPOINT_DAMAGE)
def test_a_damaged_checkpoint_is_made_again_from_the_entries(world: World, damage: str) -> None:
    world["bronze/p"].checkpoint()
    world.batch(3)
    expected = world["bronze/p"].txns()
    CHECKPOINT_DAMAGE[damage](checkpoint_of(world, "bronze/p"))
    [line] = world.recover()
    assert "made again from the log entries" in line
    assert world.recover() == []
    again = World(world.folder)
    assert again["bronze/p"].txns().items() >= {name: expected[name] for name in ("p/batch", "p/1/0")}.items()
    assert column(list(again["bronze/p"].read()), "_offset") == list(range(9))


@pytest.mark.parametrize("damage", CHECKPOINT_DAMAGE)
def test_a_damaged_checkpoint_whose_entries_are_gone_stops(world: World, damage: str) -> None:
    world["bronze/p"].checkpoint()
    clean(world, "bronze/p")
    assert world.recover() == []
    CHECKPOINT_DAMAGE[damage](checkpoint_of(world, "bronze/p"))
    with pytest.raises(LakeCorrupt, match=r"bronze/p: checkpoint .* were cleaned up"):
        world.recover()


def clean(world: World, table: str) -> None:
    for version in range(world[table].version):
        (world.folder / log.entry_path(table, version)).unlink()


@pytest.mark.parametrize("cleaned", [False, True])
@pytest.mark.parametrize(
    "text", [None, b"", b"{", b'{"version":1', b"\0" * 60, b'{"version":3,"size":9,"tags":{"penstock.sha256":"x"}}']
)
def test_a_damaged_name_of_the_checkpoint_is_made_again(world: World, text: bytes | None, cleaned: bool) -> None:
    world["bronze/p"].checkpoint()
    if cleaned:
        clean(world, "bronze/p")
    hint = world.folder / log.hint_path("bronze/p")
    kept = hint.read_bytes()
    hint.unlink() if text is None else hint.write_bytes(text)
    world.recover()
    assert log.read_hint(world.lake.storage, "bronze/p").digest in kept.decode() or not cleaned
    assert world.recover() == []
    again = World(world.folder)
    again.batch(3)
    assert column(list(again["bronze/p"].read()), "_offset") == list(range(9))


def test_a_crash_between_a_checkpoint_and_its_name_leaves_no_checkpoint_that_nobody_vouches_for(world: World) -> None:
    world["bronze/p"].checkpoint()
    world.batch(3)
    DeltaTable(str(world.folder / "bronze/p")).create_checkpoint()
    unnamed = checkpoint_of(world, "bronze/p")
    unnamed.write_bytes(flipped(unnamed.read_bytes()))
    assert world.recover() == []
    hint = log.read_hint(world.lake.storage, "bronze/p")
    assert hint.digest
    assert World(world.folder)["bronze/p"].txn("p/batch") == 3


def test_other_readers_take_our_checkpoint(world: World) -> None:
    world["bronze/p"].checkpoint()
    clean(world, "bronze/p")
    assert DeltaTable(str(world.folder / "bronze/p")).to_pyarrow_table().num_rows == 6
    polars = pytest.importorskip("polars")
    assert polars.read_delta(str(world.folder / "bronze/p")).height == 6


def test_a_writer_on_another_machine_that_goes_on_is_no_damage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of a store's lake does not reach there: that writer commits until it is fenced."""
    batches = itertools.count(3)

    def read(storage: Storage, name: str) -> Tail:
        world.batch(next(batches))
        tail = read_tail(storage, name)
        world.batch(next(batches))
        return tail

    monkeypatch.setattr(recovery, "read_tail", read)
    assert world.recover() == []
    assert next(batches) == 3 + 2 * len(SPECS)


def test_other_pipelines_tables_are_left_alone(world: World) -> None:
    lake = open_lake(world.folder)
    other = lake.create(layout.silver_spec("other", [("at", ColumnType("timestamp"))], "at"))
    writer = take_over("q", [other])
    other.commit(writer, batch=1)
    entry = world.folder / log.entry_path(other.name, other.version)
    entry.write_bytes(b"")
    assert world.recover() == []
    assert entry.exists()
    assert len(recover(open_lake(world.folder), "q")) == 1
