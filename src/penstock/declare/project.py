"""A project folder: `penstock.yaml`, `pipelines/*.yaml`, `tests/*.yaml` -> settings and nouns, and all findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.declare.composites import Record
from penstock.declare.locating import locate
from penstock.declare.pipeline import Loaded, load_pipeline
from penstock.declare.reading import decode, read
from penstock.declare.report import Report
from penstock.declare.shapes import SECRET_SHAPE, TEXT_SHAPE
from penstock.declare.spec import Field, Parsed, Reading, Section
from penstock.declare.testfile import PipelineTest, load_test_file
from penstock.limits import DECLARATION_BYTES_MAX, TEST_FILES_MAX
from penstock.model.finding import Finding, Mark
from penstock.settings import BY_NAME, PROJECT_FILE, SETTINGS, Problem, Setting, Settings, find, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from penstock.model.pipeline import Pipeline

PIPELINES_FOLDER = "pipelines"
TESTS_FOLDER = "tests"
LIMITS_KEY = "limits"


def setting_field(setting: Setting) -> Field[str]:
    """The field of `penstock.yaml` that a setting has; its value stays text, which `settings` reads."""
    shape = SECRET_SHAPE if setting.kind == "secret" else TEXT_SHAPE
    connection = setting.name == "lake" or setting.section == STORAGE_KEY
    name = setting.file_key.rpartition(".")[2]
    return Field(name, shape, setting.doc, setting.example, setting.default_text, connection=connection)


STORAGE_KEY = "storage"

TOP_FIELDS = {setting: setting_field(setting) for setting in SETTINGS if "." not in setting.file_key}
LIMIT_FIELDS = {setting: setting_field(setting) for setting in SETTINGS if setting.file_key.startswith(LIMITS_KEY)}
STORAGE_FIELDS = {setting: setting_field(setting) for setting in SETTINGS if setting.section == STORAGE_KEY}
LIMITS = Section("limits", "limits", "What is bounded, and how often things happen.", tuple(LIMIT_FIELDS.values()))
STORAGE = Section(
    "storage",
    "the store",
    "How to reach the store that the lake is in. What stands here goes before the environment's `AWS_...` names.",
    tuple(STORAGE_FIELDS.values()),
)
STORAGE_FIELD = Field(
    STORAGE_KEY, Record(STORAGE), "How to reach the lake's store.", "storage:\n  region: eu-central-1"
)
LIMITS_FIELD = Field(LIMITS_KEY, Record(LIMITS), "Bounds and cadences.", "limits:\n  threads: 2")
SERVERS = Field("servers", TEXT_SHAPE, "Everything runs in one process for now.", later=True)
PROJECT = Section(
    "project",
    "a project",
    f"The settings of a project, in `{PROJECT_FILE}`. Each has a flag and an environment variable, too: flag, "
    "environment, file, default, in this order.",
    (*TOP_FIELDS.values(), STORAGE_FIELD, LIMITS_FIELD, SERVERS),
    extensions=True,
)


@dataclass(frozen=True)
class LoadedProject:
    """A project folder as read. With findings, `pipelines` and `tests` hold those files that are sound."""

    folder: Path
    settings: Settings
    pipelines: tuple[Pipeline, ...]
    tests: tuple[PipelineTest, ...]
    findings: tuple[Finding, ...]


def load_project(folder: Path, environment: Mapping[str, str], overrides: Mapping[str, str]) -> LoadedProject:
    """Everything declared in `folder`, with all findings of all files. Reads only files of the folder.

    `environment` is the process's; `overrides` are flags by setting name, as text. Raises nothing for what the files
    hold; a folder or file that cannot be read is a finding.
    """
    findings: list[Finding] = []
    if not (folder / PROJECT_FILE).is_file() and not (folder / PIPELINES_FOLDER).is_dir():
        message = f"there is neither {PROJECT_FILE} nor {PIPELINES_FOLDER}/ in {folder}"
        repair = "Name the project's folder with `-C DIR`, or make one with `penstock init`."
        findings.append(Finding(Mark(PROJECT_FILE, 1, 1), "no-project", message, repair))
    settings = load_settings(folder, environment, overrides, findings)
    loaded: list[Loaded] = []
    for file, text in texts(folder, PIPELINES_FOLDER, findings):
        found = load_pipeline(text, file, environment)
        findings.extend(found.findings)
        loaded.append(found)
    tests: list[tuple[PipelineTest, str]] = []
    for file, text in texts(folder, TESTS_FOLDER, findings):
        test, wrong = load_test_file(text, file)
        findings.extend(wrong)
        if test is not None:
            tests.append((test, text))
    pipelines = tuple(found.pipeline for found in loaded if found.pipeline is not None)
    findings.extend(across_pipelines(loaded))
    if len(pipelines) == len(loaded):
        findings.extend(across_tests(tests, pipelines))
    return LoadedProject(folder, settings, pipelines, tuple(test for test, _ in tests), tuple(findings))


# -- files ------------------------------------------------------------------------------------------------------------


def texts(folder: Path, name: str, findings: list[Finding]) -> list[tuple[str, str]]:
    """The YAML files directly in a folder of the project, by name: (path for findings, text)."""
    report = Report(f"{name}/")
    found: list[tuple[str, str]] = []
    try:
        paths = sorted(path for path in (folder / name).iterdir() if path.suffix in (".yaml", ".yml"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        report.add(report.start(), "unreadable", f"the folder {name}/ cannot be read: {error.strerror}")
        findings.extend(report.findings())
        return []
    if len(paths) > TEST_FILES_MAX:
        message = f"{name}/ holds {len(paths)} files, more than {TEST_FILES_MAX}"
        report.add(report.start(), "too-many", message, "Move what is no declaration elsewhere.")
    for path in paths[:TEST_FILES_MAX]:
        text = read_text(path, f"{name}/{path.name}", findings)
        if text is not None and not path.name.startswith("."):
            found.append((f"{name}/{path.name}", text))
    findings.extend(report.findings())
    return found


def read_text(path: Path, file: str, findings: list[Finding]) -> str | None:
    """The text of a file, or None with a finding; never more of it than a declaration may have."""
    report = Report(file)
    text = None
    try:
        if not path.is_file():
            report.add(report.start(), "unreadable", f"{file} is not a file", "Remove it, or rename it.")
        else:
            with path.open("rb") as stream:
                text = decode(stream.read(DECLARATION_BYTES_MAX + 1), report)
    except OSError as error:
        report.add(report.start(), "unreadable", f"{file} cannot be read: {error.strerror}", "Check its permissions.")
    findings.extend(report.findings())
    return text


# -- settings ---------------------------------------------------------------------------------------------------------


def load_settings(
    folder: Path, environment: Mapping[str, str], overrides: Mapping[str, str], findings: list[Finding]
) -> Settings:
    """The settings from flags, the environment, `penstock.yaml` and defaults."""
    report = Report(PROJECT_FILE)
    marks: dict[str, Mark] = {}
    declared: dict[str, str] = {}
    if (folder / PROJECT_FILE).exists():
        text = read_text(folder / PROJECT_FILE, PROJECT_FILE, findings)
        if text is not None:
            inside = Report(PROJECT_FILE)
            declared, marks = declared_settings(text, Reading(inside, environment))
            needless = {"empty-document"}
            if find(BY_NAME["lake"], overrides, environment, {}) is not None:
                needless.add("variable-missing")
            report.include(finding for finding in inside.findings() if finding.code not in needless)
    resolved = resolve(overrides, environment, declared)
    for problem in resolved.problems:
        report.add(problem_mark(problem, marks), "bad-setting", problem.message, problem.repair)
    findings.extend(report.findings())
    return resolved.settings


def problem_mark(problem: Problem, marks: Mapping[str, Mark]) -> Mark:
    """A line of the file, or the flag or variable itself in the file's place."""
    if problem.origin == "flag":
        return Mark(problem.setting.flag, 1, 1)
    if problem.origin == "environment":
        return Mark(problem.setting.environment_name, 1, 1)
    return marks.get(problem.setting.name, Mark(PROJECT_FILE, 1, 1))


