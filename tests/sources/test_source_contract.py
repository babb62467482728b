"""The contract suite on each source of this version."""

from __future__ import annotations

import functools
import gzip
import json
import os
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.model.pipeline import CsvFormat, JsonFormat
from penstock.sources.contract import HEADERS_TYPE, UTC_MICROSECONDS
from penstock.sources.files import FolderSource
from penstock.sources.push import PushLogSource
from penstock.sources.push_log import PushLog
from penstock.sources.simulate import SimulatedSource
from penstock.sources.worlds import open_world
from penstock.testing.manifests import MemoryManifest
from penstock.testing.source_contract import SourceCase, SourceContract

if TYPE_CHECKING:
    from pathlib import Path


def open_push(path: Path) -> PushLogSource:
    return PushLogSource(PushLog(path, partitions=3), pipeline="ticks", incarnation=4)


class TestPush(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> SourceCase:
        log = PushLog(tmp_path / "push" / "ticks.db", partitions=3)
        values: dict[int, list[bytes | None]] = {}
        number = 0
        for size in (1, 40, 7, 90, 3):
            table = pa.table(
                {
                    "value": pa.array([b"record %d" % (number + i) * (1 + i % 5) for i in range(size)], pa.binary()),
                    "key": pa.array([None if i % 7 == 0 else b"key %d" % (i % 11) for i in range(size)], pa.binary()),
                    "headers": pa.array(
                        [[{"key": "h", "value": b"x" * (i % 3)}] if i % 4 else None for i in range(size)], HEADERS_TYPE
                    ),
                    "timestamp": pa.array(range(size), UTC_MICROSECONDS),
                }
            )
            appended = log.append(table)
            for partition, value in zip(appended.partitions.tolist(), table["value"].to_pylist(), strict=True):
                values.setdefault(partition, []).append(value)
            number += size
        log.close()
        assert len(values) == 3
        return SourceCase(functools.partial(open_push, log.path), values, drops=True)


def open_folder(folder: Path, manifest: MemoryManifest, declared: JsonFormat | CsvFormat) -> FolderSource:
    return FolderSource(
        folder, name="incoming", declared=declared, incarnation=2, manifest=manifest, record_bytes_max=400
    )


def settle(folder: Path) -> None:
    long_ago = time.time() - 1_000
    for path in folder.rglob("*"):
        os.utime(path, (long_ago, long_ago))


class TestFiles(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> SourceCase:
        lines = [json.dumps({"n": number, "text": "x" * (number % 60)}).encode() for number in range(300)]
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "one.ndjson").write_bytes(b"\n".join(lines[:80]))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"\r\n".join([*lines[80:150], b""])))
        (tmp_path / "c.json.zst").write_bytes(pa.Codec("zstd").compress(b"\n\n".join(lines[150:220])).to_pybytes())
        (tmp_path / "d.log").write_bytes(lines[220] + b"\n" + b"y" * 401 + b"\n" + lines[221])
        (tmp_path / "e.json").write_bytes(b"")
        rows = [json.loads(line) for line in lines[222:300]]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet", row_group_size=20)
        settle(tmp_path)
        parquet = [json.dumps(row, separators=(",", ":")).encode() for row in rows]
        values: list[bytes | None] = [*lines[:221], None, lines[221], *parquet]
        opened = functools.partial(open_folder, tmp_path, MemoryManifest(), JsonFormat())
        return SourceCase(opened, {0: values}, drops=False)


class TestCsvFiles(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> SourceCase:
        records: list[bytes | None] = [
            b'%d,"two\nlines",%s' % (n, b"z" * (n % 40)) if n % 3 else b"%d,x," % n for n in range(200)
        ]
        body = b"\n".join([b"id,text,more", *(record or b"" for record in records)])
        (tmp_path / "a.csv").write_bytes(body)
        (tmp_path / "b.csv.gz").write_bytes(gzip.compress(body))
        settle(tmp_path)
        opened = functools.partial(open_folder, tmp_path, MemoryManifest(), CsvFormat())
        return SourceCase(opened, {0: records * 2}, drops=False)


def open_simulated(name: str) -> SimulatedSource:
    world = open_world(name, seed=3, rate=1_000, faults=0.3)
    return SimulatedSource(world, incarnation=1, rate=1_000, events=150)


class TestSimulated(SourceContract):
    @pytest.fixture(params=["market", "iot"])
    def case(self, request: pytest.FixtureRequest) -> SourceCase:
        world = open_world(request.param, seed=3, rate=1_000, faults=0.3)
        values = world.make(0, 150).block["value"].to_pylist()
        return SourceCase(functools.partial(open_simulated, request.param), {0: values}, drops=False)
