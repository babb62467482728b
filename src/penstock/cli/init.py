"""`penstock init`: a project folder that runs as it stands."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.cli.session import Session, pass_session
from penstock.ops.scaffold import TEMPLATES, create_project


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    default=TEMPLATES[0],
    show_default=True,
    help="What the project is about.",
)
@pass_session
def command(session: Session, folder: Path, template: str) -> None:
    """Make a project folder that runs as it stands.

    \b
    Example:
      penstock init shop --template market
    """
    made = create_project(session.folder / folder, template)
    click.echo(f"{folder}: {len(made)} files from the template {template}")
    for path in made:
        click.echo(f"  {path}")
    click.echo(
        f"\nTry:\n  penstock -C {folder} check\n  penstock -C {folder} test\n"
        f"  penstock -C {folder} simulate --events 100000\n  penstock -C {folder} run --once\n"
        f"  penstock -C {folder} audit"
    )
