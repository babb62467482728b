"""Declarations that must not run: `check` names the place and the repair, and `run` refuses with the same words.

Expressions see the event and nothing else: no files, no network, no clock, no chance, no settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock
from attacks import attacked
from penstock.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

SQL = """
pipeline: p
source: {files: {path: incoming}, format: json, where: WHERE}
silver:
  table: t
  event_time: at
  columns:
    id: {type: int64}
    at: {type: timestamp, unit: ms}
    price: {type: float64}
    made: {type: string, sql: COLUMN}
  rules:
    sane: {check: RULE}
gold:
  minutes:
    window: 1 minute
    where: CONDITION
    measures: {m: MEASURE}
"""
SOUND = {
    "WHERE": "id > 0",
    "COLUMN": "upper('a')",
    "RULE": "price > 0",
    "CONDITION": "price > 1",
    "MEASURE": "sum(price)",
}
OUTSIDE = [
    # an expression, and what of it is refused
    ("(select max(a) from read_csv('/etc/passwd'))", "select"),
    ("read_text('/etc/passwd')", "read_text"),
    ("read_blob('s3://bucket/x')", "read_blob"),
    ("(select 1 from 'https://example.org/x.parquet')", "select"),
    ("getenv('HOME')", "getenv"),
    ("current_setting('memory_limit')", "current_setting"),
    ("random() > 0", "random"),
    ("gen_random_uuid()", "gen_random_uuid"),
    ("uuid()", "uuid"),
    ("current_date", "current_date"),
    ("nextval('s')", "nextval"),
    ("pg_sleep(100)", "pg_sleep"),
    ("query('drop table x')", "query"),
    ("nothing_like_it > 0", "nothing_like_it"),
    ("1; drop table silver.t", ";"),
    ("price > 0 -- and", "--"),
    ("pragma_version()", "pragma_version"),
]


def declared(place: str, sql: str) -> str:
    text = SQL
    for name, sound in {**SOUND, place: sql}.items():
        text = text.replace(name, '"' + sound.replace('"', '\\"') + '"', 1)
    return text


@pytest.mark.parametrize("place", SOUND)
def test_the_sound_one_is_sound(place: str, tmp_path: Path) -> None:
    assert penstock.open(attacked.make(tmp_path, declared(place, SOUND[place]))).check() == ()


@pytest.mark.parametrize(("sql", "refused"), OUTSIDE, ids=lambda value: str(value)[:40])
def test_expressions_see_nothing_but_the_event(sql: str, refused: str, tmp_path: Path) -> None:
    for place in SOUND:
        if place == "WHERE" and refused == "nothing_like_it":
            continue  # any field may stand in an event
        text = declared(place, sql)
        found = penstock.open(attacked.make(tmp_path, text)).check()
        assert found, (place, sql)
        line = text.splitlines()[found[0].mark.line - 1]
        assert sql.replace('"', '\\"') in line, (place, found)
        behind = line[found[0].mark.column - 1 :]
        assert line.index(sql[:1]) < found[0].mark.column <= len(line), (place, found)
        assert refused in behind or refused in found[0].message, (place, found)
        assert found[0].repair


def test_run_refuses_what_check_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = attacked.make(tmp_path, declared("RULE", "getenv('HOME') = 'x'"))
    assert run(["-C", str(folder), "check"]) == 2
    checked = capsys.readouterr().out
    assert run(["-C", str(folder), "run", "--once"]) == 2
    refused = capsys.readouterr().err
    assert "pipelines/p.yaml:13:20: " in checked
    assert checked.splitlines()[0] == refused.splitlines()[0]
    assert not (folder / "lake" / "bronze").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"\x00" * 100, b"pipeline: p\nsource: {push: {}}\n" * 2, b"[" * 10_000, b"a: *b", b"- 1"],
)
def test_files_that_declare_nothing(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = attacked.make(tmp_path)
    (folder / "pipelines" / "p.yaml").write_bytes(content)
    assert run(["-C", str(folder), "check"]) == 2
    assert "pipelines/p.yaml:" in capsys.readouterr().out
    assert run(["-C", str(folder), "run", "--once"]) == 2


@pytest.mark.parametrize("name", ["pipelines/p.yaml", "penstock.yaml"])
def test_a_folder_named_like_a_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = attacked.make(tmp_path)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert run(["-C", str(folder), "run", "--once"]) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err
