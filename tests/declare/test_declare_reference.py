"""The JSON schema and the reference pages say what the parser does, and the pages in the repository are up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from declare.marked import declaration, expected
from declare.test_declare_findings import MEANING_CASES
from declare.test_declare_nouns import EXAMPLE
from declare.test_declare_testfile import TEXT
from penstock.declare import json_schema, load_pipeline, reference_pages
from penstock.declare.codes import CODES
from penstock.declare.composites import Record
from penstock.declare.pages import reachable
from penstock.declare.reading import read
from penstock.declare.report import Report
from penstock.declare.schema import FILES
from penstock.declare.spec import Reading, Section
from penstock.settings import SETTINGS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SECTIONS = [section for root in FILES.values() for section in reachable(root)]


def errors(kind: str, text: str) -> list[str]:
    value = YAML(typ="safe", pure=True).load(text)
    return [
        error.message
        for error in Draft202012Validator(json_schema(kind)).iter_errors(json.loads(json.dumps(value, default=str)))
    ]


@pytest.mark.parametrize("kind", FILES)
def test_schemas_are_schemas(kind: str) -> None:
    Draft202012Validator.check_schema(json_schema(kind))


def test_schemas_accept_what_is_sound() -> None:
    assert errors("pipeline", EXAMPLE) == []
    assert errors("pipeline", declaration(source="  files: ${FOLDER}\n  format: csv\n")) == []
    assert errors("pipeline", declaration(source='  push: {partitions: "${PARTS}"}\n')) == []
    assert errors("project", "lake: x\nlimits: {threads: 3}\n") == []
    assert errors("test", TEXT) == []


@pytest.mark.parametrize("name", MEANING_CASES)
def test_schemas_leave_meaning_to_check(name: str) -> None:
    """What is of the right shape is no error of the schema, whatever it means: the schema refuses no more than `check`."""
    if name == "no source":
        return
    assert errors("pipeline", expected(MEANING_CASES[name])[0]) == []


@pytest.mark.parametrize(
    "text",
    [
        declaration(more="sliver: {}\n"),
        declaration(more="serve: {}\n"),
        declaration(pipeline="pipeline: Shop\n"),
        declaration(columns="    id: integer\n"),
        declaration(columns="    id: {type: string, require: true}\n"),
        declaration(source="  push: {partitions: two}\n"),
        declaration(source="  push: {}\n  format: avro\n"),
        declaration(silver="  table: a\n  late_after: soon\n"),
        "pipeline: a\n",
    ],
)
def test_schemas_refuse_wrong_shapes(text: str) -> None:
    assert errors("pipeline", text)
    assert load_pipeline(text, "a.yaml", {}).findings


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_every_example_of_the_reference_is_sound(section: Section) -> None:
    text = section.example or "\n".join(field.example for field in section.fields if field.example and not field.later)
    report = Report("example")
    node = read(text, report)
    assert node is not None
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)", text), "localhost:9092")
    Record(section).read(node, Reading(report, variables))
    assert report.findings() == ()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_every_field_is_documented_with_an_example(section: Section) -> None:
    assert section.doc
    for field in section.fields:
        assert field.doc.endswith("."), field.name
        assert field.later or field.example, field.name


@pytest.mark.parametrize("name", reference_pages())
def test_pages_in_the_repository_are_up_to_date(name: str) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8")
    assert written == reference_pages()[name], "run `python -m penstock.declare docs/reference`"


def test_links_between_sections_lead_somewhere() -> None:
    for text in reference_pages().values():
        anchors = set(re.findall(r'<a id="([^"]+)">', text)) | {
            heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_pages_name_every_code_and_every_setting() -> None:
    pages = reference_pages()
    assert all(f"`{code}`" in pages["findings.md"] for code in CODES)
    assert all(f"`{setting.environment_name}`" in pages["project.md"] for setting in SETTINGS)
