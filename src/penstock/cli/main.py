"""The entry point: finds the command, turns every error into a message, a hint and a documented exit code.

Commands are listed here by name and imported only when they are called, so that `penstock --help` is quick.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from penstock import __version__
from penstock.cli.failures import report, unexpected
from penstock.cli.session import Session
from penstock.errors import PenstockError
from penstock.settings import BY_NAME, SETTINGS

COMMANDS = {
    "init": "Make a project folder that runs as it stands.",
    "check": "Check every file of the project; all findings at once.",
    "explain": "Show what the pipelines will do: tables, columns, SQL, rules.",
    "schema": "Print the JSON schema of pipeline files, for editors.",
    "simulate": "Send made-up events, faults among them, to a pipeline.",
    "ingest": "Push records from files or standard input.",
    "run": "Run pipelines, for ever or until everything is absorbed.",
    "test": "Run the project's tests: given events, expected rows.",
    "sql": "Query the lake.",
    "tables": "List the tables of the lake.",
    "history": "Show the commits of a table.",
    "status": "Show how far each pipeline is.",
    "topics": "Make, list and describe the Kafka topics of pipelines.",
    "offsets": "Show where pipelines are in their topics, and move them.",
    "rejects": "Show which events were rejected, and every reason.",
    "audit": "Prove that every event is accounted for.",
    "trace": "Follow a row back to the raw bytes, or a record forward.",
    "optimize": "Merge small files; optionally cluster by columns.",
    "vacuum": "Delete files that no version within the kept period needs.",
    "demo": "A million events end to end, with the proof.",
    "bench": "Measure this machine.",
    "completion": "Print the completion script of a shell.",
}
"""Command -> what it does, in the order of `penstock --help`. Each lives in the module of its name in this package."""

EXIT_CODES = """
\b
Exit codes: 0 fine, 1 failed, 2 the user's file or usage, 3 a law is broken
(audit, corruption), 4 fenced by another writer, 5 the source lost data.
"""

BROKEN_PIPE_EXIT = 141
INTERRUPT_EXIT = 130


class Commands(click.Group):
    """The group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"penstock.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {option.name: option.get_help_record(ctx) for option in self.get_params(ctx)}
        with formatter.section("Options"):
            formatter.write_dl([row for name, row in rows.items() if row and name not in BY_NAME])
        self.format_commands(ctx, formatter)
        with formatter.section("Settings, before the command; also in the environment and in penstock.yaml"):
            formatter.write_dl([row for name, row in rows.items() if row and name in BY_NAME])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.option("-C", "folder", metavar="DIR", default=".", help="The project folder, as in git and make.")
@click.option("--no-color", is_flag=True, help="No colours; NO_COLOR=1 does the same.")
@click.version_option(__version__, "--version", message="penstock %(version)s")
@click.pass_context
def penstock(ctx: click.Context, /, folder: str, no_color: bool, **settings: str | None) -> None:
    """A streaming lakehouse: every acknowledged event ends in exactly one place, and you can prove it.

    \b
    Example:
      penstock init shop --template market
      penstock -C shop simulate --events 100000
      penstock -C shop run --once
      penstock -C shop audit
    """
    if no_color:
        os.environ["NO_COLOR"] = "1"
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    ctx.obj = Session(Path(folder), {name: value for name, value in settings.items() if value is not None})


for _setting in reversed([setting for setting in SETTINGS if setting.flag]):
    click.option(
        _setting.flag,
        _setting.name,
        metavar=_setting.kind.upper(),
        help=f"{_setting.doc} Default: {_setting.default_text.replace('`', '')}.",
    )(penstock)


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`penstock sql ... | head`). Nothing may be written any more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE_EXIT
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code. Only BrokenPipeError leaves this function."""
    try:
        result = penstock.main(arguments, prog_name="penstock", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return INTERRUPT_EXIT
    except PenstockError as error:
        report(error)
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last door: nobody shall see a traceback
        return unexpected(error)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
