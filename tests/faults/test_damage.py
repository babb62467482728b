"""A damaged or missing file: every answer is the right one or a loud error, and a full disk is one too."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from faults import world
from penstock.errors import LakeCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENTS = 200
TABLES = {
    "bronze/meters": "select * from bronze.meters order by _offset",
    "silver/readings": "select * from silver.readings order by _offset",
    "rejects/meters": "select * from rejects.meters order by _offset",
    "gold/minutes": "select * from gold.minutes order by window_start, site",
    "gold/sites": "select * from gold.sites order by window_start",
    "ledger/meters": "select * from ledger.meters order by _batch",
}


def flip(part: float) -> Callable[[Path], None]:
    """Flip one bit at a share of the file's length."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(part * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def flip_back(distance: int) -> Callable[[Path], None]:
    """Flip one bit some bytes before the end: of a Parquet file's footer."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[max(0, len(content) - distance)] ^= 0x01
        path.write_bytes(content)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path) -> None:
    path.unlink()


DATA_DAMAGE: dict[str, Callable[[Path], None]] = {
    "a bit at the start": flip(0.1),
    "a bit in the middle": flip(0.4),
    "a bit in the footer": flip_back(100),
    "a bit early in the footer": flip_back(400),
    "a bit in its length": flip_back(7),
    "cut": cut,
    "zeroed": zero,
    "deleted": delete,
}
LOG_DAMAGE: dict[str, Callable[[Path], None]] = {
    "a bit at the start": flip(0.05),
    "a bit in the middle": flip(0.5),
    "a bit towards the end": flip(0.8),
    "cut": cut,
    "zeroed": zero,
    "deleted": delete,
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake after some batches and a drain, with checkpoints, and entries behind them."""
    folder = world.make_project(tmp_path_factory.mktemp("sound") / "shop")
    world.push(folder, 0, EVENTS // 2)
    world.run(folder, rows=40)
    for name in TABLES:
        table = world.lake(folder).table(name)
        assert table is not None
        table.checkpoint()
    world.push(folder, EVENTS // 2, EVENTS)
    world.run(folder, rows=40)
    world.assert_sound(folder, dict(enumerate(world.events(0, EVENTS))))
    return folder


@pytest.fixture(scope="module")
def right(sound: Path) -> dict[str, Any]:
    return {name: world.query(sound, sql) for name, sql in TABLES.items()}


@pytest.fixture(autouse=True)
def counted(record_property: Callable[[str, object], None]) -> None:
    record_property("faults: files damaged at chosen places", 1)


def outcome(work: Callable[[], Any]) -> Any:
    """What came of it; None for a loud error of the right kind. Anything else is raised."""
    try:
        return work()
    except LakeCorrupt:
        return None


def check(folder: Path, right: dict[str, Any], *, is_earlier_cut: bool = False) -> None:
    """Every table read with `--verify` is right or refused; the audit sees what a read refuses; a run goes on soundly,
    or stops.

    Without the ledger's last row the lake is what it was before that row, and queries answer as of then.
    """
    refused = []
    for name, sql in TABLES.items() if not is_earlier_cut else ():
        answer = outcome(lambda sql=sql: world.query(folder, sql))
        assert answer is None or answer == right[name], f"a wrong answer from {name}"
        if answer is None:
            refused.append(name)
    found = outcome(lambda: world.violations(folder))
    assert found != [] or not refused, f"the audit is clean, though {refused} cannot be read"
    values = world.events(0, EVENTS)
    world.push(folder, EVENTS, EVENTS + 60)
    values += world.events(EVENTS, EVENTS + 60)

    def go_on() -> str:
        world.run(folder, rows=40)
        return "ran"

    went_on = outcome(go_on) == "ran"
    assert went_on or not is_earlier_cut
    if went_on and outcome(lambda: world.violations(folder)) == []:
        world.assert_tables(folder, dict(enumerate(values)))


@pytest.mark.integration
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("damage", DATA_DAMAGE)
def test_a_damaged_data_file(name: str, damage: str, sound: Path, right: dict[str, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "shop")
    table = world.lake(folder).table(name)
    assert table is not None
    file = max(table.files(), key=lambda file: (file.rows, file.path))
    DATA_DAMAGE[damage](folder / "lake" / name / file.path)
    check(folder, right)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["bronze/meters", "silver/readings", "gold/minutes", "ledger/meters"])
@pytest.mark.parametrize("which", ["before the last", "last"])
@pytest.mark.parametrize("damage", LOG_DAMAGE)
def test_a_damaged_log_entry(
    name: str, which: str, damage: str, sound: Path, right: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(sound, tmp_path / "shop")
    entries = world.files_of(folder, f"{name}/_delta_log/*.json")
    LOG_DAMAGE[damage](entries[-1 if which == "last" else -2])
    check(folder, right, is_earlier_cut=(name, which, damage) == ("ledger/meters", "last", "deleted"))


@pytest.mark.integration
@pytest.mark.parametrize("name", ["bronze/meters", "silver/readings", "ledger/meters"])
@pytest.mark.parametrize("damage", ["a bit at the start", "a bit in the middle", "cut", "zeroed", "deleted"])
def test_a_damaged_checkpoint(name: str, damage: str, sound: Path, right: dict[str, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "shop")
    [checkpoint] = world.files_of(folder, f"{name}/_delta_log/*.checkpoint.parquet")
    LOG_DAMAGE[damage](checkpoint)
    check(folder, right)
