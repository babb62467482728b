"""A standalone Spark cluster on this machine: a master and two workers, which take each other for other machines."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyspark
from tools.servers.running import free_port

from conformance import plants as planting
from conformance import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conformance.plants import Plants

HOSTS = ("127.0.0.2", "127.0.0.3")
START_SECONDS_MAX = 120
SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
DEPLOY = "org.apache.spark.deploy"


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs. Its executors have one core each, and look for plants."""

    master: str
    plants: Plants
    folder: Path

    def start_run(self, project: Path, *options: str, rows: int) -> subprocess.Popen[str]:
        """`penstock run --once` on the cluster, in a process of its own."""
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH", ""))))
        settings = (
            "spark.driver.host=127.0.0.1",
            "spark.driver.bindAddress=127.0.0.1",
            "spark.executor.memory=512m",
            f"spark.executorEnv.{planting.FOLDER}={self.plants.folder}",
            f"spark.executorEnv.PYTHONPATH={path}",
            f"spark.python.daemon.module={planting.__name__}",
            *options,
        )
        command = [sys.executable, "-m", "penstock", "-C", str(project), "run", "--once", "--batch-rows", str(rows)]
        command += ["--engine", "spark", "--master", self.master]
        command += [word for setting in settings for word in ("--conf", setting)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYSPARK_PYTHON": sys.executable},
        )

    def executors(self) -> list[int]:
        """The Java processes that do the work."""
        return [
            pid
            for pid in processes.descendants(os.getpid())
            if "CoarseGrainedExecutorBackend" in processes.command(pid)
        ]


@contextlib.contextmanager
def started(folder: Path, plants: Plants) -> Iterator[Cluster]:
    port = free_port()
    master = f"spark://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        listen = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
        _start(stack, folder, "master", "I have been elected leader", [f"{DEPLOY}.master.Master", *listen])
        for host in HOSTS:
            size = ["--host", host, "--cores", "1", "--memory", "600m", "--webui-port", "0"]
            words = [f"{DEPLOY}.worker.Worker", *size, "--work-dir", str(folder / host), master]
            _start(stack, folder, host, "Successfully registered with master", words)
        yield Cluster(master, plants, folder)


def _start(stack: contextlib.ExitStack, folder: Path, name: str, ready: str, words: Sequence[str]) -> None:
    """Start one of Spark's own servers, to be ended with the stack, and wait until its log says that it is ready."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["bash", str(SPARK_CLASS), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "SPARK_DAEMON_MEMORY": "256m", "SPARK_NO_DAEMONIZE": "1"},
        )
    stack.callback(_end, server)
    deadline = time.monotonic() + START_SECONDS_MAX
    while ready not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
