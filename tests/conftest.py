"""What every test run prints at its end, which way records go in it, and the servers it may use."""

from __future__ import annotations

import os
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from tools import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

StartedServer = TypeVar("StartedServer", servers.KafkaServer, servers.S3Server)

pytest_plugins = ["faults.summary"]


@pytest.fixture(autouse=True)
def plain_records_first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every second test even few records go through the short query first, so that both ways see all there is."""
    if zlib.crc32(request.node.nodeid.encode()) % 2:
        monkeypatch.setattr("penstock.engines.embedded.refining.PLAIN_ROWS_MIN", 1)


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.KafkaServer]:
    """A Kafka broker for the whole session; a test makes topics of its own, and starts it again if it stops it."""
    with started(servers.start_kafka, tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def mortal_server(kafka_server: servers.KafkaServer) -> Iterator[servers.KafkaServer]:
    """The broker, which a test may end; running again afterwards."""
    yield kafka_server
    kafka_server.resume()
    if not kafka_server.answers():
        kafka_server.start()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3Server]:
    """An S3 server for the whole session; a test uses a prefix of its own."""
    with started(servers.start_s3, tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def started(start: Callable[[Path], StartedServer], folder: Path) -> Iterator[StartedServer]:
    """A server while the context lasts. Without its programs the tests are skipped, saying why; in CI they fail."""
    try:
        server = start(folder)
    except servers.ServerMissing as error:
        if os.environ.get("PENSTOCK_TEST_SERVERS") == "required":
            raise
        pytest.skip(f"needs a real server: {error}")
    try:
        yield server
    finally:
        server.stop()
