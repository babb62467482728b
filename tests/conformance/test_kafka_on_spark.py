"""What topics hold and what they lose, met by Spark's workers, who read offsets that the driver planned without looking
into them; and what `tests/sources/kafka_tests.py` asks of each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import confluent_kafka
import pytest

from conformance import engines
from conformance.waiting import wait_until
from faults import world
from penstock.engines.spark.deriving import SparkWork
from penstock.errors import SourceLost
from sources.kafka_runs import Running, assert_sound, losses, make_project, remake, wait_for
from sources.kafka_tests import TopicTests
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from pathlib import Path

    from tools.servers import KafkaServer

    from conformance.plants import Plants

pytestmark = pytest.mark.conformance


@pytest.fixture
def topic(kafka_server: KafkaServer) -> Topic:
    return Topic(kafka_server.address, 1)


def run(folder: Path, rows: int = 40) -> None:
    engines.run(folder, "spark", rows)


@pytest.mark.usefixtures("spark")
class TestOnSpark(TopicTests):
    engine = "spark"


def test_tombstones_keys_headers_and_large_records(tmp_path: Path, kafka_server: KafkaServer, spark: Plants) -> None:
    topic = Topic(kafka_server.address, 1, max_message_bytes="20000000", compression_type="zstd", retention_ms="-1")
    topic.producer = confluent_kafka.Producer({"bootstrap.servers": topic.address, "message.max.bytes": 20_000_000})
    folder = make_project(tmp_path, topic, record_bytes_max=12_000_000)
    values = world.events(0, 20)
    topic.send(values, key=b"k", headers=[("a", b"1"), ("a", None), ("b", b"")], timestamp=1_750_000_000_123)
    topic.send([None], key=b"gone")
    topic.send([b'{"pad": "' + b"x" * 10_000_000 + b'"}', b"y" * 12_500_000])
    twin = make_project(tmp_path / "twin", topic, record_bytes_max=12_000_000)
    run(folder, 1_000)
    engines.run(twin, "embedded")
    engines.assert_same(engines.answer(folder), engines.answer(twin))
    assert world.violations(folder) == []


# -- what topics lose -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed_by", engines.ENGINES)
def test_a_recorded_loss_is_in_the_audit(resumed_by: str, tmp_path: Path, topic: Topic, spark: Plants) -> None:
    folder = make_project(tmp_path, topic, "record")
    topic.send(world.events(0, 50))
    run(folder, 100)
    topic.send(world.events(50, 100))
    topic.truncate({0: 70})
    assert engines.run_killed(folder, "spark", "bronze", 3, 100)
    engines.run(folder, resumed_by, 100)
    assert_sound(folder, world.events(0, 50) + world.events(70, 100))
    assert losses(folder) == ["1/0/50..70"]


@pytest.mark.parametrize("on_data_loss", ["stop", "record"])
def test_records_lost_between_the_plan_and_the_reading(
    on_data_loss: str, tmp_path: Path, topic: Topic, spark: Plants
) -> None:
    folder = make_project(tmp_path, topic, on_data_loss)
    topic.send(world.events(0, 50))
    run(folder, 100)
    topic.send(world.events(50, 100))
    spark.clear()
    spark.plant("refine", "hold")
    with Running(folder, "spark", batch_rows=100) as running:
        wait_until(lambda: spark.calls("refine") > 0)
        topic.truncate({0: 70})
        spark.clear()
        if on_data_loss == "stop":
            wait_until(lambda: not running.goes_on)
            with pytest.raises(SourceLost, match=r"0/50\.\.70"):
                running.stop()
            assert_sound(folder, world.events(0, 50))
        else:
            wait_for(folder, 80)
            running.stop()
            run(folder)
            assert_sound(folder, world.events(0, 50) + world.events(70, 100))
            assert losses(folder) == ["1/0/50..70"]


def test_a_loss_that_the_next_plan_does_not_meet_ends_the_run(
    tmp_path: Path, topic: Topic, spark: Plants, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_project(tmp_path, topic, "record")
    topic.send(world.events(0, 50))
    tries = []

    def refine(self: SparkWork, *arguments: object) -> NoReturn:
        tries.append(self)
        raise SourceLost("planted: a worker does not find its records")

    with monkeypatch.context() as patched:
        patched.setattr(SparkWork, "refine", refine)
        with pytest.raises(SourceLost, match="planted"):
            run(folder)
    assert len(tries) == 2
    run(folder)
    assert_sound(folder, world.events(0, 50))


def test_a_topic_made_anew_between_the_plan_and_the_reading(tmp_path: Path, topic: Topic, spark: Plants) -> None:
    """The new one's records have the planned offsets, and are not taken for the old one's."""
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 50))
    run(folder, 100)
    topic.send(world.events(50, 100))
    spark.clear()
    spark.plant("refine", "hold")
    with Running(folder, "spark", batch_rows=100) as running:
        wait_until(lambda: spark.calls("refine") > 0)
        topic.delete()
        remake(topic)
        topic.send(world.events(100, 250))
        spark.clear()
        wait_until(lambda: not running.goes_on)
        with pytest.raises(SourceLost):
            running.stop()
    assert_sound(folder, world.events(0, 50))
