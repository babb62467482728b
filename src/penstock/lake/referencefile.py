"""Reads a reference's file: CSV, NDJSON, Parquet or a Delta table folder, as an Arrow table whose keys are unique.

A reference is small (see `limits.REFERENCE_BYTES_MAX`) and loaded whole. Every value that its declared type does not
hold exactly is an error that names file, row and column: see `exactcast.py`. The loaded versions are kept by
`references.py`.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections import Counter, deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from penstock.errors import TransientError, UsageError
from penstock.lake.exactcast import BadValue, cast_arrow, cast_values, json_text, plain_type
from penstock.lake.storage import error_number
from penstock.limits import REFERENCE_BYTES_MAX, REFERENCE_DUPLICATES_SHOWN
from penstock.model.types import ColumnType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from penstock.model.pipeline import Reference

FORBIDDEN_IN_NAMES = frozenset(" ,;{}()\n\t=")
"""Characters that Delta refuses in a column's name."""


def change_signature(reference: Reference, folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when the file does: name, size, mtime in ns and inode of the file, or of a Delta table's last entry.

    Cheap: nothing is read. A file that is not there, or not to be reached, has the signature ().
    """
    path = folder / reference.file
    try:
        files = sorted((path / "_delta_log").glob("*.json")) if path.is_dir() else [path]
    except OSError:  # loading it says what is wrong
        return ()
    signature = []
    for file in files[-1:]:
        try:
            status = file.stat()
        except OSError:
            continue
        signature.append((file.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(signature)


def load_reference_file(reference: Reference, folder: Path) -> pa.Table:
    """The rows of the reference's file, which lies at `reference.file` below `folder`.

    Columns are those of the file in its order; a declared type is cast to exactly, an undeclared one is what the file
    says: text in CSV, and in NDJSON what all values of the column are.

    Raises:
        UsageError: the file is not there, too large or broken; a column is missing or has a name Delta refuses; a value
            does not fit its declared type; a key is NULL or occurs twice.
        TransientError: the system does not let it be read now.
    """
    path = folder / reference.file
    shown = reference.file
    try:
        table = _reader(path, shown)(path, shown, dict(reference.columns))
    except OSError as error:
        # There is no number where the content is broken. What is not there is waited for by its signature.
        code = error_number(error)
        if code not in (None, errno.ENOENT, errno.ENOTDIR):
            raise TransientError(
                f"reference {reference.name}: cannot read {shown} now: {os.strerror(code)}",
                hint="Look at the file's permissions and its disk.",
            ) from error
        raise UsageError(
            f"reference {reference.name}: cannot read {shown}: {error.strerror or error}",
            hint="`file:` is relative to the project folder.",
        ) from error
    except (pa.ArrowException, DeltaError) as error:
        raise UsageError(f"reference {reference.name}: {shown} is broken: {error}", hint=REPAIR) from error
    _check_names(reference, table.column_names)
    _check_keys(reference, table)
    return table


REPAIR = "Repair the file; until then the last good version stays in use."


def _reader(path: Path, shown: str) -> Callable[[Path, str, Mapping[str, ColumnType]], pa.Table]:
    if path.is_dir():
        return _read_delta
    for ending in (".gz", ".zst"):
        path = path.with_suffix("") if path.suffix == ending else path
    reader = {
        ".csv": _read_csv,
        ".ndjson": _read_ndjson,
        ".jsonl": _read_ndjson,
        ".parquet": _read_parquet,
    }.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{shown}: not a reference file by its name",
            hint="Use .csv, .ndjson, .jsonl (also .gz or .zst of these), .parquet or the folder of a Delta table.",
        )
    return reader


def _too_large(shown: str, size: int | str) -> NoReturn:
    raise UsageError(
        f"{shown} has {size} bytes, more than the {REFERENCE_BYTES_MAX} a reference may have",
        hint="A reference is held in memory for lookups: keep only the rows and columns that are looked up.",
    )


def _bytes(path: Path, shown: str) -> bytes:
    """The whole file, decompressed by its name's ending."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    path.stat()  # a missing file is an OSError with a number, which pyarrow's own is not
    with pa.input_stream(str(path), compression=compression) as stream:
        data: bytes = stream.read(REFERENCE_BYTES_MAX + 1)
    if len(data) > REFERENCE_BYTES_MAX:
        _too_large(shown, f"more than {REFERENCE_BYTES_MAX}")
    return data


# -- CSV --------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, shown: str, types: Mapping[str, ColumnType]) -> pa.Table:
    """RFC 4180, UTF-8, one header line. Empty is NULL; every value is text until its declared type says otherwise."""
    data = _bytes(path, shown)
    rows = None
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, None)
        if b'"' in data:
            # Arrow ends a quote that stays open with the file: a file cut in half would do for a whole one.
            deque(rows, maxlen=0)
    except (UnicodeDecodeError, csv.Error) as error:
        place = f"line {rows.line_num}: " if rows is not None else ""
        raise UsageError(f"{shown}: {place}{error}", hint="References are CSV as in RFC 4180, in UTF-8.") from error
    if not header:
        raise UsageError(f"{shown} is empty", hint="The first line names the columns.")
    _check_unique(shown, header)
    table = pa.csv.read_csv(
        io.BytesIO(data),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in header},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )

    def line(row: int) -> str:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        seen = -1
        for values in reader:
            seen += bool(values)  # blank lines are no rows; the header is the first that is not blank
            if seen == row + 1:
                break
        return f"line {reader.line_num}"

    columns = []
    for name in header:
        values = table.column(name)
        if name in types and types[name].kind != "string":
            values = _cast(
                shown, name, types[name], line, lambda v=values, t=types[name]: cast_values(v.to_pylist(), t)
            )
        columns.append(values)
    return pa.table(columns, names=header)


