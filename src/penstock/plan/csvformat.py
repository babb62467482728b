"""Records of delimited text (RFC 4180): from one logical line to raw fields, as SQL layers.

A line without a quote is split at its delimiters. One with quotes must match the grammar as a whole, so that a stray
quote makes this record malformed and swallows no neighbour. Which field stands where says the header line that came
with the record; the side table `csv_headers` has it taken apart, once per header and batch.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.limits import DETAIL_VALUE_CHARACTERS_MAX
from penstock.plan.extra import object_of_members
from penstock.plan.forms import Form
from penstock.plan.sqltext import any_of, literal, text_list
from penstock.plan.stage import (
    CSV_HEADER,
    Field,
    MetaFields,
    add_one_event,
    base_layer,
    find_judged,
    header,
    missing_value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.model.fields import FieldPath
    from penstock.model.pipeline import CsvFormat
    from penstock.plan.sqltext import Layers
    from penstock.plan.stage import Taken

SIDE_TABLE = "csv_headers"
_SIDE_SCHEMA = pa.schema([("header", pa.binary()), ("names", pa.list_(pa.string())), ("keys", pa.list_(pa.string()))])


class CsvStage:
    """See `stage.Stage`."""

    def __init__(self, csv_format: CsvFormat) -> None:
        self._format = csv_format

    def open(self, paths: Sequence[FieldPath]) -> tuple[Layers, Mapping[FieldPath, Field]]:
        meta = MetaFields(paths)
        inner = [path for path in paths if not path.is_meta]
        layers = base_layer(meta)
        layers.add([("_line", _without_line_end("e._text")), ("_header", _own_header(self._format))])
        self._add_names(layers)
        layers.add([("_cells", f"CASE WHEN strlen(e._text) = e._size THEN {self._cells()} END")])
        fields = dict(meta.fields)
        fields.update({path: Field(f"_u{number}", Form.TEXT) for number, path in enumerate(inner)})
        layers.add([(fields[path].column, self._cell(path.root)) for path in inner])
        add_one_event(layers)
        return layers, fields

    def judge(self, layers: Layers, taken: Sequence[Taken]) -> None:
        excerpt = f"left(e._line, {DETAIL_VALUE_CHARACTERS_MAX})"
        named = "the header has" if self._format.header else "there are"
        bad = f"""CASE
            WHEN strlen(e._text) <> e._size THEN concat('not UTF-8: ', {excerpt})
            WHEN e._names IS NULL THEN 'no header line came with the record'
            WHEN e._cells IS NULL THEN concat('quotes that do not fit: ', {excerpt})
            WHEN len(e._cells) <> len(e._names)
                THEN concat(len(e._cells), ' fields, but {named} ', len(e._names), ': ', {excerpt})
            END"""
        harmless = "len(e._cells) = len(e._names)"
        fault = f"CASE WHEN {harmless} THEN NULL ELSE {missing_value(bad)} END"
        layers.add([("_odd", any_of([item.odd for item in taken])), ("_fault", fault)])

    def extra(self, whole_roots: Sequence[str]) -> str:
        declared = text_list(whole_roots)
        # A declared name is taken once: what a second column of that name holds is not.
        is_taken = f"list_contains({declared}, e._names[i]) AND list_position(e._names, e._names[i]) = i"
        places = f"list_filter(generate_series(1, len(e._names)), lambda i: NOT ({is_taken}))"
        members = (
            f"list_transform(list_filter({places}, lambda i: {self._not_null('e._cells[i]')}), "
            "lambda i: {'name': e._keys[i], 'value': to_json(e._cells[i])})"
        )
        is_more = f"len(e._names) > {len(whole_roots)} OR NOT list_has_all({declared}, e._names)"
        return f"CASE WHEN e._fault IS NULL AND ({is_more}) THEN {object_of_members(members, quoted=True)} END"

    def find_plain(self, layers: Layers, taken: Sequence[Taken], whole_roots: Sequence[str]) -> bool:
        return find_judged(self, layers, taken, whole_roots)

    def _add_names(self, layers: Layers) -> None:
        """`_names` of the fields, and `_keys`: the same, each written as JSON and told apart from its namesakes."""
        if self._format.header:
            layers.add(
                [("_names", "h.names"), ("_keys", "h.keys")],
                f"\nLEFT JOIN {SIDE_TABLE} AS h ON e._header = h.header",
            )
        else:
            names = list(self._format.columns)
            layers.add([("_names", text_list(names)), ("_keys", text_list(_keys(names)))])

    def _cells(self) -> str:
        delimiter, quote = self._format.delimiter, self._format.quote
        split = f"string_split(e._line, {literal(delimiter)})"
        if not quote:
            return split
        mark, other = _hex(quote), f"[^{_hex(quote)}{_hex(delimiter)}]*"
        cell = f"(?:{mark}(?:[^{mark}]|{mark}{mark})*{mark}|{other})"
        whole = literal(f"(?s){cell}(?:{_hex(delimiter)}{cell})*")
        each = f"regexp_extract_all({literal(delimiter)} || e._line, {literal(f'(?s){_hex(delimiter)}({cell})')}, 1)"
        doubled = literal(quote * 2)
        unquoted = f"replace(substr(x, 2, length(x) - 2), {doubled}, {literal(quote)})"
        taken = (
            f"list_transform({each}, lambda x: CASE WHEN starts_with(x, {literal(quote)}) THEN {unquoted} ELSE x END)"
        )
        return (
            f"CASE WHEN NOT contains(e._line, {literal(quote)}) THEN {split} "
            f"WHEN regexp_full_match(e._line, {whole}) THEN {taken} END"
        )

    def _cell(self, name: str) -> str:
        """SQL for the first field of that name; NULL where there is none, it is empty, or stands for NULL."""
        place = f"list_position(e._names, {literal(name)})"
        if not self._format.header:
            columns = self._format.columns
            place = str(columns.index(name) + 1) if name in columns else "NULL"
        cell = f"e._cells[{place}]"
        return f"CASE WHEN {self._not_null(cell)} THEN {cell} END"

    def _not_null(self, cell: str) -> str:
        nothing = ", ".join(literal(text) for text in dict.fromkeys(["", *self._format.null]))
        return f"{cell} NOT IN ({nothing})"


def csv_headers(records: pa.Table, csv_format: CsvFormat) -> dict[str, pa.Table]:
    """The side table of a batch: one row per distinct header line, with the names in it."""
    entries = pc.list_flatten(records["headers"]).combine_chunks()
    lines = entries.field("value").filter(pc.equal(entries.field("key"), CSV_HEADER)).unique().to_pylist()
    rows = []
    for line in lines:
        names = header_names(line, csv_format) if line is not None else None
        if names is not None:
            rows.append({"header": line, "names": names, "keys": _keys(names)})
    return {SIDE_TABLE: pa.Table.from_pylist(rows, schema=_SIDE_SCHEMA)}


def header_names(line: bytes, csv_format: CsvFormat) -> list[str] | None:
    """The names in a header line, without the blanks around them; None where it is not text."""
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        return None
    if not csv_format.quote:
        return [name.strip() for name in text.split(csv_format.delimiter)]
    reader = csv.reader([text], delimiter=csv_format.delimiter, quotechar=csv_format.quote)
    return [name.strip() for name in next(reader, [])]


def _keys(names: Sequence[str]) -> list[str]:
    """The names as JSON, the second of one name with a `#2` behind it: `_extra` must not lose it."""
    seen: dict[str, int] = {}
    keys = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        keys.append(json.dumps(name if seen[name] == 1 else f"{name}#{seen[name]}", ensure_ascii=False))
    return keys


def _own_header(csv_format: CsvFormat) -> str:
    return header(CSV_HEADER, "e._headers") if csv_format.header else "NULL"


def _without_line_end(text: str) -> str:
    return f"rtrim({text}, chr(13) || chr(10))"


def _hex(character: str) -> str:
    """One character as RE2 writes any character, inside and outside of brackets."""
    return "".join(f"\\x{{{ord(one):x}}}" for one in character)
