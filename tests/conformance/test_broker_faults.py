"""The broker is killed, stopped or hangs right after each step of a batch, while records keep coming and a run goes on:
it waits, goes on by itself, and every law holds. On both engines."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING

import confluent_kafka
import pytest

from conformance import engines
from conformance.matrix import IS_FULL
from conformance.waiting import wait_until
from faults import world
from sources.kafka_runs import Running, assert_sound, make_project, wait_for
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tools.servers import KafkaServer

    from conformance.plants import Plants

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]

COUNTED = "faults: of the broker"
ROWS = 50
SEND_SECONDS = 0.04
BACK_SECONDS_MAX = 180.0
"""How long what came meanwhile may take, on a busy machine."""
AWAY_SECONDS = 0.3
HELD_UP_SECONDS = {"pause": 3.0, "hang": 12.0}
"""Longer than a plan waits in silence (`KAFKA_SILENCE_SECONDS`), and than a question does (`KAFKA_REQUEST_SECONDS`)."""
ENDS = ("kill", "stop", "pause", "hang") if IS_FULL else ("kill", "stop", "pause")


class Outages:
    """Ends the broker right after a step, and lets it come back."""

    def __init__(self, server: KafkaServer) -> None:
        self._server = server
        self._wanted: tuple[str, str] | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()

    def after_step(self, name: str, batch: int) -> None:
        with self._lock:
            if self._wanted is None or name != self._wanted[0]:
                return
            (_, end), self._wanted = self._wanted, None
        strike(self._server, end)
        self._over.set()

    def cause(self, step: str, end: str, running: Running) -> None:
        """Wait for the step, and until the broker is back from what is done to it then."""
        self._over.clear()
        self._wanted = step, end
        wait_until(lambda: self._over.is_set() or not running.goes_on)
        assert running.goes_on, f"before the broker's {end} after {step}: {running.said}"
        bring_back(self._server, end)


def strike(server: KafkaServer, end: str) -> None:
    if end in HELD_UP_SECONDS:
        server.pause()
    else:
        getattr(server, end)()


def bring_back(server: KafkaServer, end: str) -> None:
    """After a while."""
    if end in HELD_UP_SECONDS:
        time.sleep(HELD_UP_SECONDS[end])
        server.resume()
    else:
        time.sleep(AWAY_SECONDS)
        server.start()


@contextlib.contextmanager
def sending(topic: Topic, values: list[bytes]) -> Iterator[None]:
    """Send event after event beside the test, whatever happens to the broker; `values` gets those that it took."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": topic.address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
    )
    done = threading.Event()

    def taken(error: object, message: confluent_kafka.Message) -> None:
        assert error is None, error
        values.append(message.value())

    def send() -> None:
        for number in itertools.count():
            if done.wait(SEND_SECONDS):
                return
            producer.produce(topic.name, world.event(number), partition=0, on_delivery=taken)
            producer.poll(0)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        assert producer.flush(60) == 0


def dealt() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(engine, name of a life, what happens in it after which step). In full, each after each; else each engine's every
    second step, so that one of them meets it."""
    for engine in engines.ENGINES:
        if IS_FULL:
            yield from ((engine, end, [(step, end) for step in world.STEPS]) for end in ENDS)
        else:
            steps = world.STEPS[engines.ENGINES.index(engine) :: 2]
            yield engine, "each in turn", list(zip(steps, itertools.cycle(ENDS)))


@pytest.mark.parametrize(
    ("engine", "name", "blows"), list(dealt()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_after_each_step(
    engine: str,
    name: str,
    blows: list[tuple[str, str]],
    mortal_server: KafkaServer,
    spark: Plants,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    record_property(COUNTED, len(blows))
    topic, outages, sent = Topic(mortal_server.address, 1), Outages(mortal_server), list[bytes]()
    folder = make_project(tmp_path / "shop", topic)
    with Running(folder, engine, batch_rows=ROWS, after_step=outages.after_step) as running:
        with sending(topic, sent):
            for step, end in blows:
                outages.cause(step, end, running)
        wait_for(folder, len(sent), BACK_SECONDS_MAX)
        running.stop()
    if any(end not in HELD_UP_SECONDS for _, end in blows):  # a broker that is slow need not be noticed
        assert any("is back" in sentence for sentence in running.said), running.said
    world.run(folder, ROWS)
    assert_sound(folder, sent)


@pytest.mark.parametrize("end", ENDS if IS_FULL else ("kill",))
def test_while_workers_read(
    end: str,
    mortal_server: KafkaServer,
    spark: Plants,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """They were told what to read when it was still there."""
    record_property(COUNTED, 1)
    topic = Topic(mortal_server.address, 3)
    folder = make_project(tmp_path / "shop", topic)
    values = world.events(0, 300)
    for partition in range(3):
        topic.send(values[partition::3], partition)
    spark.plant("refine", "hold")
    with Running(folder, "spark", batch_rows=len(values)) as running:
        wait_until(lambda: spark.calls("refine") > 0)
        strike(mortal_server, end)
        spark.clear()
        bring_back(mortal_server, end)
        wait_for(folder, len(values), BACK_SECONDS_MAX)
        running.stop()
    world.run(folder)
    assert_sound(folder, values)
