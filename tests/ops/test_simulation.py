"""What the simulator sends and what its truth file says are the same thing, place by place."""

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.errors import UsageError
from penstock.model.fields import FieldPath
from penstock.model.pipeline import Column, Pipeline, PushSource, Silver, Source
from penstock.model.types import ColumnType
from penstock.ops.ingest import Pusher
from penstock.ops.simulation import guess_world, next_ordinal, read_truth, reconcile, simulate
from penstock.settings import Settings
from penstock.sources.opening import open_push_log


def pipeline(*fields, partitions=1):
    columns = tuple(
        Column(name, ColumnType("string"), path=FieldPath((name,))) for name in fields or ("instrument_id",)
    )
    return Pipeline("ticks", Source(PushSource(partitions)), Silver("ticks", columns))


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_truth_names_the_place_of_every_record(tmp_path, partitions):
    declared = pipeline(partitions=partitions)
    with Pusher(declared, Settings(), tmp_path) as pusher:
        done = simulate(pusher, declared, tmp_path / "truth", world="market", events=3000, faults=0.2)
        more = simulate(pusher, declared, tmp_path / "truth", world="market", events=10, faults=0.2)
    assert (
        done.records,
        dict(done.expected)["accepted"] + dict(done.expected)["quarantined"] + dict(done.expected)["duplicate"],
    ) == (3000, 3000)
    assert more.truth.name == "ticks.3000-3010.parquet"
    assert next_ordinal(tmp_path / "truth", "ticks") == 3010
    assert next_ordinal(tmp_path / "truth", "other") == 0
    log = open_push_log(PushSource(partitions), pipeline="ticks", state_folder=tmp_path)
    values = {
        (partition, entry.first_offset + row): value.as_py()
        for partition in range(partitions)
        for entry in log.entries(partition, 0)
        for row, value in enumerate(log.records(entry)["value"])
    }
    log.close()
    truth = read_truth(tmp_path / "truth", "ticks").to_pylist()
    assert len(values) == len(truth) == 3010
    of_ordinal = {row["ordinal"]: values[row["_partition"], row["_offset"]] for row in truth}
    for row in truth:
        value = of_ordinal[row["ordinal"]]
        if row["fault"] == "doubled":
            assert value == of_ordinal[row["original"]]
        elif row["fault"] == "broken":
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(value)
        elif row["fault"] is None:
            assert orjson.loads(value)["sequence"] == row["ordinal"]


def test_a_simulation_doubles_only_what_it_sent_itself(tmp_path):
    declared = pipeline()
    with Pusher(declared, Settings(), tmp_path) as pusher:
        for seed in (1, 2):
            simulate(pusher, declared, tmp_path / "truth", world="market", events=2000, faults=0.9, seed=seed)
    truth = read_truth(tmp_path / "truth", "ticks").to_pylist()
    originals = [row["original"] for row in truth if row["ordinal"] >= 2000 and row["original"] is not None]
    assert originals
    assert min(originals) >= 2000


def test_reconciling_finds_what_is_missing_wrong_and_there_twice():
    def places(*offsets):
        return {
            "_source": pa.array([1] * len(offsets), pa.int32()),
            "_partition": pa.array([0] * len(offsets), pa.int32()),
            "_offset": pa.array(offsets, pa.int64()),
        }

    truth = pa.table(
        {
            "expected": ["accepted", "accepted", "duplicate"],
            "fault": pa.array([None, None, "doubled"]),
            **places(0, 1, 2),
        }
    )
    right = pa.table({"disposition": ["duplicate"], **places(2)})
    assert reconcile(truth, pa.table(places(0, 1)), right).mismatched == 0
    missing = reconcile(truth, pa.table(places(0)), right)
    assert (missing.mismatched, missing.mismatches) == (1, ("1/0/1 (sound): missing, not accepted",))
    assert dict(missing.found) == {"accepted": 1, "duplicate": 1, "missing": 1}
    assert reconcile(truth, pa.table(places(0, 1, 1)), right).mismatched == 1
    wrong = pa.table({"disposition": ["quarantined"], **places(2)})
    assert reconcile(truth, pa.table(places(0, 1)), wrong).mismatched == 1


def test_the_world_is_guessed_from_the_fields_a_pipeline_reads():
    assert guess_world(pipeline("instrument_id", "sequence")) == "market"
    assert guess_world(pipeline("device_id", "sequence")) == "iot"
    with pytest.raises(UsageError, match="no field"):
        guess_world(pipeline("something"))


def test_a_truth_file_is_plain_parquet(tmp_path):
    declared = pipeline()
    with Pusher(declared, Settings(), tmp_path) as pusher:
        done = simulate(pusher, declared, tmp_path, world="market", rate=2000, seconds=0.1, faults=0)
    assert done.records == 200
    assert pq.read_table(done.truth)["expected"].unique().to_pylist() == ["accepted"]
    assert dict(done.faults) == {"none": 200}
