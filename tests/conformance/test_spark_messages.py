"""What is missing or wrong for Spark is said with the command that mends it, exit 2, and before anything is changed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pyspark import SparkContext

from faults import world
from penstock.cli.main import run
from penstock.engines.spark import session
from penstock.engines.spark.session import Session, parse_options
from penstock.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.conformance


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a process that has neither Java nor a Spark context yet."""
    monkeypatch.setattr(SparkContext, "_gateway", None)
    monkeypatch.setattr(session, "_running", lambda master: None)
    return world.make_project(tmp_path / "shop")


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Runs the command, which must be turned away; what it says."""

    def refuse(*arguments: str) -> str:
        assert run(["-C", str(folder), "run", "--once", "--engine", "spark", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return said.err

    yield refuse
    assert not (folder / "lake" / "bronze").exists()


def pretend(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Let this version of pyspark be installed, or none."""
    real = importlib.metadata.version

    def told(name: str) -> str:
        if name != "pyspark":
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", told)


def test_pyspark_is_missing(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, None)
    said = refused()
    assert "needs pyspark, which is not installed" in said
    assert "pip install 'penstock[spark]'" in said


@pytest.mark.parametrize("version", ["4.1.3", "4.20.0", "3.5.9"])
def test_another_version_of_pyspark(version: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, version)
    said = refused()
    assert f"needs pyspark 4.2, and {version} is installed" in said
    assert "pip install 'pyspark==4.2.*'" in said


def test_java_is_missing(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused()
    assert "needs Java 17, and there is no java on the PATH" in said
    assert "apt install openjdk-17-jre-headless" in said


def test_java_home_leads_nowhere(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    assert f"there is no java in JAVA_HOME, which is {tmp_path / 'none'}" in refused()


@pytest.mark.parametrize(("told", "found"), [('openjdk version "11.0.2"', "11"), ('java version "1.8.0_402"', "8")])
def test_an_old_java(
    told: str, found: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "old" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(java.parents[1]))
    said = refused()
    assert f"needs Java 17, and {java} is {found}" in said
    assert "JAVA_HOME" in said


def test_a_setting_that_is_none(refused: Callable[..., str]) -> None:
    said = refused("--conf", "executor.memory=4g")
    assert "'executor.memory=4g' is not a Spark setting" in said
    assert "spark.executor.memory=4g" in said


def test_commas_in_a_setting_belong_to_it() -> None:
    assert parse_options("spark.jars=a.jar,b.jar, spark.executor.memory=4g") == {
        "spark.jars": "a.jar,b.jar",
        "spark.executor.memory": "4g",
    }


def test_a_master_that_does_not_exist(folder: Path) -> None:
    """In a process of its own, since Java starts before it knows of the master."""
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "-C", str(folder), "run", "--once", "--engine", "spark", "--master", "moon"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2, done.stderr
    assert "Spark did not start with the master moon: " in done.stderr
    assert "Could not parse Master URL" in done.stderr
    assert "spark_master" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "lake" / "bronze").exists()


CHOSEN = """
from penstock.engines.spark.session import Session

for master, options in ((None, {}), (None, {"spark.master": "local[2]"}), ("local[1]", {"spark.app.name": "mine"})):
    session = Session(master, options, 3)
    print(session._context.master, session._context.appName)
    session.close()
"""


@pytest.mark.parametrize(
    ("defaults", "wanted"),
    [
        ("", ["local[3,4] penstock", "local[2,4] penstock", "local[1,4] mine"]),
        ("spark.master local[5]\nspark.app.name theirs", ["local[5,4] theirs", "local[2,4] theirs", "local[1,4] mine"]),
    ],
)
def test_who_says_the_master(defaults: str, wanted: list[str], tmp_path: Path) -> None:
    """First what we are told, then Spark's own file, then a worker for each of our threads."""
    (tmp_path / "spark-defaults.conf").write_text(defaults)
    environment = {**os.environ, "SPARK_CONF_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CHOSEN], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == wanted


def test_another_master_than_the_one_in_use(spark: object) -> None:
    with pytest.raises(UsageError, match=r"has a Spark context with the master local\[2,4\], and spark://far:7077 was"):
        Session("spark://far:7077", {}, 2)


def test_a_context_that_was_there_outlives_its_users(spark: object) -> None:
    one, two = Session("local[2]", {}, 2), Session(None, {}, 2)
    one.close()
    two.close()
    again = Session(None, {}, 2)
    assert again.run(sorted, [[1], [2]]) == [[1], [2]]
    again.close()
