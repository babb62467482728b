"""`optimize` and `vacuum`: the upkeep a person asks for, done as the writer of the tables and by nobody else.

A running pipeline keeps its own tables and turns this away; so this runs between runs. References and contracts are
small and only ever appended to: they are left alone.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.errors import UsageError, check
from penstock.lake.fence import Writer, take_over
from penstock.lake.layout import Kind, split_name, table_name
from penstock.lake.maintenance import Rewritten, Vacuumed, optimize, vacuum
from penstock.lake.recovery import recover
from penstock.ops.facts import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.lake.lake import Lake
    from penstock.lake.table import Table

KEPT_KINDS = (Kind.BRONZE, Kind.REJECTS, Kind.SILVER, Kind.GOLD, Kind.LEDGER)
"""Tables that a pipeline writes batch by batch, upstream first."""


def optimize_tables(
    lake: Lake, names: Sequence[str], *, zorder: Sequence[str], report: Callable[[str], None]
) -> tuple[Rewritten, ...]:
    """Rewrite tables (all without `names`) towards large files, in Z-order of the columns `zorder` where given.

    Raises:
        UsageError: a table is none of a pipeline's, or lacks a column of `zorder`.
        Fenced: a pipeline is running.
    """
    done: list[Rewritten] = []
    for pipeline, tables in _by_pipeline(lake, names).items():
        with _writer(lake, pipeline, tables, report) as writer:
            done += [optimize(table, writer, zorder=zorder) for table in tables]
    return tuple(dataclasses.replace(one, table=dotted(one.table)) for one in done)


def vacuum_tables(
    lake: Lake,
    names: Sequence[str],
    *,
    kept_days: int,
    now: int,
    dry_run: bool,
    report: Callable[[str], None],
) -> tuple[Vacuumed, ...]:
    """Delete the files of tables (all without `names`) that nothing within `kept_days` needs; or only count them.

    Raises:
        UsageError: a table is none of a pipeline's.
        Fenced: a pipeline is running, and it is no dry run.
    """
    done: list[Vacuumed] = []
    for pipeline, tables in _by_pipeline(lake, names).items():
        if dry_run:
            done += [vacuum(table, None, kept_days=kept_days, now=now, dry_run=True) for table in tables]
            continue
        with _writer(lake, pipeline, tables, report) as writer:
            done += [vacuum(table, writer, kept_days=kept_days, now=now) for table in tables]
    return tuple(dataclasses.replace(one, table=dotted(one.table)) for one in done)


def _by_pipeline(lake: Lake, names: Sequence[str]) -> dict[str, list[Table]]:
    """The tables by the pipeline that writes them, upstream first."""
    found: dict[str, list[Table]] = {}
    wanted = names or [name for name in lake.tables() if split_name(name)[0] in KEPT_KINDS]
    for name in sorted(wanted, key=_rank):
        table = lake.table(name)
        check(table is not None, f"{name} is listed, but not there")
        assert table is not None
        table.refresh()
        owner = _owner(table)
        if owner is None:
            raise UsageError(
                f"{dotted(name)} is no table that a pipeline writes batch by batch",
                hint=f"Those are in {', '.join(kind.value for kind in KEPT_KINDS)}; others stay as they are.",
            )
        found.setdefault(owner, []).append(table)
    return found


def _rank(name: str) -> tuple[int, str]:
    kind = split_name(name)[0]
    return (KEPT_KINDS.index(kind) if kind in KEPT_KINDS else len(KEPT_KINDS), name)


def _owner(table: Table) -> str | None:
    """The pipeline whose writers' epochs the table records."""
    if split_name(table.name)[0] not in KEPT_KINDS:
        return None
    owners = sorted(name.removesuffix("/writer") for name in table.txns() if name.endswith("/writer"))
    return owners[0] if owners else None


@contextmanager
def _writer(lake: Lake, pipeline: str, tables: Sequence[Table], report: Callable[[str], None]) -> Iterator[Writer]:
    """Be the one writer of the pipeline, as `run` is: locked, recovered, and recorded upstream first."""
    with lake.lock(pipeline):
        for line in recover(lake, pipeline):
            report(line)
        # Every writer takes the contracts first: that table knows the last epoch of them all.
        contracts = lake.table(table_name(Kind.CONTRACTS, pipeline))
        yield take_over(pipeline, [*([contracts] if contracts is not None else []), *tables])
