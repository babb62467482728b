"""What a user does with topics and offsets, on a real broker: topics, offsets, simulate, status, rejects in a topic."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import confluent_kafka
import pyarrow as pa
import pytest

import penstock
from faults import world
from penstock import limits
from penstock.errors import Fenced, SourceLost, UsageError
from penstock.ops.scaffold import create_project
from penstock.sources.contract import TOO_LARGE
from penstock.sources.kafka_client import Cluster
from penstock.sources.kafka_producer import TopicProducer
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from tools.servers import KafkaServer

pytestmark = pytest.mark.integration


def everything(address: str, topic: str) -> list[Any]:
    """All messages of a topic."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed"}
    )
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
    ends = [
        consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, number), 10)[1] for number in partitions
    ]
    found: list[Any] = []
    while len(found) < sum(ends):
        found += [one for one in consumer.consume(1_000, 1.0) if one.error() is None]
    consumer.close()
    return found


def test_from_no_topic_to_a_proof(tmp_path: Path, kafka_server: KafkaServer) -> None:
    name = f"t-{uuid.uuid4().hex[:12]}"
    folder = tmp_path / "shop"
    create_project(folder, "market")
    source = f'kafka: {{topic: {name}, brokers: "{kafka_server.address}", partitions: 3, retention: 30 days}}'
    declaration = folder / "pipelines" / "ticks.yaml"
    text = declaration.read_text().replace("push: {} ", source)
    declaration.write_text(text + f"rejects: {{kafka: {{topic: {name}-rejected}}}}\n")
    project = penstock.open(folder)
    assert [one.partitions for one in project.topics()] == [None, None]
    made = project.topics(create=True)
    assert [(one.created, one.topic) for one in made] == [(True, name), (True, f"{name}-rejected")]
    again = project.topics(create=True)[0]
    assert (again.created, again.partitions, again.differences) == (False, 3, ())
    assert project.describe_topics()[0].settings[1] == ("retention.ms", str(30 * 86_400_000))

    sent = project.simulate(events=900, faults=0.2, transactional=True)
    assert sent.records >= 900
    lag = project.status()[0].lag
    assert sum(one.records for one in lag) >= sent.records
    project.run_once()
    assert project.reconcile().mismatched == 0
    assert project.audit().clean
    assert sum(one.records for one in project.status()[0].lag) == 0

    rejected = project.sql("select * from rejects.ticks").to_pylist()
    letters = everything(kafka_server.address, f"{name}-rejected")
    told = [dict(one.headers()) for one in letters]
    assert len(letters) == len(rejected) > 0
    by_place = {f"{row['_source']}/{row['_partition']}/{row['_offset']}": row for row in rejected}
    for letter, headers in zip(letters, told, strict=True):
        row = by_place[headers["penstock.place"].decode()]
        assert letter.value() == row["value"]
        assert headers["__connect.errors.topic"].decode() == name
        assert int(headers["__connect.errors.offset"]) == row["_offset"]
        assert headers["penstock.failed"].decode() == ",".join(row["failed"])
    project.run_once()
    assert len(everything(kafka_server.address, f"{name}-rejected")) == len(rejected)


