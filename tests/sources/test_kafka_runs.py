"""Pipelines on topics of a real broker, and what happens to topics and brokers; after each, the laws."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import confluent_kafka
import pytest

from faults import world
from penstock.errors import SourceLost, TransientError
from sources.kafka_runs import (
    Running,
    assert_sound,
    bronze,
    losses,
    make_project,
    remake,
    wait_for,
)
from sources.kafka_tests import TopicTests
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from pathlib import Path

    from tools.servers import KafkaServer

pytestmark = pytest.mark.integration


@pytest.fixture
def topic(kafka_server: KafkaServer) -> Topic:
    return Topic(kafka_server.address, 1)


# -- what is in a topic -----------------------------------------------------------------------------------------------


def test_a_topic_becomes_tables(tmp_path: Path, topic: Topic) -> None:
    folder = make_project(tmp_path, topic)
    first, second = world.events(0, 300), world.events(300, 500)
    topic.send(first)
    world.run(folder)
    topic.send(second)
    world.run(folder)
    assert_sound(folder, first + second)


class TestOnTheEmbeddedEngine(TopicTests):
    engine = "embedded"


def test_tombstones_keys_headers_and_large_records(tmp_path: Path, kafka_server: KafkaServer) -> None:
    topic = Topic(kafka_server.address, 1, max_message_bytes="20000000", compression_type="zstd", retention_ms="-1")
    topic.producer = confluent_kafka.Producer({"bootstrap.servers": topic.address, "message.max.bytes": 20_000_000})
    folder = make_project(tmp_path, topic, record_bytes_max=12_000_000)
    values = world.events(0, 20)
    topic.send(values, key=b"k", headers=[("a", b"1"), ("a", None), ("b", b"")], timestamp=1_750_000_000_123)
    topic.send([None], key=b"gone")
    ten = b'{"pad": "' + b"x" * 10_000_000 + b'"}'
    topic.send([ten, b"y" * 12_500_000])
    world.run(folder, rows=1_000)
    assert world.violations(folder) == []
    rows = sorted(world.by_sql(folder, "bronze/meters"), key=lambda row: row["_offset"])
    assert [row["value"] for row in rows] == [*values, None, ten, None]
    assert rows[0]["key"] == b"k"
    assert rows[20]["key"] == b"gone"
    assert [(one["key"], one["value"]) for one in rows[0]["headers"]] == [("a", b"1"), ("a", None), ("b", b"")]
    assert rows[0]["_timestamp"].timestamp() == pytest.approx(1_750_000_000.123)
    rejected = {row["_offset"]: row["failed"] for row in world.by_sql(folder, "rejects/meters")}
    assert rejected[20] == ["malformed"]
    assert rejected[22] == ["too_large"]


def test_lag_tools_see_how_far_the_lake_is(tmp_path: Path, topic: Topic) -> None:
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 100))
    world.run(folder)
    consumer = confluent_kafka.Consumer({"bootstrap.servers": topic.address, "group.id": "penstock.meters"})
    committed = consumer.committed([confluent_kafka.TopicPartition(topic.name, 0)], timeout=10)
    consumer.close()
    assert committed[0].offset == 100


# -- what topics lose -------------------------------------------------------------------------------------------------


def test_a_recorded_loss_is_in_the_audit(tmp_path: Path, topic: Topic) -> None:
    folder = make_project(tmp_path, topic, "record")
    topic.send(world.events(0, 50))
    world.run(folder)
    topic.send(world.events(50, 100))
    topic.truncate({0: 70})
    world.run_killed(folder, places=["bronze:3"])  # the ledger row is written from bronze, and says the same
    world.run(folder)
    assert_sound(folder, world.events(0, 50) + world.events(70, 100))
    assert losses(folder) == ["1/0/50..70"]


def test_records_lost_while_it_runs(tmp_path: Path, topic: Topic) -> None:
    folder = make_project(tmp_path, topic, "record")
    topic.send(world.events(0, 50))
    topic.truncate({0: 10})  # before the first run: the topic begins here
    running = Running(folder)
    wait_for(folder, 40)
    topic.send(world.events(50, 60))
    wait_for(folder, 50)
    running.stop()
    world.run(folder)
    assert_sound(folder, world.events(10, 60))
    assert losses(folder) == []


def test_a_topic_made_anew_while_it_runs_is_noticed(tmp_path: Path, topic: Topic) -> None:
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 50))
    running = Running(folder)
    wait_for(folder, 50)
    topic.delete()
    remake(topic)
    topic.send(world.events(50, 200))
    running._thread.join(60)
    with pytest.raises(SourceLost, match="made anew"):
        running.stop()
    assert world.violations(folder) == []
    assert Counter(bronze(folder).values()) == Counter(world.events(0, 50))


# -- what happens to brokers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_broker_that_goes_away_is_waited_for(tmp_path: Path, mortal_server: KafkaServer, end: str) -> None:
    topic = Topic(mortal_server.address, 1)
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 300))
    running = Running(folder, batch_rows=60)
    wait_for(folder, 60)
    getattr(mortal_server, end)()
    deadline = time.monotonic() + 60
    while not any("trying again" in sentence for sentence in running.said):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    mortal_server.start()
    topic.send(world.events(300, 400))
    wait_for(folder, 400)
    running.stop()
    assert any("is back" in sentence for sentence in running.said)
    world.run(folder)
    assert_sound(folder, world.events(0, 400))


def test_without_a_broker(tmp_path: Path, mortal_server: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --once` ends after a while; a run without end waits, and a stop ends it at once."""
    topic = Topic(mortal_server.address, 1)
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 50))
    world.run(folder)
    mortal_server.stop()
    monkeypatch.setattr("penstock.run.patience.TRANSIENT_ONCE_SECONDS", 1.0)
    with pytest.raises(TransientError, match=topic.address):
        world.run(folder)
    running = Running(folder)
    while not running.said:
        time.sleep(0.1)
    assert running.stop() < 8
    mortal_server.start()
    topic.send(world.events(50, 60))
    world.run(folder)
    assert_sound(folder, world.events(0, 60))
