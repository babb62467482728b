"""`${NAME}` in connection settings: put in, or refused with what is missing and where it was looked for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.declare.nodes import shorten
from penstock.limits import TEXT_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.declare.nodes import Scalar
    from penstock.declare.report import Report

VARIABLE = re.compile(r"\$\{([^{}]*)(\}?)")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def substitute(node: Scalar, environment: Mapping[str, str], report: Report, *, allowed: bool) -> Scalar | None:
    """The scalar with every `${NAME}` replaced from `environment`; None with findings where that is not possible.

    What is put in is one text: it never becomes a list, a mapping or a second setting.
    """
    if "${" not in node.text:
        return node
    if len(node.text) > TEXT_CHARACTERS_MAX:
        message = f"the text has {len(node.text)} characters, more than {TEXT_CHARACTERS_MAX}"
        report.add(node.mark, "too-long", message)
        return None
    sound = True
    place = node.expression().at
    for match in VARIABLE.finditer(node.text):
        name, closed = match[1], match[2]
        if not allowed:
            message = f"`{shorten(match[0])}` stands outside a connection setting"
            repair = "Variables are for connection settings: options of the source, files of references, the lake."
            report.add(place(match.start()), "variable-not-allowed", message, repair)
        elif not closed or not VARIABLE_NAME.fullmatch(name):
            message = f"`{shorten(match[0])}` is not a variable"
            report.add(place(match.start()), "variable-malformed", message, "Write `${NAME}`.")
        elif name not in environment:
            message = f"the variable {name} is not set; looked in: the environment of this process"
            report.add(place(match.start()), "variable-missing", message, f"Set it: `export {name}=...`.")
        else:
            continue
        sound = False
    if not sound:
        return None
    text = VARIABLE.sub(lambda match: environment[match[1]], node.text)
    return replace(node, text=text, style="", raw="", is_text=False)
