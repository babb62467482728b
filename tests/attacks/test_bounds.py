"""Input that is too much: one record, one line or one compressed file that would fill the memory, between good ones.

Each goes through the command line in a process of its own, whose memory is bounded by what is configured. `BOUND_MIB` says
how; it is generous, and far below what the input would take as it is.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from itertools import repeat
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import penstock
from attacks import attacked
from attacks.attacked import good, lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ENGINE_MIB, BATCH_MIB, RECORD_MIB = 256, 32, 16
LIMITS = {
    "memory_bytes": f'"{ENGINE_MIB} MiB"',
    "batch_bytes_max": f'"{BATCH_MIB} MiB"',
    "record_bytes_max": f'"{RECORD_MIB} MiB"',
}
PROGRAM_MIB = 400
"""Python with its libraries, and what their allocators keep: a run over three records takes 260."""
BOUND_MIB = PROGRAM_MIB + ENGINE_MIB + 4 * BATCH_MIB + 2 * RECORD_MIB
"""Beside the engine's own memory, four batches are under way at a time, and a record is read up to the limit twice over."""
SECONDS_MAX = 300

MB = 1_000_000
DELIMITED = attacked.PIPELINE.replace("format: json", "format: csv")
HEADER = b"id,at,price,note"


def long(head: bytes, piece: bytes, size: int, tail: bytes) -> bytes:
    """About `size` bytes: `piece` again and again between head and tail."""
    return head + piece * (size // len(piece)) + tail


HEAD = good(1)[:-1]
RECORDS: dict[str, Callable[[], bytes]] = {
    "a long string": lambda: long(HEAD + b',"x":"', b"x" * 100, 50 * MB, b'"}'),
    "a long note": lambda: long(good(1)[:-2], b"x" * 100, 50 * MB, b'"}'),
    "ten million numbers": lambda: long(HEAD + b',"x":[', b"1234,", 50 * MB, b"1]}"),
    "brackets": lambda: b"[" * (50 * MB),
    "nested objects": lambda: long(b"", b'{"a":', 50 * MB, b""),
    "escapes": lambda: long(HEAD + b',"x":"', b"\\u0041", 50 * MB, b'"}'),
    "a line without an end": lambda: b"x" * (300 * MB),
}


def run(
    folder: Path, record_property: Callable[[str, object], None], *arguments: str, bound_mib: int = BOUND_MIB
) -> attacked.Called:
    """A call of the command line, within its bounds."""
    called = attacked.call(folder, *(arguments or ("run", "--once")), seconds=SECONDS_MAX)
    assert 0 < called.peak_mib < bound_mib, f"{called.peak_mib} MiB"
    record_property("faults: inputs that are too much", 1)
    return called


def between(folder: Path, name: str, content: bytes, declaration: str = attacked.PIPELINE) -> Path:
    """A project whose file `name` comes after a file of record 0 and before one of record 9."""
    attacked.make(folder, declaration, **LIMITS)
    header = [HEADER] if "csv" in declaration else []
    kind, number = ("csv", row) if header else ("ndjson", good)
    attacked.put(folder, f"incoming/a.{kind}", lines([*header, number(0)]))
    attacked.put(folder, f"incoming/{name}", content)
    attacked.put(folder, f"incoming/z.{kind}", lines([*header, number(9)]))
    return folder


def row(number: int) -> bytes:
    """`good` as a line of CSV."""
    return b"%d,%d,%d.25,n%d" % (number, attacked.START + number * 1_000, number, number)


def accepted(folder: Path) -> list[int]:
    return sorted(found["id"] for found in attacked.ends(folder).accepted.values())


def assert_too_large(folder: Path, size: int) -> None:
    """The one reject stands for a record of so many bytes; its neighbours were accepted."""
    (refused,) = attacked.ends(folder).rejected.values()
    assert refused["failed"] == ["too_large"]
    (record,) = penstock.open(folder).sql('select headers from bronze.p where "value" is null').to_pylist()
    headers = {header["key"]: header["value"] for header in record["headers"]}
    assert json.loads(headers["penstock.too_large"])["bytes"] == size


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_in_a_file(kind: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """On a line of its own between two good ones."""
    huge = RECORDS[kind]()
    folder = between(tmp_path, "m.ndjson", lines([good(1), huge, good(2)]))
    assert run(folder, record_property).code == 0
    assert accepted(folder) == [0, 1, 2, 9]
    assert_too_large(folder, len(huge))
    assert attacked.violations(folder) == []


@pytest.mark.parametrize("piece", [b"[", b"1234,"], ids=["brackets", "numbers"])
def test_a_record_within_the_limit_that_needs_more_than_all_memory(
    piece: bytes, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The run says which it is and what to do, and done so, everything goes on."""
    huge = long(good(5)[:-1] + b',"x":[', piece, 15 * MB, b"1]}")
    folder = between(tmp_path, "m.ndjson", lines([good(1), huge, good(2)]))
    called = run(folder, record_property)
    assert called.code == 1
    assert f"the record 1/0/2 of {len(huge):,} bytes" in called.err
    assert "memory_bytes" in called.err
    assert attacked.call(folder, "--memory-bytes", "3 GiB", "run", "--once", seconds=SECONDS_MAX).code == 0
    assert attacked.ends(folder).of(2) == (["malformed"] if piece == b"[" else ["accepted"])
    assert set(accepted(folder)) - {5} == {0, 1, 2, 9}


@pytest.mark.parametrize("kind", ["a long string", "ten million numbers", "a line without an end"])
def test_a_record_that_is_pushed(kind: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """It is refused and named, the others are kept."""
    folder = attacked.make(tmp_path, attacked.PIPELINE.replace("files: {path: incoming}", "push: {}"), **LIMITS)
    path = attacked.put(folder, "pushed.ndjson", lines([good(1), RECORDS[kind](), good(2)]))
    pushed = run(folder, record_property, "ingest", "p", str(path))
    assert pushed.code == 2
    assert "2 records: 1/0/0..2" in pushed.out
    assert "1 record over the limit record_bytes_max" in pushed.err
    assert "pushed.ndjson" in pushed.err
    assert run(folder, record_property).code == 0
    assert accepted(folder) == [1, 2]


def gzip_bomb(piece: bytes, count: int, head: bytes, tail: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(head), *map(packer.compress, repeat(piece, count)), packer.compress(tail), packer.flush()]
    return b"".join(parts)


def zstd_bomb(piece: bytes, count: int, head: bytes, tail: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for part in (head, *repeat(piece, count), tail):
            stream.write(part)
    return sink.getvalue().to_pybytes()


BOMBS = {"gz": gzip_bomb, "zst": zstd_bomb}


@pytest.mark.parametrize("suffix", BOMBS)
@pytest.mark.parametrize(("byte", "count"), [(b"x", 3_000), (b"\n", 1_000)], ids=["one line", "empty lines"])
def test_a_compressed_file_that_unpacks_to_gigabytes(
    suffix: str, byte: bytes, count: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    bomb = BOMBS[suffix](byte * MB, count, lines([good(1)]), b"\n" + lines([good(2)]))
    assert len(bomb) < 20 * MB
    folder = between(tmp_path, f"m.ndjson.{suffix}", bomb)
    assert run(folder, record_property).code == 0
    assert accepted(folder) == [0, 1, 2, 9]
    if byte != b"\n":
        assert_too_large(folder, count * MB)


def test_a_compressed_file_in_a_compressed_file(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Only the outer one is unpacked."""
    inner = gzip_bomb(b"x" * MB, 3_000, b"", b"")
    folder = between(tmp_path, "m.ndjson.gz", gzip.compress(inner))
    assert run(folder, record_property).code == 0
    assert accepted(folder) == [0, 9]


def test_a_cell_of_a_delimited_file(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Quoted or not, and with newlines inside."""
    cells = [b"x" * (50 * MB), b'"%s"' % (b"x" * (50 * MB)), b'"%s"' % (b"x" * 99 + b"\n") * 10]
    records = [HEADER, row(1)]
    for number, cell in enumerate(cells, 2):
        records += [row(50 + number).rpartition(b",")[0] + b"," + cell, row(number)]
    folder = between(tmp_path, "m.csv", lines(records), DELIMITED)
    assert run(folder, record_property).code == 0
    found = attacked.ends(folder)
    assert {1, 2, 3, 4, 0, 9} <= {one["id"] for one in found.accepted.values()}
    assert [one["failed"] for one in found.rejected.values()].count(["too_large"]) == 2


COLUMNS = 100_000


def test_very_many_members_of_a_record(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    members = b"".join(b',"k%d":%d' % (number, number) for number in range(COLUMNS))
    folder = between(tmp_path, "m.ndjson", lines([good(1), good(2)[:-1] + members + b"}", good(3)]))
    assert run(folder, record_property).code == 0
    assert accepted(folder) == [0, 1, 2, 3, 9]


@pytest.mark.parametrize("declared", [True, False], ids=["in the header", "in a row"])
def test_very_many_columns_of_a_delimited_file(
    declared: bool, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A header goes with each of its records, so that one as long as this is taken for damage, and named."""
    more = b"".join(b",k%d" % number for number in range(COLUMNS))
    wide = [HEADER + more, row(1) + more] if declared else [HEADER, row(1), row(2) + more, row(3)]
    folder = between(tmp_path, "m.csv", lines(wide), DELIMITED)
    called = run(folder, record_property)
    if declared:
        assert called.code == 5
        assert "m.csv" in called.err
        assert "header" in called.err
        assert accepted(folder) == [0, 9]
    else:
        assert called.code == 0
        assert accepted(folder) == [0, 1, 3, 9]
        assert [one["failed"] for one in attacked.ends(folder).rejected.values()] == [["malformed"]]


def test_very_many_columns_of_a_parquet_file(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """What its footer takes in memory is not configured: some ten kilobytes for each of its columns."""
    columns = {"id": [1], "at": [attacked.START], "price": ["1.25"]}
    columns |= {f"k{number}": [number] for number in range(COLUMNS)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="none", use_dictionary=False)
    folder = between(tmp_path, "m.parquet", sink.getvalue())
    assert run(folder, record_property, bound_mib=BOUND_MIB + COLUMNS * 12 // 1_024).code == 0
    assert accepted(folder) == [0, 1, 9]
