"""A case with its records in another order: what must stay the same, and what a byte-identical repetition adds.

The answer may depend on the order in one way only: of two records with one key, the first wins. So a record that won
over another in the golden answer stays before it, unless both hold the same bytes. Rows are compared without their
places; of a winner its bytes count, for among identical records any may be it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import penstock
from penstock.model.columns import INDEX, OFFSET
from penstock.sources.contract import CSV_HEADER, FILE_PATH
from pipelines import cases

if TYPE_CHECKING:
    import random
    from pathlib import Path

PLACES = ("_source", "_partition", OFFSET, INDEX, "winner_source", "winner_partition", "winner_offset", "winner_index")


@dataclass(frozen=True)
class Record:
    """A record of a case: where it is in the golden answer, its file, that file's CSV header, and its bytes."""

    offset: int
    file: str
    header: bytes | None
    value: bytes


def records(folder: Path, pipeline: str) -> list[Record]:
    """What bronze has of a case that ran straight."""
    found = penstock.open(folder).sql(f'select _offset, "value", headers from bronze.{pipeline} order by _offset')
    result = []
    for row in found.to_pylist():
        headers = {one["key"]: one["value"] for one in row["headers"]}
        result.append(Record(row[OFFSET], headers[FILE_PATH].decode(), headers.get(CSV_HEADER), row["value"]))
    return result


@dataclass(frozen=True)
class Answer:
    """The tables of a case, and the records they were made of."""

    tables: dict[str, list[dict[str, Any]]]
    records: list[Record]

    def doubled(self, draw: random.Random) -> tuple[list[Record], Answer]:
        """Records to send again, byte for byte, and the answer with them. A pipeline without a key takes none: there
        a repeated record is another event. Nor are lists of events repeated, of which only some were accepted."""
        rejects = next(name for name in self.tables if name.startswith("rejects."))
        silver = next(name for name in self.tables if name.startswith("silver."))
        accepted = {row[OFFSET] for row in self.tables[silver] if row[INDEX] == 0}
        listed = {row[OFFSET] for rows in (rejects, silver) for row in self.tables[rows] if row[INDEX] > 0}
        by_offset: dict[int, list[dict[str, Any]]] = {}
        for row in self.tables[rejects]:
            by_offset.setdefault(row[OFFSET], []).append(row)
        chosen = [one for one in self.records if one.offset not in listed and draw.random() < 0.4]
        added = []
        for one in chosen:
            added += by_offset.get(one.offset, [])
            if one.offset in accepted:
                added.append(_duplicate_of(one))
        return chosen, Answer(self.tables | {rejects: self.tables[rejects] + added}, self.records)

    def comparable(self) -> dict[str, list[dict[str, Any]]]:
        """Rows without places, winners by their bytes."""
        values = {one.offset: one.value.decode("utf-8", "backslashreplace") for one in self.records}
        result = {}
        for name, rows in self.tables.items():
            plain = []
            for row in rows:
                kept = {column: value for column, value in row.items() if column not in PLACES}
                if name.startswith("rejects."):
                    kept["winner"] = values.get(row["winner_offset"])
                plain.append(kept)
            result[name] = sorted(plain, key=lambda row: json.dumps(row, sort_keys=True))
        return result

    def shuffled(self, extra: list[Record], draw: random.Random) -> list[Record]:
        """The records of each file and `extra` ones in a random order in which no one comes before its winner."""
        rejects = next(rows for name, rows in self.tables.items() if name.startswith("rejects."))
        winner_of = {row[OFFSET]: row["winner_offset"] for row in rejects if row["winner_offset"] is not None}
        by_offset = {one.offset: one for one in self.records}
        waiting, placed, order = [*self.records, *extra], set(), []
        while waiting:
            ready = [at for at, one in enumerate(waiting) if _may_come(one, winner_of, by_offset, placed)]
            one = waiting.pop(draw.choice(ready))
            placed.add(one.offset)
            order.append(one)
        return sorted(order, key=lambda one: one.file)


def _may_come(one: Record, winner_of: dict[int, int], by_offset: dict[int, Record], placed: set[int]) -> bool:
    winner = winner_of.get(one.offset)
    return winner is None or winner in placed or by_offset[winner].value == one.value


def _duplicate_of(record: Record) -> dict[str, Any]:
    """The reject row of a second one of an accepted record."""
    return {
        "disposition": "duplicate",
        "failed": [],
        "detail": None,
        "value": record.value.decode("utf-8", "backslashreplace"),
        "winner_offset": record.offset,
    }


def write(folder: Path, order: list[Record]) -> None:
    """Put records into the files of a project, in this order."""
    contents: dict[str, bytes] = {}
    for one in order:
        first = b"" if one.header is None else one.header + b"\n"
        contents[one.file] = contents.get(one.file, first) + one.value + b"\n"
    for path, content in contents.items():
        (folder / "incoming" / path).write_bytes(content)


def is_keyed(folder: Path) -> bool:
    return bool(penstock.open(folder).pipelines[0].silver.key)


def answer(folder: Path) -> Answer:
    """The answer of a project that has run."""
    pipeline = penstock.open(folder).pipelines[0].name
    return Answer(cases.tables(folder), records(folder, pipeline))
