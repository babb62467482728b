"""What a crash or a power loss left behind, cleared before a pipeline's tables are opened for writing.

Every commit is durable before anything is built on it. So a damaged last log entry that nothing was built on is what a
power loss cut short: it is moved aside and its batch is derived again. Any other damage stops (`LakeCorrupt`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.errors import LakeCorrupt
from penstock.lake import log
from penstock.lake.checkpoint import ASIDE_FOLDER, repair_checkpoints
from penstock.lake.layout import Kind, split_name, table_name
from penstock.lake.ledger import Ledger
from penstock.lake.tail import Tail, read_tail
from penstock.model.columns import batch_txn, contract_pin, offset_place, reference_pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.lake.lake import Lake

_LOST = "It was acknowledged and is gone: restore the lake from a backup or a replica, then run again."


def recover(
    lake: Lake,
    pipeline: str,
    *,
    absorbed_elsewhere: int | None = None,
    trimmed: Mapping[tuple[int, int], int] | None = None,
) -> list[str]:
    """Make the tables of `pipeline` whole and durable; what was done, a line each. Call it under the lake's lock.

    Args:
        absorbed_elsewhere: the last batch that something outside the lake (a store that is served from) has.
        trimmed: (source, partition) -> the offset below which the source has forgotten its records.

    Raises:
        LakeCorrupt: something is lost that others were built on, with the range; nothing was changed then, but for the
            ledger's own end.
    """
    # 1 look at every table's end, downstream first: a writer on another machine may go on until it is fenced, and what
    # a table has by then is upstream when that is looked at. The ledger names the versions the others must have.
    report: list[str] = []
    tails = _tails(lake, pipeline, [Kind.LEDGER])
    for name, tail in tails.items():
        _check_beyond(tail, pipeline, absorbed_elsewhere or 0, "a store that is served from it")
        tails[name] = _put_right(lake, tail, report)
    versions = _ledger_versions(lake, pipeline)
    tails |= _tails(lake, pipeline, reversed(_UPSTREAM_FIRST))
    # 2 refuse, before anything is changed, where something was built on what is gone
    view = _View(pipeline, tails, versions)
    _check_order(view)
    _check_versions(view)
    _check_pins(view)
    _check_trimmed(view, trimmed or {})
    # 3 move aside what is torn, rebuild checkpoints, and make all of it durable
    for name in view.of(*_UPSTREAM_FIRST):
        _put_right(lake, tails[name], report)
    return report


@dataclass(frozen=True)
class _View:
    """What is known of the pipeline: its tables' ends by name, and the versions its last ledger row names."""

    pipeline: str
    tails: Mapping[str, Tail]
    versions: Mapping[str, int]

    def batch(self, name: str) -> int:
        tail = self.tails.get(name)
        return 0 if tail is None else tail.txns.get(batch_txn(self.pipeline), 0)

    def of(self, *kinds: Kind) -> list[str]:
        """The tables of these kinds, in their order."""
        return [name for kind in kinds for name in self.tails if split_name(name)[0] is kind]


_UPSTREAM_FIRST = (
    Kind.CONTRACTS,
    Kind.REFERENCES,
    Kind.MANIFESTS,
    Kind.BRONZE,
    Kind.REJECTS,
    Kind.SILVER,
    Kind.GOLD,
)
"""The kinds of tables that recovery looks at besides the ledger."""


def _tails(lake: Lake, pipeline: str, kinds: Iterable[Kind]) -> dict[str, Tail]:
    """The ends of the pipeline's tables, kind by kind: those named after it, and those its writers took."""
    found = {}
    names = lake.tables()
    for kind in kinds:
        for name in names:
            if split_name(name)[0] is not kind:
                continue
            named = kind not in (Kind.SILVER, Kind.GOLD, Kind.REFERENCES)
            if named and name != table_name(kind, pipeline):
                continue
            tail = read_tail(lake.storage, name)
            writers = [txn for txn in tail.txns if txn.endswith("/writer")]
            # A table nobody wrote yet may be one whose very first commit was cut short.
            if named or not writers or f"{pipeline}/writer" in writers:
                found[name] = tail
    return found


def _ledger_versions(lake: Lake, pipeline: str) -> Mapping[str, int]:
    table = lake.table(table_name(Kind.LEDGER, pipeline))
    last = None if table is None else Ledger(table).last()
    return {} if last is None else dict(last.versions)


# -- what was built on what -------------------------------------------------------------------------------------------


def _check_beyond(tail: Tail, pipeline: str, absorbed: int, who: str) -> None:
    position = tail.txns.get(batch_txn(pipeline), 0)
    if absorbed > position:
        what = "batch" if absorbed == position + 1 else "batches"
        numbers = str(absorbed) if absorbed == position + 1 else f"{position + 1} to {absorbed}"
        torn = f" (its last log entry, {tail.torn.version}, is {tail.torn.problem})" if tail.torn is not None else ""
        raise LakeCorrupt(f"{tail.table} lost {what} {numbers}, which {who} has{torn}", hint=_LOST)


