"""An object of a store as a file that can be read anywhere, in few requests: its end is known, the rest is fetched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from penstock.limits import OBJECT_READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    Fetch = Callable[[int, int], memoryview]


class RangedObject(io.RawIOBase):
    """An immutable object of `size` bytes, of which `tail` are the last ones; `fetch(start, end)` gets others.

    Reads that follow one another are served from one request of OBJECT_READ_BYTES. Not thread-safe.
    """

    def __init__(self, size: int, tail: memoryview, fetch: Fetch) -> None:
        super().__init__()
        self.size = size
        self.tail = tail
        self.fetch = fetch
        self._position = 0
        self._block = memoryview(b"")
        self._block_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readall(self) -> bytes:
        return self.read()

    def read(self, size: int | None = -1) -> bytes:
        start = min(self._position, self.size)
        end = self.size if size is None or size < 0 else min(self.size, start + size)
        self._position = end
        return bytes(self._range(start, end))

    def _range(self, start: int, end: int) -> memoryview:
        tail_start = self.size - len(self.tail)
        if start >= tail_start:
            return self.tail[start - tail_start : end - tail_start]
        if start < self._block_start or end > self._block_start + len(self._block):
            # Up to the tail where little is missing to it: two small requests cost more than a larger one.
            self._block = self.fetch(start, min(self.size, max(end, start + OBJECT_READ_BYTES)))
            self._block_start = start
        return self._block[start - self._block_start : end - self._block_start]
