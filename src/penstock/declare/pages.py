"""Reference pages in Markdown, made from the sections that the parser itself reads by.

`python -m penstock.declare docs/reference` writes them; a test says whether they are up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.declare.codes import CODES
from penstock.declare.compare import CHANGES_ALLOWED
from penstock.declare.pipeline import PIPELINE
from penstock.declare.project import PROJECT
from penstock.declare.testfile import TEST_FILE
from penstock.settings import SETTINGS

if TYPE_CHECKING:
    from penstock.declare.spec import Field, Section

GENERATED = "<!-- Made by `python -m penstock.declare docs/reference`; edits are lost. -->\n"

TYPES = (
    ("string", "Text. A JSON number only where its text survives."),
    ("int8, int16, int32, int64", 'Whole numbers: `12`, `12.0`, `1e3` and `"12"`, not `12.7`, `true` or hex.'),
    ("float32, float64", "The nearest number; the only types that round."),
    ("decimal(p,s)", "Exact numbers of `p` digits (at most 38), `s` of them after the point; more digits fail."),
    ("boolean", "`true` or `false`."),
    ("date", "A day: ISO 8601, or as `format` or `unit` say."),
    ("timestamp", "A point in time in microseconds, UTC: ISO 8601, or as `format`, `timezone` or `unit` say."),
    ("binary", "Bytes."),
    ("json", "Any JSON value, written again; bronze keeps the bytes as they came."),
)

PATHS = (
    ("a.b", "member `b` of the object `a`"),
    ("a[0]", "the first element of the list `a`"),
    ('"odd.name".b', "a name that holds anything, its quotes doubled"),
    ("_key, _timestamp, _file", "the record's key, time, file"),
    ("_headers.x", "the record's header `x`"),
    ("^.ts", "`ts` of the record around the event, where `records` is declared"),
)


TYPES_TEXT = (
    "Missing and null are NULL; in CSV so is an empty field. Every type but the floats holds a value "
    "exactly or refuses it (rule `type:<column>`)."
)

DURATIONS_TEXT = (
    "A number and a unit: `500 ms`, `10 seconds`, `1 minute`, `2h`, `1 day`, `1 week`. As windows, days "
    "and weeks are calendar days and weeks of the time zone; `24 hours` are 24 hours."
)

VARIABLES_TEXT = (
    "`${NAME}` stands for the environment variable in connection settings: the source's options, the "
    "`file` of a reference, the `lake` and `storage` of a project. Elsewhere it is a finding."
)

YAML_TEXT = (
    "YAML 1.2: `yes` and `010` are texts. Anchors, aliases and merge keys (`<<`) work; what `<<` brings "
    "stands where it does, unless the same key is written out."
)

CHANGES_TEXT = "Everything else would change the meaning of rows already written, and is refused."


def reference_pages() -> dict[str, str]:
    """File name -> Markdown, for every page of the reference that comes from the declaration's specs."""
    return {
        "declaration.md": declaration_page(),
        "project.md": project_page(),
        "test-files.md": sections_page("Test files", TEST_FILE),
        "findings.md": findings_page(),
    }


def declaration_page() -> str:
    types = table(("type", "accepts"), [(f"`{name}`", text) for name, text in TYPES])
    paths = table(("path", "finds"), [(f"`{name}`", text) for name, text in PATHS])
    allowed = "".join(f"* {change}\n" for change in CHANGES_ALLOWED)
    return "\n".join(
        (
            sections_page("The declaration", PIPELINE),
            f"## Types\n\n{TYPES_TEXT}\n\n{types}",
            f"## Field paths\n\n{paths}",
            f"## Durations\n\n{DURATIONS_TEXT}\n",
            f"## Variables\n\n{VARIABLES_TEXT}\n",
            f"## YAML\n\n{YAML_TEXT}\n",
            "## Changing a declaration\n",
            f"What may change in a pipeline that has run:\n\n{allowed}\n{CHANGES_TEXT}\n",
        )
    )


def project_page() -> str:
    head = ("in the file", "flag", "environment", "default")
    rows: list[tuple[str, ...]] = [
        (
            f"`{setting.file_key}`",
            f"`{setting.flag}`" if setting.flag else "none",
            f"`{setting.environment_name}`",
            setting.default_text,
        )
        for setting in SETTINGS
    ]
    return f"{sections_page('The project file', PROJECT)}\n## Names of settings\n\n{table(head, rows)}"


def findings_page() -> str:
    rows: list[tuple[str, ...]] = [(f"`{code}`", meaning) for code, meaning in CODES.items()]
    return (
        f"{GENERATED}\n# Findings\n\n`penstock check` prints findings as `file:line:column: code: message` with the "
        "repair below. These codes are about declarations; expressions have codes of their own.\n\n"
        + table(("code", "meaning"), rows)
    )


def sections_page(title: str, root: Section) -> str:
    """A page with a heading for every section below `root`."""
    parts = [f"{GENERATED}\n# {title}\n"]
    parts += [section_text(section) for section in reachable(root)]
    return "\n".join(parts)


def reachable(root: Section) -> list[Section]:
    """The section and all below it, each once, in reading order."""
    found: list[Section] = []
    ahead = [root]
    while ahead:
        section = ahead.pop(0)
        if section not in found:
            found.append(section)
            below = [inner for field in section.fields if not field.later for inner in field.shape.sections()]
            ahead = below + ahead
    return found


def section_text(section: Section) -> str:
    now = [field for field in section.fields if not field.later]
    later = [f"`{field.name}`" for field in section.fields if field.later]
    text = f'<a id="{section.name}"></a>\n\n## {section.title[0].upper()}{section.title[1:]}\n\n{section.doc}\n'
    if now:
        text += "\n" + table(("field", "takes", "default", ""), [field_row(field) for field in now])
        examples = section.example or "\n".join(field.example for field in now if field.example)
        text += f"\n```yaml\n{examples}\n```\n"
    if later:
        text += f"\nNot in this version: {', '.join(later)}.\n"
    return text


def field_row(field: Field[Any]) -> tuple[str, ...]:
    default = "needed" if field.required else field.default
    doc = field.doc + (" `${NAME}` may stand here." if field.connection else "")
    return f"`{field.name}`", field.shape.words, default, doc


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
