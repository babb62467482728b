"""The documentation is true: what a page shows happens, what it names exists, and nothing is left out."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from io import StringIO
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

import penstock as penstock_package
from docs.console import Reader, agrees, commands
from docs.pages import ROOT, anchors, blocks, links, pages, written_pages
from penstock import declare
from penstock.cli.main import COMMANDS, penstock

PAGES = written_pages()
WITH_SPARK = ("docs/howto/spark.md", "docs/howto/switch-engines.md")
"""Pages whose commands start Spark: they take as long as the suite about it, and run with it."""
RUNNABLE = [
    pytest.param(name, marks=[pytest.mark.conformance] if name in WITH_SPARK else [])
    for name, path in PAGES.items()
    if {"console", "python"} & {one.language for one in blocks(path.read_text())}
]
LANGUAGES = {"console", "python", "text", "yaml", "json", "csv", "diff", "sh", "sql", "mermaid", ""}
NOT_RUN = re.compile(r"^(make [\w-]+|git clone .*|cd penstock|pip install .*|\. \.venv/bin/activate|#.*|)$")
"""Lines of `sh` blocks: they set up the checkout that the tests run in, or start it as a whole."""


@pytest.fixture
def folder():
    """An empty folder, in memory where that is possible: pages say nothing about how fast a disk is."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_a_page_shows_is_what_happens(name, folder):
    Reader(folder, name).follow(PAGES[name].read_text())


@pytest.mark.parametrize("name", PAGES)
def test_blocks_of_a_page_say_what_they_are(name):
    for block in blocks(PAGES[name].read_text()):
        assert block.language in LANGUAGES, f"{name}:{block.line}: {block.language}"
        if block.language == "sh":
            for line in block.lines:
                assert NOT_RUN.match(line.split("  #")[0].strip()), (
                    f"{name}:{block.line}: {line}: make it a console block"
                )


@pytest.mark.parametrize("name", pages())
def test_links_lead_somewhere(name):
    path = pages()[name]
    text = path.read_text()
    for number, target in links(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{name}:{number}: {target} does not exist"
        assert ROOT in [found, *found.parents], f"{name}:{number}: {target} leads out of the repository"
        if anchor:
            assert anchor in anchors(found.read_text()), f"{name}:{number}: {target} has no such heading"


@pytest.mark.parametrize("name", PAGES)
def test_yaml_blocks_are_sound(name):
    for block in blocks(PAGES[name].read_text()):
        if block.language != "yaml":
            continue
        value = YAML(typ="safe").load(StringIO(block.text))
        if isinstance(value, dict) and {"pipeline", "source", "silver"} <= value.keys():
            loaded = declare.load_pipeline(block.text, f"{name}:{block.line}", {})
            assert loaded.findings == (), f"{name}:{block.line}"
            assert loaded.pipeline is not None


def all_commands():
    """Name -> command, with the root as ``."""
    context = click.Context(penstock, info_name="penstock")
    return {"": penstock} | {name: penstock.get_command(context, name) for name in COMMANDS}


def command_params(command):
    """The parameters of a command, and of those below it."""
    below = () if command.name == "penstock" else getattr(command, "commands", {}).values()
    return [*command.params, *(one for inner in below for one in command_params(inner))]


def test_every_command_has_an_example_or_is_named_in_a_written_page():
    text = "\n".join(path.read_text() for path in PAGES.values())
    for name in COMMANDS:
        assert re.search(rf"penstock (-C \S+ )?{name}\b", text), f"no page shows `penstock {name}`"


def test_every_option_is_in_the_reference():
    text = (ROOT / "docs/reference/commands.md").read_text()
    sections = {"": text.split("\n## ")[0]} | {
        part.split("\n")[0].removeprefix("penstock "): part for part in text.split("\n## ")[1:]
    }
    for name, command in all_commands().items():
        for option in command_params(command):
            if isinstance(option, click.Option):
                for flag in option.opts:
                    assert flag in sections[name], f"penstock {name}: {flag} is not in the reference"


def test_options_that_pages_use_exist():
    known = {
        name: {flag for one in command_params(command) for flag in [*one.opts, *one.secondary_opts]} | {"--help"}
        for name, command in all_commands().items()
    }
    for page, path in PAGES.items():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for match in re.finditer(r"penstock ((?:-C \S+ |--\S+ \S+ )*)([a-z]+)\b([^|`\n]*)", line):
                settings, name, rest = match.groups()
                if name in COMMANDS:
                    rest = re.sub(r"'[^']*'|\"[^\"]*\"", "", rest)
                    used = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest))
                    assert used <= known[name], f"{page}:{number}: penstock {name} has no {used - known[name]}"
                    used = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", settings))
                    assert used <= known[""], f"{page}:{number}: penstock has no {used - known['']}"


def test_every_page_can_be_reached_from_the_readme():
    reached, todo = set(), ["README.md"]
    while todo:
        name = todo.pop()
        if name in reached or name not in pages():
            continue
        reached.add(name)
        path = pages()[name]
        for _, target in links(path.read_text()):
            if not re.match(r"[a-z]+:|#", target):
                todo.append((path.parent / target.split("#")[0]).resolve().relative_to(ROOT).as_posix())
    assert pages().keys() - reached == set()


def test_every_make_target_that_pages_name_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, path in PAGES.items():
        for match in re.finditer(r"(?:`|^|\n)make ([a-z0-9-]+)", path.read_text()):
            assert match[1] in targets, f"{page}: make {match[1]}"


