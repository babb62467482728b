"""What a record holds, judged from its raw bytes: how many events, and which of them `where` selects.

This is its own reading of the formats, in SQL made from the declaration: JSON by DuckDB's functions (with a strict look
at what only DuckDB takes for JSON), delimited and patterned text by regular expressions. `conservation.py` asks it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from duckdb.func import PythonUDFType

from penstock.limits import JSON_NESTING_MAX
from penstock.model.columns import OFFSET, PARTITION, SOURCE, TIMESTAMP
from penstock.model.fields import META_FIELDS
from penstock.model.pipeline import CsvFormat, TextFormat
from penstock.proof import selection
from penstock.proof.syntax import quote, text_literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.model.pipeline import Source
    from penstock.proof.selection import Steps
    from penstock.proof.witness import Witness

RAW_COLUMNS = (SOURCE, PARTITION, OFFSET, TIMESTAMP, "key", "headers", "value")
"""The columns of bronze that the SQL here reads."""

_STRICT = "penstock_proof_is_json"
_LENIENT = r"(?i)[:\[,][ \t\r\n]*-?(nan|inf)|,[ \t\r\n]*[}\]]"
"""Text that may be JSON for DuckDB only: looked at again, strictly."""


@dataclass(frozen=True)
class EventSql:
    """The events of records. `count` is None where every record is exactly one event."""

    source: Source
    witness: Witness

    def counts(self, bronze: str) -> str:
        """SQL: place and `events` (BIGINT) for each record of a relation with RAW_COLUMNS."""
        place = ", ".join((SOURCE, PARTITION, OFFSET))
        if self.source.records is None:
            return f"SELECT {place}, 1::BIGINT AS events FROM {bronze}"
        return f"SELECT {place}, {_LENGTH}::BIGINT AS events FROM ({self._records(bronze)})"

    def selected(self, bronze: str) -> str:
        """SQL: place, `_index` and `chosen` (BOOLEAN) for each event; malformed ones are chosen, as they are judged.

        Raises:
            QueryError: `where` cannot be understood.
        """
        assert self.source.where is not None
        fields: dict[tuple[Steps, bool], str] = {}

        def column(steps: Steps, envelope: bool) -> str:
            return quote(fields.setdefault((steps, envelope), f"$field{len(fields)}"))

        condition = selection.condition(self.witness.syntax, self.source.where.sql, column)
        place = ", ".join((SOURCE, PARTITION, OFFSET))
        chosen = f"coalesce(TRY({condition}), FALSE)"
        values = "".join(f", {self._text(*path)} AS {quote(name)}" for path, name in fields.items())
        if self.source.records is None:
            rows = f"SELECT *{values} FROM ({self._records(bronze)})"
            return f"SELECT {place}, 0 AS _index, malformed OR {chosen} AS chosen FROM ({rows})"
        unnested = (
            f"SELECT *, CAST(list[_index + 1] AS VARCHAR) AS element FROM (SELECT *, "
            f"CAST(unnest(range({_LENGTH})) AS INTEGER) AS _index FROM ({self._records(bronze)}))"
        )
        # A record without the list is one event of which only the envelope is known.
        return (
            f"SELECT {place}, _index, CASE WHEN malformed THEN TRUE WHEN list IS NULL THEN {chosen} "
            f"WHEN element IS NULL OR NOT starts_with(element, '{{') THEN TRUE ELSE {chosen} END AS chosen "
            f"FROM (SELECT *{values} FROM ({unnested}))"
        )

    # -- records ------------------------------------------------------------------------------------------------------

    def _records(self, bronze: str) -> str:
        """SQL that adds `document` (text or NULL), `malformed`, and for lists of events `list`."""
        decoded = f"SELECT *, TRY(decode(value)) AS text FROM {bronze}"
        source = self.source
        if isinstance(source.format, CsvFormat):
            return _csv(source.format, decoded)
        self._offer_strict_check()
        if isinstance(source.format, TextFormat):
            return _patterned(source.format, decoded)
        valid = f"CASE WHEN json_valid(text) THEN CASE WHEN json_type(text) = 'OBJECT' THEN {_strictly('text')} END END"
        judged = f"SELECT *, {valid} AS document FROM ({decoded})"
        listed = "NULL::JSON[]"
        if source.records is not None:
            listed = _value(("document", source.records.steps), as_list=True)
        return f"SELECT *, document IS NULL AS malformed, {listed} AS list FROM ({judged})"

    def _offer_strict_check(self) -> None:
        connection = self.witness.connection
        known = connection.execute(
            f"SELECT count(*) FROM duckdb_functions() WHERE function_name = '{_STRICT}'"
        ).fetchall()
        if not known[0][0]:
            connection.create_function(_STRICT, _strict_json, ["VARCHAR"], "BOOLEAN", type=PythonUDFType.ARROW)

    # -- fields -------------------------------------------------------------------------------------------------------

    def _text(self, steps: Steps, envelope: bool) -> str:
        """SQL for the text of a raw field of an event: a string without quotes, a number as written."""
        if steps[0] in META_FIELDS and not envelope:
            return _meta(steps)
        if isinstance(self.source.format, CsvFormat):
            return f"list_extract(fields, list_position(names, {text_literal(str(steps[0]))}))"
        if isinstance(self.source.format, TextFormat):
            return _group(self.source.format, steps)
        inside = self.source.records is not None and not envelope
        return _unquoted(_value(("element" if inside else "document", steps)))


_LENGTH = "CASE WHEN malformed OR list IS NULL THEN 1 ELSE len(list) END"


def strict_json(text: str) -> bool:
    """Whether a text is JSON by RFC 8259 and not nested deeper than we take."""
    depth = deepest = 0
    for bracket in re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL):
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in "]}":
            depth -= 1
    if deepest > JSON_NESTING_MAX:
        return False
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


def _strict_json(texts: pa.Array) -> pa.Array:
    return pa.array([None if text is None else strict_json(text) for text in texts.to_pylist()], pa.bool_())


def _strictly(text: str) -> str:
    """SQL for the text if it is strictly JSON; only texts that look doubtful are asked about one by one."""
    deep = f"length({text}) - length(replace(replace({text}, '[', ''), '{{', '')) > {JSON_NESTING_MAX}"
    doubtful = f"regexp_matches({text}, {text_literal(_LENIENT)}) OR {deep}"
    strict = f"CASE WHEN {doubtful} THEN CASE WHEN {_STRICT}({text}) THEN {text} END ELSE {text} END"
    return f"CASE WHEN json_valid({text}) THEN {strict} END"


def _value(place: tuple[str, Sequence[str | int]], *, as_list: bool = False) -> str:
    """SQL for the JSON text (or list) at a path of a JSON document. A decimal among the wanted fields makes DuckDB keep
    numbers as they are written."""
    document, steps = place
    shape: object = ["JSON"] if as_list else "JSON"
    access = ""
    for step in reversed(steps):
        shape = [shape] if isinstance(step, int) else {step: shape}
    for step in steps:
        access += f"[{step + 1}]" if isinstance(step, int) else f"[{text_literal(step)}]"
    keeper = "n"
    while str(steps[0]).lower() == keeper:
        keeper += "n"
    assert isinstance(shape, dict)
    structure = json.dumps({**shape, keeper: "DECIMAL(18,3)"}, ensure_ascii=False)
    found = f"(from_json({document}, {text_literal(structure)})){access}"
    return found if as_list else f"nullif(CAST({found} AS VARCHAR), 'null')"


def _unquoted(value: str) -> str:
    return f"CASE WHEN starts_with({value}, '\"') THEN {value} ->> '$' ELSE {value} END"


def field_text(document: str, steps: Steps) -> str:
    """SQL for the text of the field at a path of a JSON object: a string without quotes, a number as written."""
    return _unquoted(_value((f"CASE WHEN json_valid({document}) THEN {document} END", steps)))


def _meta(steps: Steps) -> str:
    if steps[0] == "_key":
        return "TRY(decode(key))"
    if steps[0] == "_timestamp":
        return f"CAST({TIMESTAMP} AS VARCHAR)"
    name = "file.path" if steps[0] == "_file" else ".".join(str(step) for step in steps[1:])
    return f"TRY(decode(list_filter(headers, lambda h: h.key = {text_literal(name)})[1].value))"


def _patterned(form: TextFormat, decoded: str) -> str:
    """Groups of a pattern that fits the whole text. A record whose JSON group is not JSON is malformed."""
    pattern = text_literal(form.pattern)
    names = ", ".join(text_literal(f"g{number}") for number in range(len(group_names(form.pattern))))
    fits = f"coalesce(regexp_full_match(text, {pattern}), FALSE)"
    groups = f"CASE WHEN {fits} THEN regexp_extract(text, {text_literal(f'^(?:{form.pattern})$')}, [{names}]) END"
    document, faults = "NULL", f"NOT {fits}"
    if form.json is not None:
        text = _plain_group(form, form.json)
        document = f"CASE WHEN {text} IS NOT NULL THEN {_strictly(text)} END"
        faults = f"groups IS NULL OR ({text} IS NOT NULL AND document IS NULL)"
    else:
        faults = "groups IS NULL"
    inner = f"SELECT *, {document} AS document FROM (SELECT *, {groups} AS groups FROM ({decoded}))"
    return f"SELECT *, {faults} AS malformed, NULL::JSON[] AS list FROM ({inner})"


def group_names(pattern: str) -> list[str | None]:
    """The capturing groups of a pattern in order of their opening, None for one without a name."""
    found: list[str | None] = []
    # What cannot open a group is taken whole: quoted passages, escapes, classes (a first bracket closes nothing).
    tokens = r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|\(\?P?<(?P<name>\w+)>|(?P<open>\((?!\?))"
    for match in re.finditer(tokens, pattern, re.DOTALL):
        if match["name"] or match["open"]:
            found.append(match["name"])
    return found


def _plain_group(form: TextFormat, name: str) -> str:
    return f"nullif((groups)['g{group_names(form.pattern).index(name)}'], '')"


def _group(form: TextFormat, steps: Steps) -> str:
    """A name is a group first, else a member of the group that holds JSON."""
    first = str(steps[0])
    if first in group_names(form.pattern) and first != form.json:
        return _plain_group(form, first)
    if form.json is None:
        return "NULL::VARCHAR"
    inner = steps[1:] if first == form.json else steps
    return _unquoted(_value(("'{\"v\":' || document || '}'", ("v", *inner))))


def _csv(form: CsvFormat, decoded: str) -> str:
    """Fields of a delimited record: quoted, or without any quote up to the next delimiter; else it is malformed."""
    names = f"[{', '.join(text_literal(name) for name in form.columns)}]::VARCHAR[]"
    if form.header:
        line = "ltrim(TRY(decode(list_filter(headers, lambda h: h.key = 'csv.header')[1].value)), chr(65279))"
        names = f"list_transform({_cells(line, form)}, lambda f: trim(f, ' ' || chr(9)))"
    absent = ", ".join(text_literal(null) for null in ("", *form.null))
    fields = f"list_transform({_cells('text', form)}, lambda f: CASE WHEN f NOT IN ({absent}) THEN f END)"
    wrong = "coalesce(len(fields) <> len(names), TRUE)"
    return (
        f"SELECT *, {wrong} AS malformed, text AS document, NULL::JSON[] AS list "
        f"FROM (SELECT *, {names} AS names, {fields} AS fields FROM ({decoded}))"
    )


def _cells(line: str, form: CsvFormat) -> str:
    """SQL for the fields of a line; NULL where its quotes do not fit."""
    bare = f"rtrim({line}, chr(13) || chr(10))"
    separator = "".join(f"\\x{{{ord(one):x}}}" for one in form.delimiter)
    if not form.quote:
        return f"string_split({bare}, {text_literal(form.delimiter)})"
    mark = f"\\x{{{ord(form.quote):x}}}"
    field = f"{mark}(?:[^{mark}]|{mark}{mark})*{mark}|[^{mark}{separator}]*"
    whole = text_literal(f"(?s)(?:{field})(?:{separator}(?:{field}))*")
    # Behind a delimiter of our own every field, the last one too, ends with one.
    found = (
        f"regexp_extract_all({bare} || {text_literal(form.delimiter)}, {text_literal(f'(?s)({field}){separator}')}, 1)"
    )
    quote_mark = text_literal(form.quote)
    inner = f"replace(substr(f, 2, length(f) - 2), {quote_mark} || {quote_mark}, {quote_mark})"
    plain = f"list_transform({found}, lambda f: CASE WHEN starts_with(f, {quote_mark}) THEN {inner} ELSE f END)"
    return f"CASE WHEN regexp_full_match({bare}, {whole}) THEN {plain} END"
