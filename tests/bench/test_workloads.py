"""Every workload, small: it reconciles, says its figure, and says none when a record is not where it must be."""

import dataclasses
import json

import numpy as np
import pytest

from penstock import bench
from penstock.bench import keys, latency, measuring, project, push
from penstock.bench.child import Mapped, peak_bytes
from penstock.cli.main import run
from penstock.errors import LawBroken, PenstockError
from penstock.run.keys import KeyBlock, KeyIndex

SMALL = {
    "ticks": bench.Options(events=6_000, batch_rows=(4_000,)),
    "late": bench.Options(events=6_000),
    "keys": bench.Options(events=6_000),
    "latency": bench.Options(seconds=1.0),
    "push": bench.Options(events=8_000, audit=False),
}
FIGURE = {
    "ticks": "batches of 4,000: ",
    "late": "late against ordered: ",
    "keys": "peak memory: ",
    "latency": "  due -> in the answer of a query: ",
    "push": "2 clients: ",
}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "RATE", 4_000)
    monkeypatch.setattr(latency, "WARM_SECONDS", 1.0)
    monkeypatch.setattr(latency, "INTERVALS_MS", (250,))
    monkeypatch.setattr(push, "CLIENTS", (1, 2))
    monkeypatch.setattr(measuring.tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("name", SMALL)
def test_a_workload_reconciles_and_says_its_figure(name, tmp_path):
    said = []
    figures = bench.WORKLOADS[name].measure(SMALL[name], said.append)
    assert any(line.startswith(FIGURE[name]) for line in said), said
    assert said[0].startswith("workload: ")
    assert "planted: " in said[0]
    assert json.loads(json.dumps(figures))["workload"]["events"] >= 6_000
    assert list(tmp_path.iterdir()) == []
    assert figures.get("mapped_peak_bytes", 1) > 0


@pytest.mark.parametrize("name", ["late", "latency", "push"])
def test_no_figure_when_a_record_ends_elsewhere(name, monkeypatch):
    """The simulator's word against the product's: here the simulator lies by one record."""
    planted = project.Planted.__init__

    def lie(self, events=0, size=0, faults=None, expected=None):
        planted(self, events, size, faults or {}, {"quarantined": -1, **(expected or {})})

    monkeypatch.setattr(project.Planted, "__init__", lie)
    said = []
    with pytest.raises(LawBroken, match="must become"):
        bench.WORKLOADS[name].measure(dataclasses.replace(SMALL[name], audit=False), said.append)
    assert not any("/s" in line or "->" in line for line in said[1:]), said


def test_every_workload_is_tried_here():
    tried_elsewhere = {"memory", "growth", "kafka", "store"}
    assert set(SMALL) | tried_elsewhere == set(bench.WORKLOADS)


def test_no_figure_when_the_audit_finds_something(monkeypatch):
    child = measuring.child

    def found(part, *arguments):
        measured = child(part, *arguments)
        return measured | {"violations": ["gold differs"]} if part == "audit" else measured

    monkeypatch.setattr(measuring, "child", found)
    with pytest.raises(LawBroken, match="gold differs"):
        bench.WORKLOADS["memory"].measure(bench.Options(events=2_000), lambda line: None)


def test_a_record_that_is_never_seen_is_no_latency():
    offered = [[number, number + 0.1, number, number] for number in range(5)]
    everything = [[9.0, 5]]
    assert latency._latencies(offered, everything, everything)["in the answer of a query"].tolist() == [
        8e3,
        7e3,
        6e3,
        5e3,
    ]
    with pytest.raises(LawBroken, match="never seen"):
        latency._latencies(offered, everything, [[9.0, 3]])


def test_a_latency_counts_from_when_the_push_was_due():
    """A client that was held up for five seconds pushes what became due in between at once; nothing is left out."""
    offered = [[number, max(number, 5.0) + 0.1, number, number] for number in range(6)]
    found = latency._latencies(offered, [[5.2, 6]], [[5.3, 5]])
    assert found["acknowledged"].round().tolist() == [4_100, 3_100, 2_100, 1_100, 100]
    assert found["in the answer of a query"].round().tolist() == [4_300, 3_300, 2_300, 1_300, 300]


def test_doubled_keys_have_an_original_before_them():
    ordinals = np.arange(10_000)
    made = keys.keys_of(ordinals)
    doubles = made != ordinals
    assert np.count_nonzero(doubles) == 100
    assert (made[doubles] < ordinals[doubles]).all()
    assert not doubles[made[doubles]].any()
    assert len(np.unique(made[~doubles])) == 9_900


def test_a_part_that_fails_says_so(tmp_path, capfd):
    with pytest.raises(PenstockError, match="no-project"):
        measuring.child("audit", tmp_path)
    with measuring.Beside("follow", tmp_path) as part, pytest.raises(PenstockError, match="`follow` failed"):
        part.wait_ready()
    assert "no-project" in capfd.readouterr().err


def test_peak_memory_is_the_childs_own(tmp_path):
    """Memory that the parent held when it made the child is none of the child's."""
    project.one_file(tmp_path, 1_000)
    held = np.ones(1 << 27, np.uint8)
    held = np.concatenate([held] * 8)
    measured = measuring.child("run", tmp_path, 1_000)
    assert measured["peak_bytes"] < len(held) < peak_bytes()


def test_a_spilled_index_is_seen(tmp_path):
    mapped = Mapped()
    mapped.look(None)
    assert mapped.spilled_peak == 0
    assert mapped.resident_peak > 0
    index = KeyIndex()
    index.add(KeyBlock(*(np.arange(50_000, dtype=np.uint64) for _ in range(4))))
    index.spill(tmp_path)
    mapped.look(None)
    assert mapped.spilled_peak >= 50_000 * 32


def test_the_command_prints_one_object_by_workload(capfd):
    assert run(["bench", "ticks", "memory", "--events", "1000", "--batch-rows", "1000", "--json", "--no-audit"]) == 0
    printed = capfd.readouterr()
    figures = json.loads(printed.out)
    assert list(figures["workloads"]) == ["ticks", "memory"]
    assert figures["versions"]["penstock"]
    assert "memory: " in printed.err


def test_a_run_that_does_not_reconcile_exits_3(monkeypatch, capfd):
    def miscount(self, sent):
        self.events, self.bytes = 999, 1

    monkeypatch.setattr(project.Planted, "add", miscount)
    assert run(["bench", "memory", "--events", "1000"]) == 3
    printed = capfd.readouterr()
    assert "must become" in printed.err
    assert "events/s" not in printed.out.split("workload:")[1]


def test_file_system_of_a_folder():
    assert measuring.file_system(measuring.Path("/proc/self")) == "proc"
