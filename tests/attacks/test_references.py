"""References that are wrong: nothing is read before the first one is right, and a later one never replaces a right one.

Each message names the file, the place and the offending value, as `penstock check` and as `penstock run` say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock
from attacks import attacked
from attacks.attacked import good, lines
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from pathlib import Path

LOOKED_UP = attacked.PIPELINE.replace(
    "silver:", "references:\n  sites: {file: references/sites.csv, key: note}\nsilver:", 1
).replace("gold:", "    country: {lookup: sites.country}\n  rules:\n    known: {check: country is not null}\ngold:", 1)

BROKEN: dict[str, tuple[bytes | None, str]] = {
    # content (None: there is no file), what is said
    "missing": (None, "sites.csv"),
    "empty": (b"", "sites.csv"),
    "duplicate keys": (b"note,country\nn0,DE\nn2,FR\nn0,FR\n", "n0"),
    "many duplicate keys": (b"note,country\n" + b"n0,DE\nn2,FR\n" * 1_000, "n0"),
    "no key column": (b"site,country\nn0,DE\n", "note"),
    "a NULL key": (b"note,country\nn0,DE\n,FR\n", "note"),
    "a column missing in a line": (b"note,country\nn0\n", "sites.csv"),
    "a stray quote": (b'note,country\nn0,"DE\n', "sites.csv"),
    "invalid UTF-8": (b"note,country\nn0,\xff\n", "UTF-8"),
    "UTF-16": ("note,country\nn0,DE\n".encode("utf-16"), "sites.csv"),
    "a column twice": (b"note,country,country\nn0,DE,FR\n", "country"),
    "no such column": (b"note,land\nn0,DE\n", "country"),
    "a NUL": (bytes(1_000), "sites.csv"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has absorbed two records with a right reference."""
    folder = attacked.make(
        tmp_path_factory.mktemp("running"), LOOKED_UP, {"incoming/a.ndjson": lines([good(0), good(1)])}
    )
    attacked.put(folder, "references/sites.csv", b"note,country\nn0,DE\n")
    found = attacked.absorb(folder)
    assert found.accepted[0, 0]["country"] == "DE"
    assert found.of(1) == ["known"]
    return folder


@pytest.mark.parametrize("kind", BROKEN)
def test_a_first_reference_that_is_wrong(kind: str, tmp_path: Path) -> None:
    content, said = BROKEN[kind]
    folder = attacked.make(tmp_path, LOOKED_UP, {"incoming/a.ndjson": lines([good(0)])})
    if content is not None:
        attacked.put(folder, "references/sites.csv", content)
    (finding, *_) = penstock.open(folder).check()
    assert said in f"{finding.message} {finding.repair}", finding
    with pytest.raises(PenstockError) as refused:
        penstock.open(folder).run(once=True)
    assert refused.value.exit_code == 2
    assert said in str(refused.value)
    assert "bronze.p" not in [table.name for table in penstock.open(folder).tables()]


def test_later_references_that_are_wrong(running: Path) -> None:
    """The last right version stays, whatever comes after it; and what came meanwhile was looked up there."""
    for number, (kind, (content, _)) in enumerate(BROKEN.items(), 2):
        path = running / "references" / "sites.csv"
        path.unlink() if content is None else path.write_bytes(content)
        attacked.put(running, f"incoming/{number}.ndjson", lines([good(0).replace(b'"id":0', b'"id":%d' % number)]))
        if kind == "no such column":
            continue  # a change of the declaration's meaning, not of its file
        penstock.open(running).run(once=True)
        row = penstock.open(running).sql(f"select country from silver.t where id = {number}").to_pylist()
        assert row == [{"country": "DE"}], kind
    assert attacked.violations(running) == []
    attacked.put(running, "references/sites.csv", b"note,country\nn0,FR\n")
    attacked.put(running, "incoming/99.ndjson", lines([good(0).replace(b'"id":0', b'"id":99')]))
    attacked.absorb(running)
    rows = penstock.open(running).sql("select country from silver.t where id = 99").to_pylist()
    assert rows == [{"country": "FR"}]
