"""The pipeline of `faults/world.py` on a topic, and runs of it that go on beside a test."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import confluent_kafka

import penstock
from faults import world
from penstock.ops import facts
from penstock.sources.contract import Bounds
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from pathlib import Path

    from tools.servers import KafkaServer

    from penstock.ops.facts import PipelineStatus

COMPACTED_RECORDS_MAX = 150
"""What `compact` leaves of 201 records, at most."""


def make_project(folder: Path, topic: Topic, on_data_loss: str = "stop", **limits: object) -> Path:
    source = f'kafka: {{topic: {topic.name}, brokers: "{topic.address}"}}\n  on_data_loss: {on_data_loss}'
    return world.make_project(folder, source, **limits)


def bronze(folder: Path) -> dict[tuple[int, int, int], bytes | None]:
    """Bronze's values by place, each there once."""
    rows = world.by_sql(folder, "bronze/meters")
    found = {(row["_source"], row["_partition"], row["_offset"]): row["value"] for row in rows}
    assert len(found) == len(rows), "bronze has doubled places"
    return found


def assert_sound(folder: Path, sent: list[bytes]) -> dict[tuple[int, int, int], bytes | None]:
    """The audit is clean, bronze holds what was sent, once; of a topic with one partition the tables are right too."""
    assert world.violations(folder) == []
    found = bronze(folder)
    assert Counter(found.values()) == Counter(sent)
    if len({place[:2] for place in found}) == 1:
        world.assert_tables(folder, {place[2]: value for place, value in found.items() if value is not None})
    return found


def losses(folder: Path) -> list[str]:
    found: list[str] = penstock.open(folder).audit().as_json()["pipelines"]["meters"]["losses"]  # type: ignore[index]
    return found


class Running:
    """A run without end in a thread; `stop` ends it and raises what it raised. It does not outlive its `with`."""

    def __init__(self, folder: Path, engine: str = "embedded", **options: Any) -> None:
        self._stop = threading.Event()
        self.said: list[str] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(folder, engine, options), daemon=True)
        self._thread.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def _run(self, folder: Path, engine: str, options: dict[str, Any]) -> None:
        try:
            penstock.open(folder, engine=engine).run(stop=self._stop, tell=self.said.append, **options)
        except BaseException as failure:  # noqa: BLE001 - carried to the test's thread
            self._failure = failure

    def stop(self) -> float:
        """The seconds that stopping took."""
        started = time.monotonic()
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        return time.monotonic() - started


def status(folder: Path) -> PipelineStatus:
    """What the lake alone says."""
    project = penstock.open(folder)
    return facts.status(project.lake, project.pipelines[0])


def wait_for(folder: Path, records: int, seconds: float = 60.0) -> None:
    """Until the ledger has so many records."""
    deadline = time.monotonic() + seconds
    while (found := status(folder)).records < records:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def compact(server: KafkaServer) -> tuple[Topic, list[bytes]]:
    """A topic that the broker has compacted, and those of its records that must still be there."""
    topic = Topic(
        server.address, 1, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.001",
        max_compaction_lag_ms="100", delete_retention_ms="100",
    )  # fmt: skip
    values = world.events(0, 201)
    for number, value in enumerate(values[:200]):
        topic.send([value], key=b"%d" % (number % 20 if number < 180 else number))
        if number == 120:
            time.sleep(0.3)
    time.sleep(0.3)
    topic.send(values[200:], key=b"last")
    deadline = time.monotonic() + 40
    source = topic.open()
    while len(source.read(source.plan({}, Bounds(10_000, 1 << 30)))) > COMPACTED_RECORDS_MAX:
        assert time.monotonic() < deadline, "the broker does not compact"
        time.sleep(1)
    source.close()
    return topic, values[180:]


def remake(topic: Topic) -> None:
    for _ in range(50):
        try:
            topic.make(1)
        except confluent_kafka.KafkaException:
            time.sleep(0.1)  # the old one is not quite gone
        else:
            return
    raise AssertionError("the topic cannot be made again")
