"""Undeclared fields as a JSON object for `_extra`, as SQL. Numbers keep the text they were written with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.plan.sqltext import let, literal, text_list
from penstock.plan.strict import FIRST_OF_KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_STRUCTURE = '{"o": "MAP(VARCHAR,JSON)", "n": "DECIMAL(18,3)"}'


def members_of_object(text: str) -> str:
    """SQL for the members of the JSON object in `text`, as (key, value) structs in their order, value NULL for null.

    An object with a key twice gives no map; then the first of each is taken, one record at a time.
    """

    def entries(sql: str) -> str:
        return f"map_entries(from_json('{{\"o\":' || {sql} || '}}', {literal(_STRUCTURE)}).o)"

    return f"coalesce({entries(text)}, {entries(f'{FIRST_OF_KEYS}({text})')})"


def object_of_members(members: str) -> str:
    """SQL for a JSON object of (key, value) structs; NULL for none."""
    member = "to_json(x.key) || ':' || coalesce(CAST(x.value AS VARCHAR), 'null')"
    written = f"'{{' || array_to_string(list_transform(m, lambda x: {member}), ',') || '}}'"
    return let("m", members, f"CASE WHEN len(m) > 0 THEN {written} END")


def extra_of_object(text: str, declared: Sequence[str]) -> str:
    """SQL for the members of the object in `text` that are not declared; NULL for none."""
    kept = f"list_filter({members_of_object(text)}, lambda y: NOT list_contains({text_list(declared)}, y.key))"
    return object_of_members(kept)
