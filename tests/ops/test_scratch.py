"""Disposable files go with their process, however it ends."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock import scratch
from penstock.scratch import ScratchFolder

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import os, signal
from penstock.scratch import ScratchFolder
folder = ScratchFolder()
(folder.path / "spilled").write_bytes(bytes(1000))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def starting_anew() -> ScratchFolder:
    """A folder of a process that has just begun."""
    scratch._remove_abandoned.cache_clear()
    return ScratchFolder()


def test_a_closed_folder_is_gone(temporary: Path) -> None:
    with ScratchFolder() as folder:
        (folder / "file").write_bytes(b"x")
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_when_another_starts(temporary: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == -9
    [left] = temporary.iterdir()
    assert (left / "spilled").exists()
    with starting_anew() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_folders_in_use_and_of_others_stay(temporary: Path) -> None:
    foreign = temporary / f"{scratch.PREFIX}foreign"
    foreign.mkdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (temporary / f"{scratch.PREFIX}link").symlink_to(elsewhere)
    with ScratchFolder() as used, starting_anew() as folder:
        assert used.exists()
        assert folder.exists()
    assert foreign.exists()
    assert (elsewhere / "lock").exists()
