"""What a plan takes, without a broker: bounds, evenness over partitions, gaps, and shares by offsets alone."""

from __future__ import annotations

import gc
import time
from collections import deque
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition, Uuid

from penstock import limits
from penstock.declare import load_pipeline
from penstock.errors import TransientError, UsageError
from penstock.model.columns import BATCH, INDEX, OFFSET, PARTITION, SOURCE, TIMESTAMP
from penstock.model.kafka import KafkaCluster, KafkaSecurity, KafkaSource, RejectsTopic, Secret, TopicShape
from penstock.model.position import Range
from penstock.ops.topics import _differences
from penstock.run.deadletters import DeadLetters
from penstock.sources.contract import RECORD_SCHEMA, TOO_LARGE, UNREADABLE_HEADERS, UTC_MICROSECONDS, Bounds
from penstock.sources.kafka import TopicSource, _choose, _end_of
from penstock.sources.kafka_ahead import Ahead, Buffer, Piece
from penstock.sources.kafka_client import Cluster
from penstock.sources.kafka_offsets import Allotment, GroupOffsets
from penstock.sources.kafka_producer import TopicProducer
from penstock.sources.kafka_ranges import read_pieces
from penstock.sources.kafka_records import records_of, runs_of
from penstock.sources.kafka_topics import settings_of

HUGE = 1 << 40


def piece(first: int, rows: int, age: int, step: int = 1, size: int = 10) -> Piece:
    offsets = np.arange(first, first + rows * step, step, dtype=np.int64)
    sizes = np.full(rows, size, np.int64)
    return Piece(RECORD_SCHEMA.empty_table(), offsets, sizes, age, int(sizes.sum()))


def buffer(*pieces: Piece, at_end: bool = True) -> Buffer:
    head = int(pieces[0].offsets[0]) if pieces else 0
    reached = int(pieces[-1].offsets[-1]) + 1 if pieces else 0
    made = Buffer(head, reached, reached if at_end else reached + 1)
    made.pieces = deque(pieces)
    return made


def test_the_oldest_pieces_come_first() -> None:
    buffers = {0: buffer(piece(0, 10, age=5), piece(10, 10, age=7)), 1: buffer(piece(0, 10, age=6))}
    assert _choose(buffers, Bounds(20, HUGE), whatever=False) == ({0: 10, 1: 10}, True)
    assert _choose(buffers, Bounds(25, HUGE), whatever=False) == ({0: 15, 1: 10}, True)
    assert _choose(buffers, Bounds(99, HUGE), whatever=False) == ({0: 20, 1: 10}, False)


def test_at_least_one_record_is_taken_and_never_too_many_bytes() -> None:
    buffers = {0: buffer(piece(0, 10, age=5, size=100))}
    assert _choose(buffers, Bounds(9, 1), whatever=False) == ({0: 1}, True)
    assert _choose(buffers, Bounds(9, 350), whatever=False) == ({0: 3}, True)


def test_a_partition_whose_next_records_are_still_coming_is_waited_for() -> None:
    buffers = {0: buffer(piece(0, 10, age=1), at_end=False), 1: buffer(piece(0, 10, age=2))}
    assert _choose(buffers, Bounds(99, HUGE), whatever=False) == ({0: 10}, False)
    assert _choose(buffers, Bounds(99, HUGE), whatever=True) == ({0: 10, 1: 10}, False)
    buffers[0] = buffer(at_end=False)
    assert _choose(buffers, Bounds(99, HUGE), whatever=False) == ({}, False)


def test_ranges_end_behind_gaps_only_where_the_reader_stands() -> None:
    made = buffer(piece(0, 5, age=1, step=3), piece(15, 5, age=1))
    made.next = 30  # what lies between 20 and 30 is no record
    assert _end_of(made, 2) == 4
    assert _end_of(made, 5) == 13
    assert _end_of(made, 10) == 30
    assert _end_of(made, 0) == made.head
    made.pieces.clear()
    assert _end_of(made, 0) == 30


