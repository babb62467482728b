"""What is printed is whole where a program reads it, fits where a person does, and cannot command a terminal."""

from datetime import UTC, datetime

import click
import orjson
import pytest

from penstock.cli.output import duration, moment, plain, print_json, print_table, readable, size
from penstock.cli.progress import Counter


def test_a_table_off_a_terminal_keeps_every_value_whole(capsys):
    long = "x" * 5000
    print_table(("name", "n"), [(long, 1), (None, 20)], ["n"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "n"]
    assert long in lines[2]
    assert lines[3].endswith("20")


def test_values_cannot_command_the_terminal(capsys):
    print_table(("a",), [("\x1b[31mred\x1b[0m\nnext",)])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[31mred\\x1b[0m\\nnext" in printed
    assert plain("[bold]not markup[/bold]") == "[bold]not markup[/bold]"


def test_markup_of_the_drawing_library_is_text(capsys):
    print_table(("[red]a[/red]",), [("[link=x]y[/link]",)])
    printed = capsys.readouterr().out
    assert "[red]a[/red]" in printed
    assert "[link=x]y[/link]" in printed


def test_json_is_one_line_for_a_program(capsys):
    print_json({"a": [1, None], 2: "é"})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert orjson.loads(printed) == {"a": [1, None], "2": "é"}


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (readable(b"text"), "text"),
        (readable(b"\xff\x00"), "\\xff00"),
        (moment(0), "1970-01-01 00:00:00Z"),
        (moment(-1), "1969-12-31 23:59:59.999999Z"),
        (moment(1 << 62), "4611686018427387904 us"),
        (moment(datetime(2024, 1, 1, tzinfo=UTC)), "2024-01-01 00:00:00Z"),
        (moment(None), ""),
        (size(999), "999 B"),
        (size(12_300_000), "12.3 MB"),
        (duration(0.25), "0.2 s"),
        (duration(7500), "2 h 5 min"),
    ],
)
def test_facts_for_people(seen, wanted):
    assert seen == wanted


def test_progress_says_count_share_rate_and_remark():
    counter = Counter("sent", total=200, shown=False, monotonic=iter([0.0, 1.0, 2.0]).__next__)
    counter.add(100, "batch 1")
    assert counter.line(2.0) == "100 sent (50%), 50/s  batch 1"


def test_more_columns_than_a_terminal_holds_are_written_below_each_other(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"column_{number}" for number in range(12)]
    print_table(names, [[f"value {number}" for number in range(12)]])
    lines = capsys.readouterr().out.splitlines()
    assert "row 1" in lines[0]
    assert lines[1].split() == ["column_0", "value", "0"]
    print_table(("name", "text"), [("a", "long " * 30)])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(click.unstyle(line)) for line in lines) <= 60
    assert "".join(lines).count("long") == 30
