"""A full disk: a clean error that says so, and once there is space again the next run goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

import penstock
from faults import world
from penstock.declare import load_pipeline
from penstock.errors import StorageError
from penstock.lake.storage import LocalStorage
from penstock.lake.table import DataFile, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from penstock.declare.pipeline import Loaded

DISK_BYTES = 3 << 20
PAGE_BYTES = 4_096
"""What a file system gives a file at once."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Fill a disk up but for `left` bytes."""
    filler = disk / "filler"
    filler.write_bytes(b"")
    status = os.statvfs(disk)
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left)))
    return filler


def failure(folder: Path) -> StorageError | None:
    """Run; what the disk had against it."""
    try:
        world.run(folder, rows=25)
    except StorageError as error:
        return error
    return None


@pytest.mark.integration
@pytest.mark.parametrize("source", ["push: {}", "files: {path: incoming}"], ids=["push", "files"])
def test_a_full_disk(source: str, small_disk: Path, tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop", source)
    (folder / "lake").symlink_to(small_disk)
    acknowledged: dict[int, bytes] = {}
    draw = random.Random(4)
    sent = failures = 0
    for left in (0, 4_096, 16_384, 40_960, 65_536, 98_304, 131_072, 0, 8_192, 32_768):
        values = world.events(sent, sent + 40)
        if source == "push: {}":
            acknowledged.update(world.push(folder, sent, sent + 40))
        else:
            world.drop(folder, f"{sent:05d}.ndjson", values)
            acknowledged.update(enumerate(values, start=sent))
        sent += 40
        filler = fill(small_disk, left + draw.randrange(4_096))
        error = failure(folder)
        if error is not None:
            failures += 1
            assert "no space left" in error.message.lower(), error.message
            assert "free" in error.hint.lower(), error.hint
        filler.unlink()
        assert world.violations(folder) == []
    assert failures >= 5
    world.run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.integration
def test_a_push_that_does_not_fit_is_not_acknowledged(small_disk: Path, tmp_path: Path) -> None:
    folder = world.make_project(tmp_path / "shop")
    (folder / "lake").symlink_to(small_disk)
    acknowledged = world.push(folder, 0, 50)
    filler = fill(small_disk, 0)
    with pytest.raises(StorageError, match="no space left"):
        penstock.open(folder).ingest("meters", [b'{"kind": "reading", "note": "%s"}' % (b"x" * 300_000)])
    filler.unlink()
    values = world.events(50, 90)
    done = penstock.open(folder).ingest("meters", values)
    assert [(one.start, one.end) for one in done.ranges] == [(50, 90)]
    acknowledged.update(zip(range(50, 90), values, strict=True))
    world.run(folder)
    world.assert_sound(folder, acknowledged)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS])
def test_any_file_operation_may_fail(code: int, tmp_path: Path) -> None:
    """Also a sync: after one that failed nobody knows what is on disk, so nothing is built on it."""
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 100)
    draw = random.Random(code)
    for number in (draw.randrange(1, 40), draw.randrange(40, 90), draw.randrange(60, 120), draw.randrange(40, 150)):
        with failing(number, code) as happened:
            error = failure(folder)
        assert (error is not None) == happened.is_set(), "the failure went unnoticed"
        first = len(acknowledged)
        acknowledged.update(world.push(folder, first, first + 50))
    world.run(folder)
    world.assert_sound(folder, acknowledged)


# -- every write, one after the other ----------------------------------------------------------------------------------

PARTS = 8
"""Of each of these tests, so that none takes long."""


@contextlib.contextmanager
def failing(number: int, code: int) -> Iterator[threading.Event]:
    """One operation of the lake's storage, counted from 1, fails with an error of the system; the event tells of it."""
    happened, left, lock = threading.Event(), number, threading.Lock()

    def before(self: LocalStorage, operation: str, path: str) -> None:
        nonlocal left
        with lock:
            left -= 1
            is_chosen = left == 0
        if is_chosen:
            happened.set()
            raise OSError(code, os.strerror(code))

    with patch.object(LocalStorage, "_before", before):
        yield happened


