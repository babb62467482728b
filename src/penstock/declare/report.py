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

FINDINGS_KEPT = 10 * FINDINGS_MAX
"""Findings kept until the first ones by place can be told."""


class Report:
    """Findings in the order of the file, each once, at most FINDINGS_MAX of them; what is beyond is only counted."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[Finding, None] = {}
        self._dropped = 0

    def add(self, mark: Mark, code: str, message: str, repair: str = "") -> None:
        check(code in CODES, f"a finding with the unknown code {code}")
        self.include((Finding(mark, code, message, repair),))

    def include(self, findings: Iterable[Finding]) -> None:
        """Take over findings that were made elsewhere."""
        for finding in findings:
            if len(self._found) < FINDINGS_KEPT:
                self._found[finding] = None
            else:
                self._dropped += 1

    def suggest(self, name: str, known: Iterable[str], what: str) -> str:
        """A repair for an unknown name; none once there are more findings than anyone is shown, as it takes time."""
        return suggest(name, known, what) if len(self._found) < FINDINGS_MAX else ""

    def start(self) -> Mark:
        """The beginning of the file, for what has no other place."""
        return Mark(self.file, 1, 1)

    @property
    def is_clean(self) -> bool:
        return not self._found

    def __len__(self) -> int:
        """How many findings there are, those only counted included."""
        return len(self._found) + self._dropped

    def findings(self) -> tuple[Finding, ...]:
        ordered = sorted(self._found)
        if len(self) <= FINDINGS_MAX:
            return tuple(ordered)
        rest = ordered[FINDINGS_MAX]
        message = f"{len(self) - FINDINGS_MAX} more findings are not shown"
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
