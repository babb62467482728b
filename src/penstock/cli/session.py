"""What every command gets: the project folder, the settings given as flags, and the way to open the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from penstock.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.wire import Project


@dataclass(frozen=True)
class Session:
    """One call of the command line. `settings` are the `--set NAME=VALUE` flags as written."""

    folder: Path
    settings: tuple[str, ...] = ()

    def overrides(self) -> dict[str, str]:
        """The flags as a mapping.

        Raises:
            UsageError: a flag is not NAME=VALUE.
        """
        pairs = {}
        for flag in self.settings:
            name, equals, value = flag.partition("=")
            if not equals or not name:
                raise UsageError(f"--set {flag}: not NAME=VALUE", hint="For example: --set threads=2")
            pairs[name.strip().replace("-", "_")] = value
        return pairs

    def project(self) -> Project:
        """The project in the folder, with every file read.

        Raises:
            UsageError: there is no project, or a setting is wrong.
        """
        from penstock.wire import open_project  # noqa: PLC0415 - keeps `--help` and `completion` quick

        return open_project(self.folder, self.overrides())


pass_session = click.make_pass_decorator(Session)
"""Gives a command its Session as the first argument."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
