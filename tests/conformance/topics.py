"""Cases of tests/pipelines that read a topic: it is sent what bronze has of the case's files, keys, headers and times
included, so that the golden answer is the answer for a topic of one partition, too.

How the records are laid out over partitions decides what must be equal: `alone` in one partition and `keyed`, with
those that contest a key in one, everything, however the records are cut into batches; `scattered` over the partitions
in turn, what the recorded batches decide (law 6).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import penstock
from conformance import engines
from pipelines import cases, shuffling
from sources.kafka_topics import Topic

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = ("alone", "keyed")
PARTITIONS = 3
FILES_ORIGIN = "files: {path: incoming}"


@dataclass(frozen=True)
class Told:
    """A project whose source is a topic, which has not run, and what the embedded engine makes of it in one batch."""

    project: Path
    wanted: engines.Answer


def tell(case: str, layout: str, address: str, ran: Path, folder: Path) -> Told:
    """Send a case's records to a new topic; `ran` is the case's project as it ran from files."""
    records = _records(ran)
    partition_of = _laid_out(layout, records, ran)
    topic = Topic(address, 1 if layout == "alone" else PARTITIONS)
    for record in records:
        topic.producer.produce(
            topic.name,
            record["value"],
            key=record["key"],
            headers=[(one["key"], one["value"]) for one in record["headers"]],
            timestamp=record["time"],
            partition=partition_of[record["_offset"]],
        )
    assert topic.producer.flush(30) == 0
    project = cases.make_project(case, folder / "project")
    declaration = project / "pipelines" / f"{case}.yaml"
    text = declaration.read_text()
    assert FILES_ORIGIN in text
    origin = f'kafka: {{topic: {topic.name}, brokers: "{address}"}}'
    declaration.write_text(text.replace(FILES_ORIGIN, origin))
    shutil.rmtree(project / "incoming")
    read = shutil.copytree(project, folder / "embedded")
    engines.run(read, "embedded")
    assert cases.violations(read) == []
    _assert_golden(case, layout, read, ran)
    return Told(project, engines.answer(read))


def _records(folder: Path) -> list[dict[str, Any]]:
    """What bronze has, in the order of the case's files."""
    project = penstock.open(folder)
    columns = '_offset, key, "value", headers, epoch_ms(_timestamp) as time'
    bronze = f"bronze.{project.pipelines[0].name}"
    found: list[dict[str, Any]] = project.sql(f"select {columns} from {bronze} order by _offset").to_pylist()
    return found


def _laid_out(layout: str, records: list[dict[str, Any]], ran: Path) -> dict[int, int]:
    """The partition of each record, by its offset in the case's files."""
    offsets = [record["_offset"] for record in records]
    if layout == "alone":
        return dict.fromkeys(offsets, 0)
    if layout == "scattered":
        return {offset: number % PARTITIONS for number, offset in enumerate(offsets)}
    group = {offset: offset for offset in offsets}
    for name, rows in cases.tables(ran).items():
        for row in rows if name.startswith("rejects.") else []:
            if row["winner_offset"] is not None:  # the two are of one group, and so are those of both groups
                kept, gone = group[row["winner_offset"]], group[row["_offset"]]
                group = {offset: kept if of == gone else of for offset, of in group.items()}
    numbers = {of: number for number, of in enumerate(dict.fromkeys(group.values()))}
    return {offset: numbers[of] % PARTITIONS for offset, of in group.items()}


def _assert_golden(case: str, layout: str, read: Path, ran: Path) -> None:
    """What became of the topic is the golden answer: with its places in one partition, else without them."""
    if layout == "alone":
        assert cases.tables(read) == cases.expected(case)
    elif layout == "keyed":
        assert _without_places(read) == _without_places(ran)


def _without_places(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        name: sorted(
            ({key: value for key, value in row.items() if key not in shuffling.PLACES} for row in rows), key=str
        )
        for name, rows in cases.tables(folder).items()
    }
