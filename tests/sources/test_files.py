"""A folder of files: what is taken in, what waits, what is noted, and what happens when files change or break."""

from __future__ import annotations

import gzip
import json
import os
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.errors import SourceLost
from penstock.model.pipeline import CsvFormat, Format, JsonFormat, ParquetFormat, TextFormat
from penstock.sources.contract import Bounds, wall_clock
from penstock.sources.files import FolderSource
from penstock.testing.manifests import MemoryManifest
from penstock.testing.source_contract import after, drain

if TYPE_CHECKING:
    from pathlib import Path

ALL = Bounds(1_000_000, 1 << 30)


class Folder:
    """A folder with the manifest of its pipeline; `source` opens it as a new process would."""

    def __init__(self, path: Path, declared: Format | None = None, **options: object) -> None:
        self.path = path
        self.manifest = MemoryManifest()
        self.declared = declared or JsonFormat()
        self.options = options
        self.now = wall_clock()

    def put(self, name: str, body: bytes, age: float = 100.0) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        self.age(name, age)
        return path

    def age(self, name: str, seconds: float) -> None:
        changed = self.now * 1_000 - int(seconds * 1_000_000_000)
        os.utime(self.path / name, ns=(changed, changed))

    def source(self, **options: object) -> FolderSource:
        return FolderSource(
            self.path,
            name="incoming",
            declared=self.declared,
            incarnation=1,
            manifest=self.manifest,
            clock=lambda: self.now,
            **{**self.options, **options},
        )

    def states(self) -> list[tuple[str, str, int, int]]:
        """The manifest: of each (path, first offset) the last row as (path, state, first offset, records)."""
        rows = {(row["path"], row["first_offset"]): row for row in self.manifest.entries().to_pylist()}
        return [(path, row["state"], first, row["records"]) for (path, first), row in rows.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def values(source: FolderSource, position: dict[int, int] | None = None) -> list[bytes]:
    return source.read(drain(source, position or {})[0])["value"].to_pylist()


def header(table: pa.Table, row: int) -> dict[str, bytes]:
    return {pair["key"]: pair["value"] for pair in table["headers"][row].as_py()}


# -- what is taken in -------------------------------------------------------------------------------------------------


def test_files_are_taken_in_path_order_with_path_and_time(folder: Folder) -> None:
    folder.put("b.json", b"3\n4\n")
    folder.put("a/z.ndjson", b"1\n\n2", age=50)
    folder.put("c.JSONL", b"5")
    source = folder.source()
    table = source.read(drain(source, {})[0])
    assert table["value"].to_pylist() == [b"1", b"2", b"3", b"4", b"5"]
    assert table["offset"].to_pylist() == [0, 1, 2, 3, 4]
    assert [header(table, row)["file.path"] for row in range(5)] == [b"a/z.ndjson"] * 2 + [b"b.json"] * 2 + [b"c.JSONL"]
    assert table["timestamp"].cast(pa.int64()).to_pylist()[0] == folder.now - 50_000_000
    assert table["ingested_at"].null_count == table["key"].null_count == 5
    assert folder.states() == [
        ("a/z.ndjson", "complete", 0, 2),
        ("b.json", "complete", 2, 2),
        ("c.JSONL", "complete", 4, 1),
    ]


def test_work_in_progress_is_not_looked_at_and_fresh_files_wait(folder: Folder) -> None:
    for name in (".hidden.json", "x.json.tmp", "y.json.part", ".git/z.json"):
        folder.put(name, b"no\n")
    folder.put("fresh.json", b"new\n", age=1.0)
    folder.put("old.json", b"old\n")
    source = folder.source()
    ranges, end = drain(source, {})
    assert source.read(ranges)["value"].to_pylist() == [b"old"]
    assert not source.exhausted(end)
    folder.now += 1_500_000
    assert source.wait(end, 0.0)
    assert values(source, end) == [b"new"]
    assert source.exhausted({0: 2})
    assert source.notices() == ()


def test_a_file_from_the_future_is_taken_when_it_rests(folder: Folder) -> None:
    folder.put("later.json", b"1\n", age=-3_600)
    source = folder.source()
    assert source.plan({}, ALL) == ()
    folder.now += 1_900_000
    assert source.plan({}, ALL) == ()
    assert not source.exhausted({})
    folder.now += 200_000
    assert values(source) == [b"1"]


def test_ten_thousand_tiny_files_are_one_manifest_append(folder: Folder) -> None:
    for number in range(2_000):
        folder.put(f"{number:05d}.json", b"%d\n" % number)
    source = folder.source()
    ranges = source.plan({}, ALL)
    assert [(span.start, span.end) for span in ranges] == [(0, 2_000)]
    assert folder.manifest.commits == 1
    table = source.read(ranges)
    assert table["value"].to_pylist() == [b"%d" % number for number in range(2_000)]
    assert table["value"].num_chunks == 1


def test_manifest_rows_are_durable_before_ranges(folder: Folder) -> None:
    folder.put("a.json", b"1\n2\n3\n")
    source = folder.source()
    source.plan({}, Bounds(1, 100))
    assert folder.states() == [("a.json", "reading", 0, -1)]
    source.plan({0: 1}, Bounds(1, 100))
    assert folder.manifest.commits == 1


def test_empty_files_are_noted(folder: Folder) -> None:
    for name, body in (("a.json", b""), ("b.json", b"\n\n\r\n"), ("c.json.gz", gzip.compress(b""))):
        folder.put(name, body)
    source = folder.source()
    assert source.plan({}, ALL) == ()
    assert source.exhausted({})
    assert [row[1:] for row in folder.states()] == [("complete", 0, 0)] * 3


def test_other_names_are_ignored_once_and_told(folder: Folder) -> None:
    folder.put("README.md", b"hello")
    folder.put("a.json", b"1")
    source = folder.source()
    assert values(source) == [b"1"]
    assert any("README.md" in notice for notice in source.notices())
    again = folder.source()
    assert values(again) == [b"1"]
    assert again.notices() == ()


@pytest.mark.parametrize(
    ("declared", "name", "body", "expected"),
    [
        (TextFormat(".*"), "x.log", b"a\nb", [b"a", b"b"]),
        (TextFormat(".*"), "x.csv", b'"a\nb"', [b'"a', b'b"']),
        (CsvFormat(), "x.csv", b"h,i\r\n1,2\r\n", [b"1,2"]),
        (CsvFormat(header=False), "x.tsv", b"h,i\n1,2", [b"h,i", b"1,2"]),
        (CsvFormat(quote="'"), "x.csv", b"h\n'1\n2'\n", [b"'1\n2'"]),
        (JsonFormat(), "x.json", b"\xef\xbb\xbf{}\n", [b"{}"]),
        (JsonFormat(), "x.json", b"\xff\x00\r\r\n", [b"\xff\x00\r"]),
    ],
)
def test_content_follows_the_declared_format(
    tmp_path: Path, declared: Format, name: str, body: bytes, expected: list[bytes]
) -> None:
    folder = Folder(tmp_path, declared)
    folder.put(name, body)
    assert values(folder.source()) == expected


def test_the_header_line_goes_with_every_csv_record(tmp_path: Path) -> None:
    folder = Folder(tmp_path, CsvFormat())
    folder.put("a.csv", b'id,"odd\nname"\r\n1,2\n3,4\n')
    folder.put("b.csv", b"other\n5")
    source = folder.source()
    table = source.read(drain(source, {})[0])
    assert [header(table, row)["csv.header"] for row in range(3)] == [b'id,"odd\nname"'] * 2 + [b"other"]


def test_a_record_over_the_limit_is_known_by_length_and_hash(tmp_path: Path) -> None:
    folder = Folder(tmp_path, record_bytes_max=10)
    folder.put("a.json", b"short\n" + b"x" * 11 + b"\nafter")
    source = folder.source()
    table = source.read(drain(source, {})[0])
    assert table["value"].to_pylist() == [b"short", None, b"after"]
    about = json.loads(header(table, 1)["penstock.too_large"])
    assert about["bytes"] == 11
    assert set(header(table, 0)) == set(header(table, 2)) == {"file.path"}


def test_links_are_followed_once(folder: Folder) -> None:
    folder.put("real/a.json", b"1\n")
    (folder.path / "real" / "loop").symlink_to(folder.path, target_is_directory=True)
    (folder.path / "zz").symlink_to(folder.path / "real", target_is_directory=True)
    (folder.path / "link.json").symlink_to(folder.path / "real" / "a.json")
    (folder.path / "dangling.json").symlink_to(folder.path / "nowhere.json")
    os.mkfifo(folder.path / "pipe.json")
    assert values(folder.source()) == [b"1", b"1"]


# -- files that change ------------------------------------------------------------------------------------------------


def test_other_content_under_a_path_is_another_file(folder: Folder) -> None:
    folder.put("a.json", b"1\n")
    source = folder.source()
    assert values(source) == [b"1"]
    folder.put("a.json", b"1\n2\n", age=90)
    assert values(source, {0: 1}) == [b"1", b"2"]
    assert folder.states() == [("a.json", "complete", 0, 1), ("a.json", "complete", 1, 2)]


def test_the_same_content_again_is_noted_not_taken(folder: Folder) -> None:
    folder.put("a.json", b"1\n")
    source = folder.source()
    assert values(source) == [b"1"]
    folder.put("a.json", b"2\n", age=90)
    assert values(source, {0: 1}) == [b"2"]
    folder.put("a.json", b"1\n", age=80)
    assert source.plan({0: 2}, ALL) == ()
    assert ("a.json", "repeated", 2, 0) in folder.states()
    assert any("a.json" in notice for notice in source.notices())
    commits = folder.manifest.commits
    assert folder.source().plan({0: 2}, ALL) == ()
    assert folder.manifest.commits == commits


def test_a_restart_inside_a_changed_file_stops(folder: Folder) -> None:
    folder.put("a.json", b"1\n2\n3\n")
    source = folder.source()
    position = after({}, source.plan({}, Bounds(2, 100)))
    prints = source.fingerprint(position)
    folder.put("a.json", b"1\nX\n3\n", age=90)
    with pytest.raises(SourceLost, match=r"a\.json"):
        folder.source().resume(position, prints)
    lenient = folder.source(on_data_loss="record")
    lenient.resume(position, prints)
    assert values(lenient, position) == [b"1", b"X", b"3"]
    assert ("a.json", "lost", 0, 2) in folder.states()
    assert any("a.json" in notice for notice in lenient.notices())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_restart_inside_an_unchanged_or_grown_file_goes_on(folder: Folder, compressed: bool) -> None:
    pack = gzip.compress if compressed else bytes
    name = "a.json.gz" if compressed else "a.json"
    folder.put(name, pack(b"1\n2\n3\n"))
    source = folder.source()
    position = after({}, source.plan({}, Bounds(2, 100)))
    prints = source.fingerprint(position)
    assert dict(prints) == dict(folder.source().fingerprint(position))
    folder.put(name, pack(b"1\n2\n3\n4\n"), age=90)
    again = folder.source()
    again.resume(position, prints)
    assert values(again, position) == [b"3", b"4"]
    assert folder.states()[0] == (name, "complete", 0, 4)
    assert again.plan({0: 4}, ALL) == ()


def test_a_listed_file_that_changed_before_it_was_delivered_is_a_loss(folder: Folder) -> None:
    folder.put("a.json", b"1\n")
    folder.put("b.json", b"2\n")
    folder.source().plan({}, ALL)
    folder.put("a.json", b"X\n", age=90)
    with pytest.raises(SourceLost, match=r"offset 0 to 1"):
        folder.source().plan({}, ALL)
    lenient = folder.source(on_data_loss="record")
    ranges = lenient.plan({}, ALL)
    assert [(span.start, span.end) for span in ranges] == [(1, 2), (2, 3)] or [(s.start, s.end) for s in ranges] == [
        (1, 3)
    ]
    assert lenient.read(ranges)["value"].to_pylist() == [b"2", b"X"]


def test_a_file_removed_before_its_turn_is_no_loss(folder: Folder) -> None:
    folder.put("a.json", b"1\n2\n")
    folder.put("b.json", b"3\n")
    source = folder.source()
    position = after({}, source.plan({}, Bounds(1, 100)))
    (folder.path / "b.json").unlink()
    assert values(source, position) == [b"2"]
    assert source.exhausted({0: 2})


def test_a_position_beyond_the_manifest_is_a_loss(folder: Folder) -> None:
    folder.put("a.json", b"1\n")
    with pytest.raises(SourceLost, match="manifest"):
        folder.source().resume({0: 5}, {})


def test_a_folder_that_is_not_there_is_told(folder: Folder) -> None:
    folder.path = folder.path / "missing"
    with pytest.raises(SourceLost, match="incoming"):
        folder.source().plan({}, ALL)


# -- files that are broken --------------------------------------------------------------------------------------------

LINES = [b'{"n":%d,"pad":"%s"}' % (number, os.urandom(20).hex().encode()) for number in range(20_000)]


def broken_gzip(body: bytes) -> bytes:
    return gzip.compress(body)[: len(gzip.compress(body)) // 2]


def broken_zstd(body: bytes) -> bytes:
    whole = pa.Codec("zstd").compress(body).to_pybytes()
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(("suffix", "spoil"), [(".gz", broken_gzip), (".zst", broken_zstd)])
@pytest.mark.parametrize("count", [5_000, 20_000])
def test_what_lies_before_damage_is_delivered(folder: Folder, suffix: str, spoil: object, count: int) -> None:
    body = b"\n".join(LINES[:count])
    folder.put(f"a.json{suffix}", spoil(body))  # type: ignore[operator]
    folder.put("b.json", b"after\n")
    source = folder.source()
    first = source.plan({}, ALL)
    found = source.read(first)["value"].to_pylist()
    assert count // 5 < len(found) < count
    assert found == LINES[: len(found)]
    position = after({}, first)
    with pytest.raises(SourceLost, match=rf"a\.json\{suffix}.*from offset {len(found)} "):
        source.plan(position, ALL)
    prints = source.fingerprint(position)
    lenient = folder.source(on_data_loss="record")
    lenient.resume(position, prints)
    assert values(lenient, position) == [b"after"]
    assert folder.states()[0] == (f"a.json{suffix}", "lost", 0, len(found))
    assert folder.source().exhausted({0: len(found) + 1})


def test_a_repaired_file_goes_on_where_it_broke(folder: Folder) -> None:
    body = b"\n".join(LINES)
    folder.put("a.json.gz", broken_gzip(body))
    source = folder.source()
    first = source.plan({}, ALL)
    prints = source.fingerprint(after({}, first))
    folder.put("a.json.gz", gzip.compress(body), age=90)
    again = folder.source()
    again.resume(after({}, first), prints)
    rest = values(again, after({}, first))
    assert [*source.read(first)["value"].to_pylist(), *rest] == LINES


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("m.json.gz", b"no gzip at all"),
        ("m.json.zst", b"no zstd at all"),
        ("m.json.gz", gzip.compress(b"1\n", mtime=0)[:5]),
        ("m.parquet", b"PAR1 nonsense PAR1"),
        ("m.parquet", b""),
    ],
)
def test_a_file_of_which_nothing_can_be_read_holds_nobody_up(folder: Folder, name: str, body: bytes) -> None:
    folder.put("a.json", b"1\n")
    folder.put(name, body)
    folder.put("z.json", b"2\n")
    source = folder.source()
    ranges = source.plan({}, ALL)
    assert source.read(ranges)["value"].to_pylist() == [b"1", b"2"]
    with pytest.raises(SourceLost, match=name):
        source.plan(after({}, ranges), ALL)
    lenient = folder.source(on_data_loss="record")
    assert lenient.plan({0: 2}, ALL) == ()
    assert lenient.exhausted({0: 2})
    assert any(name in notice for notice in (*source.notices(), *lenient.notices()))
    good = b"3\n"
    if name.endswith("parquet"):
        pq.write_table(pa.table({"a": [3]}), folder.path / name)
        folder.age(name, 50)
        good = b'{"a":3}\n'
    else:
        folder.put(
            name, gzip.compress(good) if name.endswith("gz") else pa.Codec("zstd").compress(good).to_pybytes(), 50
        )
    assert values(folder.source(), {0: 2}) == [good.strip()]


