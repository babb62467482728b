"""`init`: copies a template into a new project folder. The templates are in `penstock/templates`."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from penstock.errors import StorageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = ("market", "iot")
"""What `init --template` takes, the default first."""

RENAMED = {"gitignore": ".gitignore"}
"""Files that have another name in the package, where a leading dot would make tools act on them."""


def create_project(folder: Path, template: str) -> tuple[Path, ...]:
    """Copy `template` to `folder`, which must be new or empty; the files made, relative to it.

    Raises:
        UsageError: the folder holds something, or there is no such template.
        StorageError: it cannot be written.
    """
    if template not in TEMPLATES:
        raise UsageError(f"there is no template {template!r}", hint=f"Templates: {', '.join(TEMPLATES)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not an empty folder",
            hint="Nothing was written. Choose another name for the project.",
        )
    made = []
    try:
        with as_file(files("penstock") / "templates" / template) as source:
            for path in sorted(
                path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
            ):
                relative = path.relative_to(source)
                relative = relative.with_name(RENAMED.get(relative.name, relative.name))
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                (folder / relative).write_bytes(path.read_bytes())
                made.append(relative)
    except OSError as error:
        raise StorageError(
            f"cannot make the project: {error.filename or folder}: {os.strerror(error.errno or 0)}",
            hint="Check the permissions and the free space of the folder.",
        ) from error
    return tuple(made)
