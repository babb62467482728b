"""The identity of an event as SQL: its bucket of event time and a 128-bit digest of its canonical key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.model.columns import INDEX, PLACE
from penstock.plan.sqltext import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.pipeline import Silver
    from penstock.model.types import ColumnType

_SELF_DELIMITING = ("int8", "int16", "int32", "int64", "decimal", "boolean", "date", "timestamp")


def bucket(silver: Silver, event_time: str) -> str:
    """SQL for the event's bucket: 0 where keys are unique over the whole history."""
    width = silver.unique_within
    if width is None:
        return "CAST(0 AS BIGINT)"
    micros = f"epoch_us({event_time})"
    # Division of integers rounds towards zero, so what is left over is made positive first.
    return f"coalesce(({micros} - ((({micros} % {width}) + {width}) % {width})) // {width}, 0)"


def digest(silver: Silver, types: Mapping[str, ColumnType], bucket_sql: str) -> str:
    """SQL (UHUGEINT) for the digest of bucket and key: every part says where it ends, so that no two keys meet."""
    parts = [f"CAST({bucket_sql} AS VARCHAR), ';'"] if silver.unique_within is not None else []
    for number, name in enumerate(silver.key):
        is_last = number == len(silver.key) - 1
        parts.append(_part(f"e.{identifier(name)}", types[name], is_last))
    if not parts:
        return "CAST(0 AS UHUGEINT)"
    is_text = len(parts) == 1 and types[silver.key[0]].kind in ("string", "json")
    whole = parts[0] if is_text else f"concat({', '.join(parts)})"
    return f"md5_number({whole})"


def halves(digest_sql: str) -> tuple[str, str]:
    """SQL (UBIGINT) for the high and the low half of a digest."""
    return (
        f"CAST({digest_sql} >> 64 AS UBIGINT)",
        f"CAST({digest_sql} & 18446744073709551615::UHUGEINT AS UBIGINT)",
    )


def silver_keys(silver: Silver, types: Mapping[str, ColumnType]) -> str:
    """The SELECT over silver rows (`rows`) that gives their keys again."""
    bucket_sql = bucket(silver, f"e.{identifier(silver.event_time)}")
    high, low = halves("d.digest")
    place = ", ".join(f"d.{name}" for name in (*PLACE, INDEX))
    inner = (
        f"SELECT e.*, {digest(silver, types, 'e._bucket')} AS digest "
        f"FROM (SELECT e.*, {bucket_sql} AS _bucket FROM rows AS e) AS e"
    )
    return f"SELECT {place}, d._bucket, {high} AS _key_hi, {low} AS _key_lo FROM ({inner}) AS d"


def _part(column: str, column_type: ColumnType, is_last: bool) -> str:
    if column_type.kind == "timestamp":
        return f"CAST(epoch_us({column}) AS VARCHAR), ';'"
    if column_type.kind in _SELF_DELIMITING:
        return f"CAST({column} AS VARCHAR), ';'"
    text = f"to_base64({column})" if column_type.kind == "binary" else column
    return text if is_last else f"CAST(strlen({text}) AS VARCHAR), ':', {text}"
