"""Runs a project's tests: each file in a lake of its own, through the real push log and the real loop."""

from __future__ import annotations

import csv
import dataclasses
import io
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import pyarrow as pa

from penstock.errors import PenstockError
from penstock.lake.lake import Lake
from penstock.lake.storage import LocalStorage
from penstock.model.pipeline import CsvFormat, JsonFormat, ParquetFormat, PushSource
from penstock.ops.contexts import contexts, parser
from penstock.ops.expectations import actual_rows, differences
from penstock.run.context import RunOptions
from penstock.run.service import run_pipeline
from penstock.scratch import ScratchFolder
from penstock.sources.contract import CSV_HEADER, UTC_MICROSECONDS
from penstock.sources.opening import open_push_log
from penstock.sources.records import BLOCK_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from penstock.declare.testfile import Given, GivenRecord, PipelineTest
    from penstock.model.pipeline import Pipeline
    from penstock.settings import Settings


@dataclass(frozen=True)
class CaseResult:
    """What came of one test. `differences` are texts for a person; a test that could not run has its error there."""

    name: str
    file: str
    pipeline: str
    differences: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.differences


class TestClock:
    """The time the test gives, where it gives one; durations are always real."""

    __test__ = False

    def __init__(self, now: int | None) -> None:
        self._now = now

    def now(self) -> int:
        return time.time_ns() // 1_000 if self._now is None else self._now

    def monotonic(self) -> float:
        return time.monotonic()


def run_case(
    test: PipelineTest, pipeline: Pipeline, folder: Path, settings: Settings, environment: Mapping[str, str]
) -> CaseResult:
    """Run one test of `pipeline`, whose reference files are relative to `folder`. Leaves nothing behind.

    On the embedded engine, whatever the project has: both refine with the same code, and the log is on this machine.
    """
    began = time.monotonic()
    with ScratchFolder() as scratch:
        try:
            found = _run(test, pipeline, folder, scratch, settings, environment)
        except PenstockError as error:
            found = [f"the pipeline failed: {error}"]
    return CaseResult(test.name, test.file, test.pipeline, tuple(found), time.monotonic() - began)


def _run(
    test: PipelineTest,
    pipeline: Pipeline,
    folder: Path,
    scratch: Path,
    settings: Settings,
    environment: Mapping[str, str],
) -> list[str]:
    lake = Lake(LocalStorage(scratch / "lake"))
    settings = dataclasses.replace(settings, engine="embedded")
    clock = TestClock(test.given.ingested_at)
    given = _Given(test.given, scratch)
    parse_as_declared = parser(pipeline.file, environment)
    declared = given.replaced(pipeline)
    _push(test.given.records, declared, lake, clock)
    made = contexts(
        [declared], folder, lake, settings, parse=lambda text: given.replaced(parse_as_declared(text)), clock=clock
    )
    with made as (context,):
        run_pipeline(context, RunOptions(once=True), threading.Event(), lambda _: None)
    return _compare(test, declared, lake)


class _Given:
    """Puts the test's references, and the push log, in the place of the declared ones."""

    def __init__(self, given: Given, scratch: Path) -> None:
        self._files = {}
        for name, rows in given.references:
            self._files[name] = scratch / f"{name}.ndjson"
            self._files[name].write_text("".join(f"{row}\n" for row in rows))

    def replaced(self, pipeline: Pipeline) -> Pipeline:
        references = tuple(
            dataclasses.replace(one, file=str(self._files[one.name])) if one.name in self._files else one
            for one in pipeline.references
        )
        form = JsonFormat() if isinstance(pipeline.source.format, ParquetFormat) else pipeline.source.format
        source = dataclasses.replace(pipeline.source, origin=PushSource(), format=form)
        return dataclasses.replace(pipeline, references=references, source=source)


