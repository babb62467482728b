"""The order in which silver's columns can be computed: sql columns and lookups after the columns they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def levels(needs: Mapping[str, tuple[str, ...]]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Names grouped so that each needs only names of earlier groups, and the names that no group can take.

    The second are those in a cycle, or behind one. Names that `needs` does not hold are there from the start.
    """
    waiting = dict(needs)
    groups: list[tuple[str, ...]] = []
    while waiting:
        ready = tuple(name for name, others in waiting.items() if not any(other in waiting for other in others))
        if not ready:
            break
        groups.append(ready)
        for name in ready:
            del waiting[name]
    return tuple(groups), tuple(waiting)
