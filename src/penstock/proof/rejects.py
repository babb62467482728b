"""`penstock rejects`: what was not accepted, counted by rule, and the rows with their raw bytes and every reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import UsageError
from penstock.lake.layout import Kind
from penstock.limits import GIB
from penstock.model.batch import Disposition
from penstock.model.columns import BATCH, INDEX, INGESTED_AT, PLACE
from penstock.proof.audit import pipeline_names
from penstock.proof.facts import plain
from penstock.proof.lookup import verified, view_of, within
from penstock.proof.report import place_text
from penstock.proof.syntax import text_literal
from penstock.proof.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from penstock.lake.lake import Lake
    from penstock.proof.tables import View

_COLUMNS = (*PLACE, INDEX, BATCH, INGESTED_AT, "disposition", "failed", "detail", "value", "contract")
_WINNER = ("winner_source", "winner_partition", "winner_offset", "winner_index")
_MICROS_MAX = 1 << 62


@dataclass(frozen=True)
class Reject:
    """One row of rejects. `winner` names the event that a duplicate lost to."""

    pipeline: str
    event: str
    batch: int
    ingested_at: datetime | None
    disposition: str
    reasons: tuple[str, ...]
    detail: str | None
    value: bytes | None
    winner: str | None
    contract: int

    def as_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "event": self.event,
            "batch": self.batch,
            "ingested_at": plain(self.ingested_at),
            "disposition": self.disposition,
            "reasons": list(self.reasons),
            "detail": self.detail,
            "winner": self.winner,
            "contract": self.contract,
            "value": plain(self.value),
        }


@dataclass(frozen=True)
class RejectCount:
    """How many rows of a pipeline a rule rejected (one that fails two rules counts twice), and the first of them.

    For duplicates `rule` is `duplicate`.
    """

    pipeline: str
    disposition: str
    rule: str
    rows: int
    first: datetime | None
    last: datetime | None
    example: Reject

    def as_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "disposition": self.disposition,
            "rule": self.rule,
            "rows": self.rows,
            "first": plain(self.first),
            "last": plain(self.last),
            "example": self.example.as_json(),
        }


def summary(
    lake: Lake,
    *,
    pipelines: Sequence[str] | None = None,
    rule: str | None = None,
    since: int | None = None,
    memory_bytes: int = GIB,
    threads: int = 2,
) -> tuple[RejectCount, ...]:
    """Counts by pipeline, disposition and rule, the most frequent first.

    Args:
        rule: only this one; `duplicate` for duplicates.
        since: only rows ingested at or after this time, in microseconds since the epoch.

    Raises:
        UsageError: there is no such pipeline.
        LakeCorrupt: a file that is needed is not what was written.
    """
    found: list[RejectCount] = []
    with Witness(memory_bytes=memory_bytes, threads=threads, filesystem=lake.storage.filesystem) as witness:
        for pipeline, view, condition in _views(lake, witness, pipelines, since, threads):
            chosen = condition if rule is None else f"{condition} AND {_has_rule(rule)}"
            listed = f"SELECT *, unnest({_RULES}) AS rule FROM ({view.select([*_COLUMNS, *_WINNER], chosen)})"
            only = "" if rule is None else f"WHERE rule = {text_literal(rule)}"
            order = ", ".join((BATCH, *PLACE, INDEX))
            rows = witness.rows(
                f"SELECT *, count(*) OVER same AS total, min({INGESTED_AT}) OVER same AS first_at, "
                f"max({INGESTED_AT}) OVER same AS last_at FROM ({listed}) {only} WINDOW same AS "
                f"(PARTITION BY disposition, rule) "
                f"QUALIFY row_number() OVER (PARTITION BY disposition, rule ORDER BY {order}) = 1"
            )
            found += [
                RejectCount(
                    pipeline,
                    row["disposition"],
                    row["rule"],
                    row["total"],
                    row["first_at"],
                    row["last_at"],
                    _reject(pipeline, row),
                )
                for row in rows
            ]
    return tuple(sorted(found, key=lambda count: (count.pipeline, -count.rows, count.disposition, count.rule)))


def rows(
    lake: Lake,
    *,
    pipelines: Sequence[str] | None = None,
    rule: str | None = None,
    since: int | None = None,
    limit: int = 20,
    memory_bytes: int = GIB,
    threads: int = 2,
) -> tuple[Reject, ...]:
    """The first `limit` rejects of each pipeline, as they were taken in. Arguments and errors as `summary`."""
    found: list[Reject] = []
    with Witness(memory_bytes=memory_bytes, threads=threads, filesystem=lake.storage.filesystem) as witness:
        for pipeline, view, condition in _views(lake, witness, pipelines, since, threads):
            chosen = condition if rule is None else f"{condition} AND {_has_rule(rule)}"
            order = ", ".join((BATCH, *PLACE, INDEX))
            sql = f"{view.select([*_COLUMNS, *_WINNER], chosen)} ORDER BY {order} LIMIT {limit}"
            found += [_reject(pipeline, row) for row in witness.rows(sql)]
    return tuple(found)


_OF_DUPLICATES = f"WHEN disposition = '{Disposition.DUPLICATE}' THEN ['duplicate']"
_RULES = f"CASE {_OF_DUPLICATES} WHEN len(failed) > 0 THEN failed ELSE [NULL] END"
"""SQL of the rules that rejected a row."""


def _has_rule(rule: str) -> str:
    return f"list_contains({_RULES}, {text_literal(rule)})"


def _views(
    lake: Lake, witness: Witness, pipelines: Sequence[str] | None, since: int | None, threads: int
) -> Iterator[tuple[str, View, str]]:
    """The rejects of each pipeline, verified, with the condition for rows in the cut since a time."""
    known = pipeline_names(lake)
    for name in pipelines or ():
        if name not in known:
            raise UsageError(f"the lake has no pipeline {name!r}", hint=f"It has: {', '.join(known) or 'none yet'}.")
    for name in known if pipelines is None else pipelines:
        ledger, view = view_of(lake, witness, Kind.LEDGER, name), view_of(lake, witness, Kind.REJECTS, name)
        if view is None or ledger is None:
            continue
        ledger = verified(ledger, threads)
        cut = witness.value(f"SELECT coalesce(max({BATCH}), 0)::BIGINT FROM {ledger.relation()}")
        condition = f"{BATCH} <= {cut}"
        if since is None:
            yield name, verified(view, threads), condition
        else:
            recent = verified(view, threads, lambda file: within(file, INGESTED_AT, since, _MICROS_MAX))
            yield name, recent, f"{condition} AND {INGESTED_AT} >= make_timestamptz({since})"


def _reject(pipeline: str, row: dict[str, Any]) -> Reject:
    winner = None
    if row["winner_offset"] is not None:
        winner = "{}/{}/{}#{}".format(*(row[name] for name in _WINNER))
    return Reject(
        pipeline,
        place_text(row),
        row[BATCH],
        row[INGESTED_AT],
        row["disposition"],
        tuple(row["failed"] or ()),
        row["detail"],
        row["value"],
        winner,
        row["contract"],
    )
