"""Applied contracts and opened incarnations of one pipeline: numbered from 1, append-only, never edited.

Both are rows of `contracts/<pipeline>`; its columns are in `layout.contracts_spec`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.errors import LakeCorrupt, UsageError, check
from penstock.lake import layout
from penstock.model.position import Incarnation, SourceIdentity

if TYPE_CHECKING:
    from penstock.lake.fence import Writer
    from penstock.lake.table import Table
    from penstock.model.position import Position

CONTRACT = "contract"
SOURCE = "source"


@dataclass(frozen=True)
class Contract:
    """A declaration as applied. `text` is the YAML as written; `applied_at` is in microseconds since the epoch."""

    version: int
    hash: str
    text: str
    applied_at: int


def text_hash(text: str) -> str:
    """The hash a contract is recognised by: SHA-256 of its text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Contracts:
    """The contracts and incarnations of one pipeline. Reads are kept until the table's handle moves on."""

    def __init__(self, table: Table) -> None:
        kind, self.pipeline = layout.split_name(table.name)
        check(kind is layout.Kind.CONTRACTS, f"{table.name} does not hold contracts")
        self.table = table
        self._version = -1
        self._contracts: tuple[Contract, ...] = ()
        self._incarnations: tuple[Incarnation, ...] = ()

    def all(self) -> tuple[Contract, ...]:
        """Every contract, the oldest first."""
        self._load()
        return self._contracts

    def latest(self) -> Contract | None:
        """The contract in force, or None before the first one."""
        contracts = self.all()
        return contracts[-1] if contracts else None

    def get(self, version: int) -> Contract:
        """The contract with this number.

        Raises:
            UsageError: there is none.
        """
        contracts = self.all()
        if not 1 <= version <= len(contracts):
            raise UsageError(
                f"pipeline {self.pipeline} has no contract {version}",
                hint=f"Contracts are numbered 1 to {len(contracts)}." if contracts else "It was never run.",
            )
        return contracts[version - 1]

    def apply(self, writer: Writer, text: str, applied_at: int) -> Contract:
        """The contract with `text`, durable when this returns: the one in force if it says the same, else a new one."""
        self.table.refresh()
        latest = self.latest()
        if latest is not None and latest.hash == text_hash(text):
            return latest
        contract = Contract(len(self._contracts) + 1, text_hash(text), text, applied_at)
        row = _row(CONTRACT, contract.version, applied_at) | {"hash": contract.hash, "text": text}
        self._append(writer, row)
        return contract

    def incarnations(self) -> tuple[Incarnation, ...]:
        """Every incarnation of the pipeline's source, the oldest first; the last one is the open one."""
        self._load()
        return self._incarnations

    def open_incarnation(
        self, writer: Writer, identity: SourceIdentity, opened_at: int, starts: Position | None = None
    ) -> Incarnation:
        """Open the next incarnation, durable when this returns. Only the first one needs no operator's word.

        Args:
            starts: where it begins, by partition; elsewhere at its own beginning.
        """
        self.table.refresh()
        opened = Incarnation(len(self.incarnations()) + 1, identity, dict(starts or {}))
        source = {
            "source_kind": identity.kind,
            "source_name": identity.name,
            "source_id": identity.unique_id,
            "text": _starts_text(opened.starts),
        }
        self._append(writer, _row(SOURCE, opened.number, opened_at) | source)
        return opened

    def _append(self, writer: Writer, row: dict[str, Any]) -> None:
        txns = {f"{self.pipeline}/{row['kind']}": row["version"]}
        rows = pa.Table.from_pylist([row], schema=self.table.spec.schema)
        self.table.commit(writer, batch=None, add=self.table.write(rows), txns=txns)

    def _load(self) -> None:
        """Read the table again if its handle has moved.

        Raises:
            LakeCorrupt: numbers are missing or occur twice.
        """
        if self._version == self.table.version:
            return
        rows = [row for part in self.table.read() for row in _without_datetimes(part).to_pylist()]
        rows.sort(key=lambda row: (row["kind"], row["version"]))
        self._contracts = tuple(
            Contract(row["version"], row["hash"], row["text"], row["applied_at"])
            for row in rows
            if row["kind"] == CONTRACT
        )
        self._incarnations = tuple(
            Incarnation(
                row["version"],
                SourceIdentity(row["source_kind"], row["source_name"], row["source_id"]),
                _starts(row["text"]),
            )
            for row in rows
            if row["kind"] == SOURCE
        )
        for found in (
            [contract.version for contract in self._contracts],
            [incarnation.number for incarnation in self._incarnations],
        ):
            if found != list(range(1, len(found) + 1)):
                raise LakeCorrupt(f"{self.table.name} is numbered {found}, not 1 to {len(found)}")
        self._version = self.table.version


def _row(kind: str, version: int, at: int) -> dict[str, Any]:
    return {"kind": kind, "version": version, "applied_at": at}


def _starts_text(starts: Position) -> str | None:
    """The `text` of an incarnation's row: a JSON object from partition to offset; null where none was given."""
    return json.dumps({str(number): offset for number, offset in sorted(starts.items())}) if starts else None


def _starts(text: str | None) -> dict[int, int]:
    return {int(number): int(offset) for number, offset in json.loads(text).items()} if text else {}


def _without_datetimes(part: pa.Table) -> pa.Table:
    index = part.column_names.index("applied_at")
    return part.set_column(index, "applied_at", part.column(index).cast(layout.TIME).cast(pa.int64()))
