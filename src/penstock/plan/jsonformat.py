"""Records of JSON (and Parquet rows, which are kept as JSON): from bytes to raw fields, as SQL layers.

A record that is exactly its declared fields, written without blanks, shows in its length: the lengths of the fields
and of their names add up to it. Such a record cannot hold an undeclared field, nor anything that DuckDB takes for JSON
and RFC 8259 does not, other than a bare NaN or Infinity, which no fast cast accepts. Only the others are looked at
closely, each test behind the cheaper one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.limits import DETAIL_VALUE_CHARACTERS_MAX, JSON_NESTING_MAX
from penstock.plan.extra import extra_of_object, written_again
from penstock.plan.forms import STRICT_JSON, Form
from penstock.plan.jsonfields import JsonFields
from penstock.plan.sqltext import any_of, literal
from penstock.plan.stage import Field, MetaFields, add_one_event, base_layer, missing_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.model.fields import FieldPath
    from penstock.plan.sqltext import Layers
    from penstock.plan.stage import Taken

_COMMA_BEFORE_BRACKET = r",[ \t\r\n]*[}\]]"
_NOT_FINITE = r"[:\[,][ \t\r\n]*-?(?i:nan|inf)"

_BLANKS = "' ' || chr(9) || chr(10) || chr(13)"


class JsonStage:
    """See `stage.Stage`. With `records` each element of a list in the record is an event of its own."""

    def __init__(self, records: FieldPath | None) -> None:
        self._records = records

    def open(self, paths: Sequence[FieldPath]) -> tuple[Layers, Mapping[FieldPath, Field]]:
        meta = MetaFields(paths)
        inner = [path for path in paths if not path.is_meta]
        layers = base_layer(meta)
        layers.add([("_json", valid_object("e._text", "strlen(e._text) = e._size"))])
        fields: dict[FieldPath, Field] = dict(meta.fields)
        if self._records is None:
            fields.update(_read(layers, inner, "r", "_json"))
            add_one_event(layers)
        else:
            fields.update(self._unnest(layers, [path for path in inner if path.envelope]))
            fields.update(_read(layers, [path for path in inner if not path.envelope], "r", "_json"))
        return layers, fields

    def judge(self, layers: Layers, taken: Sequence[Taken]) -> None:
        layers.add([("_exact", _exact(taken))])
        odd = any_of([item.odd for item in taken])
        # An exact object says nothing of what columns take from elsewhere, nor of what lies inside of a field.
        beside = any_of([item.odd for item in taken if not _is_whole_field(item)])
        layers.add([("_odd", f"CASE WHEN e._exact THEN {beside} ELSE {odd} END")])
        if self._records is None:
            layers.beside([("_fault", _record_fault("e._exact"))])

    def extra(self, whole_roots: Sequence[str]) -> str:
        return (
            "CASE WHEN e._exact OR e._fault IS NOT NULL OR e._json IS NULL THEN NULL "
            f"ELSE {extra_of_object('e._json', whole_roots)} END"
        )

    def find_plain(self, layers: Layers, taken: Sequence[Taken], _whole_roots: Sequence[str]) -> bool:
        if self._records is not None:
            return False
        beside = any_of([item.odd for item in taken if not _is_whole_field(item)])
        layers.add([("_exact", _exact(taken))])
        is_lenient = f"regexp_matches(e._text, {literal(_COMMA_BEFORE_BRACKET)})"
        without_blanks = f"CASE WHEN e._exact OR {is_lenient} THEN NULL ELSE {written_again('e._json')} END"
        layers.add([("_compact", without_blanks)])
        plain = f"(e._exact OR {_complete(taken)}) AND NOT {beside} AND NOT {too_deep('e._text')}"
        layers.add([("_extra", "CAST(NULL AS VARCHAR)"), ("_plain", plain)])
        return True

    def _unnest(self, layers: Layers, envelope: Sequence[FieldPath]) -> Mapping[FieldPath, Field]:
        """From records to elements. The record is judged as a whole, before it is taken apart."""
        assert self._records is not None
        steps = self._records.steps
        reader = JsonFields([path.steps for path in envelope])
        reader.add_list(steps)
        parsed = [f"_p{number}" for number in range(reader.count)]
        layers.add(list(zip(parsed, reader.parse("e._json"), strict=True)))
        fields = {path: Field(f"_e{number}", Form.JSON) for number, path in enumerate(envelope)}
        layers.add(
            [
                *((fields[path].column, reader.read(path.steps, _of_row(parsed))) for path in envelope),
                ("_list", reader.read(steps, _of_row(parsed), as_list=True)),
                ("_record_fault", _record_fault("FALSE")),
            ]
        )
        kept = "CASE WHEN e._record_fault IS NULL THEN e._list END"
        layers.add([("_elements", f"coalesce({kept}, [CAST(NULL AS JSON)])")])
        layers.add([("_number", "unnest(generate_series(1, len(e._elements)))")])
        layers.add([("_index", "CAST(e._number - 1 AS INTEGER)"), ("_raw", "CAST(e._elements[e._number] AS VARCHAR)")])
        no_list = f"CASE WHEN e._list IS NULL THEN {literal(f'no list at {self._records}')} END"
        not_object = "'element ' || e._index || ' is not an object'"
        layers.add(
            [
                (
                    "_element",
                    "CASE WHEN e._record_fault IS NULL AND e._list IS NOT NULL THEN coalesce(e._raw, 'null') END",
                ),
                ("_no_list", "e._record_fault IS NULL AND e._list IS NULL"),
                (
                    "_fault",
                    f"coalesce(e._record_fault, {no_list}, CASE WHEN NOT starts_with(coalesce(e._raw, ''), '{{') "
                    f"THEN {not_object} END)",
                ),
            ]
        )
        columns = ["_json", "_record_fault"]
        layers.select([f"e.* EXCLUDE ({', '.join(columns)})", "CASE WHEN e._fault IS NULL THEN e._raw END AS _json"])
        return fields


def valid_object(text: str, condition: str) -> str:
    """SQL for `text` where the condition holds and it is a JSON object by DuckDB's lenient parser; else NULL."""
    is_object = f"(starts_with({text}, '{{') OR starts_with(ltrim({text}, {_BLANKS}), '{{'))"
    return f"CASE WHEN {condition} AND json_valid({text}) AND {is_object} THEN {text} END"


