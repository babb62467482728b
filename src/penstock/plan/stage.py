"""What a format does for the refine SQL (`Stage`), and what all share: the record's own columns and meta fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from penstock.plan.forms import Form
from penstock.plan.sqltext import Layers, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.model.fields import FieldPath
    from penstock.model.pipeline import Column

TOO_LARGE_HEADER = "penstock.too_large"
"""The header of a bronze row whose value was over the size limit and is not kept."""
FILE_HEADER = "file.path"
CSV_HEADER = "csv.header"

BASE_COLUMNS = ("_row", "_source", "_partition", "_offset", "_timestamp", "_ingested_at")


@dataclass(frozen=True)
class Field:
    """A raw field as a column of the layers: its name and the form its values have."""

    column: str
    form: Form


@dataclass(frozen=True)
class Taken:
    """A raw field that a column takes, and the layers' column that holds its fast cast."""

    column: Column
    field: Field
    fast: str

    @property
    def odd(self) -> str:
        """SQL condition: there is a value, but not one so plain that nothing strange is in it."""
        if self.field.form is Form.JSON and self.column.type is not None and self.column.type.kind == "json":
            return f"coalesce(NOT starts_with(e.{self.field.column}, '\"'), FALSE)"
        return f"(e.{self.field.column} IS NOT NULL AND e.{self.fast} IS NULL)"


class Stage(Protocol):
    """A format: from records to raw fields. The calls come in this order, each adding layers.

    `open` gives events: BASE_COLUMNS, `_index`, `_element`, and a column per path. Then the caller adds fast casts.
    `judge` gets the fields that columns take, and adds `_odd`: whether any is not written plainly, and `_fault`:
    what makes the record malformed, or NULL. `extra` gives SQL for the undeclared fields as a JSON object, or NULL
    where there are none; `whole_roots` are the fields that columns take whole. In SQL the row so far is `e`.

    `find_plain` stands in the place of `judge` and `extra` where only those events matter that are neither odd nor of a
    faulty record: it adds `_plain`, which is true for them, or for fewer, and their `_extra`. It returns False where a
    format has no shorter way to find them.
    """

    def open(self, paths: Sequence[FieldPath]) -> tuple[Layers, Mapping[FieldPath, Field]]: ...

    def judge(self, layers: Layers, taken: Sequence[Taken]) -> None: ...

    def extra(self, whole_roots: Sequence[str]) -> str: ...

    def find_plain(self, layers: Layers, taken: Sequence[Taken], whole_roots: Sequence[str]) -> bool: ...


def find_judged(stage: Stage, layers: Layers, taken: Sequence[Taken], whole_roots: Sequence[str]) -> bool:
    """`find_plain` for formats whose judgement is cheap."""
    stage.judge(layers, taken)
    layers.add([("_extra", stage.extra(whole_roots)), ("_plain", "NOT e._odd AND e._fault IS NULL")])
    return True


class MetaFields:
    """The paths that lie in the record around the event: key, headers, timestamp, file."""

    def __init__(self, paths: Sequence[FieldPath]) -> None:
        self.columns: list[tuple[str, str]] = []
        self.fields: dict[FieldPath, Field] = {}
        for number, path in enumerate(path for path in paths if path.is_meta):
            sql, form = _meta(path)
            self.columns.append((f"_m{number}", sql))
            self.fields[path] = Field(f"_m{number}", form)


def base_layer(meta: MetaFields) -> Layers:
    """The first SELECT: the record's columns under names no user's column has, and the value as `_text`, from which
    bytes that are not UTF-8 were dropped: it is the value if it is as long (`_size`)."""
    columns = [*BASE_COLUMNS, "value AS _value", "headers AS _headers"]
    columns += [f"{sql} AS {identifier(name)}" for name, sql in meta.columns]
    columns += ["octet_length(value) AS _size", "decode(value, 'ignore') AS _text"]
    return Layers(columns, "FROM records")


def add_one_event(layers: Layers) -> None:
    """What the events of records are called that are one event each."""
    layers.beside([("_index", "CAST(0 AS INTEGER)"), ("_element", "CAST(NULL AS VARCHAR)")])


def header(name: str, headers: str = "headers") -> str:
    """SQL for the first header of that name, as BLOB."""
    return f"list_filter({headers}, lambda h: h.key = {literal(name)})[1].value"


def missing_value(otherwise: str) -> str:
    """SQL for why a record without a value is malformed; for one with a value, `otherwise`."""
    return (
        f"CASE WHEN e._value IS NOT NULL THEN {otherwise} "
        f"WHEN {oversized('e._headers')} THEN 'larger than the limit for a record; only its length and hash are kept' "
        "ELSE 'no value (a tombstone)' END"
    )


def oversized(headers: str) -> str:
    """SQL condition: the record was too large to keep."""
    return f"coalesce(len(list_filter({headers}, lambda h: h.key = {literal(TOO_LARGE_HEADER)})) > 0, FALSE)"


def _meta(path: FieldPath) -> tuple[str, Form]:
    if path.root == "_key":
        return "key", Form.BYTES
    if path.root == "_timestamp":
        return "_timestamp", Form.TIME
    if path.root == "_file":
        return header(FILE_HEADER), Form.BYTES
    return header(".".join(str(step) for step in path.steps[1:])), Form.BYTES
