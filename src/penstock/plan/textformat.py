"""Records of lines matched by a regular expression: from its named groups to raw fields, as SQL layers.

One group may hold JSON; its members are fields too. A name is a group first, else a member of the JSON group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.limits import DETAIL_VALUE_CHARACTERS_MAX
from penstock.plan.extra import members_of_object, object_of_members
from penstock.plan.forms import STRICT_JSON, Form
from penstock.plan.jsonfields import JsonFields
from penstock.plan.jsonformat import lenient_only, too_deep
from penstock.plan.sqltext import any_of, literal, text_list
from penstock.plan.stage import Field, MetaFields, add_one_event, base_layer, find_judged, missing_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.model.fields import FieldPath
    from penstock.model.pipeline import TextFormat
    from penstock.plan.sqltext import Layers
    from penstock.plan.stage import Taken

_WRAPPED = "v"
"""The JSON group's value is read as the member of this name of an object around it."""


def group_names(pattern: str) -> list[str | None]:
    """The capturing groups of an RE2 pattern in their order; None for one without a name."""
    names: list[str | None] = []
    for position in _opening_brackets(pattern):
        rest = pattern[position + 1 :]
        if not rest.startswith("?"):
            names.append(None)
        elif rest.startswith(("?P<", "?<")):
            start = rest.index("<") + 1
            names.append(rest[start : rest.index(">", start)])
    return names


def _portable(pattern: str) -> str:
    """The pattern with its groups named in the way that every version of RE2 understands."""
    positions = [position for position in _opening_brackets(pattern) if pattern.startswith("(?<", position)]
    for position in reversed(positions):
        pattern = f"{pattern[:position]}(?P<{pattern[position + len('(?<') :]}"
    return pattern


def _opening_brackets(pattern: str) -> Iterator[int]:
    """Where a pattern has round brackets that open something, and are not just characters to match."""
    position, in_class = 0, False
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            end = pattern.find("\\E", position) if pattern.startswith("\\Q", position) else position
            position = (len(pattern) if end < 0 else end) + 2
            continue
        if in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
            # A closing bracket that comes first stands for itself.
            first = 2 if pattern.startswith("[^", position) else 1
            position += first if pattern.startswith("]", position + first) else 0
        elif character == "(":
            yield position
        position += 1


