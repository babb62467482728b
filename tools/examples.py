"""Writes the output that the pages show again: `python tools/examples.py [PAGE ...]`; read the difference.

Output that shows a part with `...` is left to a person, and so is every block of a page that fails.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from docs.console import Reader
from docs.pages import written_pages


def main() -> int:
    """Rewrite the pages named, or all; the exit code is 1 where a person has something to do."""
    left = 0
    for name, path in written_pages().items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        changes: list[tuple[int, int, list[str]]] = []

        def differs(place: str, line: int, shown: list[str], printed: str, changes: list = changes) -> None:
            nonlocal left
            if any("..." in one for one in shown):
                left += 1
                print(f"{place}\n--- it prints\n{printed}")
            else:
                changes.append((line - 1, len(shown), [one.rstrip() for one in printed.rstrip().splitlines()]))

        text = path.read_text()
        with tempfile.TemporaryDirectory() as folder:
            try:
                Reader(Path(folder), name, differs).follow(text)
            except Exception as error:  # noqa: BLE001 - shown to a person; the other pages go on
                left += 1
                changes.clear()  # what a failing command printed is not what the page should show
                print(f"{name}: {type(error).__name__}: {error}")
        lines = text.splitlines()
        for start, count, new in reversed(changes):
            lines[start : start + count] = new
        if changes:
            path.write_text("\n".join(lines) + "\n")
            print(f"{name}: {len(changes)} outputs written")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
