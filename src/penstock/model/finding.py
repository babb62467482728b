"""A finding is something wrong in a user's file, with its place and its repair. See `declare` for who makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file: one-based line and column, as editors count them."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing wrong: where, which kind (`code`, stable, kebab-case), what, and how to repair it."""

    mark: Mark
    code: str
    message: str
    repair: str = ""

    def __str__(self) -> str:
        tail = f"\n  {self.repair}" if self.repair else ""
        return f"{self.mark}: {self.code}: {self.message}{tail}"

    def as_json(self) -> dict[str, object]:
        return {
            "file": self.mark.file,
            "line": self.mark.line,
            "column": self.mark.column,
            "code": self.code,
            "message": self.message,
            "repair": self.repair,
        }
