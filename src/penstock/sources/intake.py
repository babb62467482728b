"""Which file of a folder comes next, where it begins, and how it ends: read whole, damaged, changed, unreadable.

`files.py` takes records from the cursor that this hands out. Every decision is put into the catalogue; `files.py` makes
it durable before it hands records on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.errors import SourceLost
from penstock.sources.catalogue import FileEntry
from penstock.sources.file_blocks import FileDamaged
from penstock.sources.file_cursor import FileCursor
from penstock.sources.file_streams import content_of, disk_hash
from penstock.sources.listing import FoundFile
from penstock.sources.manifest import FileState

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.model.pipeline import Format
    from penstock.sources.catalogue import Catalogue
    from penstock.sources.contract import Clock
    from penstock.sources.listing import Lister, Listing
    from penstock.sources.notices import Notices

REPAIR = "Put the file back as it was, or set `on_data_loss: record` to go on without what is missing."
NAMED_IN_ERROR_MAX = 5
UNKNOWN_SIZE = -1
"""Size of a file whose present content was not taken in: any file found under its path is looked at."""


_UNNAMED = FoundFile("", UNKNOWN_SIZE, 0, 0)


class Intake:
    """A place in the sequence of all records of a folder. Not thread safe."""

    def __init__(
        self,
        folder: Path,
        declared: Format,
        catalogue: Catalogue,
        lister: Lister,
        notices: Notices,
        *,
        records_loss: bool,
        record_bytes_max: int,
        clock: Clock,
    ) -> None:
        self.offset = 0
        self.look_seconds = 0.0
        self._folder = folder
        self._declared = declared
        self._catalogue = catalogue
        self._lister = lister
        self._notices = notices
        self._records_loss = records_loss
        self._record_bytes_max = record_bytes_max
        self._clock = clock
        self._cursor: FileCursor | None = None
        self._expected: tuple[int, int | None] = (0, None)
        self._queue: deque[FoundFile] = deque()
        self._fresh: tuple[FoundFile, ...] = ()
        self._may_look = True
        self._tried: dict[str, FoundFile] = {}
        self._unreadable: dict[str, str] = {}

    # -- moving -------------------------------------------------------------------------------------------------------

    def move_to(self, offset: int, digest: int | None) -> None:
        """Go on at `offset`, below which the file's content has `digest` (None: not known).

        Raises:
            SourceLost: the manifest does not reach that far.
        """
        self._may_look = True
        if self._cursor is not None and self._cursor.offset == offset:
            return
        self.close()
        if self._catalogue.reading() is None and offset > self._catalogue.next_offset:
            raise SourceLost(
                f"bronze is at offset {offset}, the manifest ends at {self._catalogue.next_offset}: it is older",
                hint="Restore all tables of the pipeline from the same backup.",
            )
        self.offset = offset
        self._expected = (offset, digest)

    def next_cursor(self) -> FileCursor | None:
        """A cursor with a record to take; None when there is nothing now.

        Raises:
            SourceLost: records are lost and `on_data_loss` is `stop`.
        """
        while True:
            if self._cursor is None:
                if not (self._open_known() or self._open_new()):
                    return None
                continue
            self.offset = self._cursor.offset
            try:
                if self._cursor.more():
                    return self._cursor
                self._complete(self._cursor)
            except FileDamaged as damage:
                cursor = self._cursor
                self.close()
                self._end_early(cursor.entry, cursor.ordinal, damage.message)

    def settle(self) -> None:
        """Note the end of a file whose last record was just taken: from then on its owner may change it.

        Raises:
            SourceLost: its content is not what was listed, and `on_data_loss` is `stop`.
        """
        if self._cursor is None:
            return
        self.offset = self._cursor.offset
        try:
            if not self._cursor.more():
                self._complete(self._cursor)
        except FileDamaged:
            # The cursor keeps it; the next plan comes upon it.
            return

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    # -- files that the manifest knows --------------------------------------------------------------------------------

    def _open_known(self) -> bool:
        entry = self._catalogue.holding(self.offset)
        if entry is None:
            return False
        self.enter(entry, max(self.offset, entry.first_offset))
        return True

    def enter(self, entry: FileEntry, offset: int) -> None:
        """Open the file that holds records up to or from `offset`, and compare what was delivered of it.

        Raises:
            SourceLost: it is not what it was, and `on_data_loss` is `stop`.
        """
        self.offset = offset
        ordinal = offset - entry.first_offset
        try:
            self._cursor = self.open_at(entry, ordinal, self._expected_digest())
        except FileDamaged as damage:
            if ordinal or entry.records >= 0:
                self._lose(entry, ordinal, damage.message, UNKNOWN_SIZE, 0, "")
            else:
                self._end_early(entry, 0, damage.message)

    def _expected_digest(self) -> int | None:
        offset, digest = self._expected
        return digest if offset == self.offset else None

    def open_at(self, entry: FileEntry, ordinal: int, digest: int | None = None, mark: int = 0) -> FileCursor:
        """A cursor in a file of the manifest, after `ordinal` records.

        Raises:
            FileDamaged: the file is not there, or not what it was.
        """
        content = content_of(entry.path, self._declared)
        if content is None:
            raise FileDamaged("its name does not belong to the declared format any more")
        if entry.sha256 and self._stat(entry.path) != (entry.size, entry.mtime_us):
            if disk_hash(self._folder / entry.path) != entry.sha256:
                raise FileDamaged("its content has changed since it was listed")
            mark = 0
        cursor = FileCursor(self._folder, entry, content, self._record_bytes_max)
        try:
            cursor.skip_to(ordinal, mark)
            if digest is not None and ordinal and cursor.digest() != digest:
                raise FileDamaged(f"the first {ordinal} records are not those that were delivered")
        except BaseException:
            cursor.close()
            raise
        return cursor

    def _complete(self, cursor: FileCursor) -> None:
        """The file's last record was taken."""
        entry = cursor.entry
        sha256, size = cursor.finish()
        ordinal = cursor.ordinal
        self.close()
        if entry.state is FileState.READING:
            self._catalogue.put(replace(entry, state=FileState.COMPLETE, records=ordinal, sha256=sha256, size=size))
        elif entry.sha256 and sha256 != entry.sha256:
            self._lose(entry, ordinal, "its content changed while it was read", UNKNOWN_SIZE, 0, "")

    # -- files that end early -----------------------------------------------------------------------------------------

    def _end_early(self, entry: FileEntry, ordinal: int, reason: str) -> None:
        """A file cannot be read beyond `ordinal` records."""
        stat = self._stat(entry.path)
        if ordinal == 0 and entry.records < 0:
            self._note_unreadable(entry, reason, stat)
            return
        try:
            sha256 = disk_hash(self._folder / entry.path)
        except FileDamaged:
            sha256 = ""
        self._lose(entry, ordinal, reason, *(stat or (UNKNOWN_SIZE, 0)), sha256)

    def _lose(self, entry: FileEntry, ordinal: int, reason: str, size: int, mtime_us: int, sha256: str) -> None:
        """Records of `entry` from `ordinal` on cannot be delivered: stop, or note it and go on behind them."""
        start = entry.first_offset + ordinal
        end = f"{entry.end}" if entry.end is not None else "the end of the file"
        message = f"{entry.path}: {reason}; records from offset {start} to {end} are lost"
        if not self._records_loss:
            raise SourceLost(message, hint=REPAIR)
        self._catalogue.put(
            replace(entry, state=FileState.LOST, records=ordinal, size=size, mtime_us=mtime_us, sha256=sha256)
        )
        self._notices.add(f"Lost: {message}.")
        self.offset = start

    def _note_unreadable(self, entry: FileEntry, reason: str, stat: tuple[int, int] | None) -> None:
        if stat is None:
            # It was taken away before anything was taken of it: as if it had never been there.
            if self._catalogue.reading() == entry:
                self._catalogue.put(replace(entry, state=FileState.LOST, records=0, size=UNKNOWN_SIZE))
            return
        known = self._catalogue.latest(entry.path)
        self._unreadable[entry.path] = reason
        if known is not None and known.state is FileState.UNREADABLE and (known.size, known.mtime_us) == stat:
            return
        self._catalogue.put(
            replace(entry, state=FileState.UNREADABLE, records=0, size=stat[0], mtime_us=stat[1], sha256="")
        )
        self._notices.add(f"Unreadable: {entry.path}: {reason}.")

    def raise_unreadable(self) -> None:
        """Report the files of which nothing could be read, once everything else is done.

        Raises:
            SourceLost: there are such files and `on_data_loss` is `stop`.
        """
        if self._records_loss or not self._unreadable:
            return
        named = [f"{path}: {reason}" for path, reason in sorted(self._unreadable.items())[:NAMED_IN_ERROR_MAX]]
        more = len(self._unreadable) - len(named)
        raise SourceLost(
            f"nothing could be read of {len(self._unreadable)} file(s), all others were taken in: "
            + "; ".join(named)
            + (f"; and {more} more" if more else ""),
            hint="Repair or remove them, or set `on_data_loss: record` to go on without them.",
        )

    # -- files that are new -------------------------------------------------------------------------------------------

    def _open_new(self) -> bool:
        if not self._queue:
            if not self._may_look:
                return False
            self._may_look = False
            self.look()
            return bool(self._queue)
        found = self._queue.popleft()
        if self._is_wanted(found):
            self._begin(found)
        return True

    def _begin(self, found: FoundFile) -> None:
        content = content_of(found.path, self._declared)
        if content is None:
            return
        entry = FileEntry(found.path, found.size, found.mtime_us, "", self.offset, -1, FileState.READING)
        self._tried[found.path] = found
        try:
            cursor = FileCursor(self._folder, entry, content, self._record_bytes_max)
        except FileDamaged as damage:
            self._note_unreadable(entry, damage.message, self._stat(found.path))
            return
        if self._stat(found.path) != (found.size, found.mtime_us):
            # Somebody writes to it again: it waits for the next look.
            cursor.close()
            return
        self._catalogue.put(entry)
        self._unreadable.pop(found.path, None)
        self._cursor = cursor

    def _is_wanted(self, found: FoundFile) -> bool:
        """True when the file is to be taken in; what speaks against it is noted."""
        known = self._catalogue.latest(found.path)
        about = FileEntry(found.path, found.size, found.mtime_us, "", self.offset, 0, FileState.IGNORED)
        if content_of(found.path, self._declared) is None:
            if known is None:
                self._catalogue.put(about)
                self._notices.add(f"Ignored: {found.path}: its name does not belong to {self._declared.kind} files.")
            return False
        if not self._is_candidate(found):
            return False
        if known is None or known.state in (FileState.IGNORED, FileState.UNREADABLE):
            return True
        try:
            sha256 = disk_hash(self._folder / found.path)
        except FileDamaged as damage:
            self._tried[found.path] = found
            self._note_unreadable(about, damage.message, self._stat(found.path))
            return False
        if not self._catalogue.is_known_content(found.path, sha256):
            return True
        self._catalogue.put(replace(about, sha256=sha256, state=FileState.REPEATED))
        self._notices.add(f"Repeated: {found.path}: this content was taken in before, nothing was added.")
        return False

    def _is_candidate(self, found: FoundFile) -> bool:
        """True when the file may be new, as far as its name, size and times tell."""
        if content_of(found.path, self._declared) is None:
            return False
        known = self._catalogue.latest(found.path)
        if self._tried.get(found.path) == found and (known is None or known.state is FileState.UNREADABLE):
            return False
        if known is None or known.state in (FileState.IGNORED, FileState.UNREADABLE):
            return True
        return (known.size, known.mtime_us) != (found.size, found.mtime_us)

    def look(self) -> None:
        """List the folder and queue what may be new.

        Raises:
            SourceLost: the folder is gone.
        """
        started = time.monotonic()
        listing = self._lister.look(self._clock())
        self.look_seconds = time.monotonic() - started
        self._queue = deque(found for found in listing.settled if self._is_candidate(found) or self._is_foreign(found))
        self._fresh = tuple(found for found in listing.fresh if self._is_candidate(found))
        self._forget_repaired(listing)

    def _is_foreign(self, found: FoundFile) -> bool:
        return content_of(found.path, self._declared) is None and self._catalogue.latest(found.path) is None

    def _forget_repaired(self, listing: Listing) -> None:
        present = {found.path for found in (*listing.settled, *listing.fresh)}
        self._unreadable = {path: why for path, why in self._unreadable.items() if path in present}
        for path in listing.unnamed:
            self._unreadable[path] = "its name is not UTF-8"
            if path not in self._tried:
                self._tried[path] = _UNNAMED
                self._notices.add(f"Unreadable: {path}: its name is not UTF-8.")

    # -- what is ahead ------------------------------------------------------------------------------------------------

    def has_work(self, offset: int) -> bool:
        """True when a plan from `offset` on may find something, as of the last look."""
        return (
            self._cursor is not None
            or self._catalogue.reading() is not None
            or offset < self._catalogue.next_offset
            or bool(self._queue)
        )

    def has_fresh(self) -> bool:
        """True when the last look found files that still may be written."""
        return bool(self._fresh)

    def bytes_ahead(self) -> int:
        """Bytes on disk of what is known to be ahead, roughly."""
        entry = self._catalogue.holding(self.offset)
        begun = max(0, entry.size) if entry is not None else 0
        return begun + sum(found.size for found in self._queue)

    def _stat(self, path: str) -> tuple[int, int] | None:
        try:
            status = os.stat(self._folder / path)
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns // 1_000
