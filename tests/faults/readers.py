"""Readers who look again and again while a pipeline is written and kept, and judge each answer by itself.

`python -m faults.readers FOLDER` keeps one project open for all of its threads, as a service would, until its standard
input is closed, and prints what they found.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import penstock
from faults.shortdays import DAY_SECONDS, is_over, short_days
from penstock.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.wire import Project

EVERYTHING = """
with by_minute as (
    select date_trunc('minute', "at") as window_start, site, count(*) as n, sum(value) as total,
        arg_max(value, ("at", id)) as latest
    from silver.readings group by all
), by_five as (
    select time_bucket(interval 5 minutes, "at") as window_start, count(distinct site) as sites,
        quantile_cont(value, 0.5) as median
    from silver.readings group by all
), book as (
    select coalesce(max(_batch), 0) as batch, sum(records) as records, sum(accepted) as accepted,
        sum(quarantined) as quarantined, sum(duplicate) as duplicate, max(closed_until) as closed_until, count(*) as rows
    from ledger.meters
)
select *,
    (select count(*) from bronze.meters) as bronze,
    (select count(*) from silver.readings) as silver,
    (select count(*) from rejects.meters where disposition = 'quarantined') as refused,
    (select count(*) from rejects.meters where disposition = 'duplicate') as doubled,
    (select count(*) from by_minute where window_start + interval 1 minute <= closed_until) as minutes_closed,
    (select count(*) from by_five where window_start + interval 5 minutes <= closed_until) as fives_closed,
    (select count(*) from gold.minutes) as minutes,
    (select count(*) from gold.sites) as fives,
    (select count(*) from gold.minutes join by_minute using (window_start, site, n, total, latest)) as minutes_right,
    (select count(*) from gold.sites join by_five using (window_start, sites)) as fives_right
from book
"""
STATE = " union all ".join(
    f"select '{table}' as name, count(*) as n, bit_xor(hash(t)) as digest from {table} t"
    for table in ("bronze.meters", "silver.readings", "rejects.meters", "gold.minutes", "gold.sites", "ledger.meters")
)


@dataclass
class Readers:
    """Threads of one process, one per kind of question; `found` is by kind how many answers there were."""

    opened: Callable[[], Project]
    found: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    """The lake as of each batch that was asked for, by the first answer."""

    @contextmanager
    def looking(self) -> Iterator[None]:
        over = threading.Event()
        kinds = (self.cut, self.past, self.audit, self.back, self.forward)
        threads = [threading.Thread(target=self._look, args=(kind, over)) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _look(self, kind: Callable[[dict[str, int], random.Random], None], over: threading.Event) -> None:
        memory: dict[str, int] = {}
        draw = random.Random(kind.__name__)
        while not over.wait(0.02) and not self.failures:
            began = time.monotonic()
            try:
                kind(memory, draw)
            except Exception:  # noqa: BLE001 - whatever it is, it is told
                if time.monotonic() - began > DAY_SECONDS / 2:  # its files may have been deleted meanwhile
                    self.found["too slow"] += 1
                    continue
                self.failures.append(f"{kind.__name__}: {traceback.format_exc()}")
            self.found[kind.__name__] += 1

    # -- what they ask ------------------------------------------------------------------------------------------------

    def cut(self, memory: dict[str, int], draw: random.Random) -> None:
        """Everything in one SELECT is of one moment, and no moment is before the one seen last."""
        row = self._ask(EVERYTHING)[0]
        assert row["batch"] >= memory.get("batch", 0), f"batch {memory['batch']} was there before: {row}"
        memory["batch"] = row["batch"]
        assert row["rows"] == row["batch"], row
        counted = (row["records"], row["accepted"], row["quarantined"], row["duplicate"])
        assert (row["bronze"], row["silver"], row["refused"], row["doubled"]) == counted, row
        assert row["minutes"] == row["minutes_right"] == row["minutes_closed"], row
        assert row["fives"] == row["fives_right"] == row["fives_closed"], row

    def past(self, memory: dict[str, int], draw: random.Random) -> None:
        """A batch is what it was at first, as long as it is kept."""
        last = self._last()
        batch = draw.choice((last, max(1, last - draw.randrange(40)), draw.randrange(1, last + 1)))
        try:
            state = json.dumps(self._ask(STATE, as_of=batch))
        except UsageError as error:
            self._judge(error, batch, time.time())
            return
        assert self.states.setdefault(batch, state) == state, f"batch {batch}"

    def audit(self, memory: dict[str, int], draw: random.Random) -> None:
        report = self.opened().audit().as_json()["pipelines"]["meters"]
        assert report["violations"] == [], report

    def back(self, memory: dict[str, int], draw: random.Random) -> None:
        """From a row that a query has just shown."""
        table = draw.choice(("silver.readings", "rejects.meters", "gold.minutes"))
        rows = self._ask(f"select * from {table} order by _batch desc limit {draw.choice((1, 10, 1_000))}")
        if not rows:
            return
        row = draw.choice(rows)
        if table == "gold.minutes":
            where = f"window_start = '{row['window_start'].isoformat()}' and site = '{row['site']}'"
            (window,) = self.opened().trace(table, where=where).windows
            assert window.row is not None
            assert window.row["n"] == window.events_total >= row["n"], window
            return
        (event,) = self.opened().trace(table, where=f"_offset = {row['_offset']}").events
        assert event.row is not None
        assert {**row, **event.row} == row, event
        assert event.record is not None

    def forward(self, memory: dict[str, int], draw: random.Random) -> None:
        """From a record whose end a query has just shown."""
        rows = self._ask(
            "select _offset, window_start from silver.readings s left join gold.minutes g "
            "on g.window_start = date_trunc('minute', s.\"at\") and g.site = s.site "
            f"order by s._batch desc limit {draw.choice((1, 200, 5_000))}"
        )
        if not rows:
            return
        row = draw.choice(rows)
        (event,) = self.opened().trace_forward(f"meters:1/0/{row['_offset']}").events
        assert event.disposition == "accepted", event
        minutes = next(window for window in event.windows if window.table == "gold.minutes")
        if row["window_start"] is not None:
            assert minutes.row is not None, f"its window was closed: {event}"

    # -- parts --------------------------------------------------------------------------------------------------------

    def _ask(self, sql: str, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.opened().sql(sql, **options).to_pylist()
        return found

    def _judge(self, error: UsageError, batch: int, asked: float) -> None:
        """Only what was over a day ago may be gone; a quarter of one is for a busy machine."""
        after = self._ask(f"select epoch(written_at) as time from ledger.meters where _batch = {batch + 1}")
        assert error.message.endswith(("no longer kept", " is gone")), error
        assert after, f"the last batch is not kept: {error}"
        assert asked - after[0]["time"] > DAY_SECONDS * 0.75, f"it ended {asked - after[0]['time']} s ago: {error}"
        self.found["no longer kept"] += 1

    def _last(self) -> int:
        return int(self._ask("select max(_batch) as batch from ledger.meters")[0]["batch"])

    def as_json(self) -> dict[str, Any]:
        return {"found": self.found, "failures": self.failures, "states": self.states}


if __name__ == "__main__":
    with short_days():
        project = penstock.open(sys.argv[1])
        readers = Readers(lambda: project)
        with readers.looking():
            is_over().wait()
        print(json.dumps(readers.as_json()))
