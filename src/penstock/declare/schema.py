"""JSON schemas for editors, made from the sections that the parser itself reads by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.declare.composites import section_schema
from penstock.declare.pipeline import PIPELINE
from penstock.declare.project import PROJECT
from penstock.declare.testfile import TEST_FILE

if TYPE_CHECKING:
    from penstock.declare.spec import Schema, Section

FILES: dict[str, Section] = {"pipeline": PIPELINE, "project": PROJECT, "test": TEST_FILE}
"""The kinds of files there are, with the section each consists of."""


def json_schema(kind: str = "pipeline") -> Schema:
    """The schema (draft 2020-12) of a `pipeline`, of the `project` file, or of a `test`.

    What it accepts is a superset of what `check` does: names that must exist, SQL and paths are not its business.
    """
    section = FILES[kind]
    definitions: dict[str, Schema] = {}
    schema = section_schema(section, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Penstock: {section.title}",
        **schema,
        "$defs": dict(sorted(definitions.items())),
    }
