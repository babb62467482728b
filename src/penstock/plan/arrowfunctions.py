"""The Python functions that the refine SQL calls, over Arrow arrays. Engines register them before they run the SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.plan.forms import EXACT_NUMBER, FIRST_OF_KEYS, LOCAL_INSTANT, STRICT_JSON
from penstock.plan.localtimes import instants
from penstock.plan.numbers import exact_texts
from penstock.plan.strict import firsts_of_keys, json_faults

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


@dataclass(frozen=True)
class ArrowFunction:
    """A deterministic function that takes and gives one Arrow array per column, NULLs included, all of one length.

    `name` and types are DuckDB's. It may be called from several threads at once.
    """

    name: str
    arguments: tuple[str, ...]
    returns: str
    call: Callable[..., pa.Array]


FUNCTIONS = (
    ArrowFunction(STRICT_JSON, ("BLOB",), "VARCHAR", json_faults),
    ArrowFunction(FIRST_OF_KEYS, ("VARCHAR",), "VARCHAR", firsts_of_keys),
    ArrowFunction(EXACT_NUMBER, ("VARCHAR", "INTEGER", "INTEGER"), "VARCHAR", exact_texts),
    ArrowFunction(LOCAL_INSTANT, ("TIMESTAMP", "VARCHAR", "BOOLEAN"), "TIMESTAMPTZ", instants),
)
"""Every function that the refine SQL may call."""
