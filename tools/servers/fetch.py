"""Fetches the servers' programs once: pinned versions, every jar compared with its checksum, kept in a cache.

Java's come with Maven, by the `*.pom.xml` beside this file; versitygw is built by Go, which checks its source. Both use
whatever registries they are configured for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
CHECKSUMS = HERE / "jars.sha256"
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
VERSITYGW = "github.com/versity/versitygw"
VERSITYGW_VERSION = "v1.8.0"
VERSITYGW_SUM = "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc="


class ServerMissing(Exception):
    """A server cannot be fetched or started here; the text says what is missing."""


def cache_folder() -> Path:
    """Where what was fetched is kept, for every clone of the project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "penstock" / "servers"


def jars(name: str) -> list[Path]:
    """The jars of `NAME.pom.xml` (`kafka`, `spark`), fetched if they are not there.

    Raises:
        ServerMissing: Maven is not there, cannot fetch them, or one is not what it was.
    """
    expected = _checksums(name)
    folder = cache_folder() / f"{name}-{_digest((HERE / f'{name}.pom.xml').read_bytes())[:12]}"
    with _alone():
        if not folder.is_dir():
            _copy_jars(name, folder, expected)
    return sorted(folder.glob("*.jar"))


def versitygw() -> Path:
    """The S3 server's program, built if it is not there.

    Raises:
        ServerMissing: Go is not there, or cannot fetch or build it.
    """
    folder = cache_folder() / f"versitygw-{VERSITYGW_VERSION}"
    with _alone():
        if not (folder / "versitygw").is_file():
            module = f"{VERSITYGW}@{VERSITYGW_VERSION}"
            scratch = folder.with_suffix(".new")
            scratch.mkdir(parents=True, exist_ok=True)
            (scratch / "go.mod").write_text("module penstock.servers\n")
            described = json.loads(_run(["go", "mod", "download", "-json", module], scratch))
            if described.get("Sum") != VERSITYGW_SUM:
                raise ServerMissing(f"{module} has the checksum {described.get('Sum')}, not {VERSITYGW_SUM}")
            _run(["go", "install", f"{VERSITYGW}/cmd/versitygw@{VERSITYGW_VERSION}"], scratch, GOBIN=str(scratch))
            scratch.rename(folder)
    return folder / "versitygw"


def java() -> str:
    """The Java to run.

    Raises:
        ServerMissing: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise ServerMissing("Java is missing: install Java 17 (Debian: openjdk-17-jre-headless)")
    return found


def write_checksums() -> None:
    """Fetch all jars anew and note their checksums, after a version in a pom was changed; read the difference."""
    lines = []
    for pom in sorted(HERE.glob("*.pom.xml")):
        name = pom.name.split(".")[0]
        folder = cache_folder() / f"{name}.checksums"
        _copy_jars(name, folder, None)
        lines += [f"{_digest(jar.read_bytes())}  {name}/{jar.name}" for jar in sorted(folder.glob("*.jar"))]
        shutil.rmtree(folder)
    CHECKSUMS.write_text("\n".join(lines) + "\n")


def _copy_jars(name: str, folder: Path, expected: dict[str, str] | None) -> None:
    scratch = folder.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    pom = HERE / f"{name}.pom.xml"
    _run(["mvn", "-q", "-B", "-f", str(pom), COPY_JARS, f"-DoutputDirectory={scratch}", "-DincludeScope=runtime"], HERE)
    found = {jar.name: _digest(jar.read_bytes()) for jar in scratch.glob("*.jar")}
    if expected is not None and found != expected:
        wrong = sorted(jar for jar in found.keys() | expected.keys() if found.get(jar) != expected.get(jar))
        raise ServerMissing(f"{', '.join(wrong)} are not what {CHECKSUMS.name} says; see `write_checksums`")
    scratch.rename(folder)


def _checksums(name: str) -> dict[str, str]:
    """Jar -> SHA-256 as noted for one pom."""
    lines = (line.split("  ") for line in CHECKSUMS.read_text().splitlines())
    return {path.partition("/")[2]: digest for digest, path in lines if path.startswith(f"{name}/")}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _run(command: Sequence[str], folder: Path, **environment: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        raise ServerMissing(f"{command[0]} is missing: install {'Maven' if command[0] == 'mvn' else 'Go'} to fetch it")
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ServerMissing(f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def _alone() -> Iterator[None]:
    """One process fetches; the others wait for it."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
