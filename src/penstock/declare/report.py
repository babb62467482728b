"""Collects the findings about one file; the codes and what they mean are in `codes.py`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from penstock.declare.codes import CODES
from penstock.errors import check
from penstock.limits import FINDINGS_MAX
from penstock.model.finding import Finding, Mark

if TYPE_CHECKING:
    from collections.abc import Iterable


class Report:
    """Findings in the order of the file, each once, at most FINDINGS_MAX of them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[Finding, None] = {}

    def add(self, mark: Mark, code: str, message: str, repair: str = "") -> None:
        check(code in CODES, f"a finding with the unknown code {code}")
        self._found[Finding(mark, code, message, repair)] = None

    def include(self, findings: Iterable[Finding]) -> None:
        """Take over findings that were made elsewhere."""
        for finding in findings:
            self._found[finding] = None

    def start(self) -> Mark:
        """The beginning of the file, for what has no other place."""
        return Mark(self.file, 1, 1)

    @property
    def is_clean(self) -> bool:
        return not self._found

    def __len__(self) -> int:
        return len(self._found)

    def findings(self) -> tuple[Finding, ...]:
        ordered = sorted(self._found)
        if len(ordered) <= FINDINGS_MAX:
            return tuple(ordered)
        rest = ordered[FINDINGS_MAX]
        message = f"{len(ordered) - FINDINGS_MAX} more findings are not shown"
        return (*ordered[:FINDINGS_MAX], Finding(rest.mark, "more-findings", message, "Repair the first ones."))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, None where none is near."""
    candidates = sorted(set(known))
    folded = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name[:100].lower(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def suggest(name: str, known: Iterable[str], what: str) -> str:
    """A repair for an unknown name: the nearest one, or all of them where they are few."""
    names = sorted(set(known))
    near = nearest(name, names)
    if near is not None:
        return f"Did you mean `{near}`?"
    if not names:
        return f"There are no {what} here."
    shown = ", ".join(f"`{known_name}`" for known_name in names[:20])
    return f"Known {what}: {shown}{', …' if len(names) > 20 else ''}."