def test_a_file_without_permission_holds_nobody_up(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.put("a.json", b"1\n")
    folder.put("b.json", b"2\n")
    real_open = os.open

    def guarded(name: object, *arguments: int) -> int:
        # The superuser, who may run the tests, is refused nothing by the system itself.
        if str(name) == str(path) and path.stat().st_mode & 0o777 == 0:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("penstock.sources.file_streams.os.open", guarded)
    path.chmod(0)
    source = folder.source(on_data_loss="record")
    assert values(source) == [b"2"]
    assert any("Permission denied" in notice for notice in source.notices())
    with pytest.raises(SourceLost, match="Permission denied"):
        folder.source().plan({0: 1}, ALL)
    path.chmod(0o600)
    assert values(source, {0: 1}) == [b"1"]


def test_names_that_are_not_text_are_told(folder: Folder) -> None:
    with open(os.fsencode(folder.path) + b"/odd\xff.json", "wb") as handle:
        handle.write(b"1\n")
    os.utime(os.fsencode(folder.path) + b"/odd\xff.json", (1, 1))
    folder.put("b.json", b"2\n")
    source = folder.source(on_data_loss="record")
    assert values(source) == [b"2"]
    assert any(r"odd\xff.json" in notice for notice in source.notices())
    with pytest.raises(SourceLost, match="UTF-8"):
        folder.source().plan({0: 1}, ALL)


def test_damage_in_the_middle_of_a_parquet_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path, ParquetFormat())
    path = folder.put("a.parquet", b"")
    table = pa.table({"n": list(range(1_000)), "s": [os.urandom(8).hex() for _ in range(1_000)]})
    pq.write_table(table, path, row_group_size=100, write_page_checksum=True, compression="none", use_dictionary=False)
    about = pq.ParquetFile(path).metadata.row_group(4).column(1)
    body = bytearray(path.read_bytes())
    body[about.data_page_offset + about.total_compressed_size // 2] ^= 1
    folder.put("a.parquet", bytes(body))
    source = folder.source()
    first = source.plan({}, ALL)
    assert [json.loads(value)["n"] for value in source.read(first)["value"].to_pylist()] == list(range(400))
    with pytest.raises(SourceLost, match="row group 4"):
        source.plan(after({}, first), ALL)


def test_reading_older_ranges_from_a_changed_file_is_refused(folder: Folder) -> None:
    folder.put("a.json", b"1\n2\n")
    ranges = folder.source().plan({}, ALL)
    folder.put("a.json", b"1\nX\n", age=90)
    with pytest.raises(SourceLost, match=r"a\.json"):
        folder.source().read(ranges)
    (folder.path / "a.json").unlink()
    with pytest.raises(SourceLost, match=r"a\.json"):
        folder.source().read(ranges)


def test_touching_a_file_changes_nothing(folder: Folder) -> None:
    folder.put("a.json", b"1\n2\n")
    ranges = folder.source().plan({}, ALL)
    folder.age("a.json", 20)
    assert folder.source().read(ranges)["value"].to_pylist() == [b"1", b"2"]


def test_waiting_ends_when_a_file_settles(folder: Folder) -> None:
    source = FolderSource(folder.path, name="in", declared=JsonFormat(), incarnation=1, manifest=folder.manifest)
    (folder.path / "a.json").write_bytes(b"1\n")
    started = time.monotonic()
    assert source.wait({}, 10)
    assert 1.0 < time.monotonic() - started < 6


def test_another_process_reads_what_was_taken_in_since_it_was_opened(folder: Folder) -> None:
    """The first file has not come to its end when the reader learns of it."""
    folder.put("a.ndjson", b"1\n2\n3\n4\n")
    folder.put("b.ndjson", b"5\n6\n")
    planner = folder.source()
    (first,) = planner.plan({}, Bounds(2, 1 << 30))
    reader = folder.source()
    assert reader.read([first])["value"].to_pylist() == [b"1", b"2"]
    for position, expected in (({0: 2}, [b"3", b"4"]), ({0: 4}, [b"5", b"6"])):
        (span,) = planner.plan(position, Bounds(2, 1 << 30))
        assert reader.read([span])["value"].to_pylist() == expected
