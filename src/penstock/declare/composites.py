"""Shapes of lists and mappings, made of other shapes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.declare.nodes import Entry, Fields, Items, Node, Scalar, describe, shorten
from penstock.declare.shapes import Wrong, check_name, not_in_this_version, suggest_now
from penstock.declare.spec import Field, Located, Named, Parsed, Reading, Schema, Section, Shape

if TYPE_CHECKING:
    from penstock.model.finding import Mark

T = TypeVar("T")


@dataclass(frozen=True)
class ListOf(Generic[T]):
    """A list; a single value stands for a list of one."""

    item: Shape[T]
    count_max: int
    plural: str
    lone: bool = True

    @property
    def words(self) -> str:
        return f"a list of {self.plural}" + (", or one" if self.lone else "")

    def read(self, node: Node, reading: Reading) -> Located[tuple[Located[T], ...]] | None:
        if not isinstance(node, Items):
            if not self.lone:
                reading.add(node, "wrong-shape", f"expected {self.words}, found {describe(node)}", "Write a list.")
                return None
            one = self.item.read(node, reading)
            return None if one is None else Located((one,), node)
        if len(node.values) > self.count_max:
            message = f"there are {len(node.values)} {self.plural}, more than {self.count_max}"
            reading.add(node, "too-many", message, "Use fewer.")
            return None
        values = [self.item.read(value, reading) for value in node.values]
        good = tuple(value for value in values if value is not None)
        return Located(good, node) if len(good) == len(values) else None

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        item = self.item.schema(definitions)
        many = {"type": "array", "items": item, "maxItems": self.count_max}
        return {"anyOf": [item, many]} if self.lone else many

    def sections(self) -> tuple[Section, ...]:
        return self.item.sections()


@dataclass(frozen=True)
class MapOf(Generic[T]):
    """A mapping from names the user gives to values of one shape. `free` allows any text as a name."""

    item: Shape[T]
    count_max: int
    plural: str
    free: bool = False

    @property
    def words(self) -> str:
        below = self.item.sections()
        return f"[{self.plural}](#{below[0].name}) by name" if below else f"{self.plural} by name"

    def read(self, node: Node, reading: Reading) -> Located[tuple[Named[T], ...]] | None:
        if not isinstance(node, Fields):
            repair = "Write `name: value`, one below the other."
            reading.add(node, "wrong-shape", f"expected {self.plural} by name, found {describe(node)}", repair)
            return None
        if len(node.entries) > self.count_max:
            message = f"there are {len(node.entries)} {self.plural}, more than {self.count_max}"
            reading.add(node, "too-many", message, "Use fewer.")
            return None
        return Located(tuple(self.entries(node, reading)), node)

    def entries(self, node: Fields, reading: Reading) -> list[Named[T]]:
        seen: dict[str, Scalar] = {}
        found = []
        for entry in node:
            if is_comma_remnant(node, entry):
                comma_finding(entry, reading)
                continue
            self.check_key(entry.key, seen, reading)
            found.append(Named(entry.key, self.item.read(entry.value, reading)))
        return found

    def check_key(self, key: Scalar, seen: dict[str, Scalar], reading: Reading) -> None:
        earlier = seen.setdefault(key.text.lower(), key)
        if earlier is not key:
            message = (
                f"`{shorten(key.text)}` and `{shorten(earlier.text)}` in line {earlier.mark.line} differ only in case"
            )
            reading.add(key, "duplicate-name", message, "Rename one of them: names are the same in any case.")
        elif not self.free:
            try:
                check_name(key.text)
            except Wrong as wrong:
                reading.add(key, wrong.code, wrong.message, wrong.repair)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        schema: Schema = {
            "type": "object",
            "additionalProperties": self.item.schema(definitions),
            "maxProperties": self.count_max,
        }
        if not self.free:
            schema["propertyNames"] = {"pattern": "^[a-z][a-z0-9_]{0,62}$"}
        return schema

    def sections(self) -> tuple[Section, ...]:
        return self.item.sections()


@dataclass(frozen=True)
class Record:
    """A section. `short` is the field that a value which is no mapping stands for."""

    section: Section
    short: Field[Any] | None = None

    @property
    def words(self) -> str:
        own = f"[{self.section.title}](#{self.section.name})"
        return f"{own}, or its `{self.short.name}`" if self.short else own

    def read(self, node: Node, reading: Reading) -> Located[Parsed] | None:
        if isinstance(node, Fields):
            return Located(read_section(self.section, node, reading), node)
        if self.short is not None and not (isinstance(node, Scalar) and node.is_empty):
            value = self.short.shape.read(node, reading.within(self.short.connection))
            name = self.short.name
            return Located(Parsed(node, {} if value is None else {name: value}, {name: node.mark}), node)
        if isinstance(node, Scalar) and node.is_empty:
            if any(field.required for field in self.section.fields):
                repair = f"Give {listed(self.section)}."
                reading.add(node, "empty-value", f"expected {self.section.title}, found nothing", repair)
                return None
            return Located(Parsed(node, {}, {}), node)
        repair = f"Write {listed(self.section)} below it."
        reading.add(node, "wrong-shape", f"expected {self.section.title}, found {describe(node)}", repair)
        return None

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        name = self.section.name
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = section_schema(self.section, definitions)
        own = {"$ref": f"#/$defs/{name}"}
        options = [own]
        if self.short is not None:
            options.append(field_schema(self.short, definitions))
        if not any(field.required for field in self.section.fields):
            options.append({"type": "null"})
        return own if len(options) == 1 else {"anyOf": options}

    def sections(self) -> tuple[Section, ...]:
        return (self.section,)


@dataclass(frozen=True)
class OneOf:
    """One of several sections, named: `csv`, or `{csv: {...}}`. Names in `later` are refused as not in this version."""

    what: str
    options: tuple[Section, ...]
    later: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        names = (
            f"[`{option.name}`](#{option.name})" if option.fields else f"`{option.name}`" for option in self.options
        )
        return " or ".join(names)

    def read(self, node: Node, reading: Reading) -> Located[tuple[Section, Parsed]] | None:
        if isinstance(node, Scalar) and not node.is_empty:
            scalar = reading.scalar(node)
            option = None if scalar is None else self.option(scalar, reading)
            empty = Fields(node.mark, ())
            return None if option is None else Located((option, read_section(option, empty, reading)), node)
        if not isinstance(node, Fields) or len(node.entries) != 1:
            found = f"{len(node.entries)} fields" if isinstance(node, Fields) else describe(node)
            repair = f"Write one of {', '.join(option.name for option in self.options)}, with its options below it."
            reading.add(node, "wrong-shape", f"expected one {self.what}, found {found}", repair)
            return None
        entry = node.entries[0]
        option = self.option(entry.key, reading)
        if option is None:
            return None
        parsed = Record(option).read(entry.value, reading)
        return None if parsed is None else Located((option, parsed.value), node)

    def option(self, key: Scalar, reading: Reading) -> Section | None:
        names = tuple(option.name for option in self.options)
        if key.text in names:
            return self.options[names.index(key.text)]
        if key.text in self.later:
            wrong = not_in_this_version(f"the {self.what} `{key.text}`", suggest_now(names))
            reading.add(key, wrong.code, wrong.message, wrong.repair)
        else:
            message = f"`{shorten(key.text)}` is not a {self.what}"
            reading.add(key, "unknown-value", message, reading.report.suggest(key.text, names, f"{self.what}s"))
        return None

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        lone = [option.name for option in self.options if not any(field.required for field in option.fields)]
        mappings = [
            {
                "type": "object",
                "properties": {option.name: Record(option).schema(definitions)},
                "required": [option.name],
                "additionalProperties": False,
            }
            for option in self.options
        ]
        return {"anyOf": [{"enum": lone}, *mappings]}

    def sections(self) -> tuple[Section, ...]:
        return tuple(option for option in self.options if option.fields)


# -- sections ---------------------------------------------------------------------------------------------------------


def read_section(section: Section, node: Fields, reading: Reading) -> Parsed:
    """The fields of a mapping, with findings for what is unknown, later, or missing."""
    values: dict[str, Located[Any]] = {}
    written: dict[str, Mark] = {}
    for entry in node:
        known = section.field(entry.key.text)
        if known is None:
            unknown_field(section, node, entry, reading)
            continue
        written[known.name] = entry.key.mark
        if known.later:
            wrong = not_in_this_version(f"`{known.name}`", known.doc)
            reading.add(entry.key, wrong.code, wrong.message, wrong.repair)
            continue
        value = known.shape.read(entry.value, reading.within(known.connection))
        if value is not None:
            values[known.name] = value
    for known in section.fields:
        if known.required and known.name not in written:
            example = f"Write for example `{known.example}`." if known.example and "\n" not in known.example else ""
            reading.add(node, "missing-field", f"{section.title} needs `{known.name}`", example)
    return Parsed(node, values, written)


def unknown_field(section: Section, node: Fields, entry: Entry, reading: Reading) -> None:
    if section.extensions and entry.key.text.startswith("x-"):
        return
    if is_comma_remnant(node, entry):
        comma_finding(entry, reading)
        return
    names = [field.name for field in section.fields if not field.later]
    message = f"`{shorten(entry.key.text)}` is not a field of {section.title}"
    reading.add(entry.key, "unknown-field", message, reading.report.suggest(entry.key.text, names, "fields"))


def is_comma_remnant(node: Fields, entry: Entry) -> bool:
    """In braces a comma ends the value: what follows it in `{type: decimal(18,8)}` looks like a key without a value."""
    key, value = entry.key, entry.value
    without_value = node.flow and isinstance(value, Scalar) and value.is_empty
    return without_value and (bool(key.style) or not re.fullmatch(r"\w*", key.text))


def comma_finding(entry: Entry, reading: Reading) -> None:
    message = f"the value before `{shorten(entry.key.text)}` ended at its comma"
    repair = 'In braces quote a value that has a comma: `{type: "decimal(18,8)"}`.'
    reading.add(entry.key, "unquoted-comma", message, repair)


def listed(section: Section) -> str:
    names = [f"`{field.name}`" for field in section.fields if not field.later]
    return ", ".join(names) if names else "nothing"


def section_schema(section: Section, definitions: dict[str, Schema]) -> Schema:
    """The JSON schema of a section's mapping."""
    fields = [field for field in section.fields if not field.later]
    schema: Schema = {
        "type": "object",
        "description": section.doc,
        "properties": {field.name: field_schema(field, definitions) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }
    if section.extensions:
        schema["patternProperties"] = {"^x-": {}}
    return schema


def field_schema(field: Field[Any], definitions: dict[str, Schema]) -> Schema:
    schema = field.shape.schema(definitions)
    if field.connection and schema.get("type") in ("integer", "number"):
        schema = {"anyOf": [schema, {"type": "string", "pattern": r"\$\{"}]}
    return {"description": field.doc, **schema}
