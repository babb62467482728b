"""The files of each table at one moment, checked, as relations for SQL. `audit.py` takes them downstream tables first.

A file that is missing or damaged is left out of the relation and remembered, so that everything else can still be
judged.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from penstock.errors import LakeCorrupt
from penstock.model.columns import BATCH
from penstock.proof.pages import FileFacts, verify
from penstock.proof.syntax import quote, text_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from penstock.lake.table import DataFile, Table
    from penstock.proof.witness import Witness


@dataclass
class View:
    """A table as it was when `take` looked: types by column (without the partition column), files, txns.

    `paths`, `present` (columns that at least one file has) and `full` (columns without NULL in any file) are filled by
    `check_files`, `batches` (the lowest and the highest `_batch` of all rows) by `positions.py`.
    """

    name: str
    version: int
    types: Mapping[str, str]
    files: tuple[DataFile, ...]
    locate: Callable[[DataFile], str]
    txns: Mapping[str, int]
    paths: list[str] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    damage: list[str] = field(default_factory=list)
    batches: tuple[int, int] | None = None
    full: set[str] | None = None
    open: Callable[[DataFile], BinaryIO] | None = None

    def select(self, columns: Sequence[str], where: str = "TRUE") -> str:
        """SQL for some columns of the rows that fulfil a condition over the table's columns."""
        return f"SELECT {', '.join(quote(name) for name in columns)} FROM {self.relation()} WHERE {where}"

    def in_batches(self, first: int, last: int) -> str:
        """SQL condition for the rows of some batches (both ends inclusive); TRUE where it is known that all are."""
        if self.batches is not None and first <= self.batches[0] and self.batches[1] <= last:
            return "TRUE"
        return f"{BATCH} BETWEEN {first} AND {last}"

    def relation(self) -> str:
        """SQL for the table in a FROM clause; columns that no file has yet are NULL."""
        wanted = list(self.types)
        if not self.paths:
            nothing = ", ".join(f"NULL::{self.types[name]} AS {quote(name)}" for name in wanted)
            return f"(SELECT {nothing} LIMIT 0)"
        files = ", ".join(text_literal(path) for path in self.paths)
        read = f"read_parquet([{files}], union_by_name=true, hive_partitioning=false)"
        missing = [name for name in wanted if name not in self.present]
        if not missing:
            return read
        added = ", ".join(f"NULL::{self.types[name]} AS {quote(name)}" for name in missing)
        return f"(SELECT *, {added} FROM {read})"

    @property
    def rows(self) -> int:
        """Rows of all files by the table's log."""
        return sum(file.rows for file in self.files)


def take(table: Table, witness: Witness, *, version: int | None = None) -> View:
    """The table's files now, or those of an earlier version."""
    if version is None:
        table.refresh()
    spec = table.spec
    return View(
        name=table.name,
        version=table.version if version is None else version,
        types=witness.types_of(spec.file_schema),
        files=tuple(table.files() if version is None else table.files(version)),
        locate=table.path,
        txns=dict(table.txns()),
        open=table.open,
    )


def check_files(views: Sequence[View], threads: int, *, progress: Callable[[str], None] = lambda _: None) -> None:
    """Verify every byte of every file that a checksum covers, and that files are as large as the log says."""
    tasks = [(view, file) for view in views for file in view.files]
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        facts = pool.map(lambda task: _check(*task), tasks)
        for number, ((view, file), found) in enumerate(zip(tasks, facts, strict=True), 1):
            if isinstance(found, str):
                view.damage.append(found)
            else:
                view.paths.append(view.locate(file))
                view.present.update(found.columns)
                view.full = set(found.full) if view.full is None else view.full & found.full
            if number % 50 == 0:
                progress(f"verified {number} of {len(tasks)} files")


def _check(view: View, file: DataFile) -> FileFacts | str:
    """What the file holds, or what is wrong with it."""
    assert view.open is not None
    try:
        facts = verify(partial(view.open, file), file.path, file.size)
    except LakeCorrupt as error:
        return f"{file.path} {error.message}"
    if facts.rows != file.rows:
        return f"{file.path} has {facts.rows} rows, the log says {file.rows}"
    return facts
