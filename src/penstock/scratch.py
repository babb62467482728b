"""Folders for disposable files. They go when they are closed; those of a killed process go when another starts.

A folder belongs to the process that holds the lock on the file in it. The system lets go of the lock with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PREFIX = "penstock-scratch-"
_LOCK = "lock"


class ScratchFolder:
    """A new folder below the system's folder for such things (TMPDIR): `path`, until `close`. Or use `with`."""

    def __init__(self) -> None:
        _remove_abandoned(tempfile.gettempdir())
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if (self.path / _LOCK).exists():
                return
            os.close(self._descriptor)  # another process took it for abandoned before it was locked

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@cache
def _remove_abandoned(base: str) -> None:
    """Delete this user's folders whose process is gone; once in the life of a process."""
    for folder in Path(base).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            descriptor = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