def _check_order(view: _View) -> None:
    """A table that absorbed a batch was written when everything upstream had it durably."""
    chain = [view.of(Kind.BRONZE), view.of(Kind.SILVER), [*view.of(Kind.GOLD), *view.of(Kind.LEDGER)]]
    for place, upstream in enumerate(chain):
        downstream = [name for names in chain[place + 1 :] for name in names]
        for name in upstream:
            for other in downstream:
                _check_beyond(view.tails[name], view.pipeline, view.batch(other), other)
    # Rejects and gold skip batches, so their position alone proves nothing. Rejects N is durable before silver N: while
    # silver is ahead of the ledger, a torn last entry of rejects may belong to a batch that silver has.
    silver = max((view.batch(name) for name in view.of(Kind.SILVER)), default=0)
    ledger = max((view.batch(name) for name in view.of(Kind.LEDGER)), default=0)
    for name in view.of(Kind.REJECTS):
        if view.tails[name].torn is not None and silver > ledger:
            _check_beyond(view.tails[name], view.pipeline, silver, "silver")


def _check_versions(view: _View) -> None:
    """The ledger names the versions it was written on."""
    for name, version in view.versions.items():
        tail = view.tails.get(name)
        found = -1 if tail is None else tail.version
        if version > found:
            what = f"version {version}" if version == found + 1 else f"versions {found + 1} to {version}"
            torn = f" (log entry {tail.torn.version} is {tail.torn.problem})" if tail is not None and tail.torn else ""
            raise LakeCorrupt(f"{name} lost {what}, which the ledger names{torn}", hint=_LOST)


def _check_pins(view: _View) -> None:
    """Batches were derived with contracts, references and sources that must still be there."""
    for name in view.of(Kind.CONTRACTS):
        txns = view.tails[name].txns
        for other, tail in view.tails.items():
            pinned = tail.txns.get(contract_pin(view.pipeline), 0)
            if pinned > txns.get(f"{view.pipeline}/contract", 0):
                raise LakeCorrupt(f"{name} lost contract {pinned}, which {other} was written under", hint=_LOST)
        for other in view.of(Kind.BRONZE):
            source = max((source for source, _ in _offsets(view, other)), default=0)
            if source > txns.get(f"{view.pipeline}/source", 0):
                raise LakeCorrupt(f"{name} lost source {source}, which {other} has records of", hint=_LOST)
    for name in view.of(Kind.REFERENCES):
        short = split_name(name)[1]
        version = view.tails[name].txns.get(f"{short}/version", 0)
        for other, tail in view.tails.items():
            pinned = max((at for txn, at in tail.txns.items() if txn.endswith(reference_pin("", short))), default=0)
            if pinned > version:
                raise LakeCorrupt(f"{name} lost version {pinned}, which {other} was written with", hint=_LOST)


def _offsets(view: _View, name: str) -> dict[tuple[int, int], int]:
    """(source, partition) -> next offset, as bronze recorded it."""
    places = {offset_place(view.pipeline, txn): offset for txn, offset in view.tails[name].txns.items()}
    return {place: offset for place, offset in places.items() if place is not None}


def _check_trimmed(view: _View, trimmed: Mapping[tuple[int, int], int]) -> None:
    for name in view.of(Kind.BRONZE):
        offsets = _offsets(view, name)
        for (source, partition), offset in trimmed.items():
            found = offsets.get((source, partition), 0)
            if offset > found:
                lost = f"{source}/{partition}/{found}..{offset}"
                raise LakeCorrupt(f"{name} lost the records {lost}, which the source has forgotten", hint=_LOST)


# -- putting right ----------------------------------------------------------------------------------------------------


def _put_right(lake: Lake, tail: Tail, report: list[str]) -> Tail:
    """Move a torn entry aside, repair checkpoints, make the rest durable; the tail as it is then."""
    storage = lake.storage
    if tail.torn is not None:
        source = log.entry_path(tail.table, tail.torn.version)
        reason = "-".join(tail.torn.problem.split(":")[0].split())
        storage.move(source, f"{tail.table}/{ASIDE_FOLDER}/{tail.torn.version:020d}.json.{reason}")
        report.append(
            f"{tail.table}: log entry {tail.torn.version} was {tail.torn.problem}; "
            f"moved to {ASIDE_FOLDER}, what it held is derived again"
        )
    tail.make_durable(storage)
    if tail.version >= 0 and not tail.checkpoints.is_fine:
        report.extend(repair_checkpoints(storage, tail.table, tail.checkpoints))
    lake.forget(tail.table, durable=tail.version)
    return Tail(tail.table, tail.version, tail.entries, tail.txns, tail.checkpoints)
