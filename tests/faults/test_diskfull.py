"""A full disk: a clean error that says so, and once there is space again the next run goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import penstock
from faults import world
from penstock.errors import StorageError
from penstock.lake.storage import LocalStorage
from penstock.lake.table import DataFile, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

DISK_BYTES = 3 << 20


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


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_any_file_operation_may_fail(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a sync: after one that failed nobody knows what is on disk, so nothing is built on it."""
    folder = world.make_project(tmp_path / "shop")
    acknowledged = world.push(folder, 0, 100)
    draw = random.Random(code)
    for number in (draw.randrange(1, 40), draw.randrange(40, 90), draw.randrange(60, 120), draw.randrange(40, 150)):
        left = number

        def before(self: LocalStorage, operation: str, path: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch, contextlib.suppress(StorageError):
            patch.setattr(LocalStorage, "_before", before)
            world.run(folder, rows=25)
            pytest.fail("the failure went unnoticed") if left <= 0 else None
        first = len(acknowledged)
        acknowledged.update(world.push(folder, first, first + 50))
    world.run(folder)
    world.assert_sound(folder, acknowledged)


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
