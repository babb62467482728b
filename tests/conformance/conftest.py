"""One Spark for the whole suite, whose workers look for plants (`plants.py`), and the answers to compare with."""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING

import pytest

from conformance import engines
from conformance.plants import Plants
from pipelines import cases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.matrix import Straight


@pytest.fixture(scope="session")
def shared_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plants]:
    """A Spark context of this process, which every run with the engine `spark` finds; with the plants of its workers."""
    plants = Plants(tmp_path_factory.mktemp("plants"))
    with engines.started("local[2]", plants):
        yield plants


@pytest.fixture
def spark(shared_spark: Plants) -> Plants:
    """The same, with no plants in it."""
    shared_spark.clear()
    return shared_spark


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Of a case, a project that has not run, and what the embedded engine makes of it in one batch."""

    @functools.cache
    def made(case: str) -> tuple[Path, engines.Answer]:
        project = cases.make_project(case, tmp_path_factory.mktemp(case) / "project")
        ran = shutil.copytree(project, project.with_name("embedded"))
        engines.run(ran, "embedded")
        assert cases.tables(ran) == cases.expected(case)
        return project, engines.answer(ran)

    return made
