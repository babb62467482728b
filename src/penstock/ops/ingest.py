"""Pushes records into a pipeline's local log: from files, from a stream, or from Python values.

A push is done when the log has it on disk. A record over the size limit is refused and named; its neighbours go on.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
import pyarrow as pa

from penstock import limits
from penstock.errors import UsageError
from penstock.model.pipeline import CsvFormat, PushSource
from penstock.model.position import Range
from penstock.serving.jsontext import objects
from penstock.sources.contract import CSV_HEADER
from penstock.sources.file_blocks import FileDamaged, plain_blocks
from penstock.sources.file_streams import Content, content_of, open_stream
from penstock.sources.framing import Framer
from penstock.sources.opening import open_push_log
from penstock.sources.records import headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from penstock.model.pipeline import Pipeline
    from penstock.settings import Settings
    from penstock.sources.framing import Framed
    from penstock.sources.push_log import Appended, PushLog

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Refused:
    """A record over the size limit: the file it is in, its ordinal there (from 1) and its length in bytes."""

    name: str
    ordinal: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.name}: record {self.ordinal} holds {self.bytes:,} bytes"


@dataclass(frozen=True)
class Ingested:
    """What came of one input. `ranges` are the places of its records, all of them durable."""

    name: str
    records: int
    ranges: tuple[Range, ...]
    refused: tuple[Refused, ...] = ()


class Pusher:
    """Pushes to one pipeline's log; `source` is the number the places are printed with. Use it with `with`.

    Raises:
        UsageError: the pipeline does not read from a push log.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, state_folder: Path, source: int = 1) -> None:
        origin = pipeline.source.origin
        if not isinstance(origin, PushSource):
            what = {"files": "files from a folder", "kafka": "a Kafka topic", "simulate": "the simulator"}[origin.kind]
            raise UsageError(
                f"pipeline {pipeline.name} reads {what}, so nothing can be pushed to it",
                hint="Only a pipeline with `source: push: {}` takes records; others go on by themselves.",
            )
        self._pipeline = pipeline
        self.source = source
        self._record_bytes_max = settings.record_bytes_max
        self._log: PushLog = open_push_log(
            origin,
            pipeline=pipeline.name,
            state_folder=state_folder,
            record_bytes_max=settings.record_bytes_max,
            push_bytes_max=settings.push_bytes_max,
        )

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def file(self, path: Path) -> Ingested:
        """Every record of a file: lines, CSV records or Parquet rows, by its name; gzip and Zstandard too.

        Raises:
            UsageError: the file cannot be read, or not to its end; what was read before is durable.
        """
        content = content_of(path.name, self._pipeline.source.format) or self._lines_of(path)
        try:
            stream = open_stream(path, content, self._record_bytes_max)
        except FileDamaged as error:
            raise UsageError(f"{path}: {error.message}", hint="Nothing of it was pushed.") from error
        try:
            return self._push(str(path), iter(stream.chunk, None), lambda: stream.header)
        finally:
            stream.close()

    def stream(self, handle: BinaryIO, name: str = "standard input") -> Ingested:
        """Every line (or CSV record) of a stream."""
        content = content_of("stdin.txt", self._pipeline.source.format) or Content()
        framer = Framer(self._record_bytes_max, quote=content.quote, delimiter=content.delimiter)
        header: bytes | None = None

        def chunks() -> Iterator[Framed | None]:
            nonlocal header
            for block in plain_blocks(handle):
                framed = framer.feed(block)
                if content.has_header and header is None and len(framed):
                    header, framed = split_header(framed)
                yield framed
                if is_idle(handle):
                    yield None
            framed = framer.finish()
            if content.has_header and header is None and len(framed):
                header, framed = split_header(framed)
            yield framed

        return self._push(name, chunks(), lambda: header)

    def values(self, data: Any) -> Ingested:
        """Python values: see `as_records` for what they may be."""
        return self._append("data", as_records(data))

    def records(self, records: pa.Table) -> Appended:
        """Records as Arrow: `value` (binary), and `key`, `timestamp`, `headers` where they are known."""
        return self._log.append(records)

    def _lines_of(self, path: Path) -> Content:
        """How a file is read whose name does not say it: as lines of the declared format."""
        suffix = path.suffix.lower() if path.suffix.lower() in (".gz", ".zst", ".zstd") else ""
        return content_of(f"file.txt{suffix}", self._pipeline.source.format) or Content()

    def _push(self, name: str, chunks: Iterable[Framed | None], header: Callable[[], bytes | None]) -> Ingested:
        """Append chunks as they come, gathered up to a commit's worth. None says that what is there should not wait."""
        waiting: list[pa.Array] = []
        waiting_bytes = seen = records = 0
        ranges: list[Range] = []
        refused: list[Refused] = []

        def flush() -> None:
            nonlocal waiting, waiting_bytes, records
            if waiting:
                values = pa.chunked_array(waiting, pa.binary())
                done = self._append(name, self._with_header(values, header()))
                records += done.records
                ranges.extend(done.ranges)
                waiting, waiting_bytes = [], 0

        try:
            for framed in chunks:
                if framed is None:
                    flush()
                    continue
                for index, text in framed.too_large.items():
                    refused.append(Refused(name, seen + index + 1, orjson.loads(text)["bytes"]))
                values = framed.values.drop_null() if framed.too_large else framed.values
                seen += len(framed)
                waiting.append(values.cast(pa.binary()))
                waiting_bytes += values.nbytes
                if waiting_bytes >= limits.INGEST_PUSH_BYTES:
                    flush()
        except FileDamaged as error:
            flush()
            raise UsageError(
                f"{name}: {error.message}",
                hint=f"The {records:,} records before the damage are durable. Repair the file and push it again.",
            ) from error
        flush()
        return Ingested(name, records, joined(ranges), tuple(refused))

    def _with_header(self, values: pa.ChunkedArray, header: bytes | None) -> pa.Table:
        if header is None or not isinstance(self._pipeline.source.format, CsvFormat):
            return pa.table({"value": values})
        return pa.table({"value": values, "headers": headers(len(values), {CSV_HEADER: header})})

    def _append(self, name: str, records: pa.Table) -> Ingested:
        if records.num_rows == 0:
            return Ingested(name, 0, ())
        appended = self._log.append(records)
        return Ingested(name, records.num_rows, appended.ranges(self.source))


