"""Files of the lake: durable, all or nothing, one process at a time, and clear words when the disk refuses."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from lake.faults import FaultyStorage
from penstock.errors import Fenced, StorageError, UsageError
from penstock.lake.storage import LocalStorage, StoredFile, storage_error

if TYPE_CHECKING:
    from pathlib import Path


def test_a_written_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path: Path) -> None:
    storage = FaultyStorage(tmp_path / "lake")
    storage.write("a/b/file", b"bytes")
    assert storage.read("a/b/file") == b"bytes"
    done = [operation for operation, _ in storage.operations]
    assert done[-4:] == ["create", "sync", "rename", "sync_folder"]
    made = [path for operation, path in storage.operations if operation == "make_folder"]
    synced = [path for operation, path in storage.operations if operation == "sync_folder"]
    assert made[-2:] == ["a", "a/b"]
    assert "" in synced, "the name of a new folder is durable in its parent"
    assert "a" in synced
    assert str(tmp_path) in synced, "even that of the root"


def test_a_folder_that_was_there_already_is_made_durable_once(tmp_path: Path) -> None:
    (tmp_path / "lake/a").mkdir(parents=True)
    storage = FaultyStorage(tmp_path / "lake")
    storage.make_folder("a")
    assert ("sync_folder", "") in storage.operations
    done = len(storage.operations)
    storage.make_folder("a")
    assert len(storage.operations) == done


@pytest.mark.parametrize("operation", ["make_folder", "create", "sync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failed_write_leaves_nothing_under_the_name(tmp_path: Path, operation: str, code: int) -> None:
    storage = FaultyStorage(tmp_path / "lake")
    storage.write("a/file", b"old")
    storage.fail_on, storage.code = operation, code
    with pytest.raises(StorageError) as caught:
        storage.write("new/file" if operation == "make_folder" else "a/file", b"new")
    assert os.strerror(code) in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    assert storage.read("a/file") == b"old"


def test_a_file_is_created_once_and_whole(tmp_path: Path) -> None:
    storage = FaultyStorage(tmp_path)
    assert storage.create("entry", b"first")
    assert [operation for operation, _ in storage.operations] == ["create", "sync", "link"]
    assert not storage.create("entry", b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"entry": b"first"}


@pytest.mark.parametrize("operation", ["create", "sync", "link"])
def test_a_failed_creation_leaves_nothing(tmp_path: Path, operation: str) -> None:
    storage = FaultyStorage(tmp_path)
    storage.fail_on = operation
    with pytest.raises(StorageError, match="No space left"):
        storage.create("entry", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_into_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("not a folder")
    with pytest.raises(StorageError, match=r"(?i)not a directory|file exists"):
        LocalStorage(tmp_path / "lake").write("a/file", b"")


def test_errors_of_other_libraries_are_understood_by_their_text() -> None:
    error = storage_error(Exception("Generic error: write failed: No space left on device (os error 28)"), "/lake")
    assert "No space left" in error.message
    assert "free space" in error.hint


@pytest.mark.parametrize("name", ["a%20b", "x%41", "a\\b"])
def test_a_root_that_delta_rs_takes_for_another_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="misreads"):
        LocalStorage(tmp_path / name)


def test_listing_and_deleting(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("t/x=1/a", b"1")
    storage.write("t/b", b"22")
    found = {(file.path, file.size) for file in storage.files("t")}
    assert found == {("t/x=1/a", 1), ("t/b", 2)}
    assert all(isinstance(file, StoredFile) and file.modified > 1_600_000_000_000 for file in storage.files("t"))
    storage.delete("t/b")
    storage.delete("t/b")
    assert storage.names("t") == ["x=1"]
    assert storage.names("nowhere") == []
    assert list(storage.files("nowhere")) == []
    assert storage.size("t/b") is None


HOLDER = """
    import sys, time
    from penstock.lake.storage import LocalStorage
    with LocalStorage(sys.argv[1]).lock("ticks"):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_second_process_is_turned_away_and_learns_who_holds_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        storage = LocalStorage(tmp_path)
        with pytest.raises(Fenced) as caught, storage.lock("ticks"):
            pass
        assert f"process {holder.pid} on " in caught.value.message
        assert "running for" in caught.value.message
        with storage.lock("other"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with ExitStack() as held:
        held.enter_context(storage.lock("ticks"))  # a killed process holds nothing
        with pytest.raises(Fenced, match=f"process {os.getpid()}"), LocalStorage(tmp_path).lock("ticks"):
            pass