def test_shares_reach_their_ends_together() -> None:
    allotment = Allotment()
    assert allotment.shares({0: 10, 1: 0}, Bounds(99, HUGE)) == {0: 10, 1: 0}
    assert allotment.shares({0: 900, 1: 100}, Bounds(100, HUGE)) == {0: 90, 1: 10}
    assert sum(allotment.shares({0: 1, 1: 1, 2: 1}, Bounds(2, HUGE)).values()) == 2
    assert sum(allotment.shares({0: 5, 1: 5}, Bounds(99, 1)).values()) == 1
    allotment.held(100, 100_000, 200)  # records of 1,000 bytes, every second offset holds one
    assert sum(allotment.shares({0: 9_999}, Bounds(1_000, 50_000)).values()) == 100


def test_the_last_offsets_of_a_burst_are_told_while_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps = Steps()
    monkeypatch.setattr(
        steps, "commit", lambda offsets, **_: told.append([one.offset for one in offsets]), raising=False
    )
    group = GroupOffsets(steps, "t", "g")  # type: ignore[arg-type]
    group.flush()
    group.commit({0: 5})
    group.commit({0: 7})
    group.flush()
    assert told == [[5]]
    now[0] += limits.KAFKA_GROUP_SECONDS
    group.flush()
    group.flush()
    assert told == [[5], [7]]
    group.commit({0: 9})
    group.close()
    assert told == [[5], [7], [9]]


class Message:
    def __init__(self, **given: Any) -> None:
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return lambda: self._given.get(name)


class Error:
    def __init__(self, code: int) -> None:
        self._code = code

    def code(self) -> int:
        return self._code

    def str(self) -> str:
        return "told"


class Steps:
    """A cluster and its consumer: what each `consume` gives."""

    def __init__(self, *steps: list[Message]) -> None:
        self._steps = list(steps)
        self.module = SimpleNamespace(
            Message=Kind(), KafkaError=KafkaError, KafkaException=KafkaException, TopicPartition=TopicPartition
        )

    def consumer(self, group: str = "") -> Steps:
        return self

    def failure(self, error: Error, doing: str) -> TransientError:
        return TransientError(f"{doing}: {error.str()}")

    def consume(self, most: int, seconds: float) -> list[Message]:
        return self._steps.pop(0)

    def poll(self, seconds: float) -> None: ...

    def assign(self, places: list[Any]) -> None: ...

    def pause(self, places: list[Any]) -> None: ...

    def close(self) -> None: ...


class Kind:
    """The methods of the client's class of messages, as `records_of` calls them."""

    def __getattr__(self, name: str) -> Any:
        return lambda message: getattr(message, name)()


def message(offset: int, partition: int = 0, **more: Any) -> Message:
    return Message(**{"partition": partition, "offset": offset, "timestamp": (1, 5), **more})


def test_messages_become_records() -> None:
    table, sizes = records_of(
        [
            message(3, value=b"abc", key=b"k", headers=[("h", b"1"), ("h", None)]),
            message(7, value=None, timestamp=(0, -1)),
            message(0, partition=1, value=b""),
        ],
        Kind(),
        100,
    )
    table.validate(full=True)
    rows = table.to_pylist()
    assert [(row["partition"], row["offset"], row["value"], row["key"]) for row in rows] == [
        (0, 3, b"abc", b"k"),
        (0, 7, None, None),
        (1, 0, b"", None),
    ]
    assert rows[0]["headers"] == [{"key": "h", "value": b"1"}, {"key": "h", "value": None}]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [5_000, None, 5_000]
    assert sizes.tolist() == [7, 0, 0]
    assert runs_of(table) == [(0, 0, 2), (1, 2, 3)]


def test_a_large_record_is_known_by_its_length() -> None:
    table, _ = records_of(
        [message(0, value=b"a"), message(1, value=b"x" * 101, key=b"k"), message(2, value=b"b")], Kind(), 100
    )
    rows = table.to_pylist()
    assert [row["value"] for row in rows] == [b"a", None, b"b"]
    assert rows[1]["key"] == b"k"
    assert rows[1]["headers"][0]["key"] == TOO_LARGE
    assert b'"bytes":101' in rows[1]["headers"][0]["value"]


