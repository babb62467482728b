"""A folder of files as a source: one partition, offsets are the ordinals of records in the manifest's order.

A file enters the manifest (`manifest.py`) before bronze can hold a record of it: as `reading` when its end is not known
yet, as `complete` with its hash and number of records when it was read to the end. `plan` reads ahead, keeps what it
framed, and writes all rows it learned in one append; the following `read` is served from memory, any older one from the
files. The rules about names and waiting are in `listing.py`, about content in `file_streams.py`, about what comes next
in `intake.py`. A file's identity is (path, SHA-256): other content under the same path is another file, the same
content again is only noted.

Damage: what lies before it is delivered. Then, with `on_data_loss: stop`, the source stops at it (a repaired file goes
on where it stopped, because its prefix is compared); with `record` the file is noted as lost and the next one follows.
A file of which nothing can be read never holds up the others; with `stop` it is reported when they are done.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock import limits
from penstock.errors import SourceLost
from penstock.model.position import Range, SourceIdentity
from penstock.sources.catalogue import Catalogue
from penstock.sources.contract import RECORD_SCHEMA, Backlog, wall_clock
from penstock.sources.file_blocks import FileDamaged
from penstock.sources.intake import REPAIR, Intake
from penstock.sources.listing import Lister
from penstock.sources.manifest import FileState
from penstock.sources.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from penstock.model.pipeline import Format
    from penstock.model.position import Position
    from penstock.sources.catalogue import FileEntry
    from penstock.sources.contract import Bounds, Clock
    from penstock.sources.manifest import Manifest

PIECES_MAX = 256
"""More pieces than this in one table (many tiny files) are copied into one before they are handed on."""

READ_BYTES = 64 * limits.MIB
"""How much of a file is taken at once when a range is read again; one value array must stay below 2 GiB."""


class FolderSource:
    """Reads `folder` (called `name` towards people), but not `lake`, as incarnation `incarnation`. See `Source` for the
    contract."""

    divisible = False  # a range begins where the reader can go at once

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        declared: Format,
        incarnation: int,
        manifest: Manifest,
        lake: Path | None = None,
        on_data_loss: str = "stop",
        record_bytes_max: int = limits.RECORD_BYTES_MAX,
        clock: Clock = wall_clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.identity = SourceIdentity("files", name, name)
        self._incarnation = incarnation
        self._manifest = manifest
        self._sleep = sleep
        self._notices = Notices()
        self._catalogue = self._known = Catalogue(manifest, incarnation)
        self._intake = Intake(
            folder,
            declared,
            self._catalogue,
            Lister(folder, name, lake),
            self._notices,
            records_loss=on_data_loss == "record",
            record_bytes_max=record_bytes_max,
            clock=clock,
        )
        self._lock = threading.Lock()
        self._planned: deque[tuple[int, int, pa.Table]] = deque()
        self._digests: OrderedDict[int, int] = OrderedDict()
        self._loss: tuple[int, SourceLost | None] = (-1, None)

    # -- planning -----------------------------------------------------------------------------------------------------

    def plan(self, position: Position, bounds: Bounds) -> tuple[Range, ...]:
        offset = position.get(0, 0)
        lost_at, loss = self._loss
        self._loss = (-1, None)
        if loss is not None and lost_at == offset:
            raise loss
        self._intake.move_to(offset, self._digests.get(offset))
        pieces: list[tuple[int, str, pa.RecordBatch]] = []
        rows, size = 0, 0
        try:
            while rows < bounds.rows and size < bounds.bytes and (cursor := self._intake.next_cursor()) is not None:
                first, hint = cursor.offset, _hint(cursor.entry, cursor.ordinal, cursor.mark)
                taken = cursor.take(bounds.rows - rows, bounds.bytes - size, at_least_one=not pieces)
                if taken is None:
                    break
                pieces.append((first, hint, taken[0]))
                rows, size = rows + taken[0].num_rows, size + taken[1]
                self._note_digest(cursor.offset, cursor.digest())
            self._intake.settle()
        except SourceLost as loss:
            if not pieces:
                raise
            # What lies before the loss is delivered first; the next plan raises it.
            self._loss = (pieces[-1][0] + pieces[-1][2].num_rows, loss)
        finally:
            self._catalogue.keep()
        if not pieces:
            self._intake.raise_unreadable()
            return ()
        return self._remember(pieces)

    def _remember(self, pieces: list[tuple[int, str, pa.RecordBatch]]) -> tuple[Range, ...]:
        """The pieces as ranges without gaps inside; their records are kept for `read`."""
        ranges: list[Range] = []
        batches: list[pa.RecordBatch] = []
        start, start_hint, reached = pieces[0][0], pieces[0][1], pieces[0][0]
        for first, hint, batch in pieces:
            if first != reached:
                ranges.append(self._keep_planned(start, reached, start_hint, batches))
                start, start_hint, batches = first, hint, []
            batches.append(batch)
            reached = first + batch.num_rows
        ranges.append(self._keep_planned(start, reached, start_hint, batches))
        with self._lock:
            # A plan may have gaps, each of which ends a table; those of one plan stay together.
            while len(self._planned) > limits.FILE_PLANS_CACHED_MAX + len(ranges) - 1:
                self._planned.popleft()
        return tuple(ranges)

    def _keep_planned(self, start: int, end: int, hint: str, batches: list[pa.RecordBatch]) -> Range:
        table = pa.Table.from_batches(batches, schema=RECORD_SCHEMA)
        if len(batches) > PIECES_MAX:
            table = table.combine_chunks()
        with self._lock:
            self._planned.append((start, end, table))
        return Range(self._incarnation, 0, start, end, hint)

    def _note_digest(self, offset: int, digest: int) -> None:
        with self._lock:
            self._digests[offset] = digest
            self._digests.move_to_end(offset)
            while len(self._digests) > limits.FILE_DIGESTS_MAX:
                self._digests.popitem(last=False)

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, ranges: Sequence[Range]) -> pa.Table:
        tables: list[pa.Table] = []
        for span in sorted(ranges, key=lambda span: span.start):
            planned = self._from_memory(span)
            tables += [planned] if planned is not None else self._from_files(span)
        return pa.concat_tables(tables or [RECORD_SCHEMA.empty_table()])

    def _from_memory(self, span: Range) -> pa.Table | None:
        with self._lock:
            for start, end, table in self._planned:
                if start <= span.start and span.end <= end:
                    return table.slice(span.start - start, span.end - span.start)
        return None

    def _from_files(self, span: Range) -> Iterator[pa.Table]:
        reached = span.start
        for entry in self._entries_of(span):
            if entry.first_offset > reached:
                break
            end = span.end if entry.end is None else min(span.end, entry.end)
            try:
                yield from self._from_file(entry, reached, end, span)
            except FileDamaged as damage:
                raise SourceLost(
                    f"{entry.path}: {damage.message}; records {reached}..{end} can no longer be read", hint=REPAIR
                ) from damage
            reached = end
        if reached < span.end:
            raise SourceLost(
                f"no file of the manifest holds records {reached}..{span.end}",
                hint="Restore all tables of the pipeline from the same backup.",
            )

    def _entries_of(self, span: Range) -> list[FileEntry]:
        entries = list(self._known.overlapping(span.start, span.end))
        end = entries[-1].end if entries else None
        # Another process may have taken files in since this one read the manifest, and come to the end of the last.
        if (end is None or end < span.end) and self._manifest.refresh():
            self._known = Catalogue(self._manifest, self._incarnation)
            entries = list(self._known.overlapping(span.start, span.end))
        return entries

    def _from_file(self, entry: FileEntry, start: int, end: int, span: Range) -> Iterator[pa.Table]:
        ordinal = start - entry.first_offset
        cursor = self._intake.open_at(entry, ordinal, mark=_mark(span.hint, entry, ordinal))
        try:
            while cursor.offset < end:
                taken = cursor.take(end - cursor.offset, READ_BYTES, at_least_one=True) if cursor.more() else None
                if taken is None:
                    raise FileDamaged(f"it holds only {cursor.ordinal} records")
                yield pa.Table.from_batches([taken[0]])
        finally:
            cursor.close()

    # -- restart ------------------------------------------------------------------------------------------------------

    def read_pieces(self, ranges: Sequence[Range], *, rows: int, size: int) -> Iterator[pa.Table]:  # noqa: ARG002
        yield self.read(ranges)  # a plan of this source is exact

    def held(self, records: int, size: int, offsets: int) -> None:
        """Plans look at the records themselves."""

    def fingerprint(self, position: Position) -> Mapping[int, int]:
        offset = position.get(0, 0)
        with self._lock:
            digest = self._digests.get(offset)
        if digest is not None or offset == 0:
            return {} if digest is None else {0: digest}
        entry = self._catalogue.before(offset)
        if entry is None:
            return {}
        try:
            cursor = self._intake.open_at(entry, offset - entry.first_offset)
        except FileDamaged as damage:
            raise SourceLost(f"{entry.path}: {damage.message}", hint=REPAIR) from damage
        digest = cursor.digest()
        cursor.close()
        return {0: digest}

    def resume(self, position: Position, fingerprints: Mapping[int, int]) -> None:
        offset = position.get(0, 0)
        digest = fingerprints.get(0)
        self._intake.move_to(offset, digest)
        entry = self._catalogue.before(offset)
        if entry is None or (entry.end == offset and entry.state is not FileState.READING):
            return
        if digest is not None:
            self._note_digest(offset, digest)
        self._intake.enter(entry, offset)
        self._catalogue.keep()

    def forget(self, position: Position) -> None:
        with self._lock:
            while self._planned and self._planned[0][1] <= position.get(0, 0):
                self._planned.popleft()

    # -- what is ahead ------------------------------------------------------------------------------------------------

    def backlog(self, position: Position) -> Backlog:  # noqa: ARG002 - sizes on disk do not tell records
        return Backlog(None, self._intake.bytes_ahead())

    def wait(self, position: Position, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._has_work(position):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._sleep(min(left, max(limits.FILE_LOOK_SECONDS, 10 * self._intake.look_seconds)))
        return True

    def exhausted(self, position: Position) -> bool:
        return not self._has_work(position) and not self._intake.has_fresh()

    def _has_work(self, position: Position) -> bool:
        offset = position.get(0, 0)
        if self._intake.has_work(offset):
            return True
        self._intake.look()
        return self._intake.has_work(offset)

    def notices(self) -> tuple[str, ...]:
        return self._notices.take()

    def close(self) -> None:
        self._intake.close()
        with self._lock:
            self._planned.clear()


def _hint(entry: FileEntry, ordinal: int, mark: int) -> str:
    """Where in which file a range starts: its `first` offset, the record's `ordinal` and the content byte `mark`."""
    return json.dumps({"first": entry.first_offset, "ordinal": ordinal, "mark": mark, "path": entry.path})


def _mark(hint: str, entry: FileEntry, ordinal: int) -> int:
    """The content byte at which record `ordinal` of the file starts, where the hint is about it; else 0."""
    try:
        about = json.loads(hint) if hint else {}
        if (about["first"], about["ordinal"], about["path"]) == (entry.first_offset, ordinal, entry.path):
            return int(about["mark"])
    except (ValueError, KeyError, TypeError):
        return 0
    return 0
