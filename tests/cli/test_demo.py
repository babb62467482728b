"""The demo reconciles, audits and traces, and never writes over anything."""

import pytest

from penstock.cli.main import run


@pytest.mark.integration
def test_the_demo_proves_what_it_says(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "demo", "--events", "30000"]) == 0
    out = capsys.readouterr().out
    assert "each of the 30,000 records ended exactly where the truth file says" in out
    assert "no law is broken" in out
    assert "made from" in out
    assert '"instrument_id":"INST-' in out
    assert (tmp_path / "demo" / "lake" / "silver" / "ticks" / "_delta_log").is_dir()


def test_a_second_demo_says_how_to_have_another(tmp_path, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").write_text("")
    assert run(["-C", str(tmp_path), "demo"]) == 2
    printed = capsys.readouterr()
    assert "not an empty folder" in printed.err
    assert "DEMO=NAME" in printed.err
    assert printed.out == ""
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mine"]
