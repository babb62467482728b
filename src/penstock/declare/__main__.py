"""`python -m penstock.declare FOLDER` writes the reference pages into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from penstock.declare.pages import reference_pages


def main(folder: Path) -> None:
    """Write all pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in reference_pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
