"""The short query for plain records: it changes no event, and is left alone where it finds few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.engines.embedded.refining import Refining
from penstock.limits import PLAIN_ROWS_MIN, PLAIN_SLICES_SKIPPED, REFINE_ROWS_MAX
from penstock.plan.nouns import UNDECIDED
from plan.refining import Refinery, column, pipeline, records

if TYPE_CHECKING:
    from collections.abc import Mapping

REFINERY = Refinery(pipeline(column("n", "int64", required=True), column("s", "string")))


class Runs:
    """Runs queries as an engine does, and remembers over how many records each went."""

    def __init__(self) -> None:
        self.plain: list[int] = []
        self.whole: list[int] = []

    def __call__(self, sql: str, relations: Mapping[str, pa.Table]) -> pa.Table:
        kind = self.plain if sql == REFINERY.plan.plain_sql else self.whole
        kind.append(relations["records"].num_rows)
        REFINERY.database.register("records", relations["records"])
        return REFINERY.database.sql(sql).to_arrow_table()


def plain(number: int) -> bytes:
    return b'{"n":%d,"s":"x%d"}' % (number, number)


def blanks(number: int) -> bytes:
    return b'{"n": %d, "s": "x%d", "more": 1}' % (number, number)


def events(runs: Runs, values: list[bytes]) -> pa.Table:
    rows = records(values).drop_columns(["_row"])
    found = Refining(REFINERY.plan, runs).events(rows, {})
    return found.filter(pc.not_equal(found["_status"], UNDECIDED)).sort_by("_row")


def test_every_record_becomes_its_event_whichever_query_decides() -> None:
    values = [
        b"{%d" % number if number % 10 == 7 else blanks(number) if number % 10 == 3 else plain(number)
        for number in range(REFINE_ROWS_MAX + 5_000)
    ]
    runs = Runs()
    found = events(runs, values)
    whole = REFINERY.table(records(values))
    assert found.equals(whole)
    assert runs.plain == [REFINE_ROWS_MAX, 5_000]
    assert runs.whole == [REFINE_ROWS_MAX // 5, 1_000]


def test_few_records_are_not_worth_two_queries() -> None:
    runs = Runs()
    assert events(runs, [plain(number) for number in range(PLAIN_ROWS_MIN - 1)]).num_rows == PLAIN_ROWS_MIN - 1
    assert (runs.plain, runs.whole) == ([], [PLAIN_ROWS_MIN - 1])


def test_the_short_query_rests_where_it_finds_few_and_is_tried_again() -> None:
    runs = Runs()
    refining = Refining(REFINERY.plan, runs)
    strange = records([blanks(number) for number in range(PLAIN_ROWS_MIN)]).drop_columns(["_row"])
    for _ in range(PLAIN_SLICES_SKIPPED + 2):
        refining.events(strange, {})
    assert runs.plain == [PLAIN_ROWS_MIN] * 2
    assert runs.whole == [PLAIN_ROWS_MIN] * (PLAIN_SLICES_SKIPPED + 2)
