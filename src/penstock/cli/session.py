"""What every command gets: the project folder, the settings given as flags, and the way to open the project."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from penstock.wire import Project


@dataclass(frozen=True)
class Session:
    """One call of the command line. `settings` are those given as flags, by name, as text."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, str]) -> Session:
        """The same call with further settings, which a command has flags of its own for."""
        return replace(self, settings={**self.settings, **settings})

    def project(self) -> Project:
        """The project in the folder, with every file read.

        Raises:
            UsageError: there is no project, or a setting is wrong.
        """
        from penstock.wire import open_project  # noqa: PLC0415 - keeps `--help` and `completion` quick

        return open_project(self.folder, self.settings)


pass_session = click.make_pass_decorator(Session)
"""Gives a command its Session as the first argument."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
