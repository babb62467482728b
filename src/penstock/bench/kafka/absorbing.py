"""An engine that stays warm: absorbs one project after the other, on order.

`python -m penstock.bench.kafka.absorbing FOLDER ENGINE MASTER` takes orders as JSON objects, one a line, and answers
each with one; `engines.py` gives them. FOLDER is a project whose settings the engine gets. A script of the same shape
takes the same orders, but for `singly`; it is not asked for batches one by one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock.bench import project
from penstock.bench.kafka.topic import Producer
from penstock.errors import TransientError
from penstock.limits import BATCH_BYTES_MAX
from penstock.model.batch import BatchCounts
from penstock.model.kafka import KafkaCluster, KafkaSource
from penstock.ops.contexts import contexts, parser
from penstock.run.context import RunOptions
from penstock.run.service import run_pipeline
from penstock.sources.kafka_client import Cluster
from penstock.sources.worlds import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.run.context import BatchDone, PipelineContext, RunSummary

FOLLOW_SECONDS_MAX = 180.0
"""How long a follower waits for the records it was told of; beyond it the run has failed."""


def absorb(context: PipelineContext, order: dict[str, Any]) -> dict[str, Any]:
    """All that the topic holds, in batches of `batch_rows`, however many bytes; when each was in the ledger, in seconds
    from the start."""
    done: list[float] = []
    rows = order["batch_rows"]
    options = RunOptions(once=True, batch_rows=rows, batch_bytes=max(BATCH_BYTES_MAX, rows * RECORD_BYTES))
    start = time.perf_counter()
    summary = run_pipeline(context, options, threading.Event(), lambda _: done.append(time.perf_counter() - start))
    return {"seconds": time.perf_counter() - start, "done": done, **_told(summary)}


def follow(context: PipelineContext, order: dict[str, Any]) -> dict[str, Any]:
    """Follow the topic; `ready` after the first batch. The next order names the number of records to wait for."""
    del order
    with _Following(context) as following:
        following.wait(1)
        say({"ready": True})
        following.wait(int(next(orders())["records"]))
        return _told(following.stop())


def singly(context: PipelineContext, order: dict[str, Any]) -> dict[str, Any]:
    """`batches` times `rows` records, each when the ledger has the ones before: seconds from their acknowledgement
    until that, and how long each batch took (records that arrive apart make several). The first are not counted."""
    rows, batches, warm = order["rows"], order["batches"], order["warm"]
    origin = context.pipeline.source.origin
    assert isinstance(origin, KafkaSource)
    cluster = Cluster(KafkaCluster(origin.cluster.brokers), Path())
    world = project.market()
    seconds, before = [], 0
    with _Following(context) as following, Producer(cluster, origin.topic) as producer:
        for number in range(warm + batches):
            if number == warm:
                before = len(following.took)
                say({"ready": True})
                next(orders())
            producer.send(world.make(number * rows, rows).block)
            producer.flush()
            sent = time.perf_counter()
            following.wait((number + 1) * rows)
            seconds.append(time.perf_counter() - sent)
        return {"waits": seconds[warm:], "took": following.took[before:], **_told(following.stop())}


ORDERS: dict[str, Callable[[PipelineContext, dict[str, Any]], dict[str, Any]]] = {
    "absorb": absorb,
    "follow": follow,
    "singly": singly,
}


class _Following:
    """A run that follows its source in a thread, until `stop`."""

    def __init__(self, context: PipelineContext) -> None:
        self.took: list[float] = []
        self._context = context
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._counts = BatchCounts()
        self._ended: list[RunSummary | BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def wait(self, records: int) -> None:
        """Until so many records are in the ledger."""
        with self._changed:
            self._changed.wait_for(lambda: self._counts.records >= records or self._ended, FOLLOW_SECONDS_MAX)
            if self._counts.records < records:
                self._raise()
                raise TransientError(f"of {records} records, {self._counts.records} arrived in time")

    def stop(self) -> RunSummary:
        """End the run; what it did."""
        self._stop.set()
        self._thread.join()
        self._raise()
        summary = self._ended[0]
        assert not isinstance(summary, BaseException)
        return summary

    def __enter__(self) -> _Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            ended: RunSummary | BaseException = run_pipeline(self._context, RunOptions(), self._stop, self._progress)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            ended = error
        with self._changed:
            self._ended.append(ended)
            self._changed.notify_all()

    def _progress(self, done: BatchDone) -> None:
        with self._changed:
            self._counts += done.counts
            self.took.append(done.seconds)
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._ended and isinstance(self._ended[0], BaseException):
            raise self._ended[0]


def _told(summary: RunSummary) -> dict[str, Any]:
    steps = dict(summary.step_seconds)
    return {"batches": summary.batches, "counts": dataclasses.asdict(summary.counts), "steps": steps}


def _in(base: PipelineContext, folder: str) -> PipelineContext:
    """The same engine on the project in `folder`."""
    opened = penstock.open(folder)
    [pipeline] = opened.pipelines
    return dataclasses.replace(
        base,
        pipeline=pipeline,
        folder=opened.folder,
        lake=opened.lake,
        settings=opened.settings,
        parse=parser(pipeline.file, os.environ),
    )


def orders() -> Iterator[dict[str, Any]]:
    """What is asked for on standard input, until it ends."""
    for line in iter(sys.stdin.readline, ""):
        yield json.loads(line)


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(folder: str, engine: str, master: str = "") -> None:
    """Take orders until there are no more."""
    settings = {"engine": engine} | ({"spark_master": master} if master else {})
    opened = penstock.open(folder, **settings)
    with contexts(opened.pipelines, opened.folder, opened.lake, opened.settings) as [base]:
        say({"ready": True})
        for order in orders():
            say(ORDERS[order["do"]](_in(base, order["folder"]), order))


if __name__ == "__main__":
    main(*sys.argv[1:])
