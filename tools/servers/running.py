"""Starts servers on free ports over a folder of their own, waits until they answer, stops and kills them."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from tools.servers import fetch
from tools.servers.fetch import ServerMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30

KAFKA_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.partitions": "4",
    "message.max.bytes": "20971520",
    "replica.fetch.max.bytes": "20971520",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
    "log.cleaner.backoff.ms": "200",
    "log.retention.check.interval.ms": "1000",
    "auto.create.topics.enable": "false",
}
"""One node that is broker and controller. Cleaning and retention look often: tests wait for them. A broker that was
killed may come back once its session is over."""


class Server(ABC):
    """A server over `folder`, listening on `port` of this machine only. `start` after `stop` or `kill` finds its data
    again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "server.log"
        self.pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; it runs in `folder`."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What the server needs beside this process's environment."""
        return {}

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            ServerMissing: it ended instead; with the end of its log.
        """
        if self._process is not None:
            raise RuntimeError(f"{type(self).__name__} runs already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerMissing(f"{type(self).__name__} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the port takes connections."""
        with socket.socket() as attempt:
            attempt.settimeout(1)
            return attempt.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it cleanly, and wait for that; what does not end in time is killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it answer nothing until `resume`: a server that hangs."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process, self.pid = self._process, None, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class KafkaServer(Server):
    """A Kafka broker; `address` is its `bootstrap.servers`."""

    def __init__(self, folder: Path, port: int, controller_port: int, settings: Mapping[str, str]) -> None:
        super().__init__(folder, port)
        self.address = f"127.0.0.1:{port}"
        own = {
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": str(folder / "data"),
        }
        merged = {**KAFKA_SETTINGS, **own, **settings}
        self._properties = folder / "server.properties"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in merged.items()))
        self._format()

    def command(self) -> list[str]:
        return [*self._java("-Xmx512m", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=4"), "kafka.Kafka", "server.properties"]

    def _format(self) -> None:
        if (self.folder / "data").exists():
            return
        cluster = secrets.token_urlsafe(16)[:22]
        command = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties"]
        done = subprocess.run([*self._java(), *command], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise ServerMissing(f"the broker's folder could not be made:\n{done.stdout}{done.stderr}")

    def _java(self, *options: str) -> list[str]:
        path = os.pathsep.join(map(str, fetch.jars("kafka")))
        return [fetch.java(), *options, "-cp", path]


class S3Server(Server):
    """An S3 server over `folder/data`, with one empty `bucket`."""

    region = "us-east-1"
    bucket = "lake"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.endpoint = f"http://127.0.0.1:{port}"
        self.access_key = "penstock"
        self.secret_key = secrets.token_hex(16)
        (folder / "data" / self.bucket).mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        return [
            *(str(fetch.versitygw()), "--port", f"127.0.0.1:{self.port}", "--region", self.region),
            *("--quiet", "posix", str(self.folder / "data")),
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}


def start_kafka(folder: Path, settings: Mapping[str, str] | None = None) -> KafkaServer:
    """A new broker in `folder`, which is made; `settings` go over KAFKA_SETTINGS."""
    folder.mkdir(parents=True, exist_ok=True)
    server = KafkaServer(folder, free_port(), free_port(), settings or {})
    server.start()
    return server


def start_s3(folder: Path) -> S3Server:
    """A new S3 server in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    server = S3Server(folder, free_port())
    server.start()
    return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
