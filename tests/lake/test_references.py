"""Versions of references: append-only, recognised by content, shared by pipelines."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.lakes import open_lake, owned
from penstock.errors import TransientError, UsageError
from penstock.lake import layout, references
from penstock.lake.references import References, content_hash
from penstock.lake.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.lake.datafile import DataFile
    from penstock.lake.fence import Writer

A = pa.table({"id": ["x", "y"], "lot": pa.array([1, None], pa.int32())})
B = pa.table({"id": ["x"], "lot": pa.array([2], pa.int32())})


def writer_of(folder: Path, pipeline: str = "p") -> Writer:
    return owned(open_lake(folder), layout.contracts_spec(pipeline), pipeline=pipeline)[0]


def test_each_change_is_a_version_and_each_version_stays(tmp_path: Path) -> None:
    writer, store = writer_of(tmp_path), References(open_lake(tmp_path))
    assert store.latest_version("r") == 0
    assert [store.append(writer, "r", rows, 5) for rows in (A, A, B, B, A)] == [1, 1, 2, 2, 3]
    again = References(open_lake(tmp_path))
    assert again.latest_version("r") == 3
    assert [again.read("r", version) for version in (1, 2, 3)] == [A, B, A]
    assert again.append(writer_of(tmp_path), "r", A, 6) == 3
    stored = DeltaTable(str(tmp_path / "references/r")).to_pyarrow_table()
    assert sorted(stored.column("_version").to_pylist()) == [1, 1, 2, 3, 3]


@pytest.mark.parametrize("version", [0, 2])
def test_a_version_that_is_not_there_is_named(tmp_path: Path, version: int) -> None:
    store = References(open_lake(tmp_path))
    with pytest.raises(UsageError, match=f"no version {version}"):
        store.read("r", version)
    store.append(writer_of(tmp_path), "r", A, 5)
    with pytest.raises(UsageError, match="Its versions are 1 to 1"):
        store.read("r", version)


def test_columns_may_come_and_go_but_not_change(tmp_path: Path) -> None:
    writer, store = writer_of(tmp_path), References(open_lake(tmp_path))
    wider = A.append_column("name", pa.array(["X", "Y"]))
    assert store.append(writer, "r", A, 1) == 1
    assert store.append(writer, "r", wider, 2) == 2
    assert store.append(writer, "r", B, 3) == 3
    again = References(open_lake(tmp_path))
    assert again.read("r", 2).to_pylist() == wider.to_pylist()
    assert again.read("r", 1).to_pylist() == [{**row, "name": None} for row in A.to_pylist()]
    assert again.read("r", 3).to_pylist() == [{**row, "name": None} for row in B.to_pylist()]
    with pytest.raises(UsageError, match="column lot is stored as int32, not int64"):
        store.append(writer, "r", A.set_column(1, "lot", A["lot"].cast(pa.int64())), 4)
    assert store.latest_version("r") == 3
    with pytest.raises(UsageError, match="_version"):
        store.append(writer, "q", A.rename_columns(["id", "_version"]), 4)


def test_a_version_without_rows_is_a_version(tmp_path: Path) -> None:
    writer, store = writer_of(tmp_path), References(open_lake(tmp_path))
    assert [store.append(writer, "r", rows, 5) for rows in (A, A.slice(0, 0), A.slice(0, 0), A)] == [1, 2, 2, 3]
    assert store.read("r", 2) == A.slice(0, 0)
    assert References(open_lake(tmp_path)).read("r", 3) == A


def test_two_pipelines_that_load_at_once_share_versions(tmp_path: Path) -> None:
    """Each thread is a process of its own to the lake: another Lake, another lock."""
    writers = {name: writer_of(tmp_path, name) for name in ("p", "q")}
    start = threading.Barrier(2)
    seen: dict[str, list[int]] = {}

    def load(name: str) -> None:
        store = References(open_lake(tmp_path))
        start.wait()
        seen[name] = [store.append(writers[name], "r", A if number % 2 else B, 5) for number in range(6)]

    threads = [threading.Thread(target=load, args=(name,)) for name in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {"p", "q"}
    store = References(open_lake(tmp_path))
    for versions in seen.values():
        for number, version in enumerate(versions):
            assert store.read("r", version) == (A if number % 2 else B)


def test_a_version_is_given_once_where_the_lock_does_not_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on two machines with their lake in a store: another pipeline loads between a look and its commit."""
    writers = {name: writer_of(tmp_path, name) for name in ("p", "q")}
    quicker = References(open_lake(tmp_path))
    assert quicker.append(writers["q"], "r", A, 5) == 1
    third = pa.table({"id": ["z"], "lot": pa.array([3], pa.int32())})
    between = iter([B, A])

    def write(self: Table, rows: pa.Table, inner: Callable[..., list[DataFile]] = Table.write) -> list[DataFile]:
        written = inner(self, rows)
        if self.storage is not quicker_storage and (loaded := next(between, None)) is not None:
            quicker.append(writers["q"], "r", loaded, 5)
        return written

    quicker_storage = quicker._lake.storage
    monkeypatch.setattr(References, "_busy", lambda *_: nullcontext())
    monkeypatch.setattr(Table, "write", write)
    assert References(open_lake(tmp_path)).append(writers["p"], "r", third, 5) == 4
    store = References(open_lake(tmp_path))
    assert [store.read("r", version) for version in (1, 2, 3, 4)] == [A, B, A, third]


def test_a_reference_that_stays_busy_is_a_transient_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "REFERENCE_LOCK_SECONDS_MAX", 0.01)
    lake = open_lake(tmp_path)
    writer = writer_of(tmp_path)
    with open_lake(tmp_path).storage.lock("reference-r"), pytest.raises(TransientError, match="reference r"):
        References(lake).append(writer, "r", A, 5)


rows = st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=3)), st.one_of(st.none(), st.booleans())), max_size=9)


@settings(max_examples=100, deadline=None)
@given(rows, rows, st.integers(0, 9))
def test_content_is_values_and_not_how_they_lie_in_memory(
    left: list[tuple[str | None, bool | None]], right: list[tuple[str | None, bool | None]], cut: int
) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.bool_())])

    def table(values: list[tuple[str | None, bool | None]]) -> pa.Table:
        return pa.Table.from_pylist([{"a": a, "b": b} for a, b in values], schema=schema)

    whole, other = table(left), table(right)
    split = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    sliced = pa.concat_tables([other, whole]).combine_chunks().slice(other.num_rows)
    assert content_hash(split) == content_hash(whole) == content_hash(sliced)
    assert (content_hash(whole) == content_hash(other)) == (left == right)
    assert 0 <= content_hash(whole) < 1 << 63
