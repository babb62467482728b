"""Writes docs/reference from the code: declarations, settings, commands. `--check` only says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from penstock import declare
from penstock.cli.main import COMMANDS, EXIT_CODES, penstock

FOLDER = Path(__file__).parent.parent / "docs" / "reference"


def pages() -> dict[str, str]:
    """File name -> Markdown."""
    found = {name if name.endswith(".md") else f"{name}.md": text for name, text in declare.reference_pages().items()}
    found["commands.md"] = commands()
    return found


def commands() -> str:
    """The help of every command, as the program prints it."""
    root = click.Context(penstock, info_name="penstock", max_content_width=100, terminal_width=100)
    parts = [
        "# Commands\n",
        "What `penstock --help` and `penstock COMMAND --help` print. Generated: change the code, then `make docs`.\n",
        "```text",
        penstock.get_help(root),
        "```\n",
        "## Exit codes\n",
        EXIT_CODES.replace("\b", "").strip() + "\n",
    ]
    for name in COMMANDS:
        command = penstock.get_command(root, name)
        assert command is not None
        parts += help_of(command, root, name, 2)
    return "\n".join(parts).rstrip() + "\n"


def help_of(command: click.Command, parent: click.Context, name: str, level: int) -> list[str]:
    """A heading and the help text, then the same for subcommands."""
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    parts = [f"{'#' * level} {context.command_path}\n", "```text", command.get_help(context), "```\n"]
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                parts += help_of(found, context, inner, level + 1)
    return parts


def main() -> int:
    """Write or check; the exit code."""
    wanted = {FOLDER / name: text if text.endswith("\n") else text + "\n" for name, text in pages().items()}
    present = set(FOLDER.glob("*.md"))
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    stale += sorted(present - set(wanted))
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(
                f"{path.relative_to(FOLDER.parent.parent)} is not what the code says: run `make docs`", file=sys.stderr
            )
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
        print(f"wrote {path.name}" if path in wanted else f"removed {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
