"""Every command on a real project: what it prints for people, what it prints for programs, and its exit code."""

import io
import json
import shutil
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import penstock
from penstock.cli.main import run

EVENTS = 3_000


@pytest.fixture(scope="module")
def absorbed(tmp_path_factory):
    """A market project that was simulated and run. Tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("projects") / "shop"
    assert run(["init", str(folder)]) == 0
    assert run(["-C", str(folder), "simulate", "--events", str(EVENTS), "--faults", "0.1"]) == 0
    assert run(["-C", str(folder), "run", "--once", "--batch-rows", "1000"]) == 0
    return folder


@pytest.fixture
def shop(absorbed, tmp_path):
    return shutil.copytree(absorbed, tmp_path / "shop")


@pytest.fixture
def call(capfdbinary):
    """Runs a command; gives exit code, standard output and standard error."""

    def called(folder, *arguments):
        capfdbinary.readouterr()
        code = run(["-C", str(folder), *arguments])
        printed = capfdbinary.readouterr()
        return code, printed.out.decode(errors="surrogateescape"), printed.err.decode()

    return called


def as_json(printed):
    return json.loads(printed, parse_float=Decimal)


# -- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["market", "iot"])
def test_a_template_checks_tests_and_runs_as_it_stands(template, tmp_path, call):
    folder = tmp_path / "new"
    code, out, _ = call(tmp_path, "init", "new", "--template", template)
    assert code == 0
    assert "penstock -C new run --once" in out
    assert sorted(path.name for path in folder.iterdir()) == [
        ".gitignore",
        "README.md",
        "penstock.yaml",
        "pipelines",
        "references",
        "tests",
    ]
    assert call(folder, "check")[:2] == (0, out_of_check(folder))
    code, out, _ = call(folder, "test")
    assert code == 0, out
    assert "0 failed" in out
    code, out, _ = call(folder, "simulate", "--events", "2000", "--faults", "0.2", "--json")
    expected = as_json(out)["expected"]
    assert code == 0
    code, out, _ = call(folder, "run", "--once", "--json")
    (summary,) = as_json(out).values()
    assert code == 0
    assert {name: summary["counts"][name] for name in expected} == expected
    assert penstock.open(folder).reconcile().mismatched == 0


def out_of_check(folder):
    tests = len(list((folder / "tests").glob("*.yaml")))
    return f"fine: 1 pipeline, {tests} test file{'s' if tests > 1 else ''}\n"


def test_init_never_writes_over_anything(tmp_path, call):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("precious")
    code, _, err = call(tmp_path, "init", "new")
    assert code == 2
    assert "not an empty folder" in err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


# -- check, explain, schema -------------------------------------------------------------------------------------------


def test_check_prints_every_finding(shop, call):
    file = shop / "pipelines" / "ticks.yaml"
    text = (
        file.read_text().replace("late_after: 10 seconds", "late_aftr: 10 seconds").replace("key: [", "key: [nothing, ")
    )
    file.write_text(text)
    code, out, _ = call(shop, "check")
    assert code == 2
    assert "pipelines/ticks.yaml:" in out
    assert "late_after" in out
    code, out, _ = call(shop, "check", "--json")
    findings = as_json(out)["findings"]
    assert code == 2
    assert len(findings) >= 2
    assert {"file", "line", "column", "code", "message", "repair"} == set(findings[0])


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("sql: price * quantity", "sql: price * quantty", "quantty"),
        ("high: max(price)", "high: max(random())", "random"),
        ("{check: quantity > 0}", "{check: side + quantity > interval 1 day}", "ticks.yaml"),
        ("references/instruments.csv", "references/missing.csv", "missing.csv"),
    ],
)
def test_check_looks_into_expressions_types_and_references(shop, call, old, new, wanted):
    file = shop / "pipelines" / "ticks.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    code, out, _ = call(shop, "check")
    assert code == 2
    assert wanted in out
    # A reference that broke after it was loaded keeps its last good version; everything else stops a run.
    assert call(shop, "run", "--once")[0] == (0 if "references" in old else 2)


def test_no_project_says_what_to_do(tmp_path, call):
    code, _, err = call(tmp_path, "status")
    assert code == 2
    assert "penstock init" in err


def test_a_wrong_setting_names_its_place(shop, call):
    code, _, err = call(shop, "--threads", "none", "status")
    assert code == 2
    assert "--threads" in err


def test_explain(shop, call):
    code, out, _ = call(shop, "explain")
    assert code == 0
    assert "silver" in out
    assert "known_instrument" in out
    code, out, _ = call(shop, "explain", "ticks", "--json")
    assert list(as_json(out)) == ["ticks"]


def test_schema_is_a_json_schema(call, tmp_path):
    code, out, _ = call(tmp_path, "schema")
    assert code == 0
    assert "$schema" in as_json(out)


# -- putting in and running -------------------------------------------------------------------------------------------


def test_ingest_prints_the_places_of_durable_records(shop, call, tmp_path):
    file = tmp_path / "more.ndjson"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    code, out, _ = call(shop, "ingest", "ticks", str(file))
    assert code == 0
    assert f"1/0/{EVENTS}..{EVENTS + 2}" in out
    code, out, _ = call(shop, "status", "--json")
    assert as_json(out)["ticks"]["waiting"] == 2


def test_ingest_from_standard_input(shop, call, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\nno line end')))
    code, out, _ = call(shop, "ingest", "ticks", "--json")
    assert code == 0
    assert as_json(out)[0]["ranges"] == [{"source": 1, "partition": 0, "start": EVENTS, "end": EVENTS + 2}]


def test_ingest_names_records_over_the_limit(shop, call, tmp_path):
    file = tmp_path / "more.ndjson"
    file.write_text('{"a": 1}\n' + "x" * 2_000 + "\n")
    code, out, err = call(shop, "--record-bytes-max", "1024", "ingest", "ticks", str(file))
    assert code == 2
    assert "1 record:" in out
    assert "record 2 holds 2,000 bytes" in err


def test_an_unknown_pipeline_names_the_nearest(shop, call):
    for command in (["ingest", "tick"], ["run", "tick"], ["explain", "tick"]):
        code, _, err = call(shop, *command)
        assert code == 2
        assert "Did you mean ticks?" in err


@pytest.mark.parametrize("flag", [["--master", "yarn"], ["--conf", "spark.executor.memory=2g"]])
def test_what_is_for_spark_is_refused_without_it(shop, call, flag):
    code, _, err = call(shop, "run", "--once", *flag)
    assert code == 2
    assert "Add --engine spark" in err


@pytest.mark.parametrize("flags", [[], ["--master", "local[2]"], ["--conf", "spark.executor.memory=2g"]])
def test_each_flag_of_spark_goes_without_the_others(shop, call, flags):
    code, _, err = call(shop, "run", "tick", "--once", "--engine", "spark", *flags)
    assert code == 2
    assert "Did you mean ticks?" in err


def test_run_logs_json_lines_off_a_terminal(shop, call):
    call(shop, "simulate", "--events", "500")
    code, out, err = call(shop, "run", "--once", "--json")
    assert code == 0
    assert as_json(out)["ticks"]["counts"]["records"] == 500
    lines = [json.loads(line) for line in err.splitlines()]
    batches = [line for line in lines if line["event"] == "batch"]
    assert sum(line["records"] for line in batches) == 500
    assert all({"level", "timestamp", "pipeline", "seconds"} <= set(line) for line in batches)


def test_test_shows_the_difference_and_fails(shop, call):
    file = shop / "tests" / "bars.yaml"
    file.write_text(file.read_text().replace("high: 12", "high: 13"))
    code, out, _ = call(shop, "test")
    assert code == 1
    assert "FAIL  bars" in out
    assert "- high: 13" in out
    assert "+ high: 12.00000000" in out
    assert "2 tests, 1 failed" in out
    code, out, _ = call(shop, "test", "rejects", "--json")
    assert code == 0
    assert [test["passed"] for test in as_json(out)["tests"]] == [True]
    assert call(shop, "test", "bar")[0] == 2


# -- looking ----------------------------------------------------------------------------------------------------------


def test_sql_in_every_format(shop, call):
    query = "select instrument_id, price, event_time from silver.ticks where price is not null order by _offset limit 2"
    code, out, err = call(shop, "sql", query)
    assert code == 0
    assert out.splitlines()[0].split() == ["instrument_id", "price", "event_time"]
    assert "(2 rows)" in err
    lines = call(shop, "sql", query, "--format", "json")[1].splitlines()
    rows = [as_json(line) for line in lines]
    assert len(rows) == 2
    assert isinstance(rows[0]["price"], Decimal)
    assert rows[0]["event_time"].endswith("Z")
    assert call(shop, "sql", query, "--format", "csv")[1].splitlines()[0] == "instrument_id,price,event_time"
    out = call(shop, "sql", query, "--format", "parquet")[1].encode(errors="surrogateescape")
    assert pq.read_table(io.BytesIO(out)).num_rows == 2
    out = call(shop, "sql", query, "--format", "arrow", "--verify")[1].encode(errors="surrogateescape")
    assert pa.ipc.open_stream(out).read_all().num_rows == 2


def test_sql_knows_every_schema(shop, call):
    for table in (
        "bronze.ticks",
        "silver.ticks",
        "rejects.ticks",
        "gold.bars_1m",
        "references.instruments",
        "ledger.ticks",
    ):
        code, out, _ = call(shop, "sql", f"select count(*) as n from {table}", "--format", "json")
        assert code == 0
        assert as_json(out)["n"] > 0


def test_sql_as_of_a_batch_is_one_cut(shop, call):
    query = """select (select count(*) from bronze.ticks) as records, (select count(*) from silver.ticks) as accepted,
        (select count(*) from rejects.ticks) as rejected, (select count(*) from ledger.ticks) as batches"""
    for batch in (1, 2, 3):
        row = as_json(call(shop, "sql", query, "--as-of", str(batch), "--format", "json")[1])
        assert row["records"] == row["accepted"] + row["rejected"] == 1_000 * batch
        assert row["batches"] == batch
    code, _, err = call(shop, "sql", query, "--as-of", "99")
    assert code == 2
    assert "no batch 99" in err


def test_sql_that_is_wrong_is_exit_code_2(shop, call):
    code, out, err = call(shop, "sql", "select * from silver.tick")
    assert (code, out) == (2, "")
    assert "silver.ticks" in err
    assert call(shop, "sql", "drop table silver.ticks")[0] == 2


def test_tables_history_and_status(shop, call):
    names = [table["name"] for table in as_json(call(shop, "tables", "--json")[1])]
    assert {"bronze.ticks", "silver.ticks", "gold.bars_1m", "ledger.ticks"} <= set(names)
    assert "gold.bars_1m" in call(shop, "tables")[1]
    commits = as_json(call(shop, "history", "silver.ticks", "--json", "--limit", "0")[1])
    assert [commit["version"] for commit in commits] == sorted((c["version"] for c in commits), reverse=True)
    assert sum(commit["rows_added"] for commit in commits if commit["operation"] == "WRITE") > 0
    code, _, err = call(shop, "history", "gold.bar")
    assert code == 2
    assert "gold.bars_1m" in err
    status = as_json(call(shop, "status", "--json")[1])["ticks"]
    assert status["records"] == EVENTS == status["accepted"] + status["quarantined"] + status["duplicate"]
    assert f"{EVENTS:,}" in call(shop, "status")[1]


def test_an_empty_lake_is_no_error(tmp_path, call):
    call(tmp_path, "init", "new")
    for arguments in (["tables"], ["status"], ["audit"], ["sql", "select 1 as a"], ["rejects"]):
        assert call(tmp_path / "new", *arguments)[0] == 0, arguments
    code, _, err = call(tmp_path / "new", "sql", "select * from silver.ticks")
    assert code == 2
    assert "run --once" in err


# -- proving ----------------------------------------------------------------------------------------------------------


def test_audit_of_a_lake_without_pipelines_claims_nothing(tmp_path, call):
    call(tmp_path, "init", "new")
    code, out, _ = call(tmp_path / "new", "audit")
    assert code == 0
    assert "no pipelines yet" in out
    assert "no law" not in out


def test_audit_finds_nothing_and_then_the_missing_file(shop, call):
    code, out, _ = call(shop, "audit")
    assert code == 0, out
    assert "no law is broken" in out
    code, out, _ = call(shop, "audit", "--json")
    counts = as_json(out)["pipelines"]["ticks"]
    assert counts["records"] == EVENTS
    assert counts["violations"] == []
    victim = next((shop / "lake" / "silver" / "ticks").rglob("*.parquet"))
    victim.unlink()
    code, out, _ = call(shop, "audit", "--json")
    assert code == 3
    assert as_json(out)["pipelines"]["ticks"]["violations"]
    assert call(shop, "audit")[0] == 3


# -- keeping ----------------------------------------------------------------------------------------------------------


def test_optimize_and_vacuum_change_no_row_and_no_position(shop, call):
    tables = ("bronze.ticks", "silver.ticks", "rejects.ticks", "gold.bars_1m", "ledger.ticks")
    query = " union all ".join(
        f"select '{name}' as name, count(*) as rows, sum(hash(t)) % 1000000007 as digest from {name} t"
        for name in tables
    )
    before = sorted(call(shop, "sql", query, "--format", "json")[1].splitlines())
    code, out, _ = call(shop, "optimize", "silver.ticks", "--zorder", "instrument_id, event_time", "--json")
    assert code == 0
    assert [done["table"] for done in as_json(out)] == ["silver.ticks"]
    code, out, _ = call(shop, "optimize")
    assert code == 0
    assert "gold.bars_1m" in out
    facts = {table["name"]: table for table in as_json(call(shop, "tables", "--json")[1])}
    assert [facts[name]["files"] for name in tables] == [1] * len(tables)
    code, out, _ = call(shop, "vacuum", "--dry-run", "--json")
    assert code == 0
    assert sum(done["files"] for done in as_json(out)) == 0
    assert call(shop, "vacuum")[0] == 0
    assert sorted(call(shop, "sql", query, "--format", "json")[1].splitlines()) == before
    assert (
        as_json(call(shop, "sql", "select count(*) n from silver.ticks", "--as-of", "1", "--format", "json")[1])["n"]
        > 0
    )
    call(shop, "simulate", "--events", "100")
    code, out, _ = call(shop, "run", "--once", "--json")
    assert as_json(out)["ticks"]["counts"]["records"] == 100
    assert call(shop, "audit")[0] == 0


def test_optimize_refuses_what_it_cannot_do(shop, call):
    for arguments in (["references.instruments"], ["silver.ticks", "--zorder", "nothing"], ["silver.tick"]):
        assert call(shop, "optimize", *arguments)[0] == 2


# -- rejects and traces -----------------------------------------------------------------------------------------------


def test_rejects_are_counted_by_rule_and_shown_with_every_reason(shop, call):
    counts = as_json(call(shop, "rejects", "--json")[1])
    by_rule = {count["rule"]: count["rows"] for count in counts}
    status = as_json(call(shop, "status", "--json")[1])["ticks"]
    assert by_rule["duplicate"] == status["duplicate"]
    assert by_rule["malformed"] > 0
    code, out, _ = call(shop, "rejects", "ls")
    assert code == 0
    assert "known_instrument" in out
    rows = as_json(call(shop, "rejects", "show", "--rule", "malformed", "--limit", "3", "--json")[1])
    assert [row["reasons"] for row in rows] == [["malformed"]] * 3
    code, out, _ = call(shop, "rejects", "show", "ticks", "--limit", "2")
    assert code == 0
    assert out.count("ticks:1/0/") == 2
    assert as_json(call(shop, "rejects", "--since", "2001-01-01", "--json")[1]) == counts
    assert as_json(call(shop, "rejects", "--since", "2200-01-01", "--json")[1]) == []
    assert as_json(call(shop, "rejects", "--since", "1h", "--json")[1]) == counts
    assert call(shop, "rejects", "--since", "lately")[0] == 2
    for view in ("ls", "show"):
        code, out, err = call(shop, "rejects", view, "--rule", "malformd")
        assert (code, out) == (0, "")
        assert "no rejects of the rule malformd" in err


def test_a_bar_is_traced_back_to_its_bytes_and_a_record_forward_to_its_bar(shop, call):
    query = "select instrument_id, window_start, trades from gold.bars_1m order by trades desc, window_start limit 1"
    bar = as_json(call(shop, "sql", query, "--format", "json")[1])
    where = f"instrument_id = '{bar['instrument_id']}' and window_start = '{bar['window_start']}'"
    code, out, _ = call(shop, "trace", "gold.bars_1m", "--where", where, "--limit", "100", "--json")
    (window,) = as_json(out)["windows"]
    assert code == 0
    assert window["events_total"] == len(window["events"]) == bar["trades"]
    assert all(
        json.loads(event["record"]["value"])["instrument_id"] == bar["instrument_id"] for event in window["events"]
    )
    code, out, _ = call(shop, "trace", "gold.bars_1m", "--where", where)
    assert code == 0
    assert f"made from {bar['trades']} silver row" in out
    assert '{"instrument_id":"' in out
    assert "contract 1" in out
    place = window["events"][0]["record"]["place"]
    code, out, _ = call(shop, "trace", "--forward", f"ticks:{place}", "--json")
    (event,) = as_json(out)["events"]
    assert event["disposition"] == "accepted"
    assert "bars_1m" in call(shop, "trace", "--forward", f"ticks:{place}")[1]


def test_a_wrong_trace_says_what_to_write(shop, call):
    for arguments in ([], ["gold.bars_1m", "--forward", "ticks:1/0/0"], ["--forward", "ticks"], ["gold.nothing"]):
        code, _, err = call(shop, "trace", *arguments)
        assert code == 2, arguments
        assert len(err.splitlines()) >= 2
    assert call(shop, "trace", "--forward", "ticks:1/0/999999")[0] == 2