def _push(records: Iterable[GivenRecord], pipeline: Pipeline, lake: Lake, clock: TestClock) -> None:
    """Push the records in the order given."""
    form = pipeline.source.format
    rows = [_row(_csv_record(one, form) if isinstance(form, CsvFormat) and form.header else one) for one in records]
    log = open_push_log(PushSource(), pipeline=pipeline.name, state_folder=lake.state_folder, clock=clock.now)
    try:
        if rows:
            log.append(pa.Table.from_pylist(rows, schema=_ROW_SCHEMA).cast(BLOCK_SCHEMA))
    finally:
        log.close()


_ROW_SCHEMA = pa.schema(
    [field if field.type != UTC_MICROSECONDS else field.with_type(pa.int64()) for field in BLOCK_SCHEMA]
)
"""BLOCK_SCHEMA with times as integers: a time outside Python's years must not stop a test."""


def _row(record: GivenRecord) -> dict[str, object]:
    headers = [{"key": name, "value": value} for name, value in record.headers]
    return {"timestamp": record.timestamp, "key": record.key, "value": record.value, "headers": headers or None}


def _csv_record(record: GivenRecord, form: CsvFormat) -> GivenRecord:
    """An event given by its fields as a line of CSV with its header line; any other record as it is."""
    if record.value is None or any(name == CSV_HEADER for name, _ in record.headers):
        return record
    try:
        fields = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return record
    if not isinstance(fields, dict):
        return record
    null = form.null[0] if form.null else ""
    values = [_csv_text(value, null) for value in fields.values()]
    header = (CSV_HEADER, _csv_line(list(fields), form))
    return dataclasses.replace(record, value=_csv_line(values, form), headers=(*record.headers, header))


def _csv_text(value: object, null: str) -> str:
    if value is None:
        return null
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _csv_line(values: list[str], form: CsvFormat) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=form.delimiter, quotechar=form.quote or '"', lineterminator="").writerow(values)
    return out.getvalue().encode()


def _compare(test: PipelineTest, pipeline: Pipeline, lake: Lake) -> list[str]:
    """Everything that is not as the test expects it."""
    wanted = test.expected
    rejected = _rows(lake, f"rejects/{pipeline.name}")
    found: list[str] = []
    if wanted.accepted is not None:
        accepted = actual_rows(_rows(lake, f"silver/{pipeline.silver.table}"))
        found += differences("accepted", wanted.accepted, accepted, in_order=wanted.in_order)
    if wanted.rejected is not None:
        found += differences("rejected", wanted.rejected, actual_rows(rejected), in_order=wanted.in_order)
    for name, rows in wanted.gold:
        gold = actual_rows(_rows(lake, f"gold/{name}"))
        found += differences(f"gold.{name}", rows, gold, in_order=wanted.in_order)
    duplicate = rejected["disposition"].to_pylist().count("duplicate")
    for what, number, actual in (
        ("duplicate", wanted.duplicate, duplicate),
        ("skipped", wanted.skipped, _skipped(lake, pipeline.name)),
    ):
        if number is not None and number != actual:
            found.append(f"{what}: expected {number}, found {actual}")
    return found


_ORDER = ("window_start", "_source", "_partition", "_offset", "_index")


def _rows(lake: Lake, name: str) -> pa.Table:
    """The rows of a table in the order they arrived; gold by window, then by its other columns."""
    table = lake.table(name)
    if table is None:
        raise PenstockError(f"the run made no table {name}", hint="Run `penstock check`.")
    rows = pa.concat_tables([table.spec.schema.empty_table(), *table.read()], promote_options="default")
    keys = [column for column in _ORDER if column in rows.column_names]
    if name.startswith("gold/"):
        keys += [field.name for field in rows.schema if field.name not in keys and not pa.types.is_nested(field.type)]
    return rows.sort_by([(key, "ascending") for key in keys])


def _skipped(lake: Lake, pipeline: str) -> int:
    return sum(sum(part["skipped"].to_pylist()) for part in _ledger(lake, pipeline))


def _ledger(lake: Lake, pipeline: str) -> Iterable[pa.Table]:
    table = lake.table(f"ledger/{pipeline}")
    return () if table is None else table.read(columns=["skipped"])
