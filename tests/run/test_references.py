"""Which failures to load a reference are borne, how long, and which end the run."""

from __future__ import annotations

import errno
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from penstock.errors import Fenced, InvariantBroken, PenstockError, StorageError, TransientError, UsageError
from penstock.lake import referencefile
from penstock.limits import REFERENCE_CHECK_SECONDS
from penstock.model.pipeline import Reference
from penstock.run.references import ReferenceKeeper

if TYPE_CHECKING:
    from pathlib import Path

WRITER: Any = object()


class Store:
    """As much of `References` as loading needs. It fails with `error`, if there is one."""

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self.error: PenstockError | None = None
        self.waited = False

    def latest_version(self, name: str) -> int:
        return self.version

    def append(self, *_: object, waits: bool = True) -> int:
        self.waited = waits
        if self.error is not None:
            raise self.error
        self.version += 1
        return self.version


class Clock:
    """Each look finds that it is time for one."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        self.seconds += REFERENCE_CHECK_SECONDS
        return self.seconds


@pytest.fixture
def reports() -> list[str]:
    return []


def keeper_of(folder: Path, store: Any, reports: list[str]) -> ReferenceKeeper:
    (folder / "sites.csv").write_text("id\na\n")
    return ReferenceKeeper((Reference("sites", "sites.csv", ("id",)),), folder, store, Clock(), reports.append)


def version(keeper: ReferenceKeeper, *, first: bool = False) -> int:
    keeper.load_if_changed(WRITER, first=first)
    return dict(keeper.versions)["sites"]


def test_what_others_hold_up_is_tried_again_at_the_next_look(tmp_path: Path, reports: list[str]) -> None:
    store = Store(7)
    keeper = keeper_of(tmp_path, store, reports)
    store.error = TransientError("busy")
    assert version(keeper, first=True) == 7
    assert store.waited
    store.error = TransientError("busy for 2 s")
    assert version(keeper) == 7
    assert not store.waited
    assert reports == ["reference sites: busy; version 7 stays in use"]
    store.error = None
    assert version(keeper) == 8
    assert version(keeper) == 8


def test_a_file_that_cannot_be_read_now_is_tried_again(
    tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(tmp_path, Store(7), reports)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as disk:
        disk.setattr(referencefile, "_bytes", denied)
        assert version(keeper, first=True) == 7
    assert reports == ["reference sites: cannot read sites.csv now: Permission denied; version 7 stays in use"]
    assert version(keeper) == 8


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError("Generic LocalFileSystem error: Input/output error (os error 5)"),
    ],
)
def test_a_folder_that_is_away_is_looked_at_again(
    error: OSError, tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(tmp_path, Store(7), reports)
    assert version(keeper, first=True) == 8

    def away(_: Path) -> bool:
        raise error

    with monkeypatch.context() as disk:
        disk.setattr(pathlib.Path, "is_dir", away)
        assert version(keeper) == 8
    assert reports == ["reference sites: cannot read sites.csv now: Input/output error; version 8 stays in use"]
    assert version(keeper) == 9


def test_a_broken_file_is_not_looked_at_until_it_changes(tmp_path: Path, reports: list[str]) -> None:
    keeper = keeper_of(tmp_path, Store(), reports)
    assert version(keeper, first=True) == 1
    (tmp_path / "sites.csv").write_text("id\na\na\n")
    assert [version(keeper), version(keeper)] == [1, 1]
    assert len(reports) == 1
    (tmp_path / "sites.csv").write_text("id\na\nb\n")
    assert version(keeper) == 2


@pytest.mark.parametrize("error", [StorageError("full"), Fenced("overtaken"), InvariantBroken("a bug")])
def test_what_is_wrong_with_the_lake_ends_the_run(error: PenstockError, tmp_path: Path, reports: list[str]) -> None:
    store = Store(7)
    keeper = keeper_of(tmp_path, store, reports)
    store.error = error
    with pytest.raises(type(error)):
        version(keeper, first=True)


@pytest.mark.parametrize("error", [TransientError("busy"), UsageError("another type")])
def test_without_a_good_version_there_is_no_run(error: PenstockError, tmp_path: Path, reports: list[str]) -> None:
    store = Store()
    keeper = keeper_of(tmp_path, store, reports)
    store.error = error
    with pytest.raises(type(error)):
        version(keeper, first=True)
