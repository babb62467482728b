"""`penstock rejects`: what was put aside, and every reason."""

from __future__ import annotations

import click

from penstock.cli.output import moment, note, plain, print_json, print_table, readable
from penstock.cli.session import Session, json_option, pass_session


@click.command()
@click.argument("view", type=click.Choice(["ls", "show"]), default="ls")
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@click.option("--rule", metavar="NAME", help="Only what failed this rule; `duplicate` for duplicates.")
@click.option("--since", metavar="TIME", help="Only what came in since: 2026-01-31T12:00:00Z (UTC), or 30m, 12h, 7d.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="With show: rows at most.")
@json_option
@pass_session
def command(
    session: Session,
    view: str,
    pipelines: tuple[str, ...],
    rule: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show which events were rejected: counts by rule (ls), or the rows with their raw bytes and every reason (show).

    \b
    Examples:
      penstock -C shop rejects
      penstock -C shop rejects show --rule malformed --limit 5
    """
    project = session.project()
    if view == "ls":
        counts = project.rejects(pipelines, rule=rule, since=since)
        if as_json:
            print_json([count.as_json() for count in counts])
            return
        if not counts:
            _note_nothing(rule, since)
            return
        headers = ("pipeline", "disposition", "rule", "rows", "first", "last", "example")
        rows = [
            (c.pipeline, c.disposition, c.rule, f"{c.rows:,}", moment(c.first), moment(c.last), c.example.event)
            for c in counts
        ]
        print_table(headers, rows, ("rows",))
        note("an event that fails several rules is counted for each; `rejects show` prints the rows")
        return
    rejects = project.reject_rows(pipelines, rule=rule, since=since, limit=limit)
    if as_json:
        print_json([reject.as_json() for reject in rejects])
        return
    if not rejects:
        _note_nothing(rule, since)
    for reject in rejects:
        reasons = ", ".join(reject.reasons) or f"lost to {reject.winner}"
        head = click.style(f"{reject.pipeline}:{reject.event.partition('#')[0]}", bold=True)
        click.echo(f"{head}  {reject.disposition}: {reasons}")
        click.echo(f"  event {reject.event} in batch {reject.batch}, came in {moment(reject.ingested_at)}")
        for line in (reject.detail or "").splitlines():
            click.echo(f"  {plain(line)}")
        click.echo(f"  {click.style('null' if reject.value is None else readable(reject.value), fg='cyan')}")


def _note_nothing(rule: str | None, since: str | None) -> None:
    """Nothing printed could mean a misspelt rule as well as good data."""
    which = (f" of the rule {plain(rule)}" if rule else "") + (f" since {plain(since)}" if since else "")
    note(f"there are no rejects{which}" + ("; `penstock rejects` lists those there are" if which else ""))