def test_headers_that_the_client_cannot_read_are_told_in_their_place() -> None:
    asked = []

    class Latin:
        def headers(self, one: Message) -> Any:
            asked.append(one.offset())
            if one.offset() in (1, 2):
                fault = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
                raise SystemError("<method 'headers'> returned a result with an exception set") from fault
            return [("h", b"1")]

        def __getattr__(self, name: str) -> Any:
            return getattr(Kind(), name)

    messages = [message(offset, value=b"v") for offset in range(4)]
    table, sizes = records_of(messages, Latin(), 100)
    table.validate(full=True)
    assert [[one["key"] for one in row] for row in table["headers"].to_pylist()] == [
        ["h"],
        [UNREADABLE_HEADERS],
        [UNREADABLE_HEADERS],
        ["h"],
    ]
    assert table["value"].to_pylist() == [b"v"] * 4
    assert asked == [0, 1, 2, 3]
    assert sizes[1] == len(b"v") + len(UNREADABLE_HEADERS) + len(table["headers"][1].as_py()[0]["value"])


FAR = 1_764_000_000_000_000
"""Microseconds that a producer sent as milliseconds: a time in the year 57869."""


def test_a_large_record_may_be_of_any_time() -> None:
    table, _ = records_of([message(0, value=b"x" * 101, timestamp=(1, FAR))], Kind(), 100)
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [FAR * 1_000]
    assert table["headers"][0].as_py()[0]["key"] == TOO_LARGE


def test_a_reject_of_any_time_is_sent() -> None:
    sent: list[pa.Table] = []

    def send_acceptable(block: pa.Table) -> dict[int, str]:
        sent.append(block)
        return {}

    letters = DeadLetters.__new__(DeadLetters)
    letters._declared = RejectsTopic("rejects", KafkaCluster("b:1"))
    letters._producer = SimpleNamespace(send_acceptable=send_acceptable)  # type: ignore[assignment]
    letters._origin = "ticks"
    letters._tables = SimpleNamespace(  # type: ignore[assignment]
        pipeline="p", bronze=SimpleNamespace(read=lambda **_: iter(()))
    )
    row = {SOURCE: 1, PARTITION: 0, OFFSET: 7, INDEX: 0, BATCH: 3, "disposition": "quarantined", "value": b"v"}
    row |= {"failed": ["malformed"], "detail": None}
    times = pa.array([FAR * 1_000], UTC_MICROSECONDS)
    letters._ending_at = None
    assert letters._send_rows(3, pa.Table.from_pylist([row]).append_column(TIMESTAMP, times))
    assert sent[0]["timestamp"].cast(pa.int64()).to_pylist() == [FAR * 1_000]
    assert {"key": "penstock.place", "value": b"1/0/7"} in sent[0]["headers"][0].as_py()


SECRETIVE = """
pipeline: a
source:
  kafka:
    topic: ticks
    brokers: "${BROKERS}"
    security: {protocol: sasl_ssl, mechanism: plain, username: u, password: "${PASSWORD}"}
silver:
  table: t
  columns: {a: string}
"""


def test_secrets_are_shown_nowhere(tmp_path: Any) -> None:
    loaded = load_pipeline(SECRETIVE, "a.yaml", {"BROKERS": "b:1", "PASSWORD": "sesame-open"})
    assert loaded.pipeline is not None
    assert "sesame-open" not in repr(loaded.pipeline)
    assert "sesame-open" not in loaded.pipeline.text
    (tmp_path / "secret.txt").write_text("sesame-file\n")
    security = KafkaSecurity("sasl_ssl", "plain", "u", Secret(file="secret.txt"))
    cluster = Cluster(KafkaCluster("b:1", security), tmp_path)
    assert cluster._settings["sasl.password"] == "sesame-file"
    assert "sesame-file" not in cluster.plain("cannot use sesame-file here")


REJECTS_BESIDE = """
rejects: {{kafka: {{topic: rejected{more}}}}}
source:
  kafka:
    topic: ticks
    brokers: b:1
    security: {{protocol: ssl, ca: a.pem}}
    options: {{client.rack: r}}
pipeline: a
silver:
  table: t
  columns: {{a: string}}
"""
RACK = (("client.rack", "r"),)


