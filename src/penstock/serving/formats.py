"""Query results as bytes: JSON lines, CSV, an Arrow stream, a Parquet file. Tables for people are drawn in `cli`.

Each writer takes batches one by one, so a result may be larger than memory.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.serving.jsontext import TEXT, json_lines, json_text, plain_text

Writer = Callable[[pa.Schema, Iterable[pa.RecordBatch], IO[bytes]], None]


def write_json(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: IO[bytes]) -> None:
    """One JSON object per line; see `jsontext` for how values are written."""
    del schema
    for batch in batches:
        lines = list(json_lines(batch))
        if lines:
            out.write(b"\n".join(lines) + b"\n")


def write_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: IO[bytes]) -> None:
    """A header line, then rows. NULL is an empty field, an empty text `""`; lists, structs and maps are JSON text."""
    out.write((",".join(_csv_quoted(pa.array(schema.names, TEXT)).to_pylist()) + "\n").encode())
    for batch in batches:
        if batch.num_rows:
            columns = [pc.fill_null(_csv_quoted(_csv_text(column)), "") for column in batch.columns]
            lines = pc.binary_join_element_wise(*columns, pa.scalar(",", TEXT))
            out.write(("\n".join(lines.to_pylist()) + "\n").encode())


def write_arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: IO[bytes]) -> None:
    """The Arrow IPC stream format."""
    with pa.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], out: IO[bytes]) -> None:
    """One Parquet file, zstd level 1 with page checksums, like the lake's own."""
    options = {"compression": "zstd", "compression_level": 1, "write_page_checksum": True}
    with pq.ParquetWriter(out, schema, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _csv_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_nested(kind):
        return pc.if_else(column.is_valid(), json_text(column), pa.scalar(None, TEXT))
    if pa.types.is_dictionary(kind):
        return _csv_text(column.dictionary_decode())
    if isinstance(kind, pa.BaseExtensionType):
        return _csv_text(column.storage)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if v is None else base64.b64encode(v).decode() for v in column.to_pylist()], TEXT)
    return plain_text(column)


def _csv_quoted(text: pa.Array) -> pa.Array:
    """`text` with quotes around the values that need them: empty ones, and those with a comma, quote or line break."""
    special = pc.or_(pc.match_substring_regex(text, r'[,"\r\n]'), pc.equal(pc.binary_length(text), 0))
    quote = pa.scalar('"', TEXT)
    quoted = pc.binary_join_element_wise(quote, pc.replace_substring(text, '"', '""'), quote, pa.scalar("", TEXT))
    return pc.if_else(special, quoted, text)


WRITERS: dict[str, Writer] = {"json": write_json, "csv": write_csv, "arrow": write_arrow, "parquet": write_parquet}
"""Format name -> writer."""

BINARY_FORMATS = frozenset({"arrow", "parquet"})
"""Formats that do not belong on a terminal."""
