"""The columns Penstock adds to tables, by name, and the txn ids it commits; the tables are in `lake/layout.py`."""

from __future__ import annotations

SOURCE = "_source"
PARTITION = "_partition"
OFFSET = "_offset"
PLACE = (SOURCE, PARTITION, OFFSET)
INDEX = "_index"
TIMESTAMP = "_timestamp"
INGESTED_AT = "_ingested_at"
BATCH = "_batch"
FLAGS = "_flags"
EXTRA = "_extra"
DATE = "_date"
MONTH = "_month"
WINDOW_START = "window_start"
WINDOW_END = "window_end"
ROWS = "_rows"


def batch_txn(pipeline: str) -> str:
    """The txn id that says up to which batch a table has absorbed the pipeline."""
    return f"{pipeline}/batch"


def offset_txn(pipeline: str, source: int, partition: int) -> str:
    """The txn id (in bronze only) that holds the next offset of a partition."""
    return f"{pipeline}/{source}/{partition}"


def offset_place(pipeline: str, name: str) -> tuple[int, int] | None:
    """The (source, partition) whose next offset a txn id holds; None for any other txn id."""
    prefix, _, rest = name.partition("/")
    source, _, partition = rest.partition("/")
    return (int(source), int(partition)) if prefix == pipeline and source.isdigit() and partition.isdigit() else None


def fingerprint_txn(pipeline: str, source: int, partition: int) -> str:
    """The txn id (in bronze only) that holds a source's 63-bit digest of what it delivered up to the position."""
    return f"{pipeline}/{source}/{partition}/fingerprint"


def start_txn(pipeline: str, source: int, partition: int) -> str:
    """The txn id (in bronze only) of where a batch's range starts, in the commits where that is not where the last one
    ended: an incarnation's first, and those before which records were lost."""
    return f"{pipeline}/{source}/{partition}/start"


def letters_txn(pipeline: str) -> str:
    """The txn id (in rejects only) of the last batch whose rejects the declared topic has."""
    return f"{pipeline}/letters"


def writer_txn(pipeline: str) -> str:
    """The txn id of the writer's epoch."""
    return f"{pipeline}/writer"


def nonce_txn(pipeline: str) -> str:
    """The txn id of the writer's random number."""
    return f"{pipeline}/nonce"


def contract_pin(pipeline: str) -> str:
    return f"{pipeline}/pin/contract"


def refine_pin(pipeline: str) -> str:
    return f"{pipeline}/pin/refine"


def reference_pin(pipeline: str, reference: str) -> str:
    return f"{pipeline}/pin/reference/{reference}"


def closed_until_txn(gold: str) -> str:
    """The txn id (in a gold table) of the time up to which its windows are closed, in microseconds since the epoch."""
    return f"{gold}/closed_until"
