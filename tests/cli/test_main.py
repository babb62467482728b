"""The door of the command line: every error becomes a message, a hint and its exit code; nobody sees a traceback."""

import os
import re
import subprocess
import sys
import time

import pytest

from penstock import errors
from penstock.cli import main
from penstock.cli.session import Session
from penstock.model.finding import Finding, Mark


def penstock(*arguments, stdin=None, env=None, **options):
    command = [sys.executable, "-m", "penstock", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", **(env or {})}
    return subprocess.run(command, capture_output=True, input=stdin, env=environment, check=False, **options)


def failing(monkeypatch, error):
    """A project that cannot be opened."""

    def project(session):
        raise error

    monkeypatch.setattr(Session, "project", project)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StorageError("the disk is full", hint="Free some space."), 1),
        (errors.TransientError("busy"), 1),
        (errors.RuleStopped("a rule said stop"), 1),
        (errors.InvariantBroken("impossible"), 1),
        (errors.UsageError("no such project"), 2),
        (errors.QueryError("no such column"), 2),
        (errors.LawBroken("law 1"), 3),
        (errors.LakeCorrupt("page 7"), 3),
        (errors.Fenced("another writer"), 4),
        (errors.SourceLost("offset 3"), 5),
    ],
)
def test_each_error_has_its_exit_code(monkeypatch, capsys, error, code):
    failing(monkeypatch, error)
    assert main.run(["status"]) == code
    printed = capsys.readouterr()
    assert error.message in printed.err
    assert error.hint in printed.err
    assert printed.out == ""


def test_findings_are_all_printed(monkeypatch, capsys):
    findings = [Finding(Mark("a.yaml", line, 3), "unknown-field", f"number {line}", "Remove it.") for line in (1, 2)]
    failing(monkeypatch, errors.DeclarationError(findings))
    assert main.run(["tables"]) == 2
    printed = capsys.readouterr().err
    assert "a.yaml:1:3: unknown-field: number 1" in printed
    assert "number 2" in printed
    assert "2 findings" in printed


def test_an_unexpected_exception_is_one_line_and_its_traceback_on_request(monkeypatch, capsys):
    failing(monkeypatch, ZeroDivisionError("what\nnow"))
    assert main.run(["status"]) == 1
    quiet = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: what now" in quiet
    assert "Traceback" not in quiet
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")
    assert main.run(["status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_no_error_of_ours(monkeypatch, capsys):
    failing(monkeypatch, KeyboardInterrupt())
    assert main.run(["status"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"), [("stauts", "status"), ("audti", "audit"), ("ingets", "ingest"), ("Run", "run")]
)
def test_an_unknown_command_names_the_nearest(capsys, typed, meant):
    assert main.run([typed]) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["sql"], ["check", "--nonsense"], ["run", "--batch-rows", "0"], ["--nonsense"]])
def test_wrong_usage_is_exit_code_2(capsys, arguments):
    assert main.run(arguments) == 2
    assert "Error:" in capsys.readouterr().err


def test_settings_are_flags(monkeypatch):
    seen = []

    def project(session):
        seen.append((str(session.folder), dict(session.settings)))
        raise errors.UsageError("enough")

    monkeypatch.setattr(Session, "project", project)
    main.run(["-C", "shop", "--threads", "3", "--lake", "elsewhere", "status"])
    assert seen == [("shop", {"threads": "3", "lake": "elsewhere"})]


def test_every_command_has_help_with_an_example():
    for name in main.COMMANDS:
        command = main.penstock.get_command(None, name)
        commands = [command, *getattr(command, "commands", {}).values()]
        for one in commands:
            assert one.help, name
            assert re.search(r"Examples?:\n", one.help), f"{name} has no example"


def test_help_is_quick_and_loads_no_engine():
    script = "import sys; from penstock.cli.main import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"duckdb", "pyarrow", "deltalake", "sqlglot", "rich", "numpy"}
    best = min(_seconds("--help") for _ in range(3))
    assert best < 0.3


def _seconds(*arguments):
    began = time.perf_counter()
    assert penstock(*arguments).returncode == 0
    return time.perf_counter() - began


def test_version_and_python_m():
    done = penstock("--version")
    assert re.fullmatch(rb"penstock \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    done = penstock("completion", shell)
    assert done.returncode == 0
    assert b"_PENSTOCK_COMPLETE" in done.stdout
    completed = penstock(env={"_PENSTOCK_COMPLETE": "bash_complete", "COMP_WORDS": "penstock opt", "COMP_CWORD": "1"})
    assert b"optimize" in completed.stdout


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m penstock schema | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout in ("{141\n", "{0\n")


@pytest.mark.parametrize(("arguments", "environment"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {})])
def test_colours_are_for_terminals_that_want_them(tmp_path, arguments, environment):
    """On a real terminal, by way of a pseudo one."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "penstock", *arguments, "-C", str(tmp_path), "status"]
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "PENSTOCK_DEBUG")}
    process = subprocess.Popen(
        command, stdout=follower, stderr=follower, env={**inherited, **environment, "TERM": "xterm"}
    )
    assert process.wait(60) == 2
    os.close(follower)
    seen = b""
    while chunk := read_terminal(leader):
        seen += chunk
    os.close(leader)
    assert b"no-project" in seen
    if arguments or environment:
        assert b"\x1b[" not in seen


def read_terminal(leader):
    try:
        return os.read(leader, 65536)
    except OSError:  # the end, as Linux says it
        return b""