@pytest.mark.parametrize("name", PAGES)
def test_pictures_are_sound_and_small(name):
    for _, target in links(PAGES[name].read_text()):
        if target.endswith(".svg"):
            path = (PAGES[name].parent / target).resolve()
            assert path.stat().st_size < 30_000
            assert "<title" in path.read_text(), f"{path.name}: somebody may listen to it"


# -- the runner itself ----------------------------------------------------------------------------------------------------


def page(tmp_path, text):
    Reader(tmp_path, "page").follow(text)


def test_the_runner_compares(tmp_path):
    page(tmp_path, "```console\n$ printf 'a 1.5 s\\nb\\nc\\n'\na 0.2 s\n...\n```\n")
    with pytest.raises(AssertionError, match="what happens"):
        page(tmp_path, "```console\n$ echo a\nb\n```\n")
    with pytest.raises(AssertionError, match="what happens"):
        page(tmp_path, "```console\n$ echo a\n```\n")


def test_the_runner_notices_a_hidden_failure(tmp_path):
    page(tmp_path, "```console\n$ false\n$ echo $?\n1\n```\n")
    with pytest.raises(AssertionError, match="hides it"):
        page(tmp_path, "```console\n$ false\n$ echo a\na\n```\n")
    with pytest.raises(AssertionError, match="hides it"):
        page(tmp_path, "```console\n$ false\n```\n")


def test_the_runner_writes_and_edits_files(tmp_path):
    page(
        tmp_path,
        "<!-- file: a/b.txt -->\n```text\none\ntwo\n```\n<!-- edit: a/b.txt -->\n\n```diff\n one\n-two\n+three\n```\n",
    )
    assert (tmp_path / "a/b.txt").read_text() == "one\nthree\n"
    with pytest.raises(AssertionError, match="once"):
        page(tmp_path, "<!-- edit: a/b.txt -->\n```diff\n-four\n+five\n```\n")


def test_the_runner_compares_what_python_prints(tmp_path):
    page(tmp_path, "```python\nx = 1\n```\n```python\nprint(x)\n```\n```text\n1\n```\n")
    with pytest.raises(AssertionError, match="what happens"):
        page(tmp_path, "```python\nprint(2)\n```\n```text\n1\n```\n")
    with pytest.raises(ZeroDivisionError):
        page(tmp_path, "```python\n1 / 0\n```\n")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("at 2026-11-21 09:55:40.912455Z", "at 2027-01-01 00:00:00Z", True),
        ("at 2025-01-06 10:00:00Z", "at 2025-01-06 10:01:00Z", False),
        ("a   b 674.1 kB", "a b 1.2 MB", True),
        ("a b 674 rows", "a b 675 rows", False),
        ("────", "─────────", True),
        ("x ... y", "x 1 2 y", True),
        ("x ... y", "x 1 2 z", False),
        ("...\nend", "a\nb\nend", True),
        ("...\nend", "a\nb", False),
    ],
)
def test_masks(shown, printed, same):
    assert agrees(shown.splitlines(), printed) is same


def test_commands_of_a_block():
    (block,) = blocks("```console\n$ a \\\n> b\nx\n$ c\n```\n")
    assert commands(block) == [(2, "a \\\nb", ["x"]), (5, "c", [])]


def test_nothing_of_this_checkout_is_in_the_pages():
    listed = subprocess.run(
        ["git", "ls-files", "docs", "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in {*listed.stdout.split(), *PAGES}:
        path = ROOT / name
        if path.is_file() and path.suffix in {".md", ".svg"}:
            assert "/work/" not in path.read_text(), name
            assert "/home/" not in path.read_text(), name


# -- the table of casts ---------------------------------------------------------------------------------------------------


def casts():
    """(type, JSON value, its text in the lake or None where it is refused), as docs/concepts.md says."""
    text = (ROOT / "docs/concepts.md").read_text().split("## Values are never changed silently")[1].split("\n## ")[0]
    for row in re.findall(r"^\| `([^`]+)` \| (.*) \| (.*) \|$", text, re.MULTILINE):
        kind, takes, refuses = row
        for value, result in re.findall(r"`([^`]*)`(?: → `([^`]*)`)?", takes):
            yield kind, value, result or value.strip('"')
        for value in re.findall(r"`([^`]*)`", refuses):
            yield kind, value, None


def test_the_table_of_casts_is_true(folder):
    cases = list(casts())
    assert len(cases) > 50
    columns = "".join(f"    c{number}: {{type: '{kind}'}}\n" for number, (kind, _, _) in enumerate(cases))
    (folder / "pipelines").mkdir()
    (folder / "pipelines/casts.yaml").write_text(
        "pipeline: casts\nsource: {push: {}}\nsilver:\n  table: casts\n  event_time: moment\n  columns:\n"
        "    moment: {type: timestamp, sql: now()}\n" + columns
    )
    project = penstock_package.open(folder)
    project.ingest("casts", [f'{{"c{number}": {value}}}' for number, (_, value, _) in enumerate(cases)])
    project.run_once()
    texts = ", ".join(
        f"decode(c{number})" if kind == "binary" else f"c{number}::varchar" for number, (kind, _, _) in enumerate(cases)
    )
    rows = project.sql(f"select _offset, [{texts}] as texts from silver.casts").to_pylist()
    found = {row["_offset"]: row["texts"][row["_offset"]] for row in rows}
    for number, (kind, value, result) in enumerate(cases):
        assert found.get(number) == result, f"{kind} {value}"
