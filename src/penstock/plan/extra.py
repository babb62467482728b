"""Undeclared fields as a JSON object for `_extra`, as SQL. Numbers keep the text they were written with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from penstock.plan.forms import FIRST_OF_KEYS
from penstock.plan.sqltext import let, literal, text_list

if TYPE_CHECKING:
    from collections.abc import Sequence

_AS_WRITTEN = '{"o": "JSON", "n": "DECIMAL(18,3)"}'
_STRUCTURE = '{"o": "MAP(VARCHAR,JSON)", "n": "DECIMAL(18,3)"}'


def written_again(text: str) -> str:
    """SQL for the JSON in `text` without blanks and needless escapes, its numbers as they were."""
    return f"CAST(from_json('{{\"o\":' || {text} || '}}', {literal(_AS_WRITTEN)}).o AS VARCHAR)"


def members_of_object(text: str) -> str:
    """SQL for the members of the JSON object in `text`, as structs (name VARCHAR, value JSON) in their order.

    An object with a key twice gives no map; then the first of each is taken, one record at a time.
    """

    def entries(sql: str) -> str:
        return f"map_entries(from_json('{{\"o\":' || {sql} || '}}', {literal(_STRUCTURE)}).o)"

    found = f"coalesce({entries(text)}, {entries(f'{FIRST_OF_KEYS}({text})')})"
    return f"list_transform({found}, lambda x: {{'name': x.key, 'value': x.value}})"


def object_of_members(members: str, *, quoted: bool = False) -> str:
    """SQL for a JSON object of structs (name, value); NULL for none. `quoted`: the names are JSON strings already."""
    name = "x.name" if quoted else "CAST(to_json(x.name) AS VARCHAR)"
    member = f"{name} || ':' || coalesce(CAST(x.value AS VARCHAR), 'null')"
    written = f"'{{' || array_to_string(list_transform(o, lambda x: {member}), ',') || '}}'"
    return let("o", members, f"CASE WHEN len(o) > 0 THEN {written} END")


def extra_of_object(text: str, declared: Sequence[str]) -> str:
    """SQL for the members of the object in `text` that are not declared; NULL for none.

    Taking the declared members out is fast, but rewrites numbers and keeps members of the same name. So it is done
    where rewriting the whole object changes nothing, and no name is there twice; else the object is taken apart.
    """
    names = f"list_filter(json_keys({text}), lambda k: NOT list_contains({text_list(declared)}, k))"
    without = json.dumps(dict.fromkeys(declared), ensure_ascii=False)
    is_same = f"CASE WHEN r = {text} THEN TRUE ELSE r = {written_again(text)} END"
    unchanged = let("r", f"CAST(json({text}) AS VARCHAR)", is_same)
    kept = f"list_filter({members_of_object(text)}, lambda m: NOT list_contains({text_list(declared)}, m.name))"
    fast = f"CAST(json_merge_patch({text}, {literal(without)}) AS VARCHAR)"
    is_fast = f"CASE WHEN len(n) > 1 AND len(list_distinct(n)) < len(n) THEN FALSE ELSE {unchanged} END"
    return let(
        "n", names, f"CASE WHEN len(n) = 0 THEN NULL WHEN {is_fast} THEN {fast} ELSE {object_of_members(kept)} END"
    )