def declared_settings(text: str, reading: Reading) -> tuple[dict[str, str], dict[str, Mark]]:
    """Settings in `penstock.yaml` by name, as text, and where they stand."""
    node = read(text, reading.report)
    located = None if node is None else Record(PROJECT).read(node, reading)
    if located is None:
        return {}, {}
    values: dict[str, str] = {}
    marks: dict[str, Mark] = {}
    groups: list[tuple[Parsed, Mapping[Setting, Field[str]]]] = [(located.value, TOP_FIELDS)]
    for within, known in ((STORAGE_FIELD, STORAGE_FIELDS), (LIMITS_FIELD, LIMIT_FIELDS)):
        inner = located.value.get(within)
        if inner is not None:
            groups.append((inner.value, known))
    for parsed, fields in groups:
        for setting, field in fields.items():
            found = parsed.get(field)
            if found is not None:
                values[setting.name], marks[setting.name] = found.value, found.mark
    return values, marks


# -- across files -----------------------------------------------------------------------------------------------------


def across_pipelines(loaded: list[Loaded]) -> tuple[Finding, ...]:
    """What is right in each file and wrong in all of them together: names taken twice, references that differ."""
    report = Report(PIPELINES_FOLDER)
    names: dict[str, str] = {}
    tables: dict[tuple[str, str], str] = {}
    references: dict[str, tuple[object, str]] = {}
    for found in loaded:
        pipeline = found.pipeline
        if pipeline is None:
            continue
        here = Mark(pipeline.file, 1, 1)
        first = names.setdefault(pipeline.name, pipeline.file)
        if first != pipeline.file:
            message = f"the pipeline `{pipeline.name}` is declared in {first}, too"
            report.add(here, "duplicate-pipeline", message, "Rename one of them.")
            continue
        written = [("silver", pipeline.silver.table, found.table_mark or here)]
        written += [("gold", gold.name, gold.mark) for gold in pipeline.gold]
        for layer, table, mark in written:
            owner = tables.setdefault((layer, table), pipeline.file)
            if owner != pipeline.file:
                message = f"the table {layer}/{table} is written by the pipeline in {owner}, too"
                report.add(mark, "duplicate-table", message, "Rename one of them.")
        for reference in pipeline.references:
            other, file = references.setdefault(reference.name, (reference, pipeline.file))
            if other != reference:
                message = f"the reference `{reference.name}` is declared differently in {file}"
                report.add(reference.mark, "reference-differs", message, "Make them the same, or rename one.")
    return report.findings()


