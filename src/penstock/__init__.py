"""Penstock: a streaming lakehouse in one Python package. `penstock.open` is the door for Python programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from penstock.wire import Project

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(folder: str | PathLike[str] = ".", **settings: object) -> Project:  # noqa: A001 - penstock.open reads well
    """The project in `folder`, ready to run, query and audit.

    Args:
        folder: a project folder, as `penstock init` makes it.
        **settings: settings that take precedence over the environment and penstock.yaml, e.g. `threads=2`.

    Raises:
        UsageError: there is no such folder, or a setting is unknown or wrong.
    """
    from penstock.wire import open_project  # noqa: PLC0415 - everything imports this package; wire imports everything

    return open_project(folder, settings)
