"""The templates' references are those of the simulated worlds, so that planted faults are the only faults."""

from pathlib import Path

import pyarrow.csv as pa_csv
import pytest

from penstock.ops.scaffold import TEMPLATES, create_project
from penstock.sources.worlds import devices, instruments


@pytest.mark.parametrize(
    ("template", "name", "table"), [("market", "instruments", instruments()), ("iot", "devices", devices())]
)
def test_references_match_the_simulator(tmp_path: Path, template, name, table):
    create_project(tmp_path / "new", template)
    kept = pa_csv.read_csv(tmp_path / "new" / "references" / f"{name}.csv")
    assert kept.cast(table.schema) == table


def test_templates_leave_nothing_of_the_package_behind(tmp_path):
    for template in TEMPLATES:
        made = create_project(tmp_path / template, template)
        assert {path.suffix for path in made} <= {".yaml", ".csv", ".md", ""}
        assert (tmp_path / template / ".gitignore").read_text().count("/lake/") == 1
