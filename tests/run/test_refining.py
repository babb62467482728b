"""The short query for plain records: it changes no event, and is left alone where it finds few."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pytest

from penstock.engines.embedded.refining import Refining
from penstock.limits import PLAIN_CALLS_SKIPPED, PLAIN_ROWS_MIN, REFINE_ROWS_MAX, REFINE_ROWS_MIN
from penstock.plan.nouns import UNDECIDED
from plan.refining import Refinery, column, pipeline, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

REFINERY = Refinery(pipeline(column("n", "int64", required=True), column("s", "string")))


class Runs:
    """Runs queries as an engine does, and remembers over how many records each went."""

    def __init__(self) -> None:
        self.plain: list[int] = []
        self.whole: list[int] = []

    def __call__(self, sql: str, relations: Mapping[str, pa.Table]) -> pa.Table:
        kind = self.plain if sql == REFINERY.plan.plain_sql else self.whole
        kind.append(relations["records"].num_rows)
        cursor = REFINERY.database.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.register("records", relations["records"])
        return cursor.sql(sql).to_arrow_table()


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def refining(runs: Runs) -> Iterator[Refining]:
    with ThreadPoolExecutor(2) as pool:
        yield Refining(REFINERY.plan, runs, pool, 2)


def plain(number: int) -> bytes:
    return b'{"n":%d,"s":"x%d"}' % (number, number)


def blanks(number: int) -> bytes:
    return b'{"n": %d, "s": "x%d", "more": 1}' % (number, number)


def events(refining: Refining, values: list[bytes]) -> pa.Table:
    found = refining.events(records(values).drop_columns(["_row"]), {})
    return found.filter(pc.not_equal(found["_status"], UNDECIDED)).sort_by("_row")


@pytest.mark.parametrize("count", [1, PLAIN_ROWS_MIN, 3 * REFINE_ROWS_MIN + 1, REFINE_ROWS_MAX + 5_000])
def test_every_record_becomes_its_event_whichever_query_decides(refining: Refining, count: int) -> None:
    values = [
        b"{%d" % number if number % 10 == 7 else blanks(number) if number % 10 == 3 else plain(number)
        for number in range(count)
    ]
    assert events(refining, values).equals(REFINERY.table(records(values)))


def test_the_whole_query_gets_only_what_is_left(refining: Refining, runs: Runs) -> None:
    events(refining, [blanks(number) if number % 10 == 3 else plain(number) for number in range(10_000)])
    assert (sorted(runs.plain), runs.whole) == ([5_000, 5_000], [1_000])


def test_few_records_are_not_worth_two_queries(refining: Refining, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.engines.embedded.refining.PLAIN_ROWS_MIN", PLAIN_ROWS_MIN)
    assert events(refining, [plain(number) for number in range(PLAIN_ROWS_MIN - 1)]).num_rows == PLAIN_ROWS_MIN - 1
    assert (runs.plain, runs.whole) == ([], [PLAIN_ROWS_MIN - 1])


def test_the_short_query_rests_where_it_finds_few_and_is_tried_again(refining: Refining, runs: Runs) -> None:
    strange = [blanks(number) for number in range(PLAIN_ROWS_MIN)]
    for _ in range(PLAIN_CALLS_SKIPPED + 2):
        events(refining, strange)
    assert runs.plain == [PLAIN_ROWS_MIN] * 2
    assert runs.whole == [PLAIN_ROWS_MIN] * (PLAIN_CALLS_SKIPPED + 2)
