"""What a declaration names is what is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.errors import InvariantBroken, UsageError
from penstock.model.pipeline import FilesSource, PushSource, SimulateSource, Source
from penstock.sources.contract import Bounds
from penstock.sources.contract import Source as OpenSource
from penstock.sources.opening import open_push_log, open_source
from penstock.testing.manifests import MemoryManifest

if TYPE_CHECKING:
    from pathlib import Path


def opened(origin: PushSource | FilesSource | SimulateSource, folder: Path, **options: object) -> OpenSource:
    return open_source(
        Source(origin),
        pipeline="ticks",
        incarnation=3,
        folder=folder,
        state_folder=folder / "lake",
        **options,  # type: ignore[arg-type]
    )


def test_a_push_log_lies_beside_the_lake(tmp_path: Path) -> None:
    source = opened(PushSource(), tmp_path)
    assert (tmp_path / "lake" / "push" / "ticks.db").exists()
    log = open_push_log(PushSource(), pipeline="ticks", state_folder=tmp_path / "lake")
    assert (source.identity.kind, source.identity.name, source.identity.unique_id) == ("push", "ticks", log.unique_id)


def test_a_folder_is_relative_to_the_project(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    source = opened(FilesSource("incoming"), tmp_path, manifest=MemoryManifest())
    assert source.identity.name == "incoming"
    assert source.plan({}, Bounds(1, 1)) == ()
    assert source.exhausted({})


def test_a_folder_needs_its_manifest(tmp_path: Path) -> None:
    with pytest.raises(InvariantBroken):
        opened(FilesSource("incoming"), tmp_path)


def test_a_world_is_its_seed(tmp_path: Path) -> None:
    one = opened(SimulateSource("market", seed=1, events=5), tmp_path)
    other = opened(SimulateSource("market", seed=2, events=5), tmp_path)
    assert one.identity != other.identity
    assert [span.source for span in one.plan({}, Bounds(10, 1 << 20))] == [3]
    with pytest.raises(UsageError, match="ocean"):
        opened(SimulateSource("ocean"), tmp_path)
