"""Errors as a person reads them on standard error: what went wrong, and what to do next. Never a traceback."""

from __future__ import annotations

import os
import traceback

import click

from penstock.errors import DeclarationError, PenstockError


def report(error: PenstockError) -> None:
    """The error as a person reads it, on standard error."""
    if isinstance(error, DeclarationError):
        click.echo(error.message, err=True)
        number = len(error.findings)
        click.echo(f"{number} finding{'s' if number != 1 else ''}", err=True)
        return
    click.echo(f"{click.style('error:', fg='red')} {error.message}", err=True, color=colour())
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def unexpected(error: Exception) -> int:
    """One line for an exception nobody expected; the traceback with PENSTOCK_DEBUG=1."""
    if os.environ.get("PENSTOCK_DEBUG") == "1":
        traceback.print_exception(error)
    text = " ".join(str(error).split())[:500]
    click.echo(f"error: unexpected {type(error).__name__}: {text}", err=True)
    click.echo("  This is a bug in Penstock. PENSTOCK_DEBUG=1 shows where it happened.", err=True)
    return 1


def colour() -> bool | None:
    """None lets click decide by the terminal; False where the user wants none."""
    return False if os.environ.get("NO_COLOR") else None
