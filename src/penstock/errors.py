"""The errors Penstock raises, as one tree; each knows its exit code and ends with what to do next.

    PenstockError                 exit 1   anything we report to a person
    ├── UsageError                exit 2   an argument or a setting is wrong
    │   ├── DeclarationError      exit 2   findings about the user's files, all of them
    │   └── QueryError            exit 2   the user's own SQL fails
    ├── TransientError            exit 1   the same call may succeed later; the only error that is retried
    ├── RuleStopped               exit 1   a rule whose action is `stop` failed
    ├── StorageError              exit 1   the lake cannot be written or read (disk full, read-only, denied)
    ├── EngineFailed              exit 1   the workers of an engine failed again and again
    ├── LawBroken                 exit 3   an audit found violations
    │   └── LakeCorrupt           exit 3   stored bytes are not what was written
    ├── Fenced                    exit 4   another writer owns the pipeline
    ├── SourceLost                exit 5   the source no longer has records that were not absorbed yet
    └── InvariantBroken           exit 1   a bug in Penstock; never expected

A bad record is data, not an exception; a rival commit is a result, not an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.model.finding import Finding


class PenstockError(Exception):
    """What went wrong, with the offending value, and a hint: what to run or change."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(PenstockError):
    """An argument, a setting or a name is wrong; nothing was changed."""

    exit_code = 2


class DeclarationError(UsageError):
    """A user's file has findings; they are carried all together."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class QueryError(UsageError):
    """A query the user wrote cannot be answered."""


class TransientError(PenstockError):
    """The same call may succeed later. Retrying code looks at nothing but this type."""


class RuleStopped(PenstockError):
    """A rule with `otherwise: stop` failed; nothing of the batch after bronze was committed."""


class StorageError(PenstockError):
    """The lake cannot be written or read: disk full, read-only, permission denied, wrong format."""


class EngineFailed(PenstockError):
    """The workers of an engine failed as often as they may; what was committed is whole."""


class LawBroken(PenstockError):
    """One of the laws that Penstock promises does not hold."""

    exit_code = 3


class LakeCorrupt(LawBroken):
    """Stored bytes are not what was written; carries the table and the range where known."""


class Fenced(PenstockError):
    """Another writer owns the pipeline's tables."""

    exit_code = 4


class SourceLost(PenstockError):
    """The source no longer delivers records that bronze does not hold yet."""

    exit_code = 5


class InvariantBroken(PenstockError):
    """A bug in Penstock: an assumption of the code does not hold."""


def check(condition: bool, message: str) -> None:
    """Stop when an invariant does not hold. Stays on in production, unlike `assert`.

    Raises:
        InvariantBroken: the condition is false.
    """
    if not condition:
        raise InvariantBroken(
            message, hint="This is a bug in Penstock: please report it with the output of `penstock status --json`."
        )
