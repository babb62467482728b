"""The keys of gold's files: read once, bounded, and never those of another file."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from penstock.run import goldkeys
from penstock.run.goldkeys import GoldKeys


class Files:
    """A table of which only the files are there; counts how often each is read."""

    def __init__(self, rows_of):
        self.rows_of = rows_of
        self.reads = []

    def read(self, *, columns, files):
        (file,) = files
        self.reads.append(file.path)
        rows = self.rows_of[file.path]
        yield pa.table(dict.fromkeys(columns, rows)).slice(0, 1)
        yield pa.table(dict.fromkeys(columns, rows)).slice(1)


def file(path):
    return SimpleNamespace(path=path)


@pytest.fixture
def table():
    return Files({"a": [1, 2, 3], "b": [4], "c": [5, 6]})


def starts(keys, path):
    return keys.of(file(path))["window_start"].to_pylist()


def test_a_file_is_read_once(table):
    keys = GoldKeys(table, ["window_start", "id"])
    assert [starts(keys, path) for path in "abcab"] == [[1, 2, 3], [4], [5, 6], [1, 2, 3], [4]]
    assert table.reads == ["a", "b", "c"]


def test_what_was_looked_at_longest_ago_is_forgotten(table, monkeypatch):
    monkeypatch.setattr(goldkeys, "GOLD_KEYS_BYTES_MAX", 4 * 8)
    keys = GoldKeys(table, ["window_start"])
    for path in "abacab":
        assert starts(keys, path) == table.rows_of[path]
    assert table.reads == ["a", "b", "c", "a", "b"]  # c put a and b out, which were too much beside it


def test_a_file_beyond_the_bound_is_read_each_time(table, monkeypatch):
    monkeypatch.setattr(goldkeys, "GOLD_KEYS_BYTES_MAX", 8)
    keys = GoldKeys(table, ["window_start"])
    assert [starts(keys, path) for path in "aabb"] == [[1, 2, 3], [1, 2, 3], [4], [4]]
    assert table.reads == ["a", "a", "b"]
