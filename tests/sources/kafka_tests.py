"""Tests of what topics hold and lose that each engine has to pass."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import confluent_kafka
import pytest

import penstock
from faults import world
from penstock.errors import SourceLost
from sources.kafka_runs import (
    COMPACTED_RECORDS_MAX,
    Running,
    assert_sound,
    bronze,
    compact,
    make_project,
    remake,
    wait_for,
)
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from pathlib import Path

    from tools.servers import KafkaServer


class TopicTests:
    """Each test has a topic of one partition; a subclass says who reads it."""

    engine: str

    def run(self, folder: Path, rows: int = 40, **options: Any) -> None:
        """Absorb everything there is."""
        penstock.open(folder, engine=self.engine).run(once=True, batch_rows=rows, **options)

    def test_aborted_transactions_leave_gaps_and_nothing_else(self, tmp_path: Path, topic: Topic) -> None:
        folder = make_project(tmp_path, topic)
        kept: list[bytes] = []
        for start in range(0, 200, 100):
            groups = [(world.events(start + at, start + at + 10), at % 30 != 10) for at in range(0, 100, 10)]
            topic.transactions(groups)
            kept += [value for group, is_committed in groups if is_committed for value in group]
            self.run(folder, 7)  # some ranges hold nothing but a mark or what was aborted
        assert_sound(folder, kept)
        topic.transactions([(world.events(900, 950), False)])  # a gap alone, at the end, wider than a batch
        self.run(folder, 7)
        assert_sound(folder, kept)
        topic.transactions([(world.events(200, 210), True)])
        world.run(folder)
        assert_sound(folder, kept + world.events(200, 210))

    def test_a_compacted_topic(self, tmp_path: Path, kafka_server: KafkaServer) -> None:
        topic, kept = compact(kafka_server)
        folder = make_project(tmp_path, topic)
        self.run(folder, 30)
        assert world.violations(folder) == []
        found = bronze(folder)
        assert set(kept) <= set(found.values())
        assert len(found) <= COMPACTED_RECORDS_MAX
        world.assert_tables(folder, {place[2]: value for place, value in found.items() if value is not None})

    def test_partitions_that_are_added_are_read(self, tmp_path: Path, topic: Topic) -> None:
        folder = make_project(tmp_path, topic)
        first, second, third = world.events(0, 50), world.events(50, 90), world.events(90, 130)
        topic.send(first)
        with Running(folder, self.engine) as running:
            wait_for(folder, 50)
            topic.grow(3)
            topic.send(second, 0)
            Topic(topic.address, name=topic.name).send(third, 2)  # a producer that knows of the new partitions
            wait_for(folder, 130)
            running.stop()
        self.run(folder)
        assert_sound(folder, first + second + third)

    def test_foreign_members_of_the_group_change_nothing(self, tmp_path: Path, topic: Topic) -> None:
        folder = make_project(tmp_path, topic)
        foreign = confluent_kafka.Consumer(
            {"bootstrap.servers": topic.address, "group.id": "penstock.meters", "auto.offset.reset": "earliest"}
        )
        foreign.subscribe([topic.name])
        topic.send(world.events(0, 100))
        foreign.poll(10)
        with Running(folder, self.engine) as running:
            wait_for(folder, 100)
            foreign.close()
            topic.send(world.events(100, 200))
            wait_for(folder, 200)
            running.stop()
        self.run(folder)
        assert_sound(folder, world.events(0, 200))

    def test_truncated_records_stop_the_pipeline_with_their_range(self, tmp_path: Path, topic: Topic) -> None:
        folder = make_project(tmp_path, topic)
        topic.send(world.events(0, 50))
        self.run(folder)
        topic.send(world.events(50, 100))
        topic.truncate({0: 70})
        with pytest.raises(SourceLost, match=r"0/50\.\.70"):
            self.run(folder)
        assert_sound(folder, world.events(0, 50))

    def test_a_topic_made_anew_is_another_source(self, tmp_path: Path, topic: Topic) -> None:
        folder = make_project(tmp_path, topic)
        topic.send(world.events(0, 50))
        self.run(folder)
        topic.delete()
        remake(topic)
        topic.send(world.events(50, 200))
        with pytest.raises(SourceLost, match="made anew"):
            self.run(folder)
        self.run(folder, 40, new_incarnation=True)
        assert world.violations(folder) == []
        found = bronze(folder)
        assert {place[0] for place in found} == {1, 2}
        assert Counter(found.values()) == Counter(world.events(0, 200))
