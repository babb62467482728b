"""Verifies the page checksums of Parquet files, so that DuckDB (which does not) may read them afterwards.

Every page begins with a small Thrift header that holds its size and CRC-32; the footer says where the pages of a column
begin and how long they are together. Checking a file this way costs no more than reading it: nothing is decompressed.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.errors import LakeCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_TYPE, _UNPACKED, _SIZE, _CRC = 1, 2, 3, 4
_DATA, _INDEX, _DICTIONARY, _DATA_2 = 5, 6, 7, 8
"""Field numbers in Thrift's PageHeader; from 5 on structs, one per type of page, in the order of the types."""

_VALUES = 1
"""The field number of the number of values in each of these structs."""

_ENCODINGS = {_DATA: (2, 3, 4), _DICTIONARY: (2,), _DATA_2: (4,)}
"""The field numbers of encodings in these structs."""

_KNOWN_ENCODINGS = frozenset({0, 2, 3, 5, 6, 7, 8, 9})

_STRUCT = 12
_TAIL_BYTES = 8
_NAMED_CHECKSUM = re.compile(r"-([0-9a-f]{8})\.parquet$")
_FIELDS_MAX = 64
"""Fields of a page header. There are eight; more means that we are not looking at one."""

Header = dict[tuple[int, ...], int]
"""The integers of a page header by field number, those of a nested struct by the numbers that lead to them."""


@dataclass(frozen=True)
class FileFacts:
    """What a file's footer says: rows, columns by name, and those that are known to hold no NULL."""

    rows: int
    columns: tuple[str, ...]
    full: frozenset[str]


def verify(open_file: Callable[[], BinaryIO], name: str, size: int) -> FileFacts:
    """Check the size and every page of the file called `name`, which `open_file` opens.

    Raises:
        LakeCorrupt: the file is missing, has another size, cannot be read, or a page is not what was written.
    """
    try:
        with open_file() as file:
            actual = file.seek(0, 2)
            if actual != size:
                raise _corrupt(f"has {actual} bytes, the log says {size}")
            _verify_footer(file, name, size)
            file.seek(0)
            metadata = pq.read_metadata(file)
            names = tuple(metadata.schema.to_arrow_schema().names)
            full = set(names)
            for group in range(metadata.num_row_groups):
                for index in range(metadata.num_columns):
                    chunk = metadata.row_group(group).column(index)
                    _verify_chunk(file, chunk)
                    if not _is_full(chunk):
                        full.discard(chunk.path_in_schema.partition(".")[0])
            return FileFacts(metadata.num_rows, names, frozenset(full))
    except FileNotFoundError as error:
        raise _corrupt("is missing") from error
    except (OSError, pa.ArrowException, IndexError, ValueError) as error:
        raise _corrupt(f"cannot be read: {error}") from error


def _is_full(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether the footer, which a checksum covers, counts no NULL among the values."""
    statistics = chunk.statistics
    return statistics is not None and statistics.has_null_count and statistics.null_count == 0


def _verify_footer(file: BinaryIO, name: str, size: int) -> None:
    """The CRC-32 of the footer (with its length and mark) is part of a file's name."""
    named = _NAMED_CHECKSUM.search(name)
    if named is None:
        return
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if length > size - _TAIL_BYTES:
        raise _corrupt("has a broken footer")
    file.seek(size - _TAIL_BYTES - length)
    if zlib.crc32(file.read(length + _TAIL_BYTES)) != int(named[1], 16):
        raise _corrupt("has a footer whose checksum is wrong")


def _verify_chunk(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> None:
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    file.seek(start)
    data = memoryview(file.read(chunk.total_compressed_size))
    if len(data) != chunk.total_compressed_size:
        raise _corrupt(f"ends inside column {chunk.path_in_schema}")
    position = values = unpacked = 0
    while position < len(data):
        header_start = position
        header: Header = {}
        position = _read_struct(data, position, header, ())
        length, expected = header.get((_SIZE,), -1), header.get((_CRC,))
        where = f"in column {chunk.path_in_schema}, at byte {start + header_start}"
        if length < 0 or position + length > len(data) or not _is_sound(header):
            raise _corrupt(f"has a broken page header {where}")
        if expected is None:
            raise _corrupt(f"has a page without a checksum {where}")
        if zlib.crc32(data[position : position + length]) != expected & 0xFFFFFFFF:
            raise _corrupt(f"has a page whose checksum is wrong {where}")
        unpacked += position - header_start + header[(_UNPACKED,)]
        values += header.get((_DATA, _VALUES), 0) + header.get((_DATA_2, _VALUES), 0)
        position += length
    if values != chunk.num_values or unpacked != chunk.total_uncompressed_size:
        raise _corrupt(f"has page headers that do not add up in column {chunk.path_in_schema}")


def _is_sound(header: Header) -> bool:
    """Whether a header, which no checksum covers, describes exactly one page of a type that readers know."""
    kind = header.get((_TYPE,), -1) + _DATA
    if kind not in _ENCODINGS or header.get((_UNPACKED,), -1) < 0:
        return False
    others = [path for path in header if len(path) > 1 and path[0] != kind]
    encodings = [header.get((kind, number), 0) for number in _ENCODINGS[kind]]
    return not others and (kind, _VALUES) in header and all(code in _KNOWN_ENCODINGS for code in encodings)


def _corrupt(message: str) -> LakeCorrupt:
    return LakeCorrupt(message, hint="Restore the file from a backup or a replica of the lake.")


def _read_struct(data: memoryview, position: int, header: Header, path: tuple[int, ...]) -> int:
    """Collect the integers of a struct in Thrift's compact protocol; returns the position behind it."""
    number = 0
    for _ in range(_FIELDS_MAX):
        head = data[position]
        position += 1
        if head == 0:
            return position
        delta, kind = head >> 4, head & 0x0F
        if delta:
            number += delta
        else:
            number, position = _integer(data, position)
        if kind in (4, 5, 6):
            header[(*path, number)], position = _integer(data, position)
        elif kind == _STRUCT:
            position = _read_struct(data, position, header, (*path, number))
        else:
            position = _skip(data, position, kind)
    raise ValueError("a page header has too many fields")


def _integer(data: memoryview, position: int) -> tuple[int, int]:
    value, position = _varint(data, position)
    return (value >> 1) ^ -(value & 1), position


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number in a page header is too long")


def _skip(data: memoryview, position: int, kind: int) -> int:
    """The position behind a value that is neither an integer nor a struct."""
    if kind in (1, 2):
        return position
    if kind == 3:
        return position + 1
    if kind == 7:
        return position + 8
    if kind == 8:
        length, position = _varint(data, position)
        return position + length
    raise ValueError(f"a page header holds a value of the unknown type {kind}")
