"""What topics hold and what they lose, met by Spark's workers, who read offsets that the driver planned without looking
into them. `tests/sources/test_kafka_runs.py` asks the same of the embedded engine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import confluent_kafka
import pytest

from conformance import engines
from conformance.waiting import wait_until
from faults import world
from penstock.engines.spark.deriving import SparkWork
from penstock.errors import SourceLost
from sources.kafka_runs import Running, assert_sound, bronze, compact, losses, make_project, remake, wait_for
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


def test_aborted_transactions_leave_gaps_and_nothing_else(tmp_path: Path, topic: Topic, spark: Plants) -> None:
    folder = make_project(tmp_path, topic)
    kept: list[bytes] = []
    for start in range(0, 200, 100):
        groups = [(world.events(start + at, start + at + 10), at % 30 != 10) for at in range(0, 100, 10)]
        topic.transactions(groups)
        kept += [value for group, is_committed in groups if is_committed for value in group]
        run(folder, 7)  # some ranges hold nothing but a mark or what was aborted
    assert_sound(folder, kept)
    topic.transactions([(world.events(900, 950), False)])  # a gap alone, at the end, wider than a batch
    run(folder, 7)
    assert_sound(folder, kept)
    topic.transactions([(world.events(200, 210), True)])
    engines.run(folder, "embedded")
    assert_sound(folder, kept + world.events(200, 210))


def test_a_compacted_topic(tmp_path: Path, kafka_server: KafkaServer, spark: Plants) -> None:
    topic, kept = compact(kafka_server)
    folder = make_project(tmp_path, topic)
    run(folder, 30)
    assert world.violations(folder) == []
    found = bronze(folder)
    assert set(kept) <= set(found.values())
    world.assert_tables(folder, {place[2]: value for place, value in found.items() if value is not None})


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


def test_partitions_that_are_added_are_read(tmp_path: Path, topic: Topic, spark: Plants) -> None:
    folder = make_project(tmp_path, topic)
    first, second, third = world.events(0, 50), world.events(50, 90), world.events(90, 130)
    topic.send(first)
    with Running(folder, "spark") as running:
        wait_for(folder, 50)
        topic.grow(3)
        topic.send(second, 0)
        Topic(topic.address, name=topic.name).send(third, 2)  # a producer that knows of the new partitions
        wait_for(folder, 130)
        running.stop()
    run(folder)
    assert_sound(folder, first + second + third)


def test_foreign_members_of_the_group_change_nothing(tmp_path: Path, topic: Topic, spark: Plants) -> None:
    folder = make_project(tmp_path, topic)
    foreign = confluent_kafka.Consumer(
        {"bootstrap.servers": topic.address, "group.id": "penstock.meters", "auto.offset.reset": "earliest"}
    )
    foreign.subscribe([topic.name])
    topic.send(world.events(0, 100))
    foreign.poll(10)
    with Running(folder, "spark") as running:
        wait_for(folder, 100)
        foreign.close()
        topic.send(world.events(100, 200))
        wait_for(folder, 200)
        running.stop()
    run(folder)
    assert_sound(folder, world.events(0, 200))


# -- what topics lose -------------------------------------------------------------------------------------------------


def test_truncated_records_stop_the_pipeline_with_their_range(tmp_path: Path, topic: Topic, spark: Plants) -> None:
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 50))
    run(folder)
    topic.send(world.events(50, 100))
    topic.truncate({0: 70})
    with pytest.raises(SourceLost, match=r"0/50\.\.70"):
        run(folder)
    assert_sound(folder, world.events(0, 50))


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


def test_a_topic_made_anew_is_another_source(tmp_path: Path, topic: Topic, spark: Plants) -> None:
    folder = make_project(tmp_path, topic)
    topic.send(world.events(0, 50))
    run(folder)
    topic.delete()
    remake(topic)
    topic.send(world.events(50, 200))
    with pytest.raises(SourceLost, match="made anew"):
        run(folder)
    engines.run(folder, "spark", 40, new_incarnation=True)
    assert world.violations(folder) == []
    found = bronze(folder)
    assert {place[0] for place in found} == {1, 2}
    assert Counter(found.values()) == Counter(world.events(0, 200))


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
