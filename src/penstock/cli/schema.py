"""`penstock schema`: the JSON schema of pipeline files."""

from __future__ import annotations

import click

from penstock import declare
from penstock.cli.output import print_json


@click.command()
def command() -> None:
    """Print the JSON schema of pipeline files, for editors.

    \b
    Example:
      penstock schema > .vscode/penstock.schema.json
    """
    print_json(declare.json_schema())
