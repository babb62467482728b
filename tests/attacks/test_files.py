"""Files that are wrong, each between two that are right: what can be read of them is taken, the rest is said loudly.

With `on_data_loss: stop` a run ends with exit code 5 and names the file, after all others were taken in; with `record` it
goes on without it. A file that is strange but readable is a matter of its records alone.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import penstock
from attacks import attacked
from attacks.attacked import good, lines
from penstock.errors import SourceLost, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ACCEPTED, MALFORMED = ["accepted"], ["malformed"]
LAST = 9_000
"""The id of the record in the last file."""

KEYLESS = attacked.PIPELINE.replace("  key: [id]\n", "")
LENIENT = attacked.PIPELINE.replace("format: json}", "format: json, on_data_loss: record}")


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content).to_pybytes()


def zstd_with_checksum(content: bytes) -> bytes:
    """As the command line tool writes it. Without a checksum nobody could notice a flipped bit."""
    if shutil.which("zstd") is None:
        pytest.skip("the zstd command is not installed, and Arrow writes no checksums")
    return subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout


def parquet(first: int, end: int, **options: object) -> bytes:
    """`good` as rows."""
    numbers = range(first, end)
    rows = pa.table(
        {
            "id": list(numbers),
            "at": [attacked.START + number * 1_000 for number in numbers],
            "price": [f"{number}.25" for number in numbers],
            "note": [f"n{number}" for number in numbers],
        }
    )
    sink = io.BytesIO()
    pq.write_table(rows, sink, write_page_checksum=True, **options)
    return sink.getvalue()


def damaged(content: bytes, share: float = 0.5) -> bytes:
    """Some bytes in the middle are others."""
    at = int(len(content) * share)
    return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + 8]) + content[at + 8 :]


def between(folder: Path, name: str, content: bytes | None, declaration: str = LENIENT) -> Path:
    """A project whose file `name` comes after a file of record 0 and before one of record LAST."""
    attacked.make(
        folder, declaration, {"incoming/a.ndjson": lines([good(0)]), "incoming/z.ndjson": lines([good(LAST)])}
    )
    if content is not None:
        attacked.put(folder, f"incoming/{name}", content)
    return folder


def ids(found: attacked.Ends) -> list[int]:
    return sorted(row["id"] for row in found.accepted.values())


# -- strange, and readable --------------------------------------------------------------------------------------------

SOME = lines([good(1), good(2)])
READABLE: dict[str, tuple[str, bytes, list[int], int]] = {
    # name of the file, content, ids that are accepted, records that are malformed
    "empty": ("m.ndjson", b"", [], 0),
    "empty gzip": ("m.ndjson.gz", gzip.compress(b""), [], 0),
    "empty zstd": ("m.ndjson.zst", zstd(b""), [], 0),
    "gzip of nothing": ("m.ndjson.gz", b"", [], 0),
    "parquet without rows": ("m.parquet", parquet(1, 1), [], 0),
    "only newlines": ("m.ndjson", b"\n\r\n\n" * 1_000, [], 0),
    "without a last newline": ("m.ndjson", SOME[:-1], [1, 2], 0),
    "half-written": ("m.ndjson", SOME[:-5], [1], 1),
    "half a record": ("m.ndjson", b'{"id":', [], 1),
    "DOS line ends": ("m.ndjson", SOME.replace(b"\n", b"\r\n"), [1, 2], 0),
    "Mac line ends": ("m.ndjson", SOME.replace(b"\n", b"\r"), [], 1),
    "a byte order mark": ("m.ndjson", b"\xef\xbb\xbf" + SOME, [1, 2], 0),
    "a byte order mark in gzip": ("m.ndjson.gz", gzip.compress(b"\xef\xbb\xbf" + SOME), [1, 2], 0),
    "two byte order marks": ("m.ndjson", b"\xef\xbb\xbf" * 2 + SOME, [2], 1),
    "UTF-16": ("m.ndjson", SOME.decode().encode("utf-16"), [], 3),
    "a NUL": ("m.ndjson", SOME.replace(b"n1", b"\x00"), [2], 1),
    "only NULs": ("m.ndjson", bytes(100_000), [], 1),
    "NULs at the end": ("m.ndjson", SOME + bytes(4_096), [1, 2], 1),
    "gzip under another name": ("m.ndjson", gzip.compress(SOME, mtime=0).replace(b"\n", b""), [], 1),
    "parquet under another name": ("m.ndjson", parquet(1, 3).replace(b"\n", b""), [], 1),
    "csv under another name": ("m.ndjson", b"id,at\n1,2\n", [], 2),
    "two gzip members": ("m.ndjson.gz", gzip.compress(lines([good(1)])) + gzip.compress(lines([good(2)])), [1, 2], 0),
    "a record across gzip members": ("m.ndjson.gz", gzip.compress(SOME[:30]) + gzip.compress(SOME[30:]), [1, 2], 0),
    "padded gzip": ("m.ndjson.gz", gzip.compress(SOME) + bytes(1_000), [1, 2], 0),
    "two zstd frames": ("m.ndjson.zst", zstd(SOME[:30]) + zstd(SOME[30:]), [1, 2], 0),
    "a name in capitals": ("M.NDJSON", SOME, [1, 2], 0),
    "a name of blanks and quotes": ("m '\"\n%00.ndjson", SOME, [1, 2], 0),
    "parquet in many row groups": ("m.parquet", parquet(1, 40, row_group_size=1), list(range(1, 40)), 0),
}  # fmt: skip


def by_file(folder: Path) -> dict[str, tuple[list[int], int]]:
    """Of each file that records came of: the ids that were accepted, and the number of rejects."""
    found = attacked.absorb(folder)
    result: dict[str, tuple[list[int], int]] = {}
    for record in penstock.open(folder).sql("select _offset, headers from bronze.p order by _offset").to_pylist():
        path = next(header["value"] for header in record["headers"] if header["key"] == "file.path").decode()
        accepted, rejected = result.get(path, ([], 0))
        row = found.accepted.get((record["_offset"], 0))
        result[path] = (accepted, rejected + 1) if row is None else ([*accepted, row["id"]], rejected)
    return result


def test_what_is_strange_is_read(tmp_path: Path) -> None:
    """Each kind in a folder of its own, in one run."""
    files = {
        f"incoming/{number:02d}/{name}": content for number, (name, content, _, _) in enumerate(READABLE.values(), 1)
    }
    files |= {"incoming/00/a.ndjson": lines([good(0)]), "incoming/99/z.ndjson": lines([good(LAST)])}
    found = by_file(attacked.make(tmp_path, KEYLESS, files))
    for number, (kind, (name, _, accepted, malformed)) in enumerate(READABLE.items(), 1):
        assert found.get(f"{number:02d}/{name}", ([], 0)) == (accepted, malformed), kind
    assert found["00/a.ndjson"] == ([0], 0)
    assert found["99/z.ndjson"] == ([LAST], 0)


# -- broken -----------------------------------------------------------------------------------------------------------

MANY = [
    good(number).replace(b'"}', b' %s"}' % random.Random(number).randbytes(20).hex().encode())
    for number in range(1, 5_000)
]
"""Records that compress badly, so that their file has several blocks."""
BROKEN: dict[str, tuple[str, bytes, bool, str]] = {
    # name of the file, content, whether its beginning can be read, and what is said
    "gzip cut off": ("m.ndjson.gz", gzip.compress(lines(MANY))[:-2_000], True, "cut off"),
    "gzip without its end": ("m.ndjson.gz", gzip.compress(lines(MANY))[:-4], True, "cut off"),
    "gzip damaged in the middle": ("m.ndjson.gz", damaged(gzip.compress(lines(MANY))), False, "corrupt"),
    "gzip with another checksum": ("m.ndjson.gz", gzip.compress(lines(MANY))[:-8] + b"checksum", False, "corrupt"),
    "text behind gzip": ("m.ndjson.gz", gzip.compress(lines(MANY)) + b"more", True, "corrupt"),
    "no gzip": ("m.ndjson.gz", lines(MANY), False, "corrupt"),
    "zstd cut off": ("m.ndjson.zst", zstd(lines(MANY))[:-2_000], True, "zstd"),
    "zstd damaged in the middle": ("m.ndjson.zst", damaged(zstd(lines(MANY))), False, "zstd"),
    "no zstd": ("m.ndjson.zst", lines(MANY), False, "zstd"),
    "parquet damaged in the middle": (
        "m.parquet",
        damaged(parquet(1, 900, row_group_size=50, compression="none", use_dictionary=False)),
        True,
        "row group",
    ),
    "parquet cut off": ("m.parquet", parquet(1, 900)[:-100], False, "Parquet"),
    "parquet with a damaged footer": ("m.parquet", damaged(parquet(1, 900), 0.98), False, "Parquet"),
    "empty parquet": ("m.parquet", b"", False, "Parquet"),
    "no parquet": ("m.parquet", lines(MANY), False, "Parquet"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_said_and_holds_nobody_up(kind: str, tmp_path: Path) -> None:
    name, content, begins, said = BROKEN[kind]
    folder = between(tmp_path, name, content, attacked.PIPELINE)
    with pytest.raises(SourceLost) as stopped:
        penstock.open(folder).run(once=True)
    assert name in stopped.value.message
    assert said in stopped.value.message
    assert stopped.value.hint
    assert attacked.violations(folder) == []
    (folder / "pipelines" / "p.yaml").write_text(LENIENT)
    found = attacked.absorb(folder)
    kept = [number for number in ids(found) if number not in (0, LAST)]
    assert kept == list(range(1, len(kept) + 1))
    assert begins == (len(kept) > 0), kept
    assert {0, LAST} <= set(ids(found))
    # A record that was cut in two is not whole: it is a reject, or part of what was lost.
    assert [row["failed"] for row in found.rejected.values()] in ([], [MALFORMED])
    # The sound file goes on where the broken one ended, or is read whole under the same name.
    attacked.put(folder, f"incoming/{name}", sound(name))
    again = attacked.absorb(folder)
    assert set(ids(again)) == {0, *range(1, 900 if name.endswith(".parquet") else 5_000), LAST}


@pytest.mark.parametrize("pack", [gzip.compress, zstd_with_checksum], ids=["gzip", "zstd"])
def test_a_flipped_bit_of_compressed_data_changes_no_record(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Decompressors notice damage late: what they make of it until then must not become records."""
    suffix = "gz" if pack is gzip.compress else "zst"
    files, sent = {}, set()
    for number in range(40):
        records = [good(number * 1_000 + row) for row in range(300)]
        sent |= set(records)
        whole = bytearray(pack(lines(records)))
        at = len(whole) * (number + 1) // 41
        whole[at] ^= 1 << number % 8
        files[f"incoming/{number:02d}.ndjson.{suffix}"] = bytes(whole)
    folder = attacked.make(tmp_path, LENIENT, {**files, "incoming/z.ndjson": lines([good(LAST)])})
    attacked.absorb(folder)
    received = penstock.open(folder).sql('select "value" from bronze.p').to_pylist()
    assert {row["value"] for row in received} <= sent | {good(LAST)}
    assert good(LAST) in {row["value"] for row in received}


