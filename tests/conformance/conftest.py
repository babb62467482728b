"""One Spark for the whole suite, whose workers look for plants (`plants.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.engines import started
from conformance.plants import Plants

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plants]:
    """A Spark context of this process, which every run with the engine `spark` finds; with the plants of its workers."""
    plants = Plants(tmp_path_factory.mktemp("plants"))
    with started("local[2]", plants):
        yield plants


@pytest.fixture
def spark(shared_spark: Plants) -> Plants:
    """The same, with no plants in it."""
    shared_spark.clear()
    return shared_spark
