"""One file as a stream of records, from its start, with a digest of every prefix. `folder.py` opens these.

A stream gives chunks of records; their `ends` are marks: where the content goes on after a record.
`digest_at` gives the SHA-256 of the content up to a mark, `finish` the hash of the file as it lies on disk. For Parquet
the "content" is the sequence of rows, so a mark is a row's ordinal.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from penstock import limits
from penstock.model.pipeline import CsvFormat
from penstock.sources.file_blocks import (
    FileDamaged,
    HashingReader,
    SecondReader,
    plain_blocks,
    verified_blocks,
)
from penstock.sources.framing import Framed, Framer
from penstock.sources.parquet_rows import open_parquet, row_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.model.pipeline import Format


@dataclass(frozen=True)
class Content:
    """How a file's bytes become records: `compression` is "", "gzip" or "zstd"; `quote` is set for CSV only."""

    is_parquet: bool = False
    compression: str = ""
    quote: str = ""
    delimiter: str = ","
    has_header: bool = False


LINE_SUFFIXES = (".ndjson", ".jsonl", ".json", ".log", ".txt", ".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
COMPRESSION_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
ACCEPTED_SUFFIXES = {
    "json": (".ndjson", ".jsonl", ".json", ".log", ".txt", *PARQUET_SUFFIXES),
    "text": LINE_SUFFIXES,
    "csv": (".csv", ".tsv", ".txt", ".log"),
    "parquet": PARQUET_SUFFIXES,
}
"""File names that belong to a declared format, without the suffix of a compression. Parquet rows are JSON records."""


@lru_cache(maxsize=64)
def content_of(path: str, declared: Format) -> Content | None:
    """How the file at `path` is read under the declared format; None when its name does not belong to the format."""
    stem, suffix = os.path.splitext(path.lower())
    compression = COMPRESSION_SUFFIXES.get(suffix, "")
    if compression:
        suffix = os.path.splitext(stem)[1]
    if suffix not in ACCEPTED_SUFFIXES[declared.kind]:
        return None
    if suffix in PARQUET_SUFFIXES:
        return None if compression else Content(is_parquet=True)
    if isinstance(declared, CsvFormat):
        # More than one byte cannot be a quote character of CSV; such a file has no quoted fields.
        quote = declared.quote if len(declared.quote.encode()) == 1 else ""
        return Content(False, compression, quote, declared.delimiter, declared.header)
    return Content(compression=compression)


class FileStream(Protocol):
    """Records of one file in order. `chunk` raises FileDamaged where the file cannot be read further."""

    header: bytes | None

    def chunk(self) -> Framed | None:
        """The next records, at least one; None at the end."""
        ...

    def digest_at(self, mark: int) -> bytes:
        """SHA-256 of the content below `mark`. Marks ascend, and are ends of records that were given already."""
        ...

    def jump(self, mark: int) -> bool:
        """Go on at `mark`, the end of some record, where the stream can; digests and hash are not known afterwards."""
        ...

    def finish(self) -> tuple[str, int]:
        """The hex SHA-256 and the size of the file on disk."""
        ...

    def close(self) -> None: ...


def open_stream(path: Path, content: Content, record_bytes_max: int) -> FileStream:
    """The file from its start.

    Raises:
        FileDamaged: it cannot be opened, or its beginning is broken.
    """
    try:
        # O_NONBLOCK: a file that became a pipe since it was listed must not stop us.
        handle = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as error:
        raise FileDamaged(f"cannot open it: {error.strerror}") from error
    try:
        if content.is_parquet:
            return ParquetStream(handle, record_bytes_max)
        return LineStream(handle, content, record_bytes_max)
    except BaseException:
        handle.close()
        raise


class LineStream:
    """Lines of text, or CSV's logical lines after the header line."""

    def __init__(self, handle: BinaryIO, content: Content, record_bytes_max: int) -> None:
        self.header: bytes | None = None
        self._handle = handle
        self._raw = HashingReader(handle) if content.compression else None
        self._blocks = self._open_blocks(content)
        self._content = content
        self._record_bytes_max = record_bytes_max
        self._framer = self._new_framer(0)
        self._content_hash = hashlib.sha256()
        self._hashed = 0
        self._unhashed: deque[bytes] = deque()
        self._ended = False
        self._wants_header = content.has_header

    def _new_framer(self, start: int) -> Framer:
        content = self._content
        return Framer(self._record_bytes_max, quote=content.quote, delimiter=content.delimiter, start=start)

    def jump(self, mark: int) -> bool:
        if self._raw is not None or mark <= 0:
            return False
        if self._wants_header:
            self.chunk()
        self._handle.seek(mark)
        self._blocks = plain_blocks(self._handle)
        self._framer = self._new_framer(mark)
        self._ended = False
        return True

    def _open_blocks(self, content: Content) -> Iterator[bytes]:
        if self._raw is None:
            return plain_blocks(self._handle)
        return verified_blocks(content.compression, self._raw, SecondReader(self._handle.fileno()))

    def chunk(self) -> Framed | None:
        while not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                framed = self._framer.finish()
            else:
                self._unhashed.append(block)
                framed = self._framer.feed(block)
            if self._wants_header and len(framed):
                framed = self._without_header(framed)
            if len(framed):
                return framed
            self._hash_up_to(self._framer.resolved)
        return None

    def _without_header(self, framed: Framed) -> Framed:
        self._wants_header = False
        self.header = framed.values[0].as_py()
        if self.header is None or len(self.header) > limits.CSV_HEADER_BYTES_MAX:
            raise FileDamaged(f"its header line is longer than {limits.CSV_HEADER_BYTES_MAX} bytes")
        too_large = {index - 1: text for index, text in framed.too_large.items()}
        return Framed(framed.values.slice(1), framed.ends[1:], too_large)

    def digest_at(self, mark: int) -> bytes:
        self._hash_up_to(mark)
        return self._content_hash.digest()

    def _hash_up_to(self, mark: int) -> None:
        while self._hashed < mark and self._unhashed:
            block = self._unhashed.popleft()
            wanted = mark - self._hashed
            if wanted < len(block):
                self._unhashed.appendleft(block[wanted:])
                block = block[:wanted]
            self._content_hash.update(block)
            self._hashed += len(block)

    def finish(self) -> tuple[str, int]:
        if self._raw is not None:
            return self._raw.hex_digest(), self._raw.size
        for block in self._blocks:
            self._unhashed.append(block)
            self._hash_up_to(self._hashed + len(block))
        while self._unhashed:
            self._hash_up_to(self._hashed + len(self._unhashed[0]))
        return self._content_hash.hexdigest(), self._hashed

    def close(self) -> None:
        self._handle.close()


class ParquetStream:
    """Rows as JSON text. The file's hash is taken first: a prefix of rows is told by it and their number."""

    header: bytes | None = None

    def __init__(self, handle: BinaryIO, record_bytes_max: int) -> None:
        self._handle = handle
        reader = HashingReader(handle)
        self._hash = reader.hex_digest()
        self._size = reader.size
        handle.seek(0)
        self._rows = 0
        self._chunks = row_chunks(open_parquet(handle), record_bytes_max)

    def chunk(self) -> Framed | None:
        found = next(self._chunks, None)
        if found is None:
            return None
        values, too_large = found
        ends = np.arange(self._rows + 1, self._rows + len(values) + 1, dtype=np.int64)
        self._rows += len(values)
        return Framed(values, ends, too_large)

    def digest_at(self, mark: int) -> bytes:
        return hashlib.sha256(f"{self._hash} {mark}".encode()).digest()

    def jump(self, mark: int) -> bool:  # noqa: ARG002 - rows are found by counting
        return False

    def finish(self) -> tuple[str, int]:
        return self._hash, self._size

    def close(self) -> None:
        self._handle.close()


def disk_hash(path: Path) -> str:
    """The hex SHA-256 of a file as it lies on disk.

    Raises:
        FileDamaged: it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as handle:
            return HashingReader(handle).hex_digest()
    except OSError as error:
        raise FileDamaged(f"cannot read it: {error.strerror}") from error
