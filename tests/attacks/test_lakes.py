"""Lakes that are not what they should be: newer than this version, read-only, a file instead of a folder.

Each command gives one message that names the thing, the place and what to do, and the documented exit code. A full disk is
in tests/faults/test_diskfull.py, a second writer in tests/faults/test_writers.py, damaged files in test_damage.py there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from attacks import attacked
from attacks.attacked import good, lines
from penstock.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = attacked.make(tmp_path_factory.mktemp("sound"), files={"incoming/a.ndjson": lines([good(0), good(1)])})
    attacked.absorb(folder)
    attacked.put(folder, "incoming/b.ndjson", lines([good(2)]))
    return folder


def protocol(reader: int, *features: str) -> dict[str, Any]:
    more = {"readerFeatures": features, "writerFeatures": features} if features else {}
    return {"protocol": {"minReaderVersion": reader, "minWriterVersion": max(reader, 7 if features else 2), **more}}


@pytest.mark.parametrize("table", ["bronze/p", "silver/t", "gold/minutes", "ledger/p"])
@pytest.mark.parametrize("newer", [protocol(9), protocol(3, "notYetInvented")], ids=["version", "feature"])
def test_a_table_of_a_newer_version_is_left_alone(
    table: str, newer: dict[str, Any], sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "newer"
    shutil.copytree(sound, folder)
    log = folder / "lake" / table / "_delta_log"
    last = max(int(path.stem) for path in log.glob("*.json"))
    (log / f"{last + 1:020d}.json").write_text(json.dumps(newer) + "\n")
    before = sorted(log.parent.rglob("*"))
    for command in (["run", "--once"], ["audit"], ["sql", f"select * from {table.replace('/', '.')}"]):
        code = run(["-C", str(folder), *command])
        said = capsys.readouterr().err
        assert code == 1, (command, said)
        assert table in said
        assert "newer version" in said
        assert "Use that version" in said
        assert sorted(log.parent.rglob("*")) == before


@pytest.fixture
def read_only(sound: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the project that cannot be written: the superuser, who ignores permissions, needs a mount for that."""
    folder = tmp_path / "read-only"
    shutil.copytree(sound, folder)
    if os.geteuid() != 0:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        return
    for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"]):
        mounted = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if mounted.returncode != 0:
            pytest.skip(f"nothing can be mounted read-only here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_lake_can_be_read_and_not_written(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(read_only), "run", "--once"]) == 1
    said = capsys.readouterr().err
    assert ("Read-only file system" in said and "remount it" in said) or (
        "Permission denied" in said and "write access to the lake folder" in said
    ), said
    assert run(["-C", str(read_only), "sql", "select count(*) as n from silver.t", "--format", "json"]) == 0
    assert capsys.readouterr().out.strip() == '{"n":2}'
    for command in ("audit", "status", "tables", "rejects"):
        assert run(["-C", str(read_only), command]) == 0, command


@pytest.mark.parametrize("place", ["lake", "lake/bronze", "lake/silver/t"])
def test_a_file_where_a_folder_should_be(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = attacked.make(tmp_path, files={"incoming/a.ndjson": lines([good(0)])})
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("not a folder")
    for command in (["run", "--once"], ["audit"], ["status"], ["tables"]):
        code = run(["-C", str(folder), *command])
        said = capsys.readouterr().err
        assert code in (0, 1, 2), (command, said)
        assert "unexpected" not in said, (command, said)
    assert (folder / place).read_text() == "not a folder"
    assert run(["-C", str(folder), "run", "--once"]) == 1
    assert "A file is where a folder should be" in capsys.readouterr().err
