"""Arrow tables as frames of the libraries people have installed. Both are optional extras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def as_frame(table: pa.Table, kind: str) -> Any:
    """`table` itself (`arrow`), or a `pandas` or `polars` frame; decimals and times keep their exact values.

    Raises:
        UsageError: the library is not installed, or `kind` is another word.
    """
    if kind == "arrow":
        return table
    if kind not in ("pandas", "polars"):
        raise UsageError(f"as_={kind!r} is no kind of result", hint="as_: arrow, pandas or polars")
    try:
        if kind == "polars":
            import polars  # noqa: PLC0415 - an optional extra

            return polars.from_arrow(table)
        import pandas  # noqa: PLC0415 - an optional extra

        return table.to_pandas(types_mapper=pandas.ArrowDtype)
    except ImportError as error:
        raise UsageError(f"{kind} is not installed", hint=f"pip install 'penstock[{kind}]'") from error