@pytest.mark.parametrize(
    ("more", "cluster"),
    [
        ("", KafkaCluster("b:1", KafkaSecurity("ssl", ca="a.pem"), RACK)),
        (", security: {protocol: ssl, ca: b.pem}", KafkaCluster("b:1", KafkaSecurity("ssl", ca="b.pem"), RACK)),
        (", options: {linger.ms: 5}", KafkaCluster("b:1", KafkaSecurity("ssl", ca="a.pem"), (("linger.ms", "5"),))),
        (", brokers: c:1", KafkaCluster("c:1")),
    ],
)
def test_rejects_beside_the_source_have_what_they_declare_and_else_what_it_has(
    more: str, cluster: KafkaCluster
) -> None:
    found = load_pipeline(REJECTS_BESIDE.format(more=more), "a.yaml", {}).pipeline
    assert found is not None
    assert found.rejects is not None
    assert found.rejects.cluster == cluster


TOKENS = """
pipeline: a
source:
  kafka:
    topic: ticks
    brokers: b:1
    security: {protocol: sasl_plaintext, mechanism: oauthbearer}
    options:
      sasl.oauthbearer.method: oidc
      sasl.oauthbearer.client.id: me
      sasl.oauthbearer.client.secret: "${SECRET}"
      sasl.oauthbearer.token.endpoint.url: http://127.0.0.1:1/token
silver:
  table: t
  columns: {a: string}
"""


def test_a_user_may_be_checked_by_a_token(tmp_path: Any) -> None:
    loaded = load_pipeline(TOKENS, "a.yaml", {"SECRET": "sesame-open"})
    assert loaded.pipeline is not None
    assert isinstance(loaded.pipeline.source.origin, KafkaSource)
    cluster = Cluster(loaded.pipeline.source.origin.cluster, tmp_path)
    assert cluster._settings["sasl.mechanism"] == "OAUTHBEARER"
    cluster.consumer().close()


def test_connections_are_no_part_of_a_declaration() -> None:
    one, other = (
        load_pipeline(SECRETIVE, "a.yaml", {"BROKERS": b, "PASSWORD": p}) for b, p in (("a", "b"), ("c", "d"))
    )
    assert one.pipeline == other.pipeline


def test_a_wrong_setting_is_told_without_its_value(tmp_path: Any) -> None:
    cluster = Cluster(KafkaCluster("b:1", KafkaSecurity(), (("no.such.setting", "sesame"),)), tmp_path)
    with pytest.raises(Exception, match=r"no\.such\.setting") as told:
        cluster.consumer()
    assert "sesame" not in str(told.value)


def test_a_topic_without_an_id_is_refused(tmp_path: Any) -> None:
    cluster = Cluster(KafkaCluster("b:1", KafkaSecurity()), tmp_path)
    answer: Future[Any] = Future()
    cluster._admin = SimpleNamespace(describe_topics=lambda *_, **__: {"t": answer}, poll=lambda _: None)
    answer.set_result(SimpleNamespace(topic_id=Uuid(0, 0), partitions=[]))
    with pytest.raises(UsageError, match="no id") as told:
        cluster.topic("t")
    assert "Kafka 2.8 or later" in str(told.value.hint)
    answer = Future()
    answer.set_result(SimpleNamespace(topic_id=Uuid(0, 1), partitions=[]))
    assert cluster.topic("t").unique_id == str(Uuid(0, 1))


def test_what_was_wrong_before_an_answer_is_over(tmp_path: Any) -> None:
    cluster = Cluster(KafkaCluster("b:1", KafkaSecurity()), tmp_path)
    queued = [Error(KafkaError._AUTHENTICATION)]

    def poll(_seconds: float) -> None:
        while queued:
            cluster.note(queued.pop())

    cluster._admin = SimpleNamespace(poll=poll)
    answer: Future[int] = Future()
    answer.set_result(7)
    assert cluster.answer(answer, 1.0) == 7
    assert not cluster.is_troubled
    assert isinstance(cluster.away("no answer in time"), TransientError)
    queued.append(Error(KafkaError._AUTHENTICATION))
    assert isinstance(cluster.away("no answer in time"), UsageError)