class TextStage:
    """See `stage.Stage`."""

    def __init__(self, text_format: TextFormat) -> None:
        self._format = text_format
        self._pattern = _portable(text_format.pattern)
        self._groups = group_names(text_format.pattern)
        self._json_paths: dict[FieldPath, tuple[str | int, ...]] = {}
        self._column_paths: set[FieldPath | None] = set()

    def open(self, paths: Sequence[FieldPath]) -> tuple[Layers, Mapping[FieldPath, Field]]:
        meta = MetaFields(paths)
        inner = [path for path in paths if not path.is_meta]
        layers = base_layer(meta)
        pattern = literal(self._pattern)
        names = text_list([f"g{number}" for number in range(len(self._groups))]).removesuffix("::VARCHAR[]")
        found = f"regexp_extract(e._text, {literal(f'^(?:{self._pattern})$')}, {names})"
        matches = f"strlen(e._text) = e._size AND regexp_full_match(e._text, {pattern})"
        layers.add([("_groups", f"CASE WHEN {matches} THEN {found} END")])
        fields = dict(meta.fields)
        texts = [path for path in inner if self._is_text_group(path)]
        fields.update({path: Field(f"_g{number}", Form.TEXT) for number, path in enumerate(texts)})
        layers.add([(fields[path].column, self._group(path.root)) for path in texts])
        fields.update(self._open_json(layers, [path for path in inner if path not in fields]))
        add_one_event(layers)
        return layers, fields

    def judge(self, layers: Layers, taken: Sequence[Taken]) -> None:
        self._column_paths = {item.column.path for item in taken}
        excerpt = f"left(e._text, {DETAIL_VALUE_CHARACTERS_MAX})"
        unreadable = (
            f"CASE WHEN strlen(e._text) <> e._size THEN concat('not UTF-8: ', {excerpt}) "
            f"ELSE concat('does not match the pattern: ', {excerpt}) END"
        )
        fault = f"CASE WHEN e._groups IS NULL THEN {missing_value(unreadable)} ELSE {self._json_fault()} END"
        layers.add([("_odd", any_of([item.odd for item in taken])), ("_fault", fault)])

    def extra(self, whole_roots: Sequence[str]) -> str:
        parts = []
        for name in self._groups:
            if name is not None and name not in whole_roots and name != self._format.json:
                member = f"[{{'name': {literal(name)}, 'value': to_json({self._group(name)})}}]"
                parts.append(f"CASE WHEN {self._group(name)} IS NOT NULL THEN {member} ELSE [] END")
        if self._format.json is not None and self._format.json not in whole_roots:
            # What only `where` reads is in no column, so it is undeclared.
            paths = [steps for path, steps in self._json_paths.items() if path in self._column_paths]
            taken = [str(steps[1]) for steps in paths if len(steps) == 2]
            kept = f"lambda m: NOT list_contains({text_list(taken)}, m.name)"
            members = f"list_filter({members_of_object('e._document')}, {kept})"
            whole = f"[{{'name': {literal(self._format.json)}, 'value': CAST(e._document AS JSON)}}]"
            is_object = "starts_with(ltrim(e._document), '{')"
            parts.append(f"CASE WHEN e._document IS NULL THEN [] WHEN {is_object} THEN {members} ELSE {whole} END")
        if not parts:
            return "NULL::VARCHAR"
        return f"CASE WHEN e._fault IS NULL THEN {object_of_members(' || '.join(parts))} END"

    def find_plain(self, layers: Layers, taken: Sequence[Taken], whole_roots: Sequence[str]) -> bool:
        return find_judged(self, layers, taken, whole_roots)

    def _is_text_group(self, path: FieldPath) -> bool:
        return path.root in self._groups and path.root != self._format.json

    def _group(self, name: str) -> str:
        """SQL for a group's text, NULL where it is empty or took no part."""
        return f"nullif(e._groups.g{self._groups.index(name)}, '')"

    def _open_json(self, layers: Layers, paths: Sequence[FieldPath]) -> dict[FieldPath, Field]:
        """The fields inside the JSON group; without one, names that are no group are never there."""
        fields = {path: Field(f"_u{number}", Form.JSON) for number, path in enumerate(paths)}
        if self._format.json is None:
            layers.add([(field.column, "NULL::VARCHAR") for field in fields.values()])
            return fields
        for path in paths:
            steps = path.steps[1:] if path.root == self._format.json else path.steps
            self._json_paths[path] = (_WRAPPED, *steps)
        layers.add([("_raw_document", self._group(self._format.json))])
        layers.add([("_document", "CASE WHEN json_valid(e._raw_document) THEN e._raw_document END")])
        reader = JsonFields(list(self._json_paths.values()))
        parsed = [f"_r{number}" for number in range(reader.count)]
        wrapped = f"'{{\"{_WRAPPED}\":' || e._document || '}}'"
        layers.add(list(zip(parsed, reader.parse(wrapped), strict=True)))
        rows = [f"e.{name}" for name in parsed]
        layers.add([(fields[path].column, reader.read(self._json_paths[path], rows)) for path in paths])
        return fields

    def _json_fault(self) -> str:
        if self._format.json is None:
            return "NULL"
        excerpt = f"left(e._raw_document, {DETAIL_VALUE_CHARACTERS_MAX})"
        suspicious = f"({too_deep('e._document')} OR {lenient_only('e._document')})"
        return f"""CASE
            WHEN e._raw_document IS NULL THEN NULL
            WHEN e._document IS NULL THEN concat({literal(f"{self._format.json} is not JSON: ")}, {excerpt})
            WHEN {suspicious} THEN {STRICT_JSON}(encode(e._document))
            END"""