def test_what_a_topic_for_rejects_does_not_take_is_sent_shorter(tmp_path: Path, kafka_server: KafkaServer) -> None:
    source, rejects = Topic(kafka_server.address, 1), Topic(kafka_server.address, 1, max_message_bytes="20000")
    more = f"rejects: {{kafka: {{topic: {rejects.name}}}}}\n"
    folder = world.make_project(tmp_path, f'kafka: {{topic: {source.name}, brokers: "{source.address}"}}')
    declaration = folder / "pipelines" / "meters.yaml"
    declaration.write_text(declaration.read_text() + more)
    large = b'{"id": ' + b"x" * 50_000
    small = [b'{"id": %d,' % number + b"y" * 500 for number in range(100)]
    source.send([*small[:50], large])
    source.send([b"{"], key=b"k" * 30_000, headers=[("penstock.place", b"h" * 30_000)])
    source.send(small[50:])
    world.run(folder, rows=30)
    letters = {dict(one.headers())["penstock.place"].decode(): one for one in everything(source.address, rejects.name)}
    assert len(letters) == len(everything(source.address, rejects.name)) == 102, "each once, and those after it"
    values = [letters[f"1/0/{offset}"].value() for offset in range(102)]
    assert values == [*small[:50], None, None, *small[50:]]
    told = json.loads(dict(letters["1/0/50"].headers())[TOO_LARGE])
    assert told == {"bytes": len(large), "sha256": hashlib.sha256(large).hexdigest()}
    assert letters["1/0/51"].key() == b"1/0/51#0"
    assert json.loads(dict(letters["1/0/51"].headers())[TOO_LARGE])["bytes"] == 1


def test_a_mistyped_topic_may_be_put_right(tmp_path: Path, kafka_server: KafkaServer) -> None:
    topic = Topic(kafka_server.address, 1)
    topic.send(world.events(0, 20))
    folder = world.make_project(tmp_path, f'kafka: {{topic: {topic.name}s, brokers: "{topic.address}"}}')
    with pytest.raises(SourceLost, match=f"no topic {topic.name}s"):
        world.run(folder)
    declaration = folder / "pipelines" / "meters.yaml"
    declaration.write_text(declaration.read_text().replace(f"{topic.name}s", topic.name))
    world.run(folder)
    assert world.violations(folder) == []
    assert len(world.by_sql(folder, "bronze/meters")) == 20


FAR = 4_102_444_800_000
"""The first millisecond of the year 2100, which a topic with the brokers' own settings refuses."""


def test_what_a_topic_for_rejects_does_not_take_is_sent_plainer(tmp_path: Path, kafka_server: KafkaServer) -> None:
    source = Topic(kafka_server.address, 1, message_timestamp_after_max_ms=str(2**62))
    rejects = Topic(kafka_server.address, 1, cleanup_policy="compact")
    folder = world.make_project(tmp_path, f'kafka: {{topic: {source.name}, brokers: "{source.address}"}}')
    declaration = folder / "pipelines" / "meters.yaml"
    declaration.write_text(declaration.read_text() + f"rejects: {{kafka: {{topic: {rejects.name}}}}}\n")
    source.send([b"{0"], key=b"before")
    source.send([b"{1", b"{2"])
    source.send([b"{3"], key=b"late", timestamp=FAR)
    source.send([b"{4"], timestamp=FAR)
    source.send([b"{5"], key=b"after")
    world.run(folder, rows=6)
    letters = {dict(one.headers())["penstock.place"].decode(): one for one in everything(source.address, rejects.name)}
    assert [letters[f"1/0/{offset}"].value() for offset in range(6)] == [b"{%d" % offset for offset in range(6)]
    keys = [letters[f"1/0/{offset}"].key() for offset in range(6)]
    assert keys == [b"before", b"1/0/1#0", b"1/0/2#0", b"late", b"1/0/4#0", b"after"]
    assert all(one.timestamp()[1] < FAR for one in letters.values())


def test_a_refusal_that_only_the_report_brings_is_one(kafka_server: KafkaServer) -> None:
    small, compacted = (
        Topic(kafka_server.address, 1, max_message_bytes="20000"),
        Topic(kafka_server.address, 1, cleanup_policy="compact"),
    )
    for topic, value in ((small, b"x" * 50_000), (small, bytes(3 * limits.RECORD_BYTES_MAX)), (compacted, b"no key")):
        producer = TopicProducer(Cluster(topic.declared.cluster, Path()), topic.name)
        with pytest.raises(UsageError, match=f"{topic.name} does not take a record"):
            producer.send(pa.table({"value": [value]}))
        producer.close()


