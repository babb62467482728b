"""The power fails during a whole story of a lake: from every folder that may be found then, a normal run gives the
expected tables, with everything that was acknowledged. The stories are in `powerloss.py`.

PENSTOCK_POWERLOSS_STATES=5000 tries so many states of each story, with an audit of each.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from faults import powerloss, world
from penstock.testing import sqlitedisk
from penstock.testing.powerloss import distinct_states

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(0),
    pytest.mark.skipif(
        not sqlitedisk.can_watch(), reason="SQLite is linked into this Python: its syncs cannot be seen"
    ),
]

MORE = int(os.environ.get("PENSTOCK_POWERLOSS_STATES", "0"))
KINDS = {
    "contracts",
    "bronze",
    "silver",
    "rejects",
    "gold",
    "ledger",
    "checkpoints",
    "vacuum and log cleaning",
}


@pytest.mark.parametrize(
    ("source", "seed", "count"),
    [(powerloss.PUSH, 1, 190), (powerloss.PUSH, 2, 190), (powerloss.FILES, 3, 130)],
    ids=["push-1", "push-2", "files-3"],
)
def test_every_state_is_put_right_by_a_normal_run(
    source: str,
    seed: int,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    storage = powerloss.recorded(tmp_path / "shop", source, monkeypatch)
    world.assert_sound(tmp_path / "shop", {})
    states = powerloss.chosen(storage, MORE or count, seed)
    assert {powerloss.kind_of(state) for state in states} >= KINDS | {
        "push log" if source == powerloss.PUSH else "manifests"
    }
    record_property("faults: seed", seed)
    record_property("faults: states after a power loss", len(states))
    for kind, found in Counter(map(powerloss.kind_of, states)).items():
        record_property(f"faults: ... while writing {kind}", found)
    assert powerloss.problems(states, tmp_path, source, audit_every=1 if MORE else 5) == []


def test_without_syncs_it_would_lose_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator can show a loss: the same story with its syncs ignored."""
    storage = powerloss.recorded(tmp_path / "shop", powerloss.PUSH, monkeypatch, ignore_syncs=True)
    late = storage.moments[len(storage.moments) // 2 :]
    states = random.Random(1).sample(list(distinct_states(late, seed=1, limit=2)), 12)
    assert powerloss.problems(states, tmp_path, powerloss.PUSH)
