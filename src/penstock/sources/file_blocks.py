"""A file's content as blocks of bytes: plain, gzip or Zstandard, in bounded memory, up to the very place of any damage.

`file_streams.py` frames the blocks. Decompression stops at each block, so that a small file that expands to a huge one
costs no memory. Where compressed data is damaged, what was whole before it is delivered first.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from penstock.errors import SourceLost
from penstock.limits import FILE_BLOCK_BYTES, KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP_INPUT_BYTES = 128 * KIB
SALVAGE_BYTES = 256
"""How finely damaged data is gone through again to find its last whole bytes."""


class FileDamaged(SourceLost):
    """A file cannot be read further. What was delivered before stays as it is."""


class HashingReader:
    """Reads a file from its start and keeps the SHA-256 of what was read."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    def read(self, count: int = -1) -> bytes:
        block = self._handle.read(count)
        self._hash.update(block)
        self.size += len(block)
        return block

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def flush(self) -> None:
        """Nothing is written; Arrow calls it on every file."""

    def hex_digest(self) -> str:
        """The digest of the whole file: what was not read yet is read now."""
        while self.read(FILE_BLOCK_BYTES):
            pass
        return self._hash.hexdigest()


class SecondReader:
    """Reads an open file from its start again, without moving the position of its handle."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self.closed = False

    def read(self, count: int) -> bytes:
        block = os.pread(self._descriptor, count, self._position)
        self._position += len(block)
        return block

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def plain_blocks(handle: BinaryIO) -> Iterator[bytes]:
    """The bytes as they are.

    Raises:
        FileDamaged: the operating system cannot read on.
    """
    while block := _read(handle, FILE_BLOCK_BYTES):
        yield block


def gzip_blocks(reader: HashingReader) -> Iterator[bytes]:
    """The content of all gzip members, one after the other.

    Raises:
        FileDamaged: truncated or corrupt data, after everything that was whole.
    """
    member = zlib.decompressobj(31)
    is_open = False
    data = _read(reader, GZIP_INPUT_BYTES)
    while data:
        before = member.copy()
        try:
            block = member.decompress(data, FILE_BLOCK_BYTES)
        except zlib.error as error:
            yield from _salvaged(before, data)
            raise FileDamaged(f"gzip data is corrupt: {error}") from error
        is_open = True
        if block:
            yield block
        if member.eof:
            data = member.unused_data or _read(reader, GZIP_INPUT_BYTES)
            # Zeros after the last member are padding of tapes and disk images.
            while data and not data.strip(b"\x00"):
                data = _read(reader, GZIP_INPUT_BYTES)
            member, is_open = zlib.decompressobj(31), False
        else:
            data = member.unconsumed_tail or _read(reader, GZIP_INPUT_BYTES)
    if is_open:
        # What the decompressor holds back comes out before the end is called missing.
        rest = member.flush()
        if rest:
            yield rest
        if not member.eof:
            raise FileDamaged("gzip data ends in the middle: the file was cut off")


def _salvaged(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), SALVAGE_BYTES):
        try:
            block = member.decompress(data[start : start + SALVAGE_BYTES])
        except zlib.error:
            return
        if block:
            yield block


def zstd_blocks(reader: HashingReader, again: SecondReader) -> Iterator[bytes]:
    """The content of all Zstandard frames. `again` reads the file once more where it is damaged.

    Raises:
        FileDamaged: truncated or corrupt data, after everything that was whole.
    """
    stream = pa.CompressedInputStream(pa.PythonFile(reader, mode="r"), "zstd")
    done = 0
    while True:
        try:
            block = stream.read(FILE_BLOCK_BYTES)
        except OSError as error:
            yield from _salvaged_zstd(again, done)
            raise FileDamaged(f"zstd data is damaged: {error}") from error
        if not block:
            return
        done += len(block)
        yield block


def _salvaged_zstd(again: SecondReader, done: int) -> Iterator[bytes]:
    """What can be read from content byte `done` on, in small steps until the damage."""
    stream = pa.CompressedInputStream(pa.PythonFile(again, mode="r"), "zstd")
    try:
        while done:
            done -= len(stream.read(min(done, FILE_BLOCK_BYTES)))
        while block := stream.read(SALVAGE_BYTES):
            yield block
    except OSError:
        return


def _read(handle: BinaryIO | HashingReader, count: int) -> bytes:
    try:
        return handle.read(count)
    except OSError as error:
        raise FileDamaged(f"the operating system cannot read it: {error.strerror}") from error
