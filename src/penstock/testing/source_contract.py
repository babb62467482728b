"""The suite every source passes: what `penstock.sources.contract.Source` promises, checked on a filled source.

A source's tests subclass `SourceContract` and give it a `case` fixture; pytest then collects the methods there. Sources
of other machines (Kafka) pass it unchanged; only what `SourceCase` says about them differs.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import SourceLost
from penstock.sources.contract import RECORD_SCHEMA, Bounds
from penstock.sources.records import record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.model.position import Position, Range
    from penstock.sources.contract import Source

SEED = 20_260_101
EVERYTHING = Bounds(1_000_000, 1 << 30)


@dataclass
class SourceCase:
    """A source with at least 50 records in it, and nothing that adds to it meanwhile.

    `open` gives a new handle on the same source, as another process would get one; it must survive pickling. `values`
    are the expected values by partition, in order. `drops` is true where a forgotten record can no longer be read.
    """

    open: Callable[[], Source]
    values: dict[int, list[bytes | None]]
    drops: bool


def drain(source: Source, position: Position, bounds: Bounds = EVERYTHING) -> tuple[list[Range], dict[int, int]]:
    """All ranges from a position on, planned one after the other, and the position after them."""
    reached = dict(position)
    found: list[Range] = []
    while ranges := source.plan(reached, bounds):
        found += ranges
        reached = after(reached, ranges)
    return found, reached


def after(position: Position, ranges: Sequence[Range]) -> dict[int, int]:
    """The position behind planned ranges."""
    reached = dict(position)
    for span in ranges:
        reached[span.partition] = span.end
    return reached


def read_elsewhere(open_source: Callable[[], Source], ranges: Sequence[Range], answer: str) -> None:
    """Read the ranges with a handle of this process and write them to the file `answer`."""
    source = open_source()
    table = source.read(ranges)
    source.close()
    with pa.OSFile(answer, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def pieces_of(ranges: Sequence[Range], rng: random.Random) -> list[Range]:
    """The ranges cut at random places; of cut ranges only the first piece keeps its hint."""
    pieces = []
    for span in ranges:
        cuts = sorted(rng.sample(range(span.start + 1, span.end), min(3, span.end - span.start - 1)))
        for index, (start, end) in enumerate(zip([span.start, *cuts], [*cuts, span.end], strict=True)):
            pieces.append(replace(span, start=start, end=end, hint="" if index else span.hint))
    return pieces


class SourceContract:
    """Collected by subclasses that define the fixture `case`."""

    def test_everything_is_delivered_in_order(self, case: SourceCase) -> None:
        source = case.open()
        ranges, _ = drain(source, {})
        table = source.read(ranges)
        table.validate(full=True)
        assert table.schema.equals(RECORD_SCHEMA)
        assert self.values_of(table) == case.values
        places = list(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))
        assert places == sorted(set(places))
        for span in ranges:
            assert span.source == ranges[0].source
        source.close()

    def test_bounds_are_respected_and_do_not_change_the_records(self, case: SourceCase) -> None:
        source = case.open()
        whole = source.read(drain(source, {})[0]).combine_chunks()
        source.close()
        for bounds in (Bounds(1, 1 << 30), Bounds(7, 1 << 30), Bounds(1_000_000, 1), Bounds(1_000_000, 1_500)):
            source = case.open()
            position: dict[int, int] = {}
            tables = []
            while ranges := source.plan(position, bounds):
                table = source.read(ranges)
                size = int(record_bytes(table).sum())
                assert 1 <= table.num_rows <= bounds.rows
                assert table.num_rows == 1 or size <= bounds.bytes
                tables.append(table)
                position = after(position, ranges)
            source.close()
            assert self.sorted(pa.concat_tables(tables)).equals(whole)

    def test_reading_is_repeatable_for_any_split_with_and_without_hints(self, case: SourceCase) -> None:
        rng = random.Random(SEED)
        source, other = case.open(), case.open()
        ranges, _ = drain(source, {}, Bounds(13, 1 << 30))
        whole = source.read(ranges).combine_chunks()
        for handle in (source, other):
            assert self.sorted(handle.read(ranges)).equals(whole)
            pieces = pieces_of(ranges, rng)
            assert self.sorted(pa.concat_tables([handle.read([piece]) for piece in pieces])).equals(whole)
            assert self.sorted(handle.read([replace(piece, hint="") for piece in pieces])).equals(whole)
            rng.shuffle(pieces)
            assert handle.read(pieces).combine_chunks().equals(whole)
        source.close()
        other.close()

    def test_rounds_may_overlap_and_repeat(self, case: SourceCase) -> None:
        source = case.open()
        bounds = Bounds(11, 1 << 30)
        first = source.plan({}, bounds)
        second = source.plan(after({}, first), bounds)
        expected = source.read(first), source.read(second)
        again = source.plan({}, bounds)
        assert source.read(again).equals(expected[0])
        assert source.read(source.plan(after({}, again), bounds)).equals(expected[1])
        assert source.read(first).equals(expected[0])
        source.close()

    def test_a_restart_goes_on_where_the_position_is(self, case: SourceCase) -> None:
        source = case.open()
        whole = source.read(drain(source, {})[0]).combine_chunks()
        position: dict[int, int] = {}
        fingerprints: dict[int, int] = {}
        done = []
        source.close()
        while True:
            source = case.open()
            # A handle is thrown away after each round, as by kill -9; the one of the last round finds nothing.
            if position:
                source.resume(position, fingerprints)
            ranges = source.plan(position, Bounds(17, 1 << 30))
            if not ranges:
                break
            done.append(source.read(ranges))
            position = after(position, ranges)
            fingerprints = dict(source.fingerprint(position))
            assert all(0 <= digest < 1 << 63 for digest in fingerprints.values())
            source.plan(position, Bounds(5, 1 << 30))
            source.close()
        assert source.exhausted(position)
        source.close()
        assert self.sorted(pa.concat_tables(done)).equals(whole)

    def test_another_process_reads_the_same(self, case: SourceCase, tmp_path_factory: object) -> None:
        answer = str(tmp_path_factory.mktemp("elsewhere") / "records.arrow")  # type: ignore[attr-defined]
        source = case.open()
        ranges, _ = drain(source, {})
        process = multiprocessing.get_context("spawn").Process(target=read_elsewhere, args=(case.open, ranges, answer))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        with pa.OSFile(answer) as found:
            assert pa.ipc.open_file(found).read_all().equals(source.read(ranges))
        source.close()

    def test_what_was_forgotten_is_gone_and_the_rest_is_not(self, case: SourceCase) -> None:
        source = case.open()
        first = source.plan({}, Bounds(20, 1 << 30))
        position = after({}, first)
        before = source.read(first)
        rest, _ = drain(source, position)
        expected = source.read(rest)
        source.forget(position)
        source.forget({})
        if case.drops:
            try:
                source.read(first)
                raise AssertionError("a forgotten range was read")
            except SourceLost:
                pass
        else:
            assert source.read(first).equals(before)
        assert self.sorted(source.read(drain(source, position)[0])).equals(expected.combine_chunks())
        source.close()

    def test_forgetting_may_run_beside_planning(self, case: SourceCase) -> None:
        source = case.open()
        positions: list[dict[int, int]] = []
        failures: list[BaseException] = []
        done = threading.Event()

        def forget_all() -> None:
            try:
                while not done.is_set() or positions:
                    if positions:
                        source.forget(positions.pop(0))
            except BaseException as failure:  # noqa: BLE001 - it is raised below, in the test's thread
                failures.append(failure)

        forgetter = threading.Thread(target=forget_all)
        forgetter.start()
        position: dict[int, int] = {}
        rows = 0
        while ranges := source.plan(position, Bounds(3, 1 << 30)):
            rows += source.read(ranges).num_rows
            position = after(position, ranges)
            positions.append(position)
        done.set()
        forgetter.join(60)
        source.close()
        assert not failures
        assert rows == sum(len(values) for values in case.values.values())

    def test_the_end_is_known(self, case: SourceCase) -> None:
        source = case.open()
        assert not source.exhausted({})
        assert source.wait({}, 0.0)
        backlog = source.backlog({})
        assert backlog.records in (None, sum(len(values) for values in case.values.values()))
        assert backlog.bytes is None or backlog.bytes > 0
        _, end = drain(source, {})
        assert source.plan(end, EVERYTHING) == ()
        assert source.exhausted(end)
        assert not source.wait(end, 0.01)
        assert source.backlog(end).records in (None, 0)
        source.close()

    def test_the_identity_stays(self, case: SourceCase) -> None:
        one, other = case.open(), case.open()
        assert one.identity == other.identity
        assert one.identity.kind
        one.close()
        other.close()

    @staticmethod
    def values_of(table: pa.Table) -> dict[int, list[bytes | None]]:
        """Partition -> values in the order of the table."""
        return {
            partition: table.filter(pc.equal(table["partition"], partition))["value"].to_pylist()
            for partition in np.unique(table["partition"].to_numpy()).tolist()
        }

    @staticmethod
    def sorted(table: pa.Table) -> pa.Table:
        """The table in order of places, in one piece."""
        return table.sort_by([("partition", "ascending"), ("offset", "ascending")]).combine_chunks()
