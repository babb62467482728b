"""Law 6 for duplicates: silver holds each key once per bucket, and every duplicate names a winner that came before it.

Keys are compared as they are. Hashes only choose what to compare: rows whose hashes all differ have different keys, and
the few whose hashes meet are looked at in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from penstock.limits import AUDIT_CHUNK_ROWS_MAX, AUDIT_KEYS_MAX, VIOLATION_EXAMPLES_MAX
from penstock.model.batch import Disposition
from penstock.model.columns import BATCH, INDEX, OFFSET, PARTITION, PLACE, SOURCE, TIMESTAMP
from penstock.model.pipeline import CsvFormat, TextFormat
from penstock.proof.events import field_text
from penstock.proof.report import Law, place_text
from penstock.proof.syntax import quote

if TYPE_CHECKING:
    from penstock.model.pipeline import Column, Pipeline
    from penstock.proof.report import PipelineReport
    from penstock.proof.tables import View
    from penstock.proof.witness import Witness

_WINNER = ("winner_source", "winner_partition", "winner_offset", "winner_index")
_UNIT_FACTORS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass
class DuplicateCheck:
    """The check of one pipeline up to `batch_max`; what no batch from `from_batch` on has a part in is left out."""

    witness: Witness
    pipeline: Pipeline
    silver: View
    rejects: View
    from_batch: int
    batch_max: int
    report: PipelineReport

    def run(self) -> None:
        """Check keys, then winners.

        Raises:
            duckdb.Error: a table is not what its declaration says.
        """
        if self.pipeline.silver.key:
            self._check_keys()
        self._check_winners()

    # -- keys ---------------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> list[str]:
        """SQL of what makes rows the same: the bucket, then the key's columns."""
        silver = self.pipeline.silver
        columns = [quote(name) for name in silver.key]
        if silver.unique_within is None:
            return columns
        return [bucket(f"epoch_us({quote(silver.event_time)})", silver.unique_within), *columns]

    def _check_keys(self) -> None:
        silver = self.pipeline.silver
        columns = sorted({*silver.key, silver.event_time, BATCH})
        rows = f"({self.silver.select(columns, self.silver.in_batches(1, self.batch_max))})"
        digest = f"hash({', '.join(self._key)})"
        passes = max(1, -(-self.silver.rows // AUDIT_KEYS_MAX))
        for number in range(passes):
            chosen = f" WHERE {digest} % {passes} = {number}" if passes > 1 else ""
            digests = np.sort(self.witness.arrays(f"SELECT {digest} AS digest FROM {rows}{chosen}")["digest"])
            again = np.unique(digests[1:][digests[1:] == digests[:-1]])
            if len(again):
                self._compare(pa.table({"digest": pa.array(again, pa.uint64())}), digest)

    def _compare(self, again: pa.Table, digest: str) -> None:
        """Look at the keys themselves of the rows whose digests meet."""
        silver = self.pipeline.silver
        columns = sorted({*silver.key, silver.event_time, *PLACE, INDEX, BATCH})
        rows = self.silver.select(columns, self.silver.in_batches(1, self.batch_max))
        named = ", ".join(f"{sql} AS k{number}" for number, sql in enumerate(self._key))
        keys = ", ".join(f"k{number}" for number in range(len(self._key)))
        with self.witness.registered("digests_again", again):
            self.witness.run(
                f"CREATE OR REPLACE TEMP TABLE same_keys AS SELECT {keys}, count(*)::BIGINT AS times, "
                f"min({BATCH}) AS first, max({BATCH}) AS last, "
                f"list({{{SOURCE}: {SOURCE}, {PARTITION}: {PARTITION}, {OFFSET}: {OFFSET}, {INDEX}: {INDEX}}} "
                f"ORDER BY {BATCH}, {', '.join(PLACE)}, {INDEX})[:{VIOLATION_EXAMPLES_MAX}] AS places "
                f"FROM (SELECT *, {named} FROM ({rows}) SEMI JOIN digests_again ON {digest} = digests_again.digest) "
                f"GROUP BY {keys} HAVING count(*) > 1 AND max({BATCH}) >= {self.from_batch}"
            )
        total = self.witness.value("SELECT coalesce(sum(times - 1), 0)::BIGINT FROM same_keys")
        if total:
            found = self.witness.rows(f"SELECT places, last FROM same_keys LIMIT {VIOLATION_EXAMPLES_MAX}")
            shown = [" and ".join(place_text(place) for place in row["places"]) for row in found]
            batch = found[0]["last"] if len(found) == 1 else None
            message = f"rows have the same key ({', '.join(silver.key)})"
            self.report.broken(Law.DETERMINISM, self.silver.name, message, batch=batch, places=shown, total=total)
        self.witness.run("DROP TABLE same_keys")

    # -- winners ------------------------------------------------------------------------------------------------------

    def _check_winners(self) -> None:
        among = (
            f"{self.rejects.in_batches(self.from_batch, self.batch_max)} AND disposition = '{Disposition.DUPLICATE}'"
        )
        total = self.witness.value(f"SELECT count(*)::BIGINT FROM ({self.rejects.select([BATCH], among)})")
        passes = -(-total // AUDIT_CHUNK_ROWS_MAX)
        for number in range(passes):
            self._check_some_winners(among, f"% {passes} = {number}" if passes > 1 else "IS NOT NULL")

    def _check_some_winners(self, among: str, share: str) -> None:
        derived = self._derivations()
        silver = self.pipeline.silver
        values = "".join(f", {sql} AS {quote('own ' + name)}" for name, sql in derived.items())
        raw = self.rejects.select(
            [*PLACE, INDEX, TIMESTAMP, BATCH, "value", *_WINNER], f"{among} AND coalesce(winner_offset, 0) {share}"
        )
        losers = f"SELECT * EXCLUDE (value, text){values} FROM (SELECT *, TRY(decode(value)) AS text FROM ({raw}))"
        self.witness.run(f"CREATE OR REPLACE TEMP TABLE losers AS {losers}")
        columns = sorted({*PLACE, INDEX, BATCH, *derived, silver.event_time})
        accepted = self.silver.select(columns, f"{self.silver.in_batches(1, self.batch_max)} AND {OFFSET} {share}")
        on = " AND ".join(f"l.{theirs} = w.{ours}" for theirs, ours in zip(_WINNER, (*PLACE, INDEX), strict=True))
        # The few winners are picked out of silver first; a plain left join would hold all of silver in memory.
        winners = f"SELECT w.* FROM ({accepted}) w SEMI JOIN losers l ON {on}"
        sides = [", ".join(f"{side}.{name}" for name in (BATCH, *PLACE, INDEX)) for side in "wl"]
        before = f"({sides[0]}) < ({sides[1]})"
        differs = [f"(l.{quote('own ' + name)} <> {self._comparable(name)})" for name in derived]
        other = " OR ".join(f"coalesce({test}, FALSE)" for test in differs) or "FALSE"
        verdict = (
            f"CASE WHEN l.winner_offset IS NULL THEN 'duplicates name no winner' WHEN w.{OFFSET} IS NULL "
            f"THEN 'duplicates name a winner that is not in silver' WHEN NOT {before} "
            f"THEN 'duplicates name a winner that came after them' WHEN {other} "
            f"THEN 'duplicates name a winner with another key' END"
        )
        self.witness.run(
            f"CREATE OR REPLACE TEMP TABLE wrong_winners AS SELECT * FROM (SELECT l.{SOURCE}, l.{PARTITION}, "
            f"l.{OFFSET}, l.{INDEX}, l.{BATCH}, {verdict} AS wrong FROM losers l LEFT JOIN ({winners}) w ON {on}) "
            f"WHERE wrong IS NOT NULL"
        )
        self._report_winners()

    def _report_winners(self) -> None:
        for row in self.witness.rows(
            f"SELECT wrong, count(*)::BIGINT AS total, min({BATCH}) AS first, max({BATCH}) AS last "
            f"FROM wrong_winners GROUP BY wrong"
        ):
            shown = self.witness.rows(
                f"SELECT * FROM wrong_winners WHERE wrong = '{row['wrong']}' "
                f"ORDER BY {', '.join((BATCH, *PLACE, INDEX))} LIMIT {VIOLATION_EXAMPLES_MAX}"
            )
            self.report.broken(
                Law.DETERMINISM,
                self.rejects.name,
                row["wrong"],
                batch=row["first"] if row["first"] == row["last"] else None,
                places=[place_text(place) for place in shown],
                total=row["total"],
            )
        self.witness.run("DROP TABLE wrong_winners")
        self.witness.run("DROP TABLE losers")

    def _derivations(self) -> dict[str, str]:
        """For key columns (and the event time) that can be read off the raw bytes simply: SQL of the loser's value,
        from `text`, NULL where it is not written in a simple way."""
        source, silver = self.pipeline.source, self.pipeline.silver
        found: dict[str, str] = {}
        if silver.event_time == TIMESTAMP and silver.unique_within is not None:
            found[TIMESTAMP] = bucket(f"epoch_us({TIMESTAMP})", silver.unique_within)
        if isinstance(source.format, CsvFormat | TextFormat):
            return found
        for column in silver.columns:
            in_bucket = column.name == silver.event_time and silver.unique_within is not None
            if column.name not in silver.key and not in_bucket:
                continue
            sql = _derivation(column)
            if sql is None:
                continue
            if in_bucket and column.name not in silver.key:
                assert silver.unique_within is not None
                sql = bucket(f"({sql})", silver.unique_within)
            found[column.name] = sql
        return found

    def _comparable(self, name: str) -> str:
        """SQL of the winner's value (`w`) in the form `_derivations` gives the loser's."""
        silver = self.pipeline.silver
        types = {column.name: column.type for column in silver.columns}
        declared = types.get(name)
        is_time = name == TIMESTAMP or (declared is not None and declared.kind == "timestamp")
        value = f"epoch_us(w.{quote(name)})" if is_time else f"w.{quote(name)}"
        if name == silver.event_time and name not in silver.key and silver.unique_within is not None:
            return bucket(value, silver.unique_within)
        return value


def bucket(micros: str, width: int) -> str:
    """SQL of the number of the bucket that a time in microseconds lies in."""
    return f"(({micros} - ((({micros} % {width}) + {width}) % {width})) // {width})"


def _derivation(column: Column) -> str | None:
    """SQL of a column's value, from the JSON object in `text`; None where it takes more than a cast to know it."""
    if column.path is None or column.path.is_meta or column.path.envelope or column.type is None:
        return None
    text = field_text("text", column.path.steps)
    if column.type.kind == "string":
        return text
    if column.type.is_integer:
        return f"TRY_CAST({text} AS BIGINT)"
    if column.type.kind == "timestamp" and column.unit in _UNIT_FACTORS:
        return f"TRY_CAST({text} AS BIGINT) * {_UNIT_FACTORS[str(column.unit)]}"
    return None
