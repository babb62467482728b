"""Small pieces of DuckDB SQL text: quoting, and a chain of SELECTs. `refine.py` and `casts.py` are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a string literal; a NUL, which SQL text cannot hold, is put in with chr(0)."""
    parts = ("'" + part.replace("'", "''") + "'" for part in text.split("\0"))
    joined = " || chr(0) || ".join(parts)
    return f"({joined})" if "\0" in text else joined


def text_list(texts: Sequence[str]) -> str:
    """A VARCHAR[] of literals."""
    return f"[{', '.join(literal(text) for text in texts)}]::VARCHAR[]"


def let(name: str, value: str, body: str) -> str:
    """`body` with `name` standing for `value`, evaluated once: SQL has no other way to say so inside an expression."""
    return f"list_transform([{value}], lambda {name}: {body})[1]"


def any_of(conditions: Sequence[str]) -> str:
    return f"({' OR '.join(conditions)})" if conditions else "FALSE"


def names_where(conditions: Sequence[tuple[str, str]]) -> str:
    """A VARCHAR[] of those names whose condition holds, given as (condition, name)."""
    if not conditions:
        return "[]::VARCHAR[]"
    items = ", ".join(f"CASE WHEN {condition} THEN {literal(name)} END" for condition, name in conditions)
    return f"list_filter([{items}]::VARCHAR[], lambda item: item IS NOT NULL)"


class Layers:
    """A chain of SELECTs, each seeing every column of the one before and adding its own.

    One layer per dependency: DuckDB evaluates a named column once, however often the next layers mention it. What
    depends on nothing in the last layer goes `beside` it: each layer takes DuckDB a millisecond to plan.
    """

    def __init__(self, first: Sequence[str], tail: str) -> None:
        self._layers: list[tuple[list[str], str]] = [(list(first), tail)]

    def add(self, columns: Sequence[tuple[str, str]], joins: str = "") -> None:
        """A layer with further columns, given as (name, SQL). `joins` follows FROM; the row so far is `e`."""
        if columns:
            self.select(["e.*"], joins)
            self.beside(columns)

    def beside(self, columns: Sequence[tuple[str, str]]) -> None:
        """Further columns in the last layer, made of what that layer is made of."""
        self._layers[-1][0].extend(f"{sql} AS {identifier(name)}" for name, sql in columns)

    def select(self, columns: Sequence[str], tail: str = "") -> None:
        """A layer of exactly these columns; the row so far is `e`."""
        self._layers.append((list(columns), f"FROM layer_{len(self._layers) - 1} AS e{tail}"))

    def sql(self) -> str:
        """The whole as one SELECT."""
        texts = ["SELECT " + ",\n  ".join(columns) + "\n" + tail for columns, tail in self._layers]
        tables = ",\n".join(f"layer_{number} AS (\n{text}\n)" for number, text in enumerate(texts[:-1]))
        return f"WITH {tables}\n{texts[-1]}" if tables else texts[-1]
