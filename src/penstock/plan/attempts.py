"""SQL that may raise, made safe: an error becomes NULL and can be told from a value that is NULL."""

from __future__ import annotations


def attempt(sql: str) -> str:
    """SQL of `{'v': value}`, or of NULL where computing the value raises.

    DuckDB's TRY alone is not enough: where two of them hold the same part, its optimizer computes that part once,
    ahead of both and outside of both, and the error ends the query. It does not look into the body of a lambda.
    """
    return f"list_transform([0], lambda once: TRY({{'v': {sql}}}))[1]"
