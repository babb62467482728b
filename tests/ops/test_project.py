"""The Python door: everything goes in as Arrow, pandas, polars or plain values, and comes out as them."""

import threading
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import penstock
from penstock import errors
from penstock.ops.scaffold import create_project

TICK = {
    "instrument_id": "INST-00001",
    "venue": "XNAS",
    "ts": 1736121600000,
    "price": 12.5,
    "quantity": 2,
    "side": "buy",
}


@pytest.fixture
def shop(tmp_path):
    create_project(tmp_path / "shop", "market")
    return penstock.open(tmp_path / "shop")


def test_in_and_out_as_what_people_have(shop):
    ticks = [{**TICK, "sequence": number} for number in range(6)]
    shop.ingest("ticks", ticks[:2])
    shop.ingest("ticks", pa.Table.from_pylist(ticks[2:3]))
    shop.ingest("ticks", pd.DataFrame(ticks[3:4]))
    shop.ingest("ticks", pl.DataFrame(ticks[4:5]))
    done = shop.ingest("ticks", b'{"broken": ')
    assert [str(one) for one in done.ranges] == ["1/0/5..6"]
    (summary,) = shop.run_once()
    assert (summary.counts.accepted, summary.counts.quarantined) == (5, 1)
    query = "select sequence, price from silver.ticks order by sequence"
    assert shop.sql(query).to_pylist() == [{"sequence": number, "price": Decimal("12.50000000")} for number in range(5)]
    assert shop.sql(query, as_="pandas")["price"].tolist() == [Decimal("12.50000000")] * 5
    assert shop.sql(query, as_="polars")["sequence"].to_list() == list(range(5))
    assert shop.sql("select count(*) n from silver.ticks", as_of=1).to_pylist() == [{"n": 5}]
    with pytest.raises(errors.UsageError, match="as_"):
        shop.sql(query, as_="excel")


def test_a_file_is_a_path(shop, tmp_path):
    (tmp_path / "one.ndjson").write_text('{"a": 1}\n{"a": 2}\n')
    assert shop.ingest("ticks", tmp_path / "one.ndjson").records == 2


def test_settings_are_arguments(tmp_path):
    create_project(tmp_path / "shop", "market")
    assert penstock.open(tmp_path / "shop", threads=3, lake="elsewhere").settings.threads == 3
    assert str(penstock.open(str(tmp_path / "shop"), lake="other").settings.lake) == "other"
    with pytest.raises(errors.UsageError, match="threats"):
        penstock.open(tmp_path / "shop", threats=3)
    with pytest.raises(errors.UsageError):
        penstock.open(tmp_path / "shop", threads="many")
    with pytest.raises(errors.UsageError, match="no place"):
        penstock.open(tmp_path / "shop", lake="ftp://bucket/lake")
    with pytest.raises(errors.UsageError, match="penstock init"):
        penstock.open(tmp_path / "nothing")


def test_two_pipelines_run_side_by_side(tmp_path):
    create_project(tmp_path / "both", "market")
    create_project(tmp_path / "other", "iot")
    for kind in ("pipelines", "references"):
        for file in (tmp_path / "other" / kind).iterdir():
            (tmp_path / "both" / kind / file.name).write_bytes(file.read_bytes())
    both = penstock.open(tmp_path / "both")
    with pytest.raises(errors.UsageError, match="2 pipelines"):
        both.simulate(events=10)
    for name in ("ticks", "readings"):
        both.simulate(name, events=2_000, faults=0.1)
    seen = []
    summaries = both.run_once(progress=lambda done: seen.append(done.pipeline))
    assert {summary.pipeline: summary.counts.records for summary in summaries} == {"ticks": 2_000, "readings": 2_000}
    assert set(seen) == {"ticks", "readings"}
    assert [both.reconcile(name).mismatched for name in ("ticks", "readings")] == [0, 0]
    assert both.audit().clean
    with pytest.raises(errors.UsageError, match="pipeline"):
        both.sql("select 1", as_of=1)
    assert both.sql("select count(*) n from silver.ticks", as_of="ticks:1").to_pylist()[0]["n"] > 0


def test_a_running_pipeline_turns_a_second_writer_away_and_stops_when_told(shop):
    stop = threading.Event()
    started = threading.Event()
    shop.simulate(events=100)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(shop.run_outcome(stop=stop, progress=lambda done: started.set()))
    )
    thread.start()
    try:
        assert started.wait(30)
        with pytest.raises(errors.Fenced, match="ticks"):
            penstock.open(shop.folder).run_once()
    finally:
        stop.set()
        thread.join(30)
    assert results[0].summaries["ticks"].counts.records == 100


def test_a_pipeline_s_tests_need_no_spark(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a test has started Spark")

    monkeypatch.setattr("penstock.engines.spark.session.Session", refuse)
    create_project(tmp_path / "shop", "market")
    results = list(penstock.open(tmp_path / "shop", engine="spark").test())
    assert results
    assert all(result.passed for result in results)
