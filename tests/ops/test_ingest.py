"""Every record that `ingest` prints a place of is in the log, byte for byte; what is refused is named."""

import gzip
import io
import os
import threading
import time
from decimal import Decimal

import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from penstock.errors import UsageError
from penstock.model.fields import FieldPath
from penstock.model.pipeline import Column, CsvFormat, FilesSource, Pipeline, PushSource, Silver, Source
from penstock.model.position import Range
from penstock.model.types import ColumnType
from penstock.ops.ingest import Pusher, as_records, joined
from penstock.settings import Settings
from penstock.sources.opening import open_push_log


def pipeline(**source):
    column = Column("id", ColumnType("int64"), path=FieldPath(("id",)))
    return Pipeline("ticks", Source(source.pop("origin", PushSource()), **source), Silver("ticks", (column,)))


def kept(folder):
    """What the log holds: values and headers, in order."""
    log = open_push_log(PushSource(), pipeline="ticks", state_folder=folder)
    tables = [log.records(entry) for entry in log.entries(0, 0)]
    log.close()
    return pa.concat_tables(tables).to_pylist() if tables else []


def test_lines_of_a_compressed_file(tmp_path):
    lines = [b'{"id": 1}', b"not json \xff", b'{"id": 2}']
    file = tmp_path / "events.ndjson.gz"
    file.write_bytes(gzip.compress(b"\n".join(lines)))
    with Pusher(pipeline(), Settings(), tmp_path) as pusher:
        done = pusher.file(file)
        again = pusher.file(file)
    assert [row["value"] for row in kept(tmp_path)] == lines * 2
    assert (done.records, done.ranges) == (3, (Range(1, 0, 0, 3),))
    assert again.ranges == (Range(1, 0, 3, 6),)


def test_a_record_over_the_limit_is_named_and_its_neighbours_go_on(tmp_path):
    file = tmp_path / "events.whatever"
    file.write_bytes(b'{"id": 1}\n' + b"x" * 3000 + b'\n{"id": 2}\n' + b"y" * 2000)
    with Pusher(pipeline(), Settings(record_bytes_max=1024), tmp_path) as pusher:
        done = pusher.file(file)
    assert [row["value"] for row in kept(tmp_path)] == [b'{"id": 1}', b'{"id": 2}']
    assert [(refused.ordinal, refused.bytes) for refused in done.refused] == [(2, 3000), (4, 2000)]
    assert "record 2 holds 3,000 bytes" in str(done.refused[0])


@pytest.mark.parametrize("through", ["file", "stream"])
def test_csv_records_carry_their_header_line(tmp_path, through):
    text = b'id,name\n1,"two\nlines"\n2,x\n'
    declared = pipeline(format=CsvFormat())
    with Pusher(declared, Settings(), tmp_path) as pusher:
        if through == "file":
            (tmp_path / "a.csv").write_bytes(text)
            pusher.file(tmp_path / "a.csv")
        else:
            pusher.stream(io.BytesIO(text))
    rows = kept(tmp_path)
    assert [row["value"] for row in rows] == [b'1,"two\nlines"', b"2,x"]
    assert all(row["headers"] == [{"key": "csv.header", "value": b"id,name"}] for row in rows)


def test_a_pipe_that_pauses_does_not_hold_records_back(tmp_path):
    read, write = os.pipe()
    with Pusher(pipeline(), Settings(), tmp_path) as pusher, open(read, "rb", buffering=0) as reader:
        thread = threading.Thread(target=pusher.stream, args=(reader,))
        thread.start()
        os.write(write, b'{"id": 1}\n{"id"')
        deadline = time.monotonic() + 10
        while not kept(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        early = [row["value"] for row in kept(tmp_path)]
        os.write(write, b": 2}")
        os.close(write)
        thread.join()
    assert early == [b'{"id": 1}']
    assert [row["value"] for row in kept(tmp_path)] == [b'{"id": 1}', b'{"id": 2}']


def test_a_damaged_file_keeps_what_was_whole(tmp_path):
    file = tmp_path / "events.ndjson.gz"
    whole = gzip.compress(b"".join(b'{"id": %d}\n' % number for number in range(200_000)), 1)
    file.write_bytes(whole[: len(whole) // 2])
    with Pusher(pipeline(), Settings(), tmp_path) as pusher, pytest.raises(UsageError, match=r"events\.ndjson\.gz"):
        pusher.file(file)
    assert len(kept(tmp_path)) > 1000


def test_only_a_push_pipeline_takes_records(tmp_path):
    with pytest.raises(UsageError, match="reads files"):
        Pusher(pipeline(origin=FilesSource("in")), Settings(), tmp_path)


VALUES = [b'{"id":1}', b'{"id":2}']


@pytest.mark.parametrize(
    "data",
    [
        VALUES,
        [value.decode() for value in VALUES],
        [{"id": 1}, {"id": 2}],
        pa.table({"id": [1, 2]}),
        pa.record_batch({"id": [1, 2]}),
        pd.DataFrame({"id": [1, 2]}),
        pl.DataFrame({"id": [1, 2]}),
    ],
)
def test_python_values_become_records(data):
    assert as_records(data)["value"].to_pylist() == VALUES


def test_arrow_values_survive_exactly():
    row = as_records(pa.table({"d": pa.array([Decimal("12345678901234567.123456789")]), "n": [2**63 - 1]}))
    assert row["value"].to_pylist() == [b'{"d":12345678901234567.123456789,"n":9223372036854775807}']


@pytest.mark.parametrize("data", [[1], 5, [object()], [{"a": object()}]])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(UsageError, match="cannot push"):
        as_records(data)


def test_adjacent_ranges_are_joined():
    assert joined([Range(1, 0, 5, 9), Range(1, 0, 0, 5), Range(1, 1, 0, 2)]) == (Range(1, 0, 0, 9), Range(1, 1, 0, 2))
    assert orjson.loads(as_records({"a": 1})["value"][0].as_py()) == {"a": 1}
