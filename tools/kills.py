"""Kills a run 10,000 times, and looks whether the laws hold: `make kills KILLS=10000 SEED=1`. See docs/faults.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would be there before the first fork
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from faults import kills


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=10_000, help="runs to kill (default %(default)s)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--life", type=int, help="only this life of the seed: what a failure named")
    options.add_argument("--json", action="store_true", help="print the sums as JSON, and nothing else")
    told = options.parse_args()

    def report(life: kills.Life, total: kills.Tally) -> None:
        if not told.json:
            print(f"{life.name}: {total.kills.total():,} of {told.kills:,} kills", flush=True)

    count = told.kills if told.life is None else kills.KILLS_PER_LIFE
    try:
        total = kills.lives(told.seed, count, first_life=told.life or 0, told=report)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"seed": told.seed, **total.as_json(), "violations": 0}, indent=None if told.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
