"""Any text, any bytes and any mixture of a declaration's own parts: findings or a pipeline, never an exception."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from declare.marked import declaration
from declare.test_declare_nouns import EXAMPLE
from penstock.declare import load_pipeline, load_test_file
from penstock.declare.composites import ListOf, MapOf, OneOf, Record
from penstock.declare.pipeline import PIPELINE
from penstock.declare.project import declared_settings
from penstock.declare.reading import decode
from penstock.declare.report import Report
from penstock.declare.spec import Reading
from penstock.declare.testfile import TEST_FILE

if TYPE_CHECKING:
    from typing import Any

    from penstock.declare.spec import Section

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCRAPS = st.sampled_from(
    """1|0|-1|1.5|true|~|""|price > 0|1 minute|1 day|id|int64|a.b|json|csv|market|[]|{}|[a, b]|{a: b}|*a|&a x|!t x|<<|${A}|x: y
|'|"|items.colour|Europe/Berlin|ms|flag|"${A}"|timestamp|float64""".replace("\n", "").split("|")
)


def check(text: str) -> None:
    loaded = load_pipeline(text, "f.yaml", {"A": "b"})
    assert (loaded.pipeline is None) == bool(loaded.findings)
    lines = text.count("\n") + text.count("\r") + 1
    assert all(1 <= finding.mark.line <= lines + 1 and finding.mark.column >= 1 for finding in loaded.findings)
    test, findings = load_test_file(text, "f.yaml")
    assert (test is None) == bool(findings)
    declared_settings(text, Reading(Report("f.yaml"), {}))


@QUICK
@given(st.text(max_size=200))
@example('"\\U99999999"')
@example("? ? ?")
@example("a: !<tag:yaml.org,2002:int> x")
@example("%TAG ! tag:x,2000:\n---\na: !b c")
@example("%YAML 9.9\n--- a")
@example("&a *a")
@example("\ufeffpipeline: a")
@example("a: 'x\n---\n'")
def test_any_text(text: str) -> None:
    check(text)


@QUICK
@given(st.text("ab:-?[]{},&*!|>'\"%@` \n\t#<.0", max_size=60))
def test_any_text_of_yaml_signs(text: str) -> None:
    check(text)


@QUICK
@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    report = Report("f.yaml")
    text = decode(data, report)
    assert (text is None) == (not report.is_clean)
    if text is not None:
        check(text)


@QUICK
@given(st.data())
def test_a_sound_declaration_with_a_piece_replaced(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(EXAMPLE)))
    end = data.draw(st.integers(start, min(len(EXAMPLE), start + 40)))
    check(EXAMPLE[:start] + data.draw(st.one_of(SCRAPS, st.text(max_size=5))) + EXAMPLE[end:])


NAMES = st.sampled_from(["id", "at", "price", "items", "Bad", "_x", "window_start"])


@st.composite
def mappings(draw: st.DrawFn, section: Section) -> str:
    """The section's own fields, mostly with values of the right shape, as YAML in braces."""
    parts = []
    for field in section.fields:
        if draw(st.integers(0, 3)) or field.required:
            parts.append(f"{field.name}: {draw_value(draw, field.shape)}")
    return "{" + ", ".join(parts) + "}"


def draw_value(draw: st.DrawFn, shape: Any) -> str:
    if not draw(st.integers(0, 9)):
        return draw(SCRAPS)
    count = range(draw(st.integers(0, 3)))
    if isinstance(shape, Record):
        return draw(mappings(shape.section))
    if isinstance(shape, ListOf):
        return "[" + ", ".join(draw_value(draw, shape.item) for _ in count) + "]"
    if isinstance(shape, MapOf):
        return "{" + ", ".join(f"{draw(NAMES)}: {draw_value(draw, shape.item)}" for _ in count) + "}"
    if isinstance(shape, OneOf):
        option = draw(st.sampled_from(shape.options))
        return f"{{{option.name}: {draw(mappings(option))}}}"
    return draw(st.one_of(SCRAPS, NAMES))


@QUICK
@given(mappings(PIPELINE))
def test_declarations_from_the_grammar(text: str) -> None:
    check(text)


@QUICK
@given(mappings(TEST_FILE))
def test_test_files_from_the_grammar(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 50_000,
        "- " * 50_000,
        "? " * 20_000,
        "&a " * 20_000,
        "a: " + "x" * 500_000,
        "a: '" + "y\n  " * 100_000,
        "\n" * 500_000,
        "a: |\n" + "  y\n" * 100_000,
        "x: &a [" + "1," * 1_000 + "]\ny: [" + "*a," * 100_000 + "]",
        "x: &a {" + ", ".join(f"k{number}: 1" for number in range(2_000)) + "}\n"
        + "".join(f"m{number}: {{<<: *a}}\n" for number in range(2_000)),
        "description: '" + "${" * 400_000 + "'",
        "".join(f"a{number}: 1\n" for number in range(90_000)),
        declaration(
            columns="".join(f"    column_{number}: string\n" for number in range(1_000)),
            gold="".join(
                f"  g{number}: {{window: 1 h, by: [{', '.join(f'colum_{name}' for name in range(32))}], measures: {{n: 1}}}}\n"
                for number in range(100)
            ),
        ),
        declaration(columns="".join(f"    c{number}: string\n" for number in range(20_000))),
    ],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_time_is_bounded(text: str) -> None:
    started = time.monotonic()
    assert load_pipeline(text, "f.yaml", {}).findings
    assert time.monotonic() - started < 30
