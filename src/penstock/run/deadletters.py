"""Sends the rejects to a topic: a follower of the table, with its own position, at least once.

It runs beside the batches and never holds them up: what it reads is in the ledger, and where the brokers are away it
tries again. Its position is a txn of the rejects table, so that it goes where the lake goes; it is committed after what
was sent is acknowledged, and not after every batch: after a crash the last few are sent again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import SourceLost, TransientError, UsageError
from penstock.lake.layout import HEADERS
from penstock.limits import (
    DEAD_LETTER_BATCHES_MAX,
    DEAD_LETTER_COMMIT_SECONDS,
    DEAD_LETTER_END_SECONDS,
    TRANSIENT_SECONDS_MAX,
    TRANSIENT_SECONDS_MIN,
)
from penstock.model.columns import BATCH, INDEX, OFFSET, PARTITION, PLACE, SOURCE, TIMESTAMP, letters_txn
from penstock.sources.contract import TOO_LARGE, UTC_MICROSECONDS
from penstock.sources.framing import too_large_header
from penstock.sources.kafka_client import Cluster
from penstock.sources.kafka_producer import TopicProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from penstock.model.kafka import RejectsTopic
    from penstock.run.context import Clock
    from penstock.run.tables import PipelineTables

FOREIGN_EXCEPTION = "penstock.Rejected"
"""What `__connect.errors.exception.class.name` says: the name that other tools group by."""

OURS = "ours"
"""Column of letters: the headers that say where a reject was and why it is one, without the record's own."""

OWN_KEY = "own_key"
"""Column of letters: a key that no other reject has."""

COLUMNS = (*PLACE, INDEX, TIMESTAMP, BATCH, "disposition", "failed", "detail", "value")


