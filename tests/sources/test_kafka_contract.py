"""The contract suite on a topic of a real broker: dense, and with gaps that transactions leave."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from penstock.testing.source_contract import SourceCase, SourceContract, drain
from sources.kafka_topics import Topic, open_topic

if TYPE_CHECKING:
    from tools.servers import KafkaServer


class TestTopic(SourceContract):
    @pytest.fixture
    def case(self, kafka_server: KafkaServer) -> SourceCase:
        topic = Topic(kafka_server.address)
        values: dict[int, list[bytes | None]] = {0: [], 1: [], 2: []}
        for number in range(66):
            value = None if number % 30 == 9 else b"record %d" % number * (1 + number % 5)
            key = None if number % 7 == 0 else b"key %d" % (number % 11)
            headers = [("h", b"x" * (number % 3)), ("h", None)] if number % 4 else None
            topic.send([value], number % 3, key=key, headers=headers)
            values[number % 3].append(value)
        return SourceCase(functools.partial(open_topic, topic.address, topic.name, 4), values, drops=False)


class TestTransactions(SourceContract):
    @pytest.fixture
    def case(self, kafka_server: KafkaServer) -> SourceCase:
        topic = Topic(kafka_server.address, compression_type="lz4")
        values: dict[int, list[bytes | None]] = {0: [], 2: []}
        for partition in values:
            groups = [
                ([b"group %d record %d" % (group, number) for number in range(7)], group % 3 != 1)
                for group in range(10)
            ]
            topic.transactions(groups, partition)
            values[partition] = [value for group, is_committed in groups if is_committed for value in group]
        return SourceCase(functools.partial(open_topic, topic.address, topic.name, 1), values, drops=False)

    def test_the_end_is_known(self, case: SourceCase) -> None:
        source = case.open()
        assert not source.exhausted({})
        assert source.wait({}, 0.0)
        waiting = source.backlog({}).records  # offsets: how many of them hold records is not known
        assert waiting is not None
        assert waiting > sum(len(values) for values in case.values.values())
        _, end = drain(source, {})
        assert source.exhausted(end)
        assert not source.wait(end, 0.01)
        assert source.backlog(end).records == 0
        source.close()
