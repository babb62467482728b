"""What every test run prints at its end, and which way records go in it."""

from __future__ import annotations

import zlib

import pytest

pytest_plugins = ["faults.summary"]


@pytest.fixture(autouse=True)
def plain_records_first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every second test even few records go through the short query first, so that both ways see all there is."""
    if zlib.crc32(request.node.nodeid.encode()) % 2:
        monkeypatch.setattr("penstock.engines.embedded.refining.PLAIN_ROWS_MIN", 1)
