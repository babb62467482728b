"""Simulates weeks of a project's life, one life per seed: `make weeks SEEDS=1-10000 LENGTH=20`. See tests/simulation.

Each worker is a process of its own. A failure is printed whole when it comes; the exit code is 1 if there was any. A
single seed tells each action as it is done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from simulation.weeks import LENGTH, Failed, Lived, live


def lived(told: tuple[int, int]) -> Lived | str:
    """What a seed's simulation was made of, or how it failed."""
    try:
        return live(*told)
    except Failed as failure:
        return str(failure)


def main(arguments: list[str]) -> int:
    """Run the seeds asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-300", help="one number, or the first and the last: 1-300")
    parser.add_argument("--length", type=int, default=LENGTH, help="actions of each")
    parser.add_argument("--workers", type=int, default=2)
    told = parser.parse_args(arguments)
    first, _, last = told.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if len(seeds) == 1:
        try:
            live(seeds[0], told.length, tell=lambda line: print(line, flush=True))
        except Failed as failure:
            print(failure)
            return 1
        return 0
    began, failures, found, done = time.monotonic(), 0, Lived(0), Counter[str]()
    with multiprocessing.get_context("spawn").Pool(told.workers, maxtasksperchild=50) as pool:
        for result in pool.imap_unordered(lived, [(seed, told.length) for seed in seeds]):
            if isinstance(result, str):
                failures += 1
                print(f"{result}\n", flush=True)
                continue
            done.update(result.done)
            found.batches += result.batches
            found.records += result.records
            found.days += result.days
    seconds = time.monotonic() - began
    print(f"{len(seeds):,} simulations, {failures} failed, {seconds:,.0f} s")
    print(f"  {found.days / 7:,.0f} weeks, {found.batches:,} batches, {found.records:,} records in bronze")
    print(f"  {', '.join(f'{name} {times:,}' for name, times in sorted(done.items()))}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
