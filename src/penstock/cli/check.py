"""`penstock check`: every finding about the project's files, all at once."""

from __future__ import annotations

import click

from penstock.cli.output import count, print_json
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@json_option
@pass_session
def command(session: Session, as_json: bool) -> int:
    """Check every file of the project; all findings at once: file, line, column, code, repair.

    Exit code 2 where there are findings.

    \b
    Example:
      penstock -C shop check
    """
    project = session.project()
    findings = project.check()
    if as_json:
        print_json({"findings": [finding.as_json() for finding in findings]})
    else:
        for finding in findings:
            click.echo(str(finding))
        checked = f"{count(len(project.pipelines), 'pipeline')}, {count(len(project.tests), 'test file')}"
        click.echo(count(len(findings), "finding") if findings else f"fine: {checked}")
    return 2 if findings else 0
