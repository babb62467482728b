"""Writes the golden answers of tests/pipelines again, for the named cases or all. Read the difference first."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from pipelines import cases


def main(names: list[str]) -> int:
    """Run each case straight and keep its tables; the exit code."""
    for name in names or cases.CASES:
        if name not in cases.CASES:
            print(f"there is no case {name}: there are {', '.join(cases.CASES)}", file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory() as scratch:
            folder = cases.make_project(name, Path(scratch) / name)
            cases.run(folder)
            answer = cases.tables(folder)
            cases.write_expected(name, answer, cases.explained(folder))
            print(f"{name}: " + ", ".join(f"{table} {len(rows)}" for table, rows in answer.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