def test_settings_that_are_not_shown_to_this_user_are_none(tmp_path: Any) -> None:
    cluster = Cluster(KafkaCluster("b:1", KafkaSecurity()), tmp_path)
    answer: Future[Any] = Future()
    answer.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    cluster._admin = SimpleNamespace(
        describe_configs=lambda resources, **_: dict.fromkeys(resources, answer), poll=lambda _: None
    )
    assert settings_of(cluster, "t") == {}
    shape = TopicShape(partitions=3, retention=1_000_000, compaction=True)
    assert list(_differences(KafkaSource("t", KafkaCluster("b:1"), None, shape), 3, 1, {})) == []


def test_a_cluster_whose_topic_cannot_be_used_is_closed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Cluster] = []

    def topic(*_: Any) -> None:
        raise TransientError("away")

    monkeypatch.setattr(Cluster, "topic", topic)
    monkeypatch.setattr(Cluster, "close", lambda cluster: closed.append(cluster))
    declared = KafkaCluster("b:1")
    with pytest.raises(TransientError):
        TopicProducer(Cluster(declared, tmp_path), "t")
    with pytest.raises(TransientError):
        TopicSource(KafkaSource("t", declared), pipeline="p", incarnation=1, folder=tmp_path)
    assert len(closed) == 2


def test_a_trickle_does_not_keep_the_whole_steps_that_it_came_with() -> None:
    ahead = Ahead.__new__(Ahead)
    ahead._record_bytes_max, ahead._step, ahead._clock = 10_000, 1, lambda: 0
    ahead.buffers = {0: Buffer(0, 0, None), 1: Buffer(0, 0, None)}
    messages = [message(offset, value=b"x" * 1_000) for offset in range(500)]
    found = dict(ahead._pieces([*messages, message(0, 1, value=b"y" * 1_000)], Kind()))
    assert (found[0].rows, found[1].rows) == (500, 1)
    assert found[1].table["value"].to_pylist() == [b"y" * 1_000]
    held = {buffer.address: buffer.size for buffer in found[1].table["value"].chunk(0).buffers() if buffer is not None}
    assert sum(held.values()) < 10_000


@pytest.mark.parametrize(("before", "after"), [(700, limits.KAFKA_COLLECT_OBJECTS), (0, 0), (10**6, 10**6)])
def test_messages_do_not_drive_the_collector_of_cycles(tmp_path: Any, before: int, after: int) -> None:
    found = gc.get_threshold()
    try:
        gc.set_threshold(before, *found[1:])
        Cluster(KafkaCluster("b:1", KafkaSecurity()), tmp_path).consumer().close()
        assert gc.get_threshold() == (after, *found[1:])
    finally:
        gc.set_threshold(*found)


def span(offsets: range) -> list[Message]:
    return [message(offset, value=b"v") for offset in offsets]


def offsets_of(cluster: Any, end: int) -> list[int]:
    spans = [Range(1, 0, 0, end)]
    pieces = read_pieces(cluster, "t", spans, rows=1_000, size=HUGE, record_bytes_max=100)
    return [offset for piece in pieces for offset in piece["offset"].to_pylist()]


@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._NOT_IMPLEMENTED])
def test_damage_within_a_range_is_told_even_where_its_step_reaches_the_end(code: int) -> None:
    damage = message(100, error=Error(code))
    with pytest.raises(TransientError, match=r"reading t/0 from 100"):
        offsets_of(Steps([*span(range(100)), damage, *span(range(200, 251))]), 220)


def test_an_error_about_the_whole_partition_is_told() -> None:
    refused = Message(topic="t", partition=0, error=Error(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert refused.offset() is None
    with pytest.raises(TransientError, match=r"reading t/0"):
        offsets_of(Steps([*span(range(100)), refused]), 220)


def test_damage_behind_a_range_does_not_make_it_unreadable() -> None:
    damage = message(220, error=Error(KafkaError._BAD_MSG))
    assert offsets_of(Steps([*span(range(220)), damage, *span(range(300, 310))]), 220) == list(range(220))
    # The last records of the range are compacted away: only the damage tells that nothing more comes.
    assert offsets_of(Steps([*span(range(210)), damage]), 220) == list(range(210))
