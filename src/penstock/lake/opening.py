"""Opens the storage a lake is kept in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.lake.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from penstock.lake.storage import Storage


def open_storage(location: str, *, options: Mapping[str, str], state_folder: str | Path) -> Storage:  # noqa: ARG001
    """The storage of a lake. Nothing is looked at yet."""
    return LocalStorage(location)
