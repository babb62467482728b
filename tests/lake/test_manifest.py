"""The manifest of files: rows in order of appending, one commit per listing, safe under compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from lake.lakes import open_lake, owned
from penstock.errors import Fenced, LakeCorrupt
from penstock.lake import layout
from penstock.lake.manifest import TableManifest
from penstock.sources.manifest import MANIFEST_SCHEMA, FileState, manifest_rows

if TYPE_CHECKING:
    from pathlib import Path


def entry(path: str, first_offset: int = 0, state: FileState = FileState.READING) -> dict[str, object]:
    return {
        "source": 1,
        "path": path,
        "size": 10,
        "mtime_us": 1_700_000_000_000_000,
        "sha256": "",
        "first_offset": first_offset,
        "records": -1,
        "state": state.value,
    }


def test_rows_keep_their_order_and_schema(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.manifest_spec("p"))
    manifest = TableManifest(table, writer)
    assert manifest.entries().schema == MANIFEST_SCHEMA
    first = manifest_rows([entry("b"), entry("a")])
    second = manifest_rows([entry("a", state=FileState.COMPLETE)])
    manifest.append(first)
    manifest.append(second.slice(0, 0))
    manifest.append(second)
    expected = pa.concat_tables([first, second])
    assert manifest.entries().equals(expected)
    lake = open_lake(tmp_path)
    writer, (table,) = owned(lake, layout.manifest_spec("p"))
    again = TableManifest(table, writer)
    assert again.entries().equals(expected)
    again.append(second)
    assert again.entries().num_rows == 4


def test_a_listing_of_ten_thousand_files_is_one_commit(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.manifest_spec("p"))
    before = table.version
    rows = manifest_rows([entry(f"{number:05d}.csv", number) for number in range(10_000)])
    TableManifest(table, writer).append(rows)
    assert table.version == before + 1
    lake = open_lake(tmp_path)
    assert TableManifest(lake.table("manifests/p"), writer).entries().equals(rows)


def test_a_failed_append_leaves_the_entries_as_they_are(tmp_path: Path) -> None:
    old, (table,) = owned(open_lake(tmp_path), layout.manifest_spec("p"))
    manifest = TableManifest(table, old)
    manifest.append(manifest_rows([entry("a")]))
    owned(open_lake(tmp_path), layout.manifest_spec("p"))
    with pytest.raises(Fenced):
        manifest.append(manifest_rows([entry("b")]))
    assert manifest.entries().column("path").to_pylist() == ["a"]


def test_missing_rows_are_damage(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.manifest_spec("p"))
    manifest = TableManifest(table, writer)
    manifest.append(manifest_rows([entry("a")]))
    manifest.append(manifest_rows([entry("b")]))
    first = table.files()[0]
    table.commit(writer, batch=None, remove=[first])
    with pytest.raises(LakeCorrupt, match="manifests/p"):
        TableManifest(table, writer).entries()


def test_one_that_follows_sees_what_the_writer_appends(tmp_path: Path) -> None:
    writer, (table,) = owned(open_lake(tmp_path), layout.manifest_spec("p"))
    manifest = TableManifest(table, writer)
    manifest.append(manifest_rows([entry("a")]))
    follower = TableManifest(open_lake(tmp_path).table("manifests/p"), writer, follows=True)
    assert follower.entries().num_rows == 1
    assert not follower.refresh()
    manifest.append(manifest_rows([entry("b", 7)]))
    assert not manifest.refresh()
    assert follower.refresh()
    assert follower.entries().column("path").to_pylist() == ["a", "b"]
