"""Compares rows with what a test expects of them, and says the difference so that a person sees it.

An expected row names the columns that matter. Numbers are compared by value (12.5 is 12.50), floats to 1e-9, times as
instants, binary as text or base64, and JSON columns as JSON.
"""

from __future__ import annotations

import base64
import difflib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.serving.jsontext import json_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.declare.testfile import ExpectedRow

FLOAT_TOLERANCE = Decimal("1e-9")
VALUE_CHARACTERS_MAX = 200


@dataclass(frozen=True)
class Rows:
    """Actual rows: values as exact JSON has them, and the Arrow type of each column."""

    types: Mapping[str, pa.DataType]
    values: tuple[Mapping[str, Any], ...]


def actual_rows(table: pa.Table) -> Rows:
    """The rows of an Arrow table, every number exact."""
    values = [
        json.loads(line, parse_float=Decimal)
        for batch in table.combine_chunks().to_batches()
        for line in json_lines(batch)
    ]
    return Rows({field.name: field.type for field in table.schema}, tuple(values))


def differences(name: str, expected: Sequence[ExpectedRow], actual: Rows, *, in_order: bool) -> list[str]:
    """What is different, one text (of several lines) for each row; empty where the rows are as expected."""
    unknown = _unknown_columns(name, expected, actual)
    if unknown:
        return unknown
    if in_order:
        pairs = [(row, index if index < len(actual.values) else None) for index, row in enumerate(expected)]
        wrong = [(row, index) for row, index in pairs if index is None or not _matches(row, index, actual)]
        left = list(range(len(expected), len(actual.values)))
    else:
        matched = _matching(expected, actual)
        free = [index for index in range(len(actual.values)) if index not in matched.values()]
        missing = [row for number, row in enumerate(expected) if number not in matched]
        wrong, left = _nearest(missing, free, actual)
    texts = [_difference(name, row, index, actual) for row, index in wrong]
    columns = list(dict.fromkeys(column for row in expected for column in row.columns))
    texts += [f"{name}: a row that is not expected: {_shown(actual.values[index], columns)}" for index in left]
    return texts


def _unknown_columns(name: str, expected: Sequence[ExpectedRow], actual: Rows) -> list[str]:
    found = []
    for row in expected:
        for column in row.columns:
            if column not in actual.types:
                near = difflib.get_close_matches(column, actual.types, n=1)
                hint = f", but {near[0]}" if near else f": there are {', '.join(actual.types)}"
                found.append(f"{name}: {row.mark} expects a column {column}, which the table does not have{hint}")
    return list(dict.fromkeys(found))


def _matching(expected: Sequence[ExpectedRow], actual: Rows) -> dict[int, int]:
    """As many expected rows as possible, each with an actual row of its own (augmenting paths)."""
    fits = [[i for i in range(len(actual.values)) if _matches(row, i, actual)] for row in expected]
    owner: dict[int, int] = {}

    def place(number: int, tried: set[int]) -> bool:
        for index in fits[number]:
            if index not in tried:
                tried.add(index)
                if index not in owner or place(owner[index], tried):
                    owner[index] = number
                    return True
        return False

    for number in sorted(range(len(expected)), key=lambda number: len(fits[number])):
        place(number, set())
    return {number: index for index, number in owner.items()}


def _nearest(
    missing: list[ExpectedRow], free: list[int], actual: Rows
) -> tuple[list[tuple[ExpectedRow, int | None]], list[int]]:
    """Each missing row beside the free row that is most like it."""
    left = list(free)
    pairs: list[tuple[ExpectedRow, int | None]] = []
    for row in missing:
        scores = {index: sum(_equal(row, column, index, actual) for column in row.columns) for index in left}
        best = max(scores, key=lambda index: scores[index], default=None)
        if best is not None and scores[best] > 0:
            left.remove(best)
        else:
            best = None
        pairs.append((row, best))
    return pairs, left


def _difference(name: str, row: ExpectedRow, index: int | None, actual: Rows) -> str:
    if index is None:
        return f"{name}: missing, {row.mark}: {_shown(row.columns, list(row.columns))}"
    lines = [f"{name}: not as expected, {row.mark}:"]
    for column in row.columns:
        seen = _short(actual.values[index][column])
        if _equal(row, column, index, actual):
            lines.append(f"    {column}: {seen}")
        else:
            lines += [f"  - {column}: {_short(row.columns[column])}", f"  + {column}: {seen}"]
    return "\n".join(lines)


def _matches(row: ExpectedRow, index: int, actual: Rows) -> bool:
    return all(_equal(row, column, index, actual) for column in row.columns)


def _equal(row: ExpectedRow, column: str, index: int, actual: Rows) -> bool:
    return same(row.columns[column], actual.values[index][column], actual.types[column])


def same(expected: Any, actual: Any, kind: pa.DataType) -> bool:
    """Whether an actual value of an Arrow type is the expected one."""
    if expected is None or actual is None:
        return expected is None and actual is None
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if pa.types.is_timestamp(kind):
        return isinstance(expected, str) and _instant(expected) == _instant(actual)
    if pa.types.is_binary(kind):
        return isinstance(expected, str) and base64.b64decode(actual) in (expected.encode(), _unbased(expected))
    if pa.types.is_list(kind):
        return (
            isinstance(expected, list)
            and len(expected) == len(actual)
            and all(same(one, other, kind.value_type) for one, other in zip(expected, actual, strict=True))
        )
    if isinstance(expected, dict | list) and isinstance(actual, str):
        return bool(expected == _parsed(actual))
    if isinstance(expected, int | Decimal) and isinstance(actual, int | Decimal):
        one, other = Decimal(expected), Decimal(actual)
        return one == other or (pa.types.is_floating(kind) and abs(one - other) <= FLOAT_TOLERANCE * abs(one))
    return bool(expected == actual)


def _instant(text: str) -> datetime | str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _unbased(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return text


def _shown(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    named = columns or list(row)
    return "{" + ", ".join(f"{column}: {_short(row.get(column))}" for column in named) + "}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False) if not isinstance(value, Decimal) else str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"
