"""Where the characters of an expression stand in the file, however YAML wrote it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from penstock.declare.nodes import Fields, Scalar
from penstock.declare.reading import read
from penstock.declare.report import Report
from penstock.model.finding import Mark


def scalar_of(text: str) -> Scalar:
    """The value of `a` in a document."""
    report = Report("f")
    node = read(text, report)
    assert report.is_clean, report.findings()
    assert isinstance(node, Fields)
    entry = node.get("a")
    assert entry is not None
    assert isinstance(entry.value, Scalar)
    return entry.value


def place_of(text: str, needle: str) -> tuple[int, int]:
    index = text.index(needle)
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1


DOCUMENTS = {
    "plain": "a: price + wrong > 0\n",
    "plain over lines": "a: price\n  + wrong\n   > 0\n",
    "plain with a blank line": "a: price\n\n\n  + wrong > 0\n",
    "single": "a: 'price + wrong > 0'\n",
    "single with a quote": "a: 'name = ''x'' + wrong > 0'\n",
    "single over lines": "a: 'price\n    + wrong > 0'\n",
    "double": 'a: "price + wrong > 0"\n',
    "double with escapes": 'a: "\\"p\\" \\u00e9 \\x41 + \\U0001F600 + wrong > 0"\n',
    "double with a continued line": 'a: "price + \\\n     wrong > 0"\n',
    "double over lines": 'a: "price +\n     wrong > 0"\n',
    "literal": "a: |\n  price\n    + wrong\n  > 0\n",
    "literal with blank lines": "a: |\n\n  price\n\n\n  + wrong\n",
    "literal with an indicator": "a: |2-\n     price\n   + wrong\n",
    "literal with a comment": "a: | # SQL\n   price\n   + wrong\n",
    "folded": "a: >\n  price\n  + wrong\n",
    "folded with blank lines": "a: >-\n  price\n\n\n  + wrong\n",
    "folded with deeper lines": "a: >\n  price\n    deep\n\n    + wrong\n  x\n",
    "anchor": "a: &x price + wrong\n",
    "anchor and tag": "a: !!str &x 'price + wrong'\n",
    "anchor on a line of its own": "a: &x # named\n  price + wrong\n",
    "windows lines": "a: |\r\n  price\r\n  + wrong\r\n",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_character_of_the_value_is_found_in_the_file(name: str) -> None:
    text = DOCUMENTS[name]
    expression = scalar_of(text).expression()
    mark = expression.at(expression.sql.index("wrong"))
    assert (mark.line, mark.column) == place_of(text, "wrong")


def test_the_mark_is_that_of_the_first_character() -> None:
    assert scalar_of("a: 'x'\n").expression().mark == Mark("f", 1, 5)
    assert scalar_of("a: x\n").expression().mark == Mark("f", 1, 4)
    assert scalar_of("a: |\n\n   x\n").expression().at(1) == Mark("f", 3, 4)


def test_offsets_outside_are_clipped() -> None:
    expression = scalar_of("a: price\n").expression()
    assert expression.at(-5) == Mark("f", 1, 4)
    assert expression.at(99) == Mark("f", 1, 9)


@given(
    st.lists(st.text("ab '\"\\", min_size=0, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["'", '"', "|", ">"]),
    st.integers(1, 4),
)
def test_each_visible_character_is_itself_in_the_file(lines: list[str], style: str, indentation: int) -> None:
    value = "\n".join(line.strip() for line in lines).strip()
    pad = " " * indentation
    if style == "'":
        text = "a: '" + value.replace("'", "''").replace("\n", "\n" + pad) + "'\n"
    elif style == '"':
        text = 'a: "' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\n" + pad) + '"\n'
    else:
        text = f"a: {style}\n" + "".join(f"{pad}{line}\n" for line in value.split("\n"))
    scalar = scalar_of(text)
    rows = text.split("\n")
    for offset, character in enumerate(scalar.text):
        mark = scalar.at(offset)
        if character in "ab":
            assert rows[mark.line - 1][mark.column - 1] == character
    assert scalar.text == YAML(typ="safe", pure=True).load(text)["a"]