@pytest.fixture
def topic(kafka_server: KafkaServer) -> Topic:
    return Topic(kafka_server.address, 2)


@pytest.fixture
def folder(tmp_path: Path, topic: Topic) -> Path:
    return world.make_project(tmp_path, f'kafka: {{topic: {topic.name}, brokers: "{topic.address}"}}')


def test_a_reset_opens_an_incarnation(folder: Path, topic: Topic) -> None:
    topic.send(world.events(0, 60), 0)
    topic.send(world.events(60, 100), 1)
    world.run(folder)
    project = penstock.open(folder)
    plan = project.reset_offsets(None, "20", partitions=[0])
    assert [(move.partition, move.at, move.to, move.again, move.skipped) for move in plan.moves] == [
        (0, 60, 20, 40, 0),
        (1, 40, 40, 0, 0),
    ]
    assert not plan.executed
    assert "duplicates (id" in plan.meaning[0]
    world.run(folder)
    assert {row["_source"] for row in world.by_sql(folder, "bronze/meters")} == {1}

    assert project.reset_offsets("meters", "20", partitions=[0], execute=True).incarnation == 2
    world.run_killed(folder, places=["bronze:3"])  # the ledger row of the first batch is written from bronze
    topic.send(world.events(100, 110), 1)
    world.run(folder)
    assert world.violations(folder) == []
    second = [row for row in world.by_sql(folder, "bronze/meters") if row["_source"] == 2]
    assert {(row["_partition"], row["_offset"]) for row in second} == {
        *((0, offset) for offset in range(20, 60)),
        *((1, offset) for offset in range(40, 50)),
    }


def test_a_reset_may_skip_and_may_come_first(folder: Path, topic: Topic) -> None:
    topic.send(world.events(0, 50), 0)
    project = penstock.open(folder)
    assert project.reset_offsets(None, "latest", execute=True).incarnation == 1
    topic.send(world.events(50, 60), 0)
    world.run(folder)
    found = {(row["_source"], row["_offset"]) for row in world.by_sql(folder, "bronze/meters")}
    assert found == {(1, offset) for offset in range(50, 60)}
    topic.send(world.events(60, 90), 1)
    assert project.reset_offsets(None, "-1h").moves[0].to == 0
    assert project.reset_offsets(None, "2100-01-01T00:00:00Z").moves[1].to == 30
    assert world.violations(folder) == []


def test_a_reset_needs_sense_and_no_writer(folder: Path, topic: Topic) -> None:
    project = penstock.open(folder)
    with pytest.raises(UsageError, match="neither an offset nor a time"):
        project.reset_offsets(None, "yesterday")
    with pytest.raises(UsageError, match="no partition 7"):
        project.reset_offsets(None, "earliest", partitions=[7])
    with project.lake.lock("meters"), pytest.raises(Fenced):
        penstock.open(folder).reset_offsets(None, "earliest", execute=True)


def test_the_commands_print_it(folder: Path, topic: Topic, run_command: Any) -> None:
    topic.send(world.events(0, 30), 0)
    assert "missing" not in run_command(folder, "topics", "list")
    world.run(folder)
    assert "behind" in run_command(folder, "topics", "describe")
    shown = json.loads(run_command(folder, "offsets", "show", "--json"))
    assert [one["position"] for one in shown["meters"]] == [30, None]
    assert "Add --execute" in run_command(folder, "offsets", "reset", "--to", "earliest")
    assert "partition" in run_command(folder, "status")


@pytest.fixture
def run_command() -> Any:
    from click.testing import CliRunner  # noqa: PLC0415 - only here

    from penstock.cli.main import penstock as command  # noqa: PLC0415 - only here

    def call(folder: Path, *arguments: str) -> str:
        done = CliRunner().invoke(command, ["-C", str(folder), *arguments], standalone_mode=False)
        assert done.exception is None, done.output
        return done.output

    return call