@pytest.fixture
def hasty() -> Iterator[None]:
    """What takes most of a short life is left out: waiting for the disk, and reading the same declaration again."""
    known: dict[tuple[str, str], Loaded] = {}

    def load(text: str, file: str, environment: Mapping[str, str]) -> Loaded:
        if (text, file) not in known:
            known[text, file] = load_pipeline(text, file, environment)
        return known[text, file]

    with (
        patch("os.fsync", lambda descriptor: None),
        patch("penstock.ops.contexts.load_pipeline", load),
        patch("penstock.declare.project.load_pipeline", load),
    ):
        yield


def pushed(folder: Path, *, is_new: bool) -> dict[int, bytes]:
    """A project that has something to absorb: into a new lake, or into one whose tables are about to be kept."""
    world.make_project(folder, compact_every_batches=2)
    acknowledged = world.push(folder, 0, 20)
    if not is_new:
        for first in (20, 40):
            world.run(folder)
            acknowledged.update(world.push(folder, first, first + 20))
    return acknowledged


def assert_full(error: StorageError | None, folder: Path) -> None:
    """It says what is wrong and what to do, and broke nothing."""
    assert error is not None, "the failure went unnoticed"
    assert "no space left" in error.message.lower(), error.message
    assert "free" in error.hint.lower(), error.hint
    assert world.violations(folder) == []


def assert_goes_on(folder: Path, acknowledged: dict[int, bytes], *, audited: bool) -> None:
    """There is space again. An audit costs as much as all the rest, so that only some have one."""
    world.run(folder)
    world.assert_kept(folder, acknowledged, world.by_files)
    assert not audited or world.violations(folder) == []


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("is_new", [True, False], ids=["a new lake", "a lake that is kept"])
def test_no_space_for_any_file_operation(
    is_new: bool, part: int, hasty: None, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """From the first of a run to the last, each in a lake of its own."""
    acknowledged = pushed(tmp_path / "before", is_new=is_new)
    for number in range(1 + part, 10_000, PARTS):
        folder = shutil.copytree(tmp_path / "before", tmp_path / "shop")
        with failing(number, errno.ENOSPC) as happened:
            error = failure(folder)
        if not happened.is_set():
            break
        assert_full(error, folder)
        assert_goes_on(folder, acknowledged, audited=number % 3 == 0)
        shutil.rmtree(folder)
    assert error is None
    assert number > 100
    record_property("faults: operations without space", number // PARTS)


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("is_new", [True, False], ids=["a new lake", "a lake that is kept"])
def test_each_write_may_be_the_first_that_does_not_fit(
    is_new: bool,
    part: int,
    small_disk: Path,
    hasty: None,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """On a disk with no page left, with one, with two ..., until a run has room: whoever it is that writes there."""
    acknowledged = pushed(tmp_path / "before", is_new=is_new)
    folder = shutil.copytree(tmp_path / "before", tmp_path / "shop")
    shutil.rmtree(folder / "lake")
    (folder / "lake").symlink_to(small_disk / "lake")
    for pages in range(part, 1_000, PARTS):
        shutil.copytree(tmp_path / "before" / "lake", small_disk / "lake")
        filler = fill(small_disk, pages * PAGE_BYTES)
        error = failure(folder)
        filler.unlink()
        if error is None:
            break
        assert_full(error, folder)
        assert_goes_on(folder, acknowledged, audited=pages % 3 == 0)
        shutil.rmtree(small_disk / "lake")
    assert error is None
    assert pages > 20
    record_property("faults: disks that filled up", pages // PARTS)


def test_a_batch_that_bronze_could_not_write_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is under way by then; committed, its position would lie above records that no batch has."""
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 200)
    write, asked = Table.write, 0

    def failing(self: Table, data: pa.Table) -> list[DataFile]:
        nonlocal asked
        if self.name == "bronze/meters":
            asked += 1
            if asked == 1:
                time.sleep(0.3)  # until the next batch waits behind it
                raise StorageError("the disk had a bad moment")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "write", failing)
        with pytest.raises(StorageError, match="bad moment"):
            world.run(folder, rows=25)
    table = world.lake(folder).table("bronze/meters")
    assert table is not None
    assert table.files() == []
    world.run(folder, rows=25)
    world.assert_sound(folder, acknowledged)
