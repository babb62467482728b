"""Contracts and incarnations: numbered, append-only, found again by a process that starts later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from lake.lakes import open_lake, owned
from penstock.errors import Fenced, LakeCorrupt, UsageError
from penstock.lake import layout
from penstock.lake.contracts import Contracts, text_hash
from penstock.model.position import Incarnation, SourceIdentity

if TYPE_CHECKING:
    from pathlib import Path


def test_contracts_are_numbered_and_the_same_text_is_the_same_contract(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    contracts = Contracts(table)
    assert contracts.latest() is None
    first = contracts.apply(writer, "a: ü\n", 5)
    assert contracts.apply(writer, "a: ü\n", 6) == first
    second = contracts.apply(writer, "a: 2\n", 7)
    third = contracts.apply(writer, "a: ü\n", 8)

    again = Contracts(open_lake(tmp_path).table("contracts/p"))
    assert again.all() == (first, second, third)
    assert [(one.version, one.text, one.applied_at) for one in again.all()] == [
        (1, "a: ü\n", 5),
        (2, "a: 2\n", 7),
        (3, "a: ü\n", 8),
    ]
    assert again.latest() == third
    assert again.get(2) == second
    assert first.hash == third.hash == text_hash("a: ü\n") != second.hash


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_contract_that_is_not_there_is_named(tmp_path: Path, version: int) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    Contracts(table).apply(writer, "a", 1)
    with pytest.raises(UsageError, match=f"no contract {version}"):
        Contracts(table).get(version)


def test_incarnations_are_opened_anew_even_for_the_same_source(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    contracts = Contracts(table)
    assert contracts.incarnations() == ()
    identity = SourceIdentity("push", "p", "123")
    contracts.apply(writer, "a", 1)
    assert contracts.open_incarnation(writer, identity, 2) == Incarnation(1, identity)
    assert contracts.open_incarnation(writer, identity, 3) == Incarnation(2, identity)
    again = Contracts(open_lake(tmp_path).table("contracts/p"))
    assert again.incarnations() == (Incarnation(1, identity), Incarnation(2, identity))
    assert len(again.all()) == 1


def test_reads_are_kept_until_the_table_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    contracts = Contracts(table)
    contracts.apply(writer, "a", 1)
    kept = contracts.all()
    monkeypatch.setattr(table, "read", None)
    assert contracts.all() is kept


def test_a_writer_that_was_replaced_applies_nothing(tmp_path: Path) -> None:
    old, (table,) = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    owned(open_lake(tmp_path), layout.contracts_spec("p"))
    with pytest.raises(Fenced):
        Contracts(table).apply(old, "a", 1)
    assert Contracts(open_lake(tmp_path).table("contracts/p")).all() == ()


def test_a_gap_in_the_numbers_is_damage(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.contracts_spec("p"))
    rows = pa.table({"kind": ["contract"], "version": [2], "hash": ["x"], "text": ["x"]})
    table.commit(writer, batch=None, add=table.write(rows))
    with pytest.raises(LakeCorrupt, match=r"\[2\]"):
        Contracts(table).latest()