# -- NDJSON -----------------------------------------------------------------------------------------------------------


def _read_ndjson(path: Path, shown: str, types: Mapping[str, ColumnType]) -> pa.Table:
    """One JSON object per line; blank lines are no rows. A missing member and null are both NULL."""
    values: dict[str, list[Any]] = {}
    lines: list[int] = []
    for number, line in enumerate(_bytes(path, shown).split(b"\n"), start=1):
        if not line.strip():
            continue
        for name, value in _json_object(line, shown, number).items():
            values.setdefault(name, [None] * len(lines)).append(value)
        lines.append(number)
        for column in values.values():
            if len(column) < len(lines):
                column.append(None)
    if not values:
        raise UsageError(f"{shown} is empty", hint="Each line of a reference is one JSON object.")
    columns = {}
    for name, column in values.items():
        kind = types.get(name) or _json_type(shown, name, column, lines)
        if kind.kind == "json":
            column = [None if value is None else json_text(value) for value in column]
        columns[name] = _cast(shown, name, kind, lambda row: f"line {lines[row]}", cast_values, column, kind)
    return pa.table(columns)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of duplicate members the first counts, as everywhere in Penstock."""
    return dict(reversed(pairs)) if len(dict(pairs)) < len(pairs) else dict(pairs)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins, parse_float=Decimal, parse_constant=_refuse_constant)


def _json_object(line: bytes, shown: str, number: int) -> dict[str, Any]:
    try:
        value = _DECODER.decode(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown}, line {number}: {error}", hint="Each line is one JSON object in UTF-8.") from error
    if not isinstance(value, dict):
        raise UsageError(
            f"{shown}, line {number}: {line[:80].decode(errors='replace')!r} is not an object",
            hint="Each line of a reference is one JSON object.",
        )
    return value


def _json_type(shown: str, name: str, values: Sequence[Any], lines: Sequence[int]) -> ColumnType:
    """The type of an undeclared column: what all its values are. Objects and lists are kept as JSON."""
    kinds: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not None:
            kinds.setdefault(_JSON_KINDS.get(type(value), "string"), row)
    found = set(kinds)
    if found <= {"int64"} and found:
        return ColumnType("int64")
    if found and found <= {"int64", "float64"}:
        return ColumnType("float64")
    if len(found) > 1:
        where = " and ".join(f"{kind} (line {lines[row]})" for kind, row in kinds.items())
        raise UsageError(f"{shown}: column {name} holds {where}", hint=f"Declare it: `columns: {{{name}: string}}`.")
    return ColumnType(found.pop() if found else "string")


_JSON_KINDS = {bool: "boolean", int: "int64", Decimal: "float64", str: "string", dict: "json", list: "json"}

# -- Parquet and Delta ------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, shown: str, types: Mapping[str, ColumnType]) -> pa.Table:
    if path.stat().st_size > REFERENCE_BYTES_MAX:
        _too_large(shown, path.stat().st_size)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        size = sum(file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups))
        if size > REFERENCE_BYTES_MAX:
            _too_large(shown, size)
        table = file.read()
    return _typed(table, shown, types)


def _read_delta(path: Path, shown: str, types: Mapping[str, ColumnType]) -> pa.Table:
    if not (path / "_delta_log").is_dir():
        raise UsageError(
            f"{shown} is a folder, but not a Delta table", hint="Name a file in it, or the folder of a Delta table."
        )
    delta = DeltaTable(str(path))
    size = sum(pa.table(delta.get_add_actions(flatten=True)).column("size_bytes").to_pylist())
    if size > REFERENCE_BYTES_MAX:
        _too_large(shown, size)
    return _typed(delta.to_pyarrow_table(), shown, types)


def _typed(table: pa.Table, shown: str, types: Mapping[str, ColumnType]) -> pa.Table:
    _check_unique(shown, table.column_names)
    columns = {}
    for name in table.column_names:
        values = table.column(name)
        kind = types.get(name)
        call = (plain_type, values) if kind is None else (cast_arrow, values, kind)
        columns[name] = _cast(shown, name, kind or "a column type", lambda row: f"row {row + 1}", *call)
    return pa.table(columns)


# -- checks -----------------------------------------------------------------------------------------------------------


def _cast(shown: str, name: str, kind: ColumnType | str, where: Callable[[int], str], *call: Any) -> pa.ChunkedArray:
    """The result of `call` (a function and its arguments); a bad value becomes an error that says `where` it is."""
    try:
        return call[0](*call[1:])
    except BadValue as error:
        raise UsageError(
            f"{shown}, {where(error.row)}, column {name}: {error.value!r:.80} does not fit {kind}", hint=REPAIR
        ) from error


def _check_unique(shown: str, columns: Sequence[str]) -> None:
    counts = Counter(name.lower() for name in columns)
    for name in columns:
        if not name or counts[name.lower()] > 1 or FORBIDDEN_IN_NAMES & set(name):
            reason = "occurs twice" if counts[name.lower()] > 1 else "is not a name a table's column can have"
            raise UsageError(
                f"{shown}: column {name!r} {reason}",
                hint="Names differ in more than case and hold no spaces, commas, semicolons, brackets or equals signs.",
            )


def _check_names(reference: Reference, columns: Sequence[str]) -> None:
    _check_unique(reference.file, columns)
    for name in (*reference.key, *(name for name, _ in reference.columns)):
        if name not in columns:
            raise UsageError(
                f"reference {reference.name}: {reference.file} has no column {name}",
                hint=f"It has {', '.join(columns)}.",
            )


def _check_keys(reference: Reference, table: pa.Table) -> None:
    """Keys are never NULL, and unique, so that a lookup finds one row at most."""
    for name in reference.key:
        column = table.column(name)
        if column.null_count:
            row = pc.index(column.is_null(), pa.scalar(True)).as_py()
            raise UsageError(
                f"{reference.file}, row {row + 1}: the key column {name} is NULL", hint="Every row needs its key."
            )
    groups = table.select(list(reference.key)).group_by(list(reference.key)).aggregate([([], "count_all")])
    twice = groups.filter(pc.greater(groups.column("count_all"), 1))
    if twice.num_rows:
        shown = [
            ", ".join(str(row[name]) for name in reference.key)
            for row in twice.slice(0, REFERENCE_DUPLICATES_SHOWN).to_pylist()
        ]
        raise UsageError(
            f"{reference.file}: {twice.num_rows} keys occur more than once, e.g. {'; '.join(shown)}",
            hint=f"Keep one row for each {', '.join(reference.key)}.",
        )
