"""A broker that speaks only TLS and wants a password: the way in, what is said to who has no key, and no secret kept."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tools import servers

import penstock
from conftest import started
from faults import world
from penstock.errors import PenstockError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

PASSWORD = "s3cr3t-of-the-shop"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
SOURCE = """kafka:
    topic: shut
    brokers: "{address}"
    partitions: 2
    security: {{protocol: sasl_ssl, mechanism: plain, username: shop, password: "${{KAFKA_PASSWORD}}", ca: {ca}}}"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that signed itself; `server.pem` beside it holds its key too."""
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", folder / "key.pem", "-out", folder / "ca.pem"], check=True, capture_output=True
    )
    (folder / "server.pem").write_text((folder / "key.pem").read_text() + (folder / "ca.pem").read_text())
    return folder / "ca.pem"


@pytest.fixture(scope="module")
def broker(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.KafkaServer]:
    settings = {
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config": (
            f'{LOGIN} username="broker" password="b" user_broker="b" user_shop="{PASSWORD}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate.parent / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificate),
    }
    with started(lambda folder: servers.start_kafka(folder, settings), tmp_path_factory.mktemp("shut")) as server:
        yield server


def test_the_way_in_and_that_no_secret_is_kept(
    broker: servers.KafkaServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    folder = world.make_project(tmp_path, SOURCE.format(address=broker.address, ca=certificate))
    project = penstock.open(folder)
    project.topics(create=True)
    assert project.run_once()[0].counts.records == 0
    monkeypatch.setenv("KAFKA_PASSWORD", "wrong")
    with pytest.raises(PenstockError) as refused:
        penstock.open(folder).run_once()
    assert "uthentication" in str(refused.value)
    assert "wrong" not in str(refused.value)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "lake").rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept
    contracts = "".join(row["text"] or "" for row in world.by_files(folder, "contracts/meters"))
    assert "${KAFKA_PASSWORD}" in contracts


def test_without_the_certificate_there_is_no_way_in(
    broker: servers.KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    source = SOURCE.format(address=broker.address, ca="nowhere.pem")
    with pytest.raises(UsageError, match=r"nowhere\.pem"):
        penstock.open(world.make_project(tmp_path, source)).run_once()