def across_tests(tests: list[tuple[PipelineTest, str]], pipelines: tuple[Pipeline, ...]) -> tuple[Finding, ...]:
    """Names in tests that the project does not have."""
    report = Report(TESTS_FOLDER)
    known = {pipeline.name: pipeline for pipeline in pipelines}
    for test, text in tests:
        pipeline = known.get(test.pipeline)
        if pipeline is None:
            message = f"there is no pipeline `{test.pipeline}`"
            report.add(
                test.pipeline_mark, "unknown-pipeline", message, report.suggest(test.pipeline, known, "pipelines")
            )
            continue
        golds = [gold.name for gold in pipeline.gold]
        for name, _ in test.expected.gold:
            if name not in golds:
                mark = locate(text, test.file)(("expect", "gold", name))
                message = f"the pipeline `{pipeline.name}` has no gold table `{name}`"
                report.add(mark, "unknown-table", message, report.suggest(name, golds, "gold tables"))
        references = [reference.name for reference in pipeline.references]
        for name, _ in test.given.references:
            if name not in references:
                mark = locate(text, test.file)(("given", "references", name))
                message = f"the pipeline `{pipeline.name}` has no reference `{name}`"
                report.add(mark, "unknown-reference", message, report.suggest(name, references, "references"))
    return report.findings()
