"""YAML 1.2 text -> a tree of `nodes.py`, in bounded time and memory, with every problem as a finding.

Works on the parser's events rather than on its tree: nesting is bounded before anything recurses, aliases are counted
as if they were written out, and keys keep their places. The only module that knows ruamel.yaml.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from penstock.declare.nodes import Entry, Fields, Items, Node, Scalar, describe, shorten
from penstock.limits import DECLARATION_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX
from penstock.model.finding import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.declare.report import Report

PARSER_ERRORS = (YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError, AssertionError)
"""What ruamel.yaml raises on text that is not YAML: its own errors, and now and then one it did not mean to."""

PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))

SYNTAX_REPAIR = (
    "Look at indentation and quotes up to here; quote a value that has `: ` or ` #` in it, or begins with one of "
    "*&!|>%@`{[."
)

BRACES_REPAIR = (
    "Close the brace of line {}; in braces quote a value that has a comma or `: `, for example "
    "\"side in ('buy', 'sell')\"."
)

NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")

PROPERTIES = re.compile(r"(?:[&!]\S*(?:\s+(?:#[^\r\n]*)?)*)*")
"""An anchor and a tag in front of a value, with what separates them from it."""


def decode(data: bytes, report: Report) -> str | None:
    """The bytes of a file as text; None with a finding at the first byte that is not UTF-8."""
    if len(data) > DECLARATION_BYTES_MAX:
        too_large(len(data), report)
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        mark = place_of(before, len(before), report.file)
        report.add(
            mark,
            "not-utf8",
            f"the byte 0x{data[error.start]:02x} is not UTF-8",
            "Save the file as UTF-8.",
        )
        return None


def read(text: str, report: Report) -> Node | None:
    """The document in `text`, or None with findings in `report`."""
    if len(text) > DECLARATION_BYTES_MAX or len(text.encode("utf-8", "replace")) > DECLARATION_BYTES_MAX:
        too_large(len(text), report)
        return None
    bad = NOT_ALLOWED.search(text)
    if bad is not None:
        message = f"the character U+{ord(bad[0]):04X} is not allowed in YAML"
        repair = 'Remove it, or write it as an escape in double quotes ("\\u0000").'
        report.add(place_of(text, bad.start(), report.file), "control-character", message, repair)
        return None
    text = text.removeprefix("\ufeff")
    try:
        return Reader(text, report).document()
    except Refused:
        return None
    except MarkedYAMLError as error:
        syntax_error(error, text, report)
    except PARSER_ERRORS as error:
        report.add(
            report.start(), "yaml-syntax", f"this is not YAML: {shorten(str(error))}", "Check the file's syntax."
        )
    return None


def place_of(text: str, index: int, file: str) -> Mark:
    """Line and column of a character, lines ending as YAML's do."""
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return Mark(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def too_large(size: int, report: Report) -> None:
    message = f"the file has {size} bytes, more than {DECLARATION_BYTES_MAX}"
    report.add(report.start(), "too-large", message, "Split it into several files.")


def syntax_error(error: MarkedYAMLError, text: str, report: Report) -> None:
    """A finding for what the parser stumbled over, at the place where it did."""
    at = error.problem_mark or error.context_mark
    mark = Mark(report.file, at.line + 1, at.column + 1) if at is not None else report.start()
    problem = shorten(" ".join(str(part) for part in (error.context, error.problem) if part), 200)
    index = getattr(at, "index", len(text))
    character = text[index] if index < len(text) else ""
    if character == "\t":
        report.add(mark, "tab", "a tab cannot stand here", "Indent with spaces.")
        return
    repair = SYNTAX_REPAIR
    if error.context_mark is not None and "flow mapping" in str(error.context):
        repair = BRACES_REPAIR.format(error.context_mark.line + 1)
    if text[max(0, index - 1) : index + 1] == "${":
        repair = 'In braces quote a variable: "${NAME}".'
    report.add(mark, "yaml-syntax", f"this is not YAML: {problem}", repair)


class Refused(Exception):
    """Reading stops; the finding is in the report."""


@dataclass
class Open:
    """A list or mapping that is being read. `size` counts the values so far, aliases written out."""

    mark: Mark
    is_mapping: bool
    flow: bool
    anchor: str | None
    values: list[Node] = field(default_factory=list)
    size: int = 1


class Reader:
    """Builds one document from the parser's events."""

    def __init__(self, text: str, report: Report) -> None:
        self.text = text
        self.report = report
        self.anchors: dict[str, Node] = {}
        self.open: list[Open] = []
        self.root: Node | None = None

    def document(self) -> Node | None:
        documents = 0
        for event in YAML(typ="safe", pure=True).parse(self.text):
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.refused(event, "several-documents", "a second document starts", "One document per file.")
                if event.version is not None and tuple(event.version) != (1, 2):
                    raise self.refused(event, "yaml-version", "only YAML 1.2 is read", "Remove the %YAML line.")
            self.take(event)
        if self.root is None or (isinstance(self.root, Scalar) and self.root.is_empty):
            self.report.add(self.report.start(), "empty-document", "the file is empty", "See docs/reference.")
            return None
        return self.root

    def refused(self, event: Any, code: str, message: str, repair: str) -> Refused:
        self.report.add(self.mark(event), code, message, repair)
        return Refused()

    def mark(self, event: Any) -> Mark:
        return Mark(self.report.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def take(self, event: Any) -> None:
        if isinstance(event, AliasEvent):
            self.place(self.alias(event), None, self.mark(event))
        elif isinstance(event, ScalarEvent):
            self.check_tag(event)
            self.place(self.scalar(event), event.anchor, self.mark(event))
        elif isinstance(event, (SequenceStartEvent, MappingStartEvent)):
            if len(self.open) >= YAML_DEPTH_MAX:
                message = f"values are nested more than {YAML_DEPTH_MAX} deep"
                raise self.refused(event, "too-deep", message, "Nest less deeply.")
            self.check_tag(event)
            is_mapping = isinstance(event, MappingStartEvent)
            if event.anchor is not None:
                self.anchors.pop(event.anchor, None)
            self.open.append(Open(self.mark(event), is_mapping, bool(event.flow_style), event.anchor))
        elif isinstance(event, (SequenceEndEvent, MappingEndEvent)):
            closed = self.open.pop()
            self.place(self.close(closed), closed.anchor, closed.mark)

    def alias(self, event: Any) -> Node:
        node = self.anchors.get(event.anchor)
        if node is not None:
            return node
        name = shorten(str(event.anchor))
        if any(parent.anchor == event.anchor for parent in self.open):
            raise self.refused(event, "recursive-alias", f"`*{name}` stands inside what it names", "Write it out.")
        repair = f"Define `&{name}` above, or quote a value that begins with `*`."
        raise self.refused(event, "unknown-alias", f"`*{name}` names nothing above", repair)

    def scalar(self, event: Any) -> Scalar:
        """The scalar without its anchor and tag, which the parser counts as part of it."""
        start = event.start_mark.index
        raw = self.text[start : event.end_mark.index]
        properties = PROPERTIES.match(raw)
        mark = self.mark(event)
        if properties is not None and properties.end():
            raw = raw[properties.end() :]
            inside = place_of(properties[0], properties.end(), mark.file)
            column = inside.column + (mark.column - 1 if inside.line == 1 else 0)
            mark = Mark(mark.file, mark.line + inside.line - 1, column)
        style = event.style or ""
        is_text = str(event.tag or "") in ("!", "tag:yaml.org,2002:str")
        return Scalar(mark, event.value, style, raw, is_text=is_text)

    def check_tag(self, event: Any) -> None:
        tag = "" if event.tag is None else str(event.tag)
        if tag and tag != "!" and tag not in PLAIN_TAGS:
            repair = "Remove it, or quote a value that begins with `!`."
            self.report.add(self.mark(event), "unknown-tag", f"the tag `{shorten(tag)}` means nothing here", repair)

    def place(self, node: Node, anchor: str | None, mark: Mark) -> None:
        """Put a finished value where it belongs. A value that is not written has the place of its key."""
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.size += node.size
        if parent.size > YAML_NODES_MAX:
            message = f"there are more than {YAML_NODES_MAX} values when the aliases are written out"
            self.report.add(mark, "too-many-values", message, "Use fewer aliases, or split the file.")
            raise Refused
        if isinstance(node, Scalar) and node.is_empty and parent.is_mapping and len(parent.values) % 2:
            node = replace(node, mark=parent.values[-1].mark)
        parent.values.append(node)

    def close(self, closed: Open) -> Node:
        if not closed.is_mapping:
            return Items(closed.mark, tuple(closed.values), closed.size)
        pairs = list(zip(closed.values[::2], closed.values[1::2], strict=True))
        return Fields(closed.mark, self.entries(pairs), closed.size, closed.flow)

    def entries(self, pairs: list[tuple[Node, Node]]) -> tuple[Entry, ...]:
        """The entries of a mapping, each key once. What `<<` brings stands where `<<` does, unless written out."""
        written: dict[str, Mark] = {}
        found: list[Entry] = []
        for key, value in pairs:
            if not isinstance(key, Scalar):
                self.report.add(key.mark, "key-not-text", f"a key is {describe(key)}", "Keys are texts.")
            elif is_merge(key):
                found.extend(self.merged(value))
            elif key.text in written:
                message = f"`{shorten(key.text)}` is given again; first in line {written[key.text].line}"
                self.report.add(key.mark, "duplicate-key", message, "Remove one of them.")
            else:
                written[key.text] = key.mark
                found.append(Entry(key, value))
        kept: dict[str, Entry] = {}
        for entry in found:
            if not entry.merged or entry.key.text not in written:
                kept.setdefault(entry.key.text, entry)
        return tuple(kept.values())

    def merged(self, value: Node) -> Iterator[Entry]:
        for source in value.values if isinstance(value, Items) else (value,):
            if isinstance(source, Fields):
                yield from (replace(entry, merged=True) for entry in source)
            else:
                message = f"`<<` takes mappings, not {describe(source)}"
                self.report.add(source.mark, "merge-not-mapping", message, "Write `<<: *name`.")


def is_merge(key: Scalar) -> bool:
    return key.text == "<<" and not key.style
