"""Keeps the loaded version of each reference: loads changed files, keeps the last good version of broken ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import TransientError, UsageError
from penstock.lake.layout import column_type
from penstock.lake.referencefile import change_signature, load_reference_file
from penstock.limits import REFERENCE_CHECK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from penstock.lake.fence import Writer
    from penstock.lake.references import References
    from penstock.model.pipeline import Reference
    from penstock.model.types import ColumnType
    from penstock.run.context import Clock


class ReferenceKeeper:
    """The references of one pipeline. Used from the loop's thread alone, which refines too: plans that other threads
    ask for are compiled by then."""

    def __init__(
        self,
        declared: tuple[Reference, ...],
        folder: Path,
        store: References,
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        self._declared = declared
        self._folder = folder
        self._store = store
        self._clock = clock
        self._report = report
        self._signatures: dict[str, object] = {}
        """Of the files that need no other look until they change."""
        self._told: dict[str, tuple[object, type]] = {}
        """Of which state of a file that is not loaded it was reported, and as what."""
        self._versions: dict[str, int] = {}
        self._tables: dict[tuple[str, int], pa.Table] = {}
        self._next_check = 0.0

    @property
    def versions(self) -> tuple[tuple[str, int], ...]:
        """The versions the next batch is derived with, by name."""
        return tuple(sorted(self._versions.items()))

    def load_if_changed(self, writer: Writer, *, first: bool = False) -> None:
        """Append what changed as a new version. A broken file keeps the last good version until it changes, one that
        cannot be loaded now until it can; both say so.

        Raises:
            UsageError, TransientError: the same, and there is no good version yet.
            StorageError, Fenced, LakeCorrupt: of the lake, in which versions are kept.
        """
        now = self._clock.monotonic()
        if now < self._next_check and not first:
            return
        for reference in self._declared:
            signature = change_signature(reference, self._folder)
            if not first and self._signatures.get(reference.name) == signature:
                continue
            self._versions[reference.name] = self._load(writer, reference, signature, waits=first)
        done = self._clock.monotonic()
        self._next_check = done + max(REFERENCE_CHECK_SECONDS, done - now)  # what cannot be loaded is parsed each time

    def _load(self, writer: Writer, reference: Reference, signature: object, *, waits: bool) -> int:
        name = reference.name
        try:
            table = load_reference_file(reference, self._folder)
            version = self._store.append(writer, name, table, self._clock.now(), waits=waits)
        except TransientError as error:
            self._signatures.pop(name, None)
            return self._last_good(name, error, signature)
        except UsageError as error:
            self._signatures[name] = signature
            return self._last_good(name, error, signature)
        self._signatures[name] = signature
        self._told.pop(name, None)
        return version

    def _last_good(self, name: str, error: TransientError | UsageError, signature: object) -> int:
        version = self._versions.get(name) or self._store.latest_version(name)
        if not version:
            raise error
        if self._told.get(name) != (signature, type(error)):
            self._told[name] = signature, type(error)
            said = error.message.removeprefix(f"reference {name}: ")
            self._report(f"reference {name}: {said}; version {version} stays in use")
        return version

    def tables(self, versions: tuple[tuple[str, int], ...]) -> Mapping[str, pa.Table]:
        """The rows of the given versions, by name."""
        for pin in versions:
            if pin not in self._tables:
                self._tables[pin] = self._store.read(*pin)
        for pin in [pin for pin in self._tables if pin not in versions and pin not in self.versions]:
            del self._tables[pin]
        return {name: self._tables[name, version] for name, version in versions}

    def columns(self, versions: tuple[tuple[str, int], ...]) -> dict[str, dict[str, ColumnType]]:
        """The columns of the given versions with their types, as the plan wants them."""
        return {
            name: {field.name: column_type(field.type) for field in table.schema}
            for name, table in self.tables(versions).items()
        }
