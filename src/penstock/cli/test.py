"""`penstock test`: the project's own tests."""

from __future__ import annotations

import dataclasses

import click

from penstock.cli.output import count, duration, print_json
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@click.argument("names", nargs=-1, metavar="[TEST]...")
@json_option
@pass_session
def command(session: Session, names: tuple[str, ...], as_json: bool) -> int:
    """Run the project's tests (tests/*.yaml): given events and references, expected accepted, rejected and gold rows.

    Each runs in a lake of its own, through the real push log and the real loop. TEST is a file's name without its
    ending. Exit code 1 where a test fails.

    \b
    Example:
      penstock -C shop test
    """
    results = []
    for result in session.project().test(names):
        results.append(result)
        if as_json:
            continue
        if result.passed:
            click.echo(f"{click.style('pass', fg='green')}  {result.name} ({duration(result.seconds)})")
            continue
        click.echo(f"{click.style('FAIL', fg='red')}  {result.name} ({result.file})")
        for text in result.differences:
            click.echo("\n".join(f"      {line}" for line in text.splitlines()))
    failed = sum(not result.passed for result in results)
    if as_json:
        print_json({"tests": [dataclasses.asdict(result) | {"passed": result.passed} for result in results]})
    else:
        click.echo(f"{count(len(results), 'test')}, {failed} failed")
    return 1 if failed else 0
