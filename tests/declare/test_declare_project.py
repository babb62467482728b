"""Project folders: files, settings, and what is wrong across files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from declare.marked import declaration, expected
from penstock.declare import load_project
from penstock.limits import DECLARATION_BYTES_MAX
from penstock.settings import SETTINGS, Setting, Settings, parse_bytes, resolve

if TYPE_CHECKING:
    from pathlib import Path

TEST = "pipeline: shop\ngiven: {events: [{id: A}]}\nexpect: {accepted: [{id: A}]}\n"


def project(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def marks(folder: Path, environment: dict[str, str] | None = None, **flags: str) -> list[str]:
    findings = load_project(folder, environment or {}, flags).findings
    return [f"{finding.mark} {finding.code}" for finding in findings]


def test_a_project_is_read_whole(tmp_path: Path) -> None:
    project(
        tmp_path,
        {
            "penstock.yaml": "lake: ${LAKE}/shop\nlimits: {batch_rows_max: 50_000, memory_bytes: 1 GiB}\n",
            "pipelines/shop.yaml": declaration(),
            "pipelines/b.yml": declaration(pipeline="pipeline: b\n", silver="  table: b\n"),
            "pipelines/notes.txt": "not read",
            "tests/one.yaml": TEST,
        },
    )
    loaded = load_project(tmp_path, {"LAKE": "/data"}, {})
    assert loaded.findings == ()
    assert [pipeline.name for pipeline in loaded.pipelines] == ["b", "shop"]
    assert [pipeline.file for pipeline in loaded.pipelines] == ["pipelines/b.yml", "pipelines/shop.yaml"]
    assert [test.name for test in loaded.tests] == ["one"]
    assert loaded.settings.lake == "/data/shop"
    assert loaded.settings.batch_rows_max == 50_000
    assert loaded.settings.memory_bytes == 1 << 30


def test_a_project_needs_no_project_file(tmp_path: Path) -> None:
    project(tmp_path, {"pipelines/shop.yaml": declaration()})
    assert marks(tmp_path) == []


@pytest.mark.parametrize("text", ["", "\n# all defaults\n"])
def test_an_empty_project_file_means_defaults(tmp_path: Path, text: str) -> None:
    project(tmp_path, {"penstock.yaml": text})
    loaded = load_project(tmp_path, {}, {})
    assert loaded.findings == ()
    assert loaded.settings.lake == Settings().lake


def test_an_empty_folder_is_no_project(tmp_path: Path) -> None:
    assert marks(tmp_path) == ["penstock.yaml:1:1 no-project"]


def test_a_missing_folder_is_no_project(tmp_path: Path) -> None:
    assert marks(tmp_path / "nowhere") == ["penstock.yaml:1:1 no-project"]


def test_findings_of_all_files_come_together(tmp_path: Path) -> None:
    project(
        tmp_path,
        {
            "penstock.yaml": "lakes: a\n",
            "pipelines/a.yaml": b"pipeline: caf\xc3\xa9 \xff\n",
            "pipelines/b.yaml": b"#" * (DECLARATION_BYTES_MAX + 1),
            "pipelines/shop.yaml": declaration(more="serve: {}\n"),
            "tests/a.yaml": "pipeline: shop\n",
        },
    )
    assert marks(tmp_path) == [
        "penstock.yaml:1:1 unknown-field",
        "pipelines/a.yaml:1:16 not-utf8",
        "pipelines/b.yaml:1:1 too-large",
        "pipelines/shop.yaml:11:1 not-in-this-version",
        "tests/a.yaml:1:1 missing-field",
        "tests/a.yaml:1:1 missing-field",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    project(tmp_path, {"pipelines/shop.yaml": declaration()})
    (tmp_path / "pipelines/shop.yaml").chmod(0)
    assert marks(tmp_path) == ["pipelines/shop.yaml:1:1 unreadable"]


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "pipelines/shop.yaml").mkdir(parents=True)
    assert marks(tmp_path) == ["pipelines/shop.yaml:1:1 unreadable"]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    os.mkfifo(tmp_path / "pipelines/shop.yaml")
    assert marks(tmp_path) == ["pipelines/shop.yaml:1:1 unreadable"]


def test_names_are_unique_across_pipelines(tmp_path: Path) -> None:
    gold = "  daily: {window: 1 day, measures: {n: count()}}\n"
    items = "  items: {file: items.csv, key: sku}\n"
    second, places = expected(
        declaration(
            pipeline="pipeline: second\n",
            references="  «reference-differs»items: {file: other.csv, key: sku}\n",
            silver="  table: «duplicate-table»orders\n",
            gold=gold.replace("daily", "«duplicate-table»daily"),
        )
    )
    project(
        tmp_path,
        {
            "pipelines/a.yaml": declaration(pipeline="pipeline: first\n", references=items, gold=gold),
            "pipelines/b.yaml": second,
            "pipelines/c.yaml": declaration(pipeline="pipeline: first\n", silver="  table: c\n"),
        },
    )
    wanted = [f"pipelines/b.yaml:{line}:{column} {code}" for line, column, code in places]
    assert marks(tmp_path) == [*wanted, "pipelines/c.yaml:1:1 duplicate-pipeline"]


def test_silver_and_gold_tables_may_share_a_name(tmp_path: Path) -> None:
    text = declaration(gold="  orders: {window: 1 day, measures: {n: count()}}\n")
    project(tmp_path, {"pipelines/a.yaml": text})
    assert marks(tmp_path) == []


def test_tests_name_what_exists(tmp_path: Path) -> None:
    project(
        tmp_path,
        {
            "pipelines/shop.yaml": declaration(),
            "tests/a.yaml": TEST.replace("shop", "shpo"),
            "tests/b.yaml": TEST.replace("accepted: [{id: A}]", "gold: {daily: []}"),
            "tests/c.yaml": TEST.replace("events:", "references: {items: []}, events:"),
        },
    )
    assert marks(tmp_path) == [
        "tests/a.yaml:1:11 unknown-pipeline",
        "tests/b.yaml:3:17 unknown-table",
        "tests/c.yaml:2:22 unknown-reference",
    ]


# -- settings ---------------------------------------------------------------------------------------------------------


def test_flag_before_environment_before_file_before_default(tmp_path: Path) -> None:
    project(tmp_path, {"penstock.yaml": "lake: file\nlimits: {threads: 3}\n"})
    environment = {"PENSTOCK_LAKE": "environment"}
    assert load_project(tmp_path, environment, {"lake": "flag"}).settings.lake == "flag"
    assert load_project(tmp_path, environment, {}).settings.lake == "environment"
    assert load_project(tmp_path, {}, {}).settings.lake == "file"
    assert load_project(tmp_path, {}, {}).settings.threads == 3
    assert load_project(tmp_path, {"PENSTOCK_THREADS": "5"}, {}).settings.threads == 5
    (tmp_path / "penstock.yaml").write_text("limits: {threads: 3}\n")
    assert load_project(tmp_path, {}, {}).settings.lake == "lake"


def test_unknown_names_in_the_environment_are_ignored(tmp_path: Path) -> None:
    project(tmp_path, {"penstock.yaml": ""})
    assert marks(tmp_path, {"PENSTOCK_LAKES": "x", "PENSTOCK_": "y"}) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("limits: {threads: 0}\n", "penstock.yaml:1:19 bad-setting"),
        ("limits: {threads: many}\n", "penstock.yaml:1:19 bad-setting"),
        ("limits: {threads: -1}\n", "penstock.yaml:1:19 bad-setting"),
        ("limits: {memory_bytes: 1 parsec}\n", "penstock.yaml:1:24 bad-setting"),
        ("engine: flink\n", "penstock.yaml:1:9 bad-setting"),
        ("lake: ''\n", "penstock.yaml:1:7 bad-setting"),
        ("lake: a/${LAKE}\n", "penstock.yaml:1:9 variable-missing"),
        ("limits: {record_bytes_max: 128 MiB}\n", "penstock.yaml:1:28 bad-setting"),
        ("servers: {}\n", "penstock.yaml:1:1 not-in-this-version"),
        ("threads: 3\n", "penstock.yaml:1:1 unknown-field"),
    ],
)
def test_wrong_settings(tmp_path: Path, text: str, place: str) -> None:
    project(tmp_path, {"penstock.yaml": text})
    assert marks(tmp_path) == [place]


def test_a_variable_that_a_flag_makes_needless_may_be_missing(tmp_path: Path) -> None:
    project(tmp_path, {"penstock.yaml": "lake: a/${LAKE}\n"})
    assert marks(tmp_path, lake="b") == []
    assert marks(tmp_path, {"PENSTOCK_LAKE": "b"}) == []


def test_wrong_flags_and_variables_are_named(tmp_path: Path) -> None:
    project(tmp_path, {"penstock.yaml": ""})
    assert marks(tmp_path, {"PENSTOCK_THREADS": "x"}, kept_days="0") == [
        "--kept-days:1:1 bad-setting",
        "PENSTOCK_THREADS:1:1 bad-setting",
    ]
    (finding,) = load_project(tmp_path, {"PENSTOCK_THREADS": "x"}, {}).findings
    assert "the environment variable PENSTOCK_THREADS is 'x'" in finding.message


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_an_example_that_works(tmp_path: Path, setting: Setting) -> None:
    key, _, value = setting.example.partition(": ")
    section, _, name = setting.file_key.rpartition(".")
    assert key == name
    text = f"{section}:\n  {setting.example}\n" if section else f"{setting.example}\n"
    project(tmp_path, {"penstock.yaml": text})
    variables = {} if setting.kind != "secret" else {value.strip('"${}'): "hidden"}
    loaded = load_project(tmp_path, variables, {})
    assert loaded.findings == ()
    assert getattr(loaded.settings, setting.name) == (setting.parse(value) if not variables else "hidden")
    assert "hidden" not in repr(loaded)


def test_a_secret_in_the_file_is_a_finding_that_does_not_repeat_it(tmp_path: Path) -> None:
    project(tmp_path, {"penstock.yaml": "lake: s3://b/l\nstorage:\n  secret_access_key: abc123\n"})
    (finding,) = load_project(tmp_path, {}, {}).findings
    assert finding.code == "secret-in-file"
    assert "abc123" not in str(finding)


def test_defaults_fit_their_own_bounds() -> None:
    defaults = Settings()
    assert {setting.name for setting in SETTINGS} == set(Settings.__dataclass_fields__)
    for setting in SETTINGS:
        if getattr(defaults, setting.name) != "":  # left to the environment, or to Spark
            assert setting.parse(str(getattr(defaults, setting.name))) == getattr(defaults, setting.name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1048576", 1 << 20), ("512 MiB", 512 << 20), ("2GB", 2 * 10**9), ("1_000 kb", 10**6), ("7 b", 7)],
)
def test_bytes(text: str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "MiB", "1.5 GiB", "1 mb/s", "-1", "1__0", "9" * 30])
def test_no_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("memory", "record"), [("4 GiB", 16 << 20), ("300 MiB", 2 << 20), ("128 MiB", (128 << 20) // 150)]
)
def test_a_record_within_the_limit_is_within_the_memory(memory: str, record: int) -> None:
    assert resolve({"memory_bytes": memory}, {}, {}).settings.record_bytes_max == record
    assert resolve({"memory_bytes": memory}, {}, {"record_bytes_max": "1 MiB"}).settings.record_bytes_max == 1 << 20
