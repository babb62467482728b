"""A file's content as blocks of bytes: plain, gzip or Zstandard, in bounded memory, up to the very place of any damage.

`file_streams.py` frames the blocks. Decompression stops at each block, so that a small file that expands to a huge one
costs no memory. Where compressed data is damaged, what can be trusted of it is delivered first.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from penstock.errors import SourceLost
from penstock.limits import FILE_BLOCK_BYTES, KIB

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP_INPUT_BYTES = 128 * KIB
VERIFIED_AT_ONCE_BYTES = 64 * KIB
"""How finely a file is gone through to find where it was cut off."""


class FileDamaged(SourceLost):
    """A file cannot be read further. What was delivered before stays as it is."""


class _OnlyRead:
    """What Arrow asks of a file besides its bytes."""

    closed = False

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


class HashingReader(_OnlyRead):
    """Reads a file from its start and keeps the SHA-256 of what was read."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, count: int = -1) -> bytes:
        block = self._handle.read(count)
        self._hash.update(block)
        self.size += len(block)
        return block

    def hex_digest(self) -> str:
        """The digest of the whole file: what was not read yet is read now."""
        while self.read(FILE_BLOCK_BYTES):
            pass
        return self._hash.hexdigest()


class SecondReader(_OnlyRead):
    """Reads an open file from its start again, without moving the position of its handle."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def read(self, count: int) -> bytes:
        block = os.pread(self._descriptor, count, self._position)
        self._position += len(block)
        return block


def plain_blocks(handle: BinaryIO) -> Iterator[bytes]:
    """The bytes as they are.

    Raises:
        FileDamaged: the operating system cannot read on.
    """
    while block := _read(handle, FILE_BLOCK_BYTES):
        yield block


def verified_blocks(compression: str, reader: HashingReader, again: SecondReader) -> Iterator[bytes]:
    """The content of a compressed file, as far as it can be trusted.

    A decompressor notices damage late, often only by the checksum at the end, and what it made of it until then looks
    like content. So the file is gone through once before anything of it is given: `again` reads it for that. Of a file
    that was cut off, all that is there is right; of a damaged one, what its checksums have covered by then.

    Raises:
        FileDamaged: truncated or corrupt data, after everything that can be trusted.
    """
    decompress = _DECOMPRESSORS[compression]
    trusted, damage = _trusted(decompress(again, VERIFIED_AT_ONCE_BYTES, sys.maxsize))
    for block in decompress(reader, FILE_BLOCK_BYTES, trusted):
        if block.content:
            yield block.content
    if damage is not None:
        raise damage


@dataclass(frozen=True)
class _Block:
    """Decompressed content. `is_checked`: a checksum covered everything up to its end."""

    content: bytes
    is_checked: bool = False


class _CutOff(FileDamaged):
    """The data ends in the middle."""


def _trusted(blocks: Iterator[_Block]) -> tuple[int, FileDamaged | None]:
    """How many bytes of content can be trusted, and the damage behind them."""
    seen = checked = 0
    try:
        for block in blocks:
            seen += len(block.content)
            if block.is_checked:
                checked = seen
    except _CutOff as damage:
        return seen, damage
    except FileDamaged as damage:
        return checked, damage
    return seen, None


def _gzip(reader: HashingReader | SecondReader, size: int, left: int) -> Iterator[_Block]:
    """Up to `left` bytes of the content of all gzip members, one after the other; each ends with its checksum."""
    member = zlib.decompressobj(31)
    is_open = False
    data = _read(reader, GZIP_INPUT_BYTES)
    while data and left:
        try:
            content = member.decompress(data, min(size, left))
        except zlib.error as error:
            raise FileDamaged(f"gzip data is corrupt: {error}") from error
        is_open = True
        left -= len(content)
        yield _Block(content, member.eof)
        if member.eof:
            data = member.unused_data or _read(reader, GZIP_INPUT_BYTES)
            # Zeros after the last member are padding of tapes and disk images.
            while data and not data.strip(b"\x00"):
                data = _read(reader, GZIP_INPUT_BYTES)
            member, is_open = zlib.decompressobj(31), False
        else:
            data = member.unconsumed_tail or _read(reader, GZIP_INPUT_BYTES)
    if is_open and left:
        # What the decompressor holds back comes out before the end is called missing.
        content = member.flush()[:left]
        yield _Block(content, member.eof)
        if not member.eof:
            raise _CutOff("gzip data ends in the middle: the file was cut off")


def _zstd(reader: HashingReader | SecondReader, size: int, left: int) -> Iterator[_Block]:
    """Up to `left` bytes of the content of all Zstandard frames. Where one ends is not told: only the end of the file
    says that all of it is right."""
    stream = pa.CompressedInputStream(pa.PythonFile(reader, mode="r"), "zstd")
    while left:
        try:
            content = stream.read(min(size, left))
        except OSError as error:
            if _TRUNCATED in str(error):
                raise _CutOff("zstd data ends in the middle: the file was cut off") from error
            raise FileDamaged(f"zstd data is damaged: {error}") from error
        if not content:
            return
        left -= len(content)
        yield _Block(content)


_DECOMPRESSORS = {"gzip": _gzip, "zstd": _zstd}
_TRUNCATED = "Truncated compressed stream"
"""What Arrow says of a compressed stream that ends too early."""


def _read(handle: BinaryIO | HashingReader | SecondReader, count: int) -> bytes:
    try:
        return handle.read(count)
    except OSError as error:
        raise FileDamaged(f"the operating system cannot read it: {error.strerror}") from error
