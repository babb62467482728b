"""The ledger: rows come back as they were, in order, by batch and by time, for any Delta reader."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.lakes import open_lake, owned
from penstock.errors import LakeCorrupt
from penstock.lake import layout, ledger
from penstock.lake.ledger import Ledger
from penstock.model.batch import BatchCounts, LedgerRow, Pins
from penstock.model.position import Range

if TYPE_CHECKING:
    from pathlib import Path

counts = st.integers(0, 2**62)
named = st.lists(st.tuples(st.text(max_size=8), counts), max_size=3).map(tuple)
ranges = st.builds(
    lambda source, partition, start, length, hint: Range(source, partition, start, start + length, hint),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 2**60),
    st.integers(1, 2**60),
    st.text(max_size=4),
)
times = st.integers(-(2**63) + 1, 2**63 - 1)
rows = st.builds(
    LedgerRow,
    batch=st.integers(1, 2**62),
    ranges=st.lists(ranges, max_size=3).map(tuple),
    counts=st.builds(BatchCounts, records=counts, events=counts, accepted=counts, rules=named, overflows=named),
    pins=st.builds(Pins, contract=counts, refine=counts, references=named),
    watermark=st.none() | times,
    closed_until=st.none() | times,
    versions=named,
    seconds=st.none() | st.lists(st.tuples(st.text(max_size=8), st.floats(0, 1e9)), max_size=3).map(tuple),
    bytes=st.none() | named,
    written_at=times,
)


def row(batch: int, written_at: int = 0) -> LedgerRow:
    return LedgerRow(
        batch=batch,
        ranges=(Range(1, 0, batch * 10, batch * 10 + 10),),
        counts=BatchCounts(records=10, events=10, accepted=9, quarantined=1, rules=(("sane", 1),)),
        pins=Pins(1, 42, (("instruments", 2),)),
        watermark=1_600_000_000_000_000 + batch,
        closed_until=None,
        versions=(("bronze/p", batch), ("silver/s", batch + 1)),
        seconds=(("refine", 0.5),),
        bytes=None,
        written_at=written_at or 1_700_000_000_000_000 + batch,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=4))
def test_rows_come_back_from_arrow(written: list[LedgerRow]) -> None:
    table = ledger.to_arrow(written)
    assert table.schema == layout.ledger_spec("p").schema
    read = ledger.from_arrow(table)
    assert read == written
    assert [one.written_at for one in read] == [one.written_at for one in written]


def test_a_ledger_is_read_by_batch_and_by_time(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.ledger_spec("p"))
    book = Ledger(table)
    assert book.last() is None
    assert (book.position(), list(book.rows()), book.row(1), book.at(2**62)) == (0, [], None, None)
    written = [row(batch, written_at=1_000_000 * batch) for batch in range(1, 6)]
    for one in written:
        assert not book.append(writer, one).already
    assert book.append(writer, written[-1]).already

    book = Ledger(open_lake(tmp_path).table("ledger/p"))
    assert list(book.rows()) == written
    assert list(book.rows(2, 3)) == written[1:3]
    assert list(book.rows(4, 99)) == written[3:]
    assert (book.position(), book.last(), book.row(2), book.row(9)) == (5, written[4], written[1], None)
    assert book.at(999_999) is None
    assert [book.at(time).batch for time in (1_000_000, 2_999_999, 3_000_000, 2**60)] == [1, 2, 3, 5]


def test_rows_are_streamed_in_order_across_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LEDGER_ROWS_PER_READ", 2)
    writer, (table,) = owned(open_lake(tmp_path), layout.ledger_spec("p"))
    book = Ledger(table)
    for batch in range(1, 8):
        book.append(writer, row(batch))
    assert [one.batch for one in book.rows()] == list(range(1, 8))
    assert [one.batch for one in book.rows(3, 6)] == [3, 4, 5, 6]


def test_a_clock_that_went_back_does_not_hide_a_later_batch(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.ledger_spec("p"))
    book = Ledger(table)
    for batch, time in ((1, 100), (2, 300), (3, 200)):
        book.append(writer, row(batch, time))
    assert [book.at(time).batch for time in (100, 200, 250, 300)] == [1, 3, 3, 3]


def test_a_row_can_be_written_again_without_durations(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.ledger_spec("p"))
    again = replace(row(1), seconds=None, bytes=None)
    Ledger(table).append(writer, again)
    assert Ledger(table).row(1) == again


def test_missing_and_double_rows_are_damage(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.ledger_spec("p"))
    table.commit(writer, batch=1)
    with pytest.raises(LakeCorrupt, match="no row"):
        Ledger(table).last()
    table.commit(writer, batch=None, add=table.write(ledger.to_arrow([row(1), row(1)])))
    with pytest.raises(LakeCorrupt, match="2 rows for batch 1"):
        Ledger(table).row(1)


def test_other_readers_see_the_ledger(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.ledger_spec("p"))
    Ledger(table).append(writer, row(1))
    by_deltalake = DeltaTable(str(tmp_path / "ledger/p")).to_pyarrow_table().to_pylist()[0]
    by_polars = polars.read_delta(str(tmp_path / "ledger/p")).to_dicts()[0]
    for found in (by_deltalake, by_polars):
        assert found["_batch"] == 1
        assert found["ranges"] == [{"source": 1, "partition": 0, "start_offset": 10, "end_offset": 20, "hint": ""}]
        assert found["rules"] == [{"rule": "sane", "rows": 1}]
        assert found["bytes"] is None
        assert found["watermark"].timestamp() == 1_600_000_000.000001