def sound(name: str) -> bytes:
    if name.endswith(".parquet"):
        return parquet(1, 900)
    return gzip.compress(lines(MANY)) if name.endswith(".gz") else zstd(lines(MANY))


# -- no files at all --------------------------------------------------------------------------------------------------


def folder_named_like_a_file(incoming: Path) -> None:
    (incoming / "m.ndjson").mkdir()


def files_in_a_folder_named_like_a_file(incoming: Path) -> None:
    attacked.put(incoming, "m.ndjson/inside.ndjson", SOME)


def link_to_itself(incoming: Path) -> None:
    (incoming / "m.ndjson").symlink_to("m.ndjson")


def links_in_a_circle(incoming: Path) -> None:
    (incoming / "l.ndjson").symlink_to("m.ndjson")
    (incoming / "m.ndjson").symlink_to("l.ndjson")


def link_to_its_own_folder(incoming: Path) -> None:
    (incoming / "m").symlink_to(".", target_is_directory=True)


def link_to_nothing(incoming: Path) -> None:
    (incoming / "m.ndjson").symlink_to("nothing.ndjson")


def pipe(incoming: Path) -> None:
    os.mkfifo(incoming / "m.ndjson")


def device(incoming: Path) -> None:
    (incoming / "m.ndjson").symlink_to("/dev/zero")