class DeadLetters:
    """The follower of one pipeline: a context that runs it in a thread. `origin` is the name of the pipeline's source.

    Without a declared topic it does nothing.
    """

    def __init__(
        self,
        declared: RejectsTopic | None,
        tables: PipelineTables,
        folder: Path,
        origin: str,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self._declared = declared
        self._tables = tables
        self._folder = folder
        self._origin = origin
        self._clock = clock
        self._tell = tell
        self._changed = threading.Condition()
        self._absorbed = tables.ledger.position()
        self._sent = tables.rejects.txn(letters_txn(tables.pipeline)) or 0
        self._kept = self._sent
        self._ending_at: float | None = None
        self._failure: BaseException | None = None
        self._producer: TopicProducer | None = None
        self._thread = threading.Thread(target=self._run, name="dead letters", daemon=True)

    def __enter__(self) -> DeadLetters:
        if self._declared is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._declared is None:
            return
        with self._changed:
            self._ending_at = self._clock.monotonic() + (DEAD_LETTER_END_SECONDS if error is None else 0.0)
            self._changed.notify_all()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def after_batch(self, batch: int) -> None:
        """The ledger has `batch`: its rejects are final."""
        with self._changed:
            self._absorbed = batch
            self._changed.notify_all()
        if self._failure is not None:
            raise self._failure

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        delay, kept_at = TRANSIENT_SECONDS_MIN, self._clock.monotonic()
        try:
            while not self._is_done():
                try:
                    self._send(min(self._absorbed, self._sent + DEAD_LETTER_BATCHES_MAX))
                    delay = TRANSIENT_SECONDS_MIN
                except (TransientError, UsageError, SourceLost) as error:
                    self._drop_producer()
                    self._tell(f"rejects are not sent, trying again in {delay:.2g} s: {error.message}")
                    self._wait(delay, for_more=False)
                    delay = min(TRANSIENT_SECONDS_MAX, 2 * delay)
                if self._clock.monotonic() - kept_at >= DEAD_LETTER_COMMIT_SECONDS:
                    self._keep_position()
                    kept_at = self._clock.monotonic()
                if self._sent >= self._absorbed:
                    self._wait(DEAD_LETTER_COMMIT_SECONDS)
            self._keep_position()
            if self._sent < self._absorbed:
                self._tell(f"the rejects of batches {self._sent + 1} to {self._absorbed} are sent by the next run")
        except BaseException as failure:  # noqa: BLE001 - raised in the loop's thread
            self._failure = failure
        finally:
            self._drop_producer()

    def _is_done(self) -> bool:
        ending = self._ending_at
        return ending is not None and (self._sent >= self._absorbed or self._clock.monotonic() >= ending)

    def _wait(self, seconds: float, *, for_more: bool = True) -> None:
        """Until the run ends, or with `for_more` another batch is absorbed."""
        with self._changed:
            is_ending, absorbed = self._ending_at is not None, self._absorbed
            if is_ending:
                self._changed.wait(min(TRANSIENT_SECONDS_MIN, seconds))
            else:
                self._changed.wait_for(
                    lambda: self._ending_at is not None or (for_more and self._absorbed > absorbed), seconds
                )

    def _keep_position(self) -> None:
        """Commit how far the topic has the rejects."""
        if self._sent > self._kept:
            tables = self._tables
            tables.rejects.commit(
                tables.writer, batch=None, txns={letters_txn(tables.pipeline): self._sent}, data_change=False
            )
            self._kept = self._sent

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, last: int) -> None:
        """Send the rejects of the batches up to `last`, one after the other: what fails repeats no other batch."""
        if last <= self._sent:
            return
        rejects = self._tables.rejects
        files = rejects.files()
        for batch in range(self._sent + 1, last + 1):
            if self._is_done():
                return
            for rows in rejects.read(columns=COLUMNS, batches=(batch, batch), files=files):
                if not self._send_rows(batch, rows):
                    return
            self._sent = batch

    def _send_rows(self, batch: int, rows: pa.Table) -> bool:
        """Send rejects of a batch; False where the run ended meanwhile."""
        assert self._declared is not None
        if self._producer is None:
            cluster = Cluster(self._declared.cluster, self._folder)
            self._producer = TopicProducer(cluster, self._declared.topic, silence_seconds=DEAD_LETTER_END_SECONDS)
        raw = self._raw(batch, rows)
        # Without the times: Python has none after the year 9999, and producers that mistake their unit send such.
        found = rows.drop_columns([TIMESTAMP]).to_pylist()
        keys = [raw.get(_place(row), (None, None))[0] for row in found]
        ours = [self._headers(row) for row in found]
        theirs = [raw.get(_place(row), (None, None))[1] or () for row in found]
        headers = [[*their, *our] for their, our in zip(theirs, ours, strict=True)]
        letters = pa.table(
            {
                "value": rows["value"],
                "key": pa.array(keys, pa.binary()),
                "headers": pa.array(headers, HEADERS),
                "timestamp": rows[TIMESTAMP],
                OURS: pa.array(ours, HEADERS),
                OWN_KEY: pa.array([_key_of(row) for row in found], pa.binary()),
            }
        )
        return _send_letters(self._producer, letters, self._is_done)

    def _raw(self, batch: int, rows: pa.Table) -> dict[tuple[int, int, int], tuple[bytes | None, Any]]:
        """Keys and headers of the records, from bronze."""
        offsets = pc.unique(rows[OFFSET])
        wanted = pc.field(OFFSET).isin(offsets)
        found = {}
        for part in self._tables.bronze.read(columns=[*PLACE, "key", "headers"], batches=(batch, batch)):
            for row in part.filter(wanted).to_pylist():
                found[_place(row)] = row["key"], row["headers"]
        return found

    def _headers(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        reasons = row["failed"] or [row["disposition"]]
        told = {
            "__connect.errors.topic": self._origin,
            "__connect.errors.partition": row[PARTITION],
            "__connect.errors.offset": row[OFFSET],
            "__connect.errors.exception.class.name": FOREIGN_EXCEPTION,
            "__connect.errors.exception.message": row["detail"] or ", ".join(reasons),
            "penstock.pipeline": self._tables.pipeline,
            "penstock.place": f"{row[SOURCE]}/{row[PARTITION]}/{row[OFFSET]}",
            "penstock.index": row[INDEX],
            "penstock.batch": row[BATCH],
            "penstock.disposition": row["disposition"],
            "penstock.failed": ",".join(row["failed"] or ()),
        }
        return [{"key": name, "value": str(value).encode()} for name, value in told.items()]


def _send_letters(producer: TopicProducer, letters: pa.Table, is_over: Callable[[], bool]) -> bool:
    """Send letters, and those that the topic does not accept mended, or in halves, for it refuses what comes together,
    or at last shorter; False where `is_over` said meanwhile that this takes too long.

    Raises:
        TransientError, UsageError: as `TopicProducer.send` does.
    """
    if is_over():
        return False
    refused = producer.send_acceptable(letters)
    for answer, mend in MENDS:  # for all together: each by itself would be a request
        if answer in refused.values():
            letters = mend(letters.take(pa.array(refused, pa.int64())))
            refused = producer.send_acceptable(letters)
    letters = letters.take(pa.array(refused, pa.int64()))
    if letters.num_rows > 1:
        half = letters.num_rows // 2
        halves = letters.slice(0, half), letters.slice(half)
        return all(_send_letters(producer, some, is_over) for some in halves)
    if letters.num_rows:
        _send_shorter(producer, letters)
    return True


def _send_shorter(producer: TopicProducer, letter: pa.Table) -> None:
    for shorter in _shorter(letter):
        if not producer.send_acceptable(shorter):
            return
    producer.send(shorter)  # says why not


def _keyed(letters: pa.Table) -> pa.Table:
    """With the place for a key where there is none: a compacted topic wants one."""
    return _with(letters, "key", pc.coalesce(letters["key"], letters[OWN_KEY]))


def _without_times_ahead(letters: pa.Table) -> pa.Table:
    """Without the times that are later than now: brokers refuse what is far ahead."""
    times = letters["timestamp"].cast(pa.int64())
    kept = pc.if_else(pc.greater(times, int(time.time() * 1_000_000)), pa.scalar(None, pa.int64()), times)
    return _with(letters, "timestamp", kept.cast(UTC_MICROSECONDS))


def _without_times(letters: pa.Table) -> pa.Table:
    return _with(letters, "timestamp", pa.nulls(letters.num_rows, UTC_MICROSECONDS))


MENDS = (("INVALID_RECORD", _keyed), ("INVALID_TIMESTAMP", _without_times_ahead), ("INVALID_TIMESTAMP", _without_times))
"""What a topic answers to a record, by the client's name, and letters that it may accept then."""


def _shorter(letter: pa.Table) -> Iterator[pa.Table]:
    """A letter that is too long without its value, whose length and hash a header tells, and then with our headers
    alone. What the topic refuses besides shows only now, so each has a key, and goes without its time too."""
    [row] = letter.select(["value", "headers", OURS]).to_pylist()
    told = []
    if row["value"] is not None:
        header = too_large_header(len(row["value"]), hashlib.sha256(row["value"]).hexdigest())
        told = [{"key": TOO_LARGE, "value": header}]
    empty = _with(_keyed(letter), "value", pa.array([None], pa.binary()))
    first = _with(empty, "headers", pa.array([[*row["headers"], *told]], HEADERS))
    yield first
    yield _without_times(first)
    bare = _with(_with(empty, "key", letter[OWN_KEY]), "headers", pa.array([[*row[OURS], *told]], HEADERS))
    yield _without_times(bare)


def _with(letters: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return letters.set_column(letters.schema.get_field_index(name), name, values)


def _key_of(row: dict[str, Any]) -> bytes:
    """The event's place, as `penstock rejects` shows it."""
    return f"{row[SOURCE]}/{row[PARTITION]}/{row[OFFSET]}#{row[INDEX]}".encode()


def _place(row: dict[str, Any]) -> tuple[int, int, int]:
    return row[SOURCE], row[PARTITION], row[OFFSET]
