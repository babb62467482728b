"""Settings of a project: one table from which defaults, environment names, `penstock.yaml` and its reference page come.

A setting's value is taken from the first place that has one: flag, environment (`PENSTOCK_...`), `penstock.yaml`,
default. `declare/project.py` reads the file and turns the problems found here into findings.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "PENSTOCK_"
PROJECT_FILE = "penstock.yaml"

Value = str | int


@dataclass(frozen=True)
class Settings:
    """Settings as resolved. Bytes, rows, days and milliseconds as the names say; `lake` is a path or URI as written."""

    lake: str = "lake"
    state: str = ".penstock/state"
    storage_endpoint: str = ""
    storage_region: str = ""
    storage_allow_http: str = ""
    storage_access_key_id: str = field(default="", repr=False)
    storage_secret_access_key: str = field(default="", repr=False)
    storage_session_token: str = field(default="", repr=False)
    engine: str = "embedded"
    spark_master: str = ""
    spark_options: str = ""
    threads: int = 1
    memory_bytes: int = limits.MEMORY_BYTES_MAX
    record_bytes_max: int = limits.RECORD_BYTES_MAX
    batch_rows_max: int = limits.BATCH_ROWS_MAX
    batch_bytes_max: int = limits.BATCH_BYTES_MAX
    batch_interval_min_ms: int = round(limits.BATCH_INTERVAL_MIN_SECONDS * 1000)
    push_bytes_max: int = limits.PUSH_LOG_BYTES_MAX
    kept_days: int = limits.KEPT_DAYS
    log_kept_days: int = limits.LOG_KEPT_DAYS
    compact_every_batches: int = limits.COMPACT_EVERY_BATCHES


@dataclass(frozen=True)
class Setting:
    """One setting. `kind` is text, choice, secret, count or bytes; `default_text` is what the reference page says.

    A secret has no flag, and stands in the file as `${NAME}` only. `section` is the file's part a setting is in.
    """

    name: str
    kind: str
    doc: str
    example: str
    default_text: str = ""
    minimum: int = 0
    maximum: int = 2**53
    choices: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    section: str = ""

    @property
    def flag(self) -> str:
        """Its flag; "" for a secret: everybody on the machine can read a command line."""
        return "" if self.kind == "secret" else "--" + self.name.replace("_", "-")

    @property
    def environment_name(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def file_key(self) -> str:
        """Where it stands in `penstock.yaml`, keys joined by dots."""
        if self.section:
            return f"{self.section}.{self.name.removeprefix(self.section + '_')}"
        return self.name if self.kind in ("text", "choice") else f"limits.{self.name}"

    @property
    def places(self) -> tuple[str, ...]:
        """Every place that is searched, first one first, in words."""
        return (
            *((f"the flag {self.flag}",) if self.flag else ()),
            f"the environment variable {self.environment_name}",
            f"`{self.file_key}` in {PROJECT_FILE}",
            "the default",
        )

    def parse(self, text: str) -> Value:
        """The value that `text` stands for.

        Raises:
            ValueError: it is none; the message says what is wrong with it.
        """
        text = text.strip()
        if self.kind in ("text", "secret"):
            if not text or "\0" in text:
                raise ValueError("it must not be empty")
            return text
        if self.kind == "choice":
            if text in self.choices:
                return text
            if text in self.later:
                raise ValueError(f"`{text}` is not in this version")
            raise ValueError(f"`{text}` is none of {', '.join(self.choices)}")
        number = parse_bytes(text) if self.kind == "bytes" else parse_count(text)
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{number} is not between {self.minimum} and {self.maximum}")
        return number


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "lake",
        "text",
        "Where the tables are: a folder, relative to the project's, or a URI (`s3://bucket/prefix`).",
        "lake: /var/lib/penstock/shop",
        "`lake`",
    ),
    Setting(
        "state",
        "text",
        "With a lake in a store: the folder of this machine for push logs and locks, relative to the project's.",
        "state: /var/lib/penstock/state",
        "`.penstock/state`",
    ),
    Setting(
        "storage_endpoint",
        "text",
        "Where the store answers; `AWS_ENDPOINT_URL` says the same.",
        "endpoint: https://minio.example.com",
        "AWS",
        section="storage",
    ),
    Setting(
        "storage_region",
        "text",
        "The bucket's region; `AWS_REGION` says the same.",
        "region: eu-central-1",
        "`us-east-1`",
        section="storage",
    ),
    Setting(
        "storage_allow_http",
        "choice",
        "Whether the endpoint may be unencrypted; `AWS_ALLOW_HTTP` says the same.",
        "allow_http: false",
        "`false`",
        choices=("true", "false"),
        section="storage",
    ),
    Setting(
        "storage_access_key_id",
        "secret",
        "Who asks; `AWS_ACCESS_KEY_ID` says the same.",
        'access_key_id: "${SHOP_KEY_ID}"',
        "the machine's role",
        section="storage",
    ),
    Setting(
        "storage_secret_access_key",
        "secret",
        "The key's secret; `AWS_SECRET_ACCESS_KEY` says the same.",
        'secret_access_key: "${SHOP_KEY}"',
        "the machine's role",
        section="storage",
    ),
    Setting(
        "storage_session_token",
        "secret",
        "The token of a temporary key; `AWS_SESSION_TOKEN` says the same.",
        'session_token: "${SHOP_TOKEN}"',
        "none",
        section="storage",
    ),
    Setting(
        "engine",
        "choice",
        "What computes: `embedded` is DuckDB and Arrow in this process, `spark` a Spark cluster.",
        "engine: spark",
        "`embedded`",
        choices=("embedded", "spark"),
    ),
    Setting(
        "spark_master",
        "text",
        "The Spark master: `local[N]`, `spark://HOST:PORT`, `k8s://...`, `yarn`.",
        "spark_master: spark://10.0.0.5:7077",
        "what `spark-submit` says, else this machine's processors",
    ),
    Setting(
        "spark_options",
        "text",
        "Spark's own settings, `name=value` with commas between them.",
        "spark_options: spark.executor.memory=4g,spark.executor.cores=2",
        "none",
    ),
    Setting("threads", "count", "Threads the engine uses.", "threads: 4", "one per processor", 1, 1024),
    Setting(
        "memory_bytes",
        "bytes",
        "Memory the engine uses before it spills to disk.",
        "memory_bytes: 2 GiB",
        "half of the machine's, at most 4 GiB",
        128 * limits.MIB,
        2**50,
    ),
    Setting(
        "record_bytes_max",
        "bytes",
        "The largest record that is kept. A larger one becomes a row with its length and SHA-256, quarantined "
        "`too_large`; a push of one is refused.",
        "record_bytes_max: 4 MiB",
        "16 MiB, or a 150th of `memory_bytes` where that is less",
        limits.KIB,
        256 * limits.MIB,
    ),
    Setting("batch_rows_max", "count", "Records in one batch.", "batch_rows_max: 500000", "200000", 1, 10_000_000),
    Setting(
        "batch_bytes_max",
        "bytes",
        "Raw bytes in one batch; at least twice `record_bytes_max`.",
        "batch_bytes_max: 256 MiB",
        "128 MiB",
        2 * limits.KIB,
        16 * limits.GIB,
    ),
    Setting(
        "batch_interval_min_ms",
        "count",
        "Milliseconds between two batches of a busy pipeline, at least; a higher value means fewer, larger files.",
        "batch_interval_min_ms: 1000",
        "250",
        0,
        3_600_000,
    ),
    Setting(
        "push_bytes_max",
        "bytes",
        "Bytes that may wait in a pipeline's push log; beyond it a push waits.",
        "push_bytes_max: 1 GiB",
        "4 GiB",
        64 * limits.MIB,
        2**50,
    ),
    Setting(
        "kept_days",
        "count",
        "Days for which files that no table refers to any more are kept, and with them old cuts.",
        "kept_days: 30",
        "7",
        1,
        36_500,
    ),
    Setting(
        "log_kept_days",
        "count",
        "Days for which the log entries of a table stay in its log, at most about 1,000 entries.",
        "log_kept_days: 2",
        "1",
        1,
        36_500,
    ),
    Setting(
        "compact_every_batches",
        "count",
        "Batches whose small files become one file.",
        "compact_every_batches: 32",
        "64",
        2,
        10_000,
    ),
)
"""Every setting, in the order of the reference page. The names are those of `Settings`."""

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Problem:
    """A value that cannot be used: whose, where it came from (`flag`, `environment`, `file`), why, what to do."""

    setting: Setting
    origin: str
    message: str
    repair: str


@dataclass(frozen=True)
class Resolved:
    """Settings with what was wrong on the way; a wrong value leaves the default in its place."""

    settings: Settings
    problems: tuple[Problem, ...]


def resolve(overrides: Mapping[str, str], environment: Mapping[str, str], declared: Mapping[str, str]) -> Resolved:
    """The settings from flags (by setting name), the environment and `penstock.yaml` (by setting name), all as text.

    Unknown `PENSTOCK_` names in the environment are ignored: other versions and tools may have their own.
    """
    values: dict[str, Value] = {"threads": processors(), "memory_bytes": default_memory_bytes()}
    problems: list[Problem] = []
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        found = find(setting, overrides, environment, declared)
        if found is None:
            continue
        origin, text = found
        origins[setting.name] = origin
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            message = f"{describe(setting, origin)} is {text!r}: {error}"
            problems.append(Problem(setting, origin, message, f"Write for example `{setting.example}`."))
    # What is within the limit must be within the engine's memory too: once in bronze, a record has to be refined.
    memory = int(values["memory_bytes"])
    values.setdefault("record_bytes_max", min(limits.RECORD_BYTES_MAX, memory // limits.MEMORY_PER_RECORD_BYTE))
    settings = Settings(**values)  # type: ignore[arg-type]  # `parse` gives each the type of its kind
    if settings.batch_bytes_max < 2 * settings.record_bytes_max:
        name = "batch_bytes_max" if "batch_bytes_max" in origins else "record_bytes_max"
        problems.append(
            Problem(
                BY_NAME[name],
                origins.get(name, "file"),
                f"batch_bytes_max is {settings.batch_bytes_max} and record_bytes_max {settings.record_bytes_max}: "
                "a batch must hold at least two of the largest records",
                "Raise batch_bytes_max or lower record_bytes_max.",
            )
        )
    return Resolved(settings, tuple(problems))


def find(
    setting: Setting, overrides: Mapping[str, str], environment: Mapping[str, str], declared: Mapping[str, str]
) -> tuple[str, str] | None:
    """The first place that has a value, with its text; None where only the default is left."""
    if setting.name in overrides:
        return "flag", overrides[setting.name]
    if setting.environment_name in environment:
        return "environment", environment[setting.environment_name]
    if setting.name in declared:
        return "file", declared[setting.name]
    return None


def describe(setting: Setting, origin: str) -> str:
    """The place a value came from, in words."""
    environment, file, default = setting.places[-3:]
    return {"flag": setting.places[0], "environment": environment, "file": file}.get(origin, default)


def parse_count(text: str) -> int:
    """A whole number, `_` between digits allowed. Raises ValueError."""
    if not re.fullmatch(r"\d{1,3}(_\d{3})+|\d{1,19}", text, re.ASCII):
        raise ValueError("it is not a whole number")
    return int(text.replace("_", ""))


BYTE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    BYTE_UNITS[f"{_letter}b"] = 1000**_power
    BYTE_UNITS[f"{_letter}ib"] = 1024**_power


def parse_bytes(text: str) -> int:
    """A number of bytes: `1048576`, `512 MiB`, `2GB`. Raises ValueError."""
    match = re.fullmatch(r"([\d_]{1,20}?)\s*([a-z]*)", text.lower(), re.ASCII)
    if not match or match[2] not in BYTE_UNITS:
        raise ValueError("it is not a number of bytes such as `512 MiB`")
    return parse_count(match[1]) * BYTE_UNITS[match[2]]


def processors() -> int:
    """Processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(1024, len(affinity(0)) if affinity else (os.cpu_count() or 1))


def default_memory_bytes() -> int:
    """Half of the machine's memory, within bounds."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        machine = limits.MEMORY_BYTES_MAX
    return max(128 * limits.MIB, min(limits.MEMORY_BYTES_MAX, machine // 2))
