"""Weeks of a shop's life from one seed: a sequence of actions, each followed by its checks, and a quiet end.

    make weeks SEEDS=1-10000        a night of them
    make weeks SEEDS=17             that one again, telling what it does

A failure names its seed and what was done before it. Pipelines whose loop has no threads of its own (the seed decides)
do exactly the same again; with threads, the sequence is the same, and what overlaps may differ.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simulation import actions
from simulation.checks import check
from simulation.crashing import Life
from simulation.shop import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulation.shop import Shop

LENGTH = 3
"""Actions of a short simulation."""


class Failed(Exception):
    """A law does not hold in a simulation, with everything needed to see it again."""


@dataclass
class Lived:
    """What a simulation was made of: how often each action was done, batches absorbed, records in bronze."""

    seed: int
    done: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    records: int = 0
    days: float = 0


def live(
    seed: int,
    length: int = LENGTH,
    tell: Callable[[str], None] = lambda _: None,
    choices: Sequence[tuple[int, Callable[[Shop], str]]] = actions.ACTIONS,
) -> Lived:
    """One simulation of `length` actions out of `choices`.

    Raises:
        Failed: something that must hold did not, or an error came up that none was meant to see.
    """
    told: list[str] = []
    lived = Lived(seed)
    with tempfile.TemporaryDirectory(prefix="weeks-") as folder, opened(Path(folder), random.Random(seed)) as shop:
        began = shop.clock.now()
        try:
            for action in _sequence(shop.draw, length, choices):
                name = action.__name__.strip("_")
                told.append(f"{len(told)}: {name}: failed")
                told[-1] = f"{len(told) - 1}: {name}: {action(shop)}"
                tell(told[-1])
                lived.done[name] = lived.done.get(name, 0) + 1
        except Exception as error:
            lines = "\n  ".join(told)
            message = f"seed {seed}: {type(error).__name__}: {error}\n  {lines}\n"
            raise Failed(f"{message}  again: make weeks SEEDS={seed} LENGTH={length}") from error
        lived.batches = shop.batches
        lived.records = sum(stream.in_bronze for stream in shop.streams.values())
        lived.days = (shop.clock.now() - began) / 86_400_000_000
    return lived


def _sequence(
    draw: random.Random, length: int, choices: Sequence[tuple[int, Callable[[Shop], str]]]
) -> Iterator[Callable[[Shop], str]]:
    weights, possible = zip(*choices, strict=True)
    yield actions.send
    yield from draw.choices(possible, weights, k=length)
    yield _end


def _end(shop: Shop) -> str:
    """Whatever happened: after a run that nothing disturbs, everything is in its place."""
    complete: tuple[str, ...] = ()
    while not complete:
        complete = actions.live(shop, Life())
        check(shop, complete=complete)
    return "everything is in its place"
