"""The workload `kafka`, small: it reconciles on a real broker; and what it measures with is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock import bench
from penstock.bench import measuring, project
from penstock.bench.kafka import batches, cores, latency, rates, setting, store
from penstock.bench.kafka.commits import latencies
from penstock.bench.kafka.cores import _driver
from penstock.bench.kafka.engines import Engine
from penstock.bench.kafka.processes import Watch, tree
from penstock.cli.main import run
from penstock.errors import LawBroken, PenstockError

if TYPE_CHECKING:
    from pathlib import Path

    from tools.servers import KafkaServer

SMALL = {
    rates: {"ROUNDS": 1, "WARM_EVENTS": 2_000},
    batches: {"BATCHES": 4, "WARM_BATCHES": 1, "WARM_EVENTS": 3_000},
    latency: {"RATE": 1_000, "WARM_SECONDS": 1.0, "FIRST_EVENTS": 1_000, "WARM_EVENTS": 3_000},
    cores: {"CORES": (1, 2), "BATCH_ROWS": (1_000, 5_000), "WARM_EVENTS": 2_000},
    store: {"ROUNDS": 1, "WARM_EVENTS": 2_000},
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, values in SMALL.items():
        for name, value in values.items():
            monkeypatch.setattr(part, name, value)
    monkeypatch.setattr(measuring.tempfile, "tempdir", str(tmp_path))


@pytest.mark.integration
@pytest.mark.usefixtures("small")
def test_both_engines_reconcile_and_say_their_figures(kafka_server: KafkaServer) -> None:
    said: list[str] = []
    options = bench.Options(events=6_000, parts=("rates",), brokers=kafka_server.address)
    figures = json.loads(json.dumps(bench.WORKLOADS["kafka"].measure(options, said.append)))["rates"]
    for begin in ("rates: ", "bars: ", "embedded: ", "spark: "):
        assert any(line.startswith(begin) for line in said), said
    assert figures["workload"]["events"] == 6_000
    assert figures["rounds"]["spark"][0]["processor"]["workers"] > 0
    assert figures["audits"].keys() == {"embedded", "spark"}


@pytest.mark.integration
@pytest.mark.usefixtures("small")
def test_small_batches_and_latency_reconcile(kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting, "ENGINES", ("embedded",))
    said: list[str] = []
    options = bench.Options(seconds=2.0, parts=("batches", "latency"), brokers=kafka_server.address)
    figures = json.loads(json.dumps(bench.WORKLOADS["kafka"].measure(options, said.append)))
    assert sum("event -> silver" in line for line in said) == 1, said
    assert figures["batches"]["embedded"]["1"]["milliseconds"] > 0
    assert figures["latency"]["embedded"]["events"] > 1_000


@pytest.mark.integration
@pytest.mark.usefixtures("small")
def test_no_figure_when_a_record_of_the_topic_ends_elsewhere(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = project.Planted.__init__

    def lie(self: project.Planted) -> None:
        planted(self, expected={"quarantined": -1})

    monkeypatch.setattr(project.Planted, "__init__", lie)
    monkeypatch.setattr(setting, "ENGINES", ("embedded",))
    said: list[str] = []
    options = bench.Options(events=2_000, parts=("rates",), brokers=kafka_server.address)
    with pytest.raises(LawBroken, match="must become"):
        bench.WORKLOADS["kafka"].measure(options, said.append)
    assert not any("/s" in line for line in said), said


def test_without_a_broker_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAFKA_BROKERS", raising=False)
    assert run(["bench", "kafka"]) == 2
    assert "make kafka-up" in capfd.readouterr().err
    assert "kafka" not in bench.WITHOUT_SERVERS


def test_latency_is_from_the_rows_time_to_the_commit(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    second = 1_700_000_000
    for version, (moments, moved) in enumerate([([0.0, 1.0], False), ([2.0, 2.5], False), ([2.0], True)]):
        times = [int((second + moment) * 1e6) for moment in moments]
        rows = pa.table({"at": pa.array(times).view(pa.timestamp("us", "UTC"))})
        pq.write_table(rows, tmp_path / f"part {version}.parquet")
        entry = log / f"{version:020d}.json"
        entry.write_text(json.dumps({"add": {"path": f"part%20{version}.parquet", "dataChange": not moved}}))
        os.utime(entry, (second + 3 + version, second + 3 + version))
    assert latencies(tmp_path, "at", second + 1.0).round().tolist() == [2_000, 2_000, 1_500]


def test_a_tree_of_processes_is_measured_from_outside() -> None:
    busy = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])\n{busy}"
    code += "print('done', flush=True)\ninput()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with Watch(process.pid) as watch:
            assert process.stdout.readline() == "done\n"
        assert [one.pid for one in tree(process.pid)] == [process.pid]
        process.communicate("\n")
    measured = watch.as_json()
    assert measured["cpu_seconds"] >= 0.55
    assert measured["processor"].keys() <= {"driver", "java", "workers"}
    assert measured["peak_bytes"] > 5_000_000


def test_an_engine_that_ends_says_what_it_said(tmp_path: Path) -> None:
    with (
        pytest.raises(PenstockError, match="no such engine"),
        Engine("odd", tmp_path / "log", "-c", "raise OSError('no such engine')"),
    ):
        pass


def test_the_drivers_cost_is_told_apart_by_batch_and_by_row() -> None:
    small = {"batches": 20, "processor": {"driver": 3.0, "workers": 8.0}}
    large = {"batches": 2, "processor": {"driver": 1.2, "workers": 7.0}}
    found = _driver(small, large, 2_000_000)
    assert found["seconds_per_batch"] == pytest.approx(0.1)
    assert found["seconds_per_million"] == pytest.approx(0.5)
    assert found["events_per_second"] == pytest.approx(1e6 / 0.6)
    assert found["worker_cores"] == pytest.approx(3.5 / 0.6)