def is_idle(handle: BinaryIO) -> bool:
    """True when a pipe or terminal has nothing to read at the moment."""
    try:
        return not select.select([handle], [], [], 0)[0]
    except (OSError, ValueError):  # not something that can be waited for
        return False


def split_header(framed: Framed) -> tuple[bytes, Framed]:
    """The first record of a CSV stream, which names the fields, and the rest.

    Raises:
        UsageError: it is longer than any header line.
    """
    first = framed.values[0].as_py()
    if first is None or len(first) > limits.CSV_HEADER_BYTES_MAX:
        raise UsageError(
            f"the header line is longer than {limits.CSV_HEADER_BYTES_MAX:,} bytes",
            hint="A CSV stream starts with the line that names its fields, unless `csv: {header: false}` is declared.",
        )
    rest = {index - 1: text for index, text in framed.too_large.items()}
    return first, type(framed)(framed.values.slice(1), framed.ends[1:], rest)


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ranges in order, adjacent ones as one."""
    found: list[Range] = []
    for one in sorted(ranges):
        last = found[-1] if found else None
        if last and (last.source, last.partition, last.end) == (one.source, one.partition, one.start):
            found[-1] = Range(one.source, one.partition, last.start, one.end)
        else:
            found.append(one)
    return tuple(found)


def as_records(data: Any) -> pa.Table:
    """Python values as records.

    `bytes` and `str` items are records as they are; dictionaries, and the rows of an Arrow table, a record batch, a
    pandas or a polars frame become one JSON object each (decimals and integers exact, times ISO 8601 in UTC, binary as
    base64).

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(data, bytes | str | dict):
        data = [data]
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if not isinstance(data, pa.Table | list | tuple) and hasattr(data, "__arrow_c_stream__"):
        data = pa.table(data)
    if isinstance(data, pa.Table):
        return pa.table({"value": _json_of(data)})
    try:
        items = list(data)
        if set(map(type, items)) != {bytes}:  # records as they are need no look at each: a third of a push's CPU time
            items = [_record(item) for item in items]
    except (TypeError, orjson.JSONEncodeError) as error:
        raise UsageError(
            f"cannot push {type(data).__name__}: {error}",
            hint="Push bytes, text, dictionaries, or an Arrow table, a pandas or a polars frame.",
        ) from error
    return pa.table({"value": pa.array(items, pa.binary())})


def _record(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, dict):
        return orjson.dumps(item)
    raise TypeError(f"a record of type {type(item).__name__}")


def _json_of(table: pa.Table) -> pa.ChunkedArray:
    chunks = [
        objects(batch.schema.names, batch.columns, batch.num_rows).cast(pa.large_binary()).cast(pa.binary())
        for batch in table.to_batches(max_chunksize=limits.QUERY_ROWS_PER_BATCH)
    ]
    return pa.chunked_array(chunks, pa.binary())