def work_in_progress(incoming: Path) -> None:
    for name in ("m.ndjson.tmp", "m.part", ".m.ndjson"):
        attacked.put(incoming, name, b"not yet")


NO_FILES: list[tuple[Callable[[Path], None], list[int]]] = [
    (folder_named_like_a_file, []),
    (files_in_a_folder_named_like_a_file, [1, 2]),
    (link_to_itself, []),
    (links_in_a_circle, []),
    (link_to_its_own_folder, []),
    (link_to_nothing, []),
    (pipe, []),
    (device, []),
    (work_in_progress, []),
]


@pytest.mark.parametrize(("spoil", "accepted"), NO_FILES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_file_is_passed_over(spoil: Callable[[Path], None], accepted: list[int], tmp_path: Path) -> None:
    folder = between(tmp_path, "", None, attacked.PIPELINE)
    spoil(folder / "incoming")
    found = attacked.absorb(folder)
    assert ids(found) == [0, *accepted, LAST]
    assert found.rejected == {}
    assert attacked.absorb(folder) == found


def test_a_file_that_the_system_refuses_to_read(tmp_path: Path) -> None:
    """Its first byte is an I/O error, for the superuser too."""
    folder = between(tmp_path, "", None, attacked.PIPELINE)
    (folder / "incoming" / "m.ndjson").symlink_to("/proc/self/mem")
    with pytest.raises(SourceLost, match=r"m\.ndjson: the operating system cannot read it: Input/output error"):
        penstock.open(folder).run(once=True)
    assert ids(attacked.ends(folder)) == [0, LAST]
    (folder / "pipelines" / "p.yaml").write_text(LENIENT)
    assert ids(attacked.absorb(folder)) == [0, LAST]
    (folder / "incoming" / "m.ndjson").unlink()
    attacked.put(folder, "incoming/m.ndjson", SOME)
    assert ids(attacked.absorb(folder)) == [0, 1, 2, LAST]


def test_a_folder_that_holds_the_lake_is_read_without_it(tmp_path: Path) -> None:
    """Each batch adds files to the lake, so that a run over its own tables would never end."""
    declaration = attacked.PIPELINE.replace("path: incoming", "path: .")
    folder = attacked.make(tmp_path, declaration, {"incoming/a.ndjson": lines([good(0)])})
    (folder / "incoming" / "more").symlink_to("../lake", target_is_directory=True)
    assert ids(attacked.absorb(folder)) == [0]
    attacked.put(folder, "incoming/b.ndjson", lines([good(1)]))
    assert ids(attacked.absorb(folder)) == [0, 1]


@pytest.mark.parametrize("path", ["lake", "lake/silver/t", "incoming/../lake/bronze", "link"])
def test_a_folder_of_the_lake_is_refused(path: str, tmp_path: Path) -> None:
    folder = attacked.make(tmp_path, attacked.PIPELINE.replace("path: incoming", f"path: {path}"))
    (folder / "lake").mkdir()
    (folder / "link").symlink_to("lake", target_is_directory=True)
    with pytest.raises(UsageError, match="a folder of the lake"):
        penstock.open(folder).run(once=True)


# -- files that change while they are read ----------------------------------------------------------------------------

FEW = lines([good(number) for number in range(1, 900)])
CHANGING = {"m.ndjson": FEW, "m.ndjson.gz": gzip.compress(FEW), "m.parquet": parquet(1, 900)}


def run_up_to(folder: Path, step: str, then: Callable[[], None]) -> None:
    """Run in batches of 100 records, and do something when batch 2 has come to a step."""

    def after_step(name: str, batch: int) -> None:
        if (name, batch) == (step, 2):
            then()

    penstock.open(folder).run(once=True, batch_rows=100, after_step=after_step)


@pytest.mark.parametrize("name", CHANGING)
def test_deleted_while_it_is_read(name: str, tmp_path: Path) -> None:
    """Who has a file open reads it to its end."""
    folder = between(tmp_path, name, CHANGING[name], attacked.PIPELINE)
    run_up_to(folder, "bronze", (folder / "incoming" / name).unlink)
    assert attacked.violations(folder) == []
    assert ids(attacked.absorb(folder)) == [*range(900), LAST]


@pytest.mark.parametrize("name", CHANGING)
def test_deleted_between_two_runs(name: str, tmp_path: Path) -> None:
    """What was not read is lost: said with the range, or noted where the operator asked for that."""
    folder = between(tmp_path, name, CHANGING[name], attacked.PIPELINE)
    interrupted = (
        "import os, signal, sys, penstock\n"
        "def after_step(name, batch):\n"
        "    if (name, batch) == ('ledger', 2): os.kill(os.getpid(), signal.SIGKILL)\n"
        "penstock.open(sys.argv[1]).run(once=True, batch_rows=100, after_step=after_step)\n"
    )
    done = subprocess.run([sys.executable, "-c", interrupted, str(folder)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (folder / "incoming" / name).unlink()
    with pytest.raises(SourceLost, match=rf"{name}.*from offset \d00 to"):
        penstock.open(folder).run(once=True, batch_rows=100)
    (folder / "pipelines" / "p.yaml").write_text(LENIENT)
    found = attacked.absorb(folder)
    kept = len(found.accepted) - 1
    assert kept in (200, 300, 400)  # batches overlap: bronze may be two ahead of the ledger
    assert ids(found) == [*range(kept), LAST]


@pytest.mark.parametrize("change", ["cut", "other", "longer"])
def test_changed_while_it_is_read(change: str, tmp_path: Path) -> None:
    """A file that only grew goes on; of one that is another now, nothing is passed off as what it was."""
    folder = between(tmp_path, "m.ndjson", FEW, LENIENT)
    path = folder / "incoming" / "m.ndjson"

    def spoil() -> None:
        if change == "cut":
            os.truncate(path, 30_000)
        elif change == "other":
            attacked.put(folder, "incoming/m.ndjson", FEW.replace(b'"note":"n', b'"note":"x'))
        else:
            with path.open("ab") as handle:
                handle.write(lines([good(900)]))

    run_up_to(folder, "bronze", spoil)
    attacked.age(path)
    found = attacked.absorb(folder)
    assert ids(found)[:200] == list(range(200))
    assert LAST in ids(found)
    if change == "longer":
        assert ids(found) == [*range(901), LAST]
    for row in found.accepted.values():
        assert row["note"][0] in ("n", "x")
        assert row["note"][1:] == str(row["id"])


# -- delimited files --------------------------------------------------------------------------------------------------

DELIMITED = attacked.PIPELINE.replace("format: json}", "format: csv, on_data_loss: record}")
HEADER = b"id,at,price,note\n"
ROW = b"%d,1,1,\n"
CSV_FILES: dict[str, tuple[bytes, list[int], int]] = {
    # content, ids that are accepted, records that are rejected
    "empty": (b"", [], 0),
    "only a header": (HEADER, [], 0),
    "only a header without a newline": (HEADER[:-1], [], 0),
    "without a last newline": (HEADER + b"1,1,1,", [1], 0),
    "a byte order mark": (b"\xef\xbb\xbf" + HEADER + ROW % 1, [1], 0),
    "columns in another order": (b"price,note,at,id\n1,n,1,1\n", [1], 0),
    "columns nobody knows": (b"id,at,price,more\n1,1,1,x\n", [1], 0),
    "a column twice": (b"id,at,price,price\n1,1,1,x\n", [1], 0),
    "a column missing": (b"id,at\n1,1\n", [], 1),
    "no header": (ROW % 1 + ROW % 2, [], 1),
    "an empty header": (b",,,\n1,1,1,\n", [], 1),
    "a header in invalid UTF-8": (b"id,at,price,\xff\n1,1,1,\n", [], 1),
    "a header with a quote too many": (b'id,at,price,no"te\n1,1,1,\n', [1], 0),
    "a quoted header": (b'"id","at","price","no\nte"\n1,1,1,\n', [1], 0),
    "a header of a megabyte": (b"id,at,price,%s\n1,1,1,\n" % (b"x" * 1_000_000), [], 0),
    "a header that never ends": (b'id,at,"price' + b"x" * 1_000_000, [], 0),
    "another delimiter": (b"id;at;price;note\n1;1;1;\n", [], 1),
    "UTF-16": ("id,at,price,note\n1,1,1,\n".encode("utf-16"), [], 2),
}


def test_csv_files(tmp_path: Path) -> None:
    """Each kind as a file of its own, in one run."""
    files = {f"incoming/{number:02d}.csv": content for number, (content, _, _) in enumerate(CSV_FILES.values(), 1)}
    files |= {"incoming/00.csv": HEADER + ROW % 0, "incoming/99.csv": HEADER + ROW % LAST}
    found = by_file(attacked.make(tmp_path, DELIMITED.replace("  key: [id]\n", ""), files))
    for number, (kind, (_, accepted, rejected)) in enumerate(CSV_FILES.items(), 1):
        assert found.get(f"{number:02d}.csv", ([], 0)) == (accepted, rejected), kind
    assert found["00.csv"] == ([0], 0)
    assert found["99.csv"] == ([LAST], 0)