def lenient_only(text: str) -> str:
    """SQL condition: `text` may be JSON for DuckDB only: by a comma before a closing bracket, or a number that is not
    finite. Looking for the words alone is cheaper than looking for where they would have to stand."""
    words = f"contains(lower({text}), 'nan') OR contains(lower({text}), 'inf')"
    return (
        f"CASE WHEN regexp_matches({text}, {literal(_COMMA_BEFORE_BRACKET)}) THEN TRUE "
        f"WHEN {words} THEN regexp_matches({text}, {literal(_NOT_FINITE)}) ELSE FALSE END"
    )


def too_deep(text: str) -> str:
    """SQL condition: `text`, may be nested too deep: depth d takes d brackets that open and d that close."""
    closed = f"replace(replace({text}, '[', ''), '{{', '')"
    return (
        f"CASE WHEN strlen({text}) <= {2 * JSON_NESTING_MAX} THEN FALSE "
        f"ELSE strlen({text}) - strlen({closed}) > {JSON_NESTING_MAX} END"
    )


def _of_row(names: Sequence[str]) -> list[str]:
    return [f"e.{name}" for name in names]


def _read(layers: Layers, paths: Sequence[FieldPath], prefix: str, source: str) -> dict[FieldPath, Field]:
    reader = JsonFields([path.steps for path in paths])
    parsed = [f"_{prefix}{number}" for number in range(reader.count)]
    layers.add(list(zip(parsed, reader.parse(f"e.{source}"), strict=True)))
    fields = {path: Field(f"_u{number}", Form.JSON) for number, path in enumerate(paths)}
    layers.add([(fields[path].column, reader.read(path.steps, _of_row(parsed))) for path in paths])
    return fields


def _is_whole_field(item: Taken) -> bool:
    """Whether the column takes a field of the event's own object, all of it."""
    path = item.column.path
    return path is not None and len(path.steps) == 1 and not path.is_meta and not path.envelope


def _exact(taken: Sequence[Taken]) -> str:
    """Whether an object holds nothing but fields that columns take whole, all written plainly: the braces, and for each
    field its name in quotes, a colon, the value and a comma, but for one comma. Other fields only make it longer, as
    does any other way to write one; a string's fast cast is its text without the quotes."""
    lengths: dict[str, str] = {}
    plain = []
    for item in taken:
        path = item.column.path
        if path is None or not _is_whole_field(item):
            continue
        around = len(path.root.encode()) + 4
        if item.column.type is not None and item.column.type.kind == "string":
            lengths[item.field.column] = f"coalesce(strlen(e.{item.fast}) + {around + 2}, 0)"
        else:
            lengths.setdefault(item.field.column, f"coalesce(strlen(e.{item.field.column}) + {around}, 0)")
            plain.append(f"NOT {item.odd}")
    return " AND ".join([f"coalesce(strlen(e._json) = {' + '.join(['1', *lengths.values()])}, FALSE)", *plain])


def _complete(taken: Sequence[Taken]) -> str:
    """Whether an object written with blanks or escapes, in `_compact` without them, is nothing but fields that columns
    take whole: the same addition as in `_exact`, over the values as DuckDB writes them."""
    whole = [item for item in taken if _is_whole_field(item)]
    lengths = {
        item.field.column: f"coalesce(strlen(e.{item.field.column}) + {len(item.column.path.root.encode()) + 4}, 0)"
        for item in whole
        if item.column.path is not None
    }
    is_whole = f"coalesce(strlen(e._compact) = {' + '.join(['1', *lengths.values()])}, FALSE)"
    return f"({is_whole} AND NOT {any_of([item.odd for item in whole])})"


def _record_fault(harmless: str) -> str:
    """SQL for what is wrong with the record as such; NULL for nothing."""
    excerpt = f"left(e._text, {DETAIL_VALUE_CHARACTERS_MAX})"
    unreadable = (
        "CASE WHEN strlen(e._text) <> e._size THEN 'not UTF-8: ' WHEN NOT json_valid(e._text) THEN 'not JSON: ' "
        f"ELSE 'not a JSON object: ' END || {excerpt}"
    )
    return f"""CASE
    WHEN e._json IS NULL THEN {missing_value(unreadable)}
    WHEN {too_deep("e._text")} THEN {STRICT_JSON}(e._value)
    WHEN {harmless} THEN NULL
    WHEN {lenient_only("e._text")} THEN {STRICT_JSON}(e._value)
    END"""
