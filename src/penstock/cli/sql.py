"""`penstock sql`: a SELECT over one consistent cut of the lake."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import pyarrow as pa
import pyarrow.compute as pc

from penstock.cli.output import count, note, print_table
from penstock.cli.session import Session, pass_session
from penstock.errors import UsageError
from penstock.limits import TABLE_ROWS_MAX
from penstock.serving.formats import BINARY_FORMATS, WRITERS
from penstock.serving.jsontext import json_text, plain_text

if TYPE_CHECKING:
    from penstock.serving.query import QueryResult


@click.command()
@click.argument("query")
@click.option(
    "--as-of", metavar="BATCH|TIME", help="The lake as it was after that batch, or at that time (ISO 8601, UTC)."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", *WRITERS]),
    default="table",
    show_default=True,
    help="json: one object per line.",
)
@click.option("--verify", is_flag=True, help="Check the files the query uses against their checksums first.")
@pass_session
def command(session: Session, query: str, as_of: str | None, form: str, verify: bool) -> None:
    """Query the lake: one SELECT in DuckDB's dialect over one consistent cut, which reads nothing but the lake.

    Tables: bronze.NAME, silver.NAME, rejects.NAME, gold.NAME, references.NAME, ledger.NAME. With --as-of BATCH the
    batch is counted per pipeline. In JSON, decimals keep all digits, times are ISO 8601 in UTC, binary is base64, and
    NULL, NaN and infinities are null. `-` as QUERY reads the query from standard input.

    \b
    Examples:
      penstock -C shop sql "select * from gold.bars_1m limit 5"
      penstock -C shop sql "select count(*) from silver.ticks" --as-of 3 --format json
      penstock -C shop sql "from silver.ticks" --format parquet > ticks.parquet
    """
    if form in BINARY_FORMATS and sys.stdout.isatty():
        raise UsageError(f"{form} does not belong on a terminal", hint=f"Write it to a file: add `> result.{form}`.")
    text = sys.stdin.read() if query == "-" else query
    with session.project().query(text, as_of=as_of, verify=verify) as result:
        if form == "table":
            _print(result)
        else:
            WRITERS[form](result.schema, result, sys.stdout.buffer)


def _print(result: QueryResult) -> None:
    rows: list[list[object]] = []
    more = False
    for batch in result:
        room = TABLE_ROWS_MAX - len(rows)
        more = more or batch.num_rows > room
        columns = [_values(column) for column in batch.slice(0, room).columns]
        rows += [list(row) for row in zip(*columns, strict=True)]
        if more:
            break
    numbers = [field.name for field in result.schema if _is_number(field.type)]
    print_table(result.schema.names, rows, numbers)
    if more:
        note(f"only the first {TABLE_ROWS_MAX:,} rows are shown; --format csv or json prints them all")
    else:
        note(f"({count(len(rows), 'row')})")


def _values(column: pa.Array) -> list[object]:
    """Cells: exact text for what a table shows, bytes as they are."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _values(column.storage)
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_nested(kind):
        texts = json_text(column).to_pylist()
        return [text if valid else None for text, valid in zip(texts, column.is_valid().to_pylist(), strict=True)]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return list(column.to_pylist())
    texts = plain_text(column)
    if pa.types.is_timestamp(kind):
        texts = pc.replace_substring_regex(pc.replace_substring(texts, "T", " "), r"\.0+(Z?)$", r"\1")
    return list(texts.to_pylist())


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
