"""A place inside one file that moves forward: records come out as Arrow batches with their offsets and headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.sources.contract import CSV_HEADER, FILE_PATH, RECORD_SCHEMA, TOO_LARGE
from penstock.sources.file_blocks import FileDamaged
from penstock.sources.file_streams import open_stream
from penstock.sources.records import headers, times, with_headers_at

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.sources.catalogue import FileEntry
    from penstock.sources.file_streams import Content
    from penstock.sources.framing import Framed

DIGEST_BITS_UNUSED = 1
"""Delta's txn versions are signed 64-bit numbers: of the first eight bytes of a digest the last bit goes."""


class FileCursor:
    """Reads the file of `entry` in `folder` from its start.

    Raises (every method):
        FileDamaged: the file cannot be read further.
    """

    def __init__(self, folder: Path, entry: FileEntry, content: Content, record_bytes_max: int) -> None:
        self.entry = entry
        self.ordinal = 0
        self.mark = 0
        self._stream = open_stream(folder / entry.path, content, record_bytes_max)
        self._chunk: Framed | None = None
        self._taken = 0
        self._damage: FileDamaged | None = None
        self._headers = pa.nulls(0, RECORD_SCHEMA.field("headers").type)

    @property
    def offset(self) -> int:
        """The offset of the next record."""
        return self.entry.first_offset + self.ordinal

    def more(self) -> bool:
        """True when there is another record; never beyond the number the manifest gives for the file."""
        if self.ordinal == self.entry.records:
            return False
        if self._damage is not None:
            raise self._damage
        if self._chunk is None or self._taken == len(self._chunk):
            try:
                self._chunk, self._taken = self._stream.chunk(), 0
            except FileDamaged as damage:
                # The stream would call itself ended when asked again.
                self._damage = damage
                raise
        return self._chunk is not None

    def skip_to(self, ordinal: int, mark: int = 0) -> None:
        """Pass over records; `mark`, where known, is where the content goes on after them.

        Raises:
            FileDamaged: the file has fewer records.
        """
        if mark and self.ordinal == 0 and self._stream.jump(mark):
            self.ordinal, self.mark, self._chunk = ordinal, mark, None
            return
        while self.ordinal < ordinal:
            if not self.more():
                raise FileDamaged(f"it holds only {self.ordinal} records, {ordinal} were delivered")
            self._pass(min(ordinal - self.ordinal, self._left()))

    def take(self, rows_max: int, bytes_max: int, *, at_least_one: bool) -> tuple[pa.RecordBatch, int] | None:
        """Some of the next records and their bytes, after `more` said that there are any; None when none fits."""
        chunk = self._chunk
        if chunk is None:
            return None
        same = self._same_headers()
        each = sum(len(name) + len(value) for name, value in same.items())
        if self.entry.records >= 0:
            rows_max = min(rows_max, self.entry.records - self.ordinal)
        count, size = self._fitting(chunk, each, rows_max, bytes_max)
        if count == 0 and not at_least_one:
            return None
        count = max(count, 1)
        start, first = self._taken, self.offset
        self._pass(count)
        end = start + count
        too_large = {at - start: {TOO_LARGE: text} for at, text in chunk.too_large.items() if start <= at < end}
        return self._batch(chunk.values.slice(start, count), first, same, too_large), size

    def _fitting(self, chunk: Framed, each: int, rows_max: int, bytes_max: int) -> tuple[int, int]:
        """How many of the chunk's records fit, and their bytes (those of one where none fits)."""
        left = self._left()
        # Offsets are counted too, so this is a little more than the records hold.
        most = chunk.values.nbytes + each * len(chunk)
        if self._taken == 0 and left <= rows_max and most <= bytes_max and not chunk.too_large:
            return left, most
        lengths = pc.fill_null(pc.binary_length(chunk.values.slice(self._taken)), 0).to_numpy(zero_copy_only=False)
        running = np.cumsum(lengths, dtype=np.int64) + each * np.arange(1, len(lengths) + 1)
        for index, text in chunk.too_large.items():
            if index >= self._taken:
                running[index - self._taken :] += len(TOO_LARGE) + len(text)
        count = min(int(np.searchsorted(running, bytes_max, side="right")), rows_max, len(running))
        return count, int(running[max(count, 1) - 1])

    def _left(self) -> int:
        return 0 if self._chunk is None else len(self._chunk) - self._taken

    def _pass(self, count: int) -> None:
        assert self._chunk is not None
        self._taken += count
        self.ordinal += count
        self.mark = int(self._chunk.ends[self._taken - 1])

    def _same_headers(self) -> dict[str, bytes]:
        same = {FILE_PATH: self.entry.path.encode()}
        if self._stream.header is not None:
            same[CSV_HEADER] = self._stream.header
        return same

    def _batch(
        self, values: pa.Array, first: int, same: dict[str, bytes], too_large: dict[int, dict[str, bytes]]
    ) -> pa.RecordBatch:
        rows = len(values)
        if len(self._headers) < rows:
            self._headers = headers(rows, same)
        columns = [
            pa.array(np.zeros(rows, np.int32)),
            pa.array(np.arange(first, first + rows, dtype=np.int64)),
            times(rows, self.entry.mtime_us),
            times(rows, None),
            pa.nulls(rows, pa.binary()),
            values,
            with_headers_at(self._headers.slice(0, rows), rows, same, too_large),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RECORD_SCHEMA)

    def digest(self) -> int:
        """63 bits of the SHA-256 of the content up to here."""
        return int.from_bytes(self._stream.digest_at(self.mark)[:8]) >> DIGEST_BITS_UNUSED

    def finish(self) -> tuple[str, int]:
        """The hex SHA-256 and size of the file on disk."""
        return self._stream.finish()

    def close(self) -> None:
        self._stream.close()
