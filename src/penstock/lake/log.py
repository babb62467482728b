"""The Delta log as files: its entries, written and read without delta-rs, and the names of its checkpoints.

Recovery and positions need what delta-rs does not tell: whether an entry is whole, every txn id, who wrote what when;
and a commit by delta-rs costs several times as much (decisions/0006). Each entry Penstock writes carries
in its first line how many actions follow and a digest of them (`seal`), so that a cut at the end of a line or a flipped
bit is seen (`Entry.problem`). The protocol of commits is in `table.py`.
"""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import orjson

from penstock.errors import LakeCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from penstock.lake.storage import Storage

LOG_FOLDER = "_delta_log"
LAST_CHECKPOINT = "_last_checkpoint"
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")

SEAL = "penstock.seal"
"""In commitInfo: `<adds>/<removes>/<txns>/<digest>` of the entry."""
COMMIT = "penstock.commit"
"""In commitInfo: a name no other commit has, by which an unknown outcome is settled."""


def log_folder(table: str) -> str:
    return f"{table}/{LOG_FOLDER}"


def entry_path(table: str, version: int) -> str:
    return f"{table}/{LOG_FOLDER}/{version:020d}.json"


def checkpoint_path(table: str, version: int) -> str:
    return f"{table}/{LOG_FOLDER}/{version:020d}.checkpoint.parquet"


def hint_path(table: str) -> str:
    return f"{table}/{LOG_FOLDER}/{LAST_CHECKPOINT}"


@dataclass(frozen=True)
class Listing:
    """The versions that have an entry, and those that have a checkpoint, ascending."""

    entries: tuple[int, ...]
    checkpoints: tuple[int, ...]

    @property
    def last(self) -> int:
        """The table's version as the names tell it; -1 without any."""
        return max((*self.entries[-1:], *self.checkpoints[-1:]), default=-1)

    @property
    def unbroken(self) -> tuple[int, ...]:
        """The last entries that follow one another. What lies below a gap was deleted once, and is back after a power
        loss, or is what a crash left of a cleaning."""
        count = min(1, len(self.entries))
        while 0 < count < len(self.entries) and self.entries[-count - 1] == self.entries[-count] - 1:
            count += 1
        return self.entries[len(self.entries) - count :]


def list_log(storage: Storage, table: str) -> Listing:
    """What lies in the table's log folder."""
    return _listing(storage.names(log_folder(table)))


def _listing(names: Iterable[str]) -> Listing:
    entries, checkpoints = [], []
    for name in names:
        if match := _ENTRY.fullmatch(name):
            entries.append(int(match[1]))
        elif match := _CHECKPOINT.fullmatch(name):
            checkpoints.append(int(match[1]))
    return Listing(tuple(entries), tuple(checkpoints))


def list_log_end(storage: Storage, table: str) -> Listing:
    """What lies in the log folder from the last named checkpoint on, without listing what came before, if possible.

    A log may hold many entries; a start must not ask a store for the name of each.
    """
    try:
        hint = read_hint(storage, table)
    except (FileNotFoundError, LakeCorrupt):
        return list_log(storage, table)
    found = _listing(storage.names(log_folder(table), after=f"{hint.version:020d}"))
    if not hint.digest or hint.version not in found.checkpoints:
        return list_log(storage, table)
    return Listing(tuple(number for number in found.entries if number > hint.version), found.checkpoints)


def has_log(storage: Storage, table: str) -> bool:
    """Whether there is a table of that name at all."""
    first = (hint_path(table), entry_path(table, 0))
    return any(storage.size(path) is not None for path in first) or list_log(storage, table).last >= 0


@dataclass(frozen=True)
class Entry:
    """One log entry. `timestamp` is in microseconds since the epoch (0 where not known); `txns` maps ids to versions.

    `adds` and `removes` are Delta's own actions, as dictionaries, with `path` decoded. `problem` says why the entry is
    not what was written; then nothing else in it can be relied on.
    """

    version: int
    timestamp: int = 0
    operation: str = ""
    adds: tuple[Mapping[str, Any], ...] = ()
    removes: tuple[Mapping[str, Any], ...] = ()
    txns: Mapping[str, int] = field(default_factory=dict)
    changes_schema: bool = False
    commit: str = ""
    problem: str = ""


def read_entry(storage: Storage, table: str, version: int) -> Entry | None:
    """The entry of a version; None when its file is not there (cleaned up, or never written)."""
    try:
        data = storage.read(entry_path(table, version))
    except FileNotFoundError:
        return None
    return parse_entry(version, data)


def parse_entry(version: int, data: bytes) -> Entry:
    """The entry in `data`, or one with a `problem`."""
    if not data:
        return Entry(version, problem="empty")
    if not data.strip(b"\0"):
        return Entry(version, problem="zeros only")
    try:
        actions = [orjson.loads(line) for line in data.splitlines() if line]
        return _entry_of(version, actions)
    except orjson.JSONDecodeError:
        return Entry(version, problem="cut or overwritten")
    except (KeyError, TypeError, ValueError, AttributeError):
        return Entry(version, problem="not a log entry")


def _entry_of(version: int, actions: list[dict[str, Any]]) -> Entry:
    info: dict[str, Any] = {}
    adds, removes, txns = [], [], {}
    changes_schema = False
    for action in actions:
        for kind, body in action.items():
            if kind == "add":
                adds.append({**body, "path": unquote(body["path"])})
            elif kind == "remove":
                removes.append({**body, "path": unquote(body["path"])})
            elif kind == "txn":
                txns[str(body["appId"])] = int(body["version"])
            elif kind == "commitInfo":
                info = body
            elif kind == "metaData":
                changes_schema = True
            elif kind != "protocol":
                raise ValueError(kind)
    problem = ""
    sealed = info.get(SEAL)
    if sealed is not None:
        found = seal(adds, removes, txns)
        if found != sealed:
            problem = f"incomplete or altered: sealed {sealed}, found {found}"
    elif version == 0 and not changes_schema:
        problem = "cut"
    return Entry(
        version=version,
        timestamp=int(info.get("timestamp", 0)) * 1000,
        operation=str(info.get("operation", "")),
        adds=tuple(adds),
        removes=tuple(removes),
        txns=txns,
        changes_schema=changes_schema,
        commit=str(info.get(COMMIT, "")),
        problem=problem,
    )


# -- writing ----------------------------------------------------------------------------------------------------------


def add_action(
    path: str, size: int, partition: Mapping[str, str | None], modified: int, stats: str, *, data_change: bool
) -> dict[str, Any]:
    """Delta's action for a file that becomes live, with `path` decoded."""
    return {
        "path": path,
        "partitionValues": dict(partition),
        "size": size,
        "modificationTime": modified,
        "dataChange": data_change,
        "stats": stats,
    }


def remove_action(path: str, size: int, partition: Mapping[str, str | None], *, data_change: bool) -> dict[str, Any]:
    """Delta's action for a file that is live no longer, with `path` decoded."""
    return {
        "path": path,
        "deletionTimestamp": _now_milliseconds(),
        "dataChange": data_change,
        "extendedFileMetadata": True,
        "partitionValues": dict(partition),
        "size": size,
    }


def write_entry(
    storage: Storage,
    table: str,
    version: int,
    *,
    adds: Sequence[Mapping[str, Any]],
    removes: Sequence[Mapping[str, Any]],
    txns: Mapping[str, int],
    partition_by: Sequence[str],
    commit: str,
) -> bool:
    """Write the entry of `version`; its name is not durable yet. False: there is one already.

    Raises:
        StorageError: it cannot be written, or it is not known whether it was.
    """
    now = _now_milliseconds()
    information = {
        "timestamp": now,
        "operation": "WRITE",
        "operationParameters": {"mode": "Append", "partitionBy": orjson.dumps(list(partition_by)).decode()},
        "engineInfo": "penstock",
        COMMIT: commit,
        SEAL: seal(adds, removes, txns),
    }
    actions: list[dict[str, Any]] = [{"commitInfo": information}]
    actions += ({"add": _with_uri(add)} for add in adds)
    actions += ({"remove": _with_uri(remove)} for remove in removes)
    # Without lastUpdated, a clean-up by another engine would drop the txn.
    actions += ({"txn": {"appId": name, "version": number, "lastUpdated": now}} for name, number in txns.items())
    return storage.create(entry_path(table, version), b"\n".join(map(orjson.dumps, actions)))


def _with_uri(action: Mapping[str, Any]) -> dict[str, Any]:
    return {**action, "path": quote(action["path"], safe="/=")}


def _now_milliseconds() -> int:
    return time.time_ns() // 1_000_000


_SEALED_ADD = ("path", "size", "partitionValues", "modificationTime", "dataChange", "stats")
_SEALED_REMOVE = ("path", "size", "partitionValues", "dataChange")


def seal(adds: Iterable[Mapping[str, Any]], removes: Iterable[Mapping[str, Any]], txns: Mapping[str, int]) -> str:
    """Counts and a digest of an entry's actions, in Delta's words, with paths decoded."""
    added = [[add[name] for name in _SEALED_ADD] for add in adds]
    removed = [[remove[name] for name in _SEALED_REMOVE] for remove in removes]
    actions = [sorted(added, key=str), sorted(removed, key=str), sorted(txns.items())]
    digest = zlib.crc32(orjson.dumps(actions, option=orjson.OPT_SORT_KEYS))
    return f"{len(added)}/{len(removed)}/{len(txns)}/{digest:08x}"


# -- the hint that names the last checkpoint --------------------------------------------------------------------------

_DIGEST = "penstock.sha256"
_CHECK = "penstock.check"


@dataclass(frozen=True)
class Hint:
    """What `_last_checkpoint` says: the version, and the SHA-256 of the checkpoint file ("" where it does not say)."""

    version: int
    digest: str


def read_hint(storage: Storage, table: str) -> Hint:
    """What `_last_checkpoint` says.

    Raises:
        FileNotFoundError: there is none.
        LakeCorrupt: it is cut, overwritten or altered.
    """
    try:
        body = orjson.loads(storage.read(hint_path(table)))
        tags = body.get("tags") or {}
        hint = Hint(int(body["version"]), str(tags.get(_DIGEST, "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LakeCorrupt(f"{hint_path(table)} is not what was written") from None
    if hint.digest and tags.get(_CHECK) != _hint_check(body):
        raise LakeCorrupt(f"{hint_path(table)} is not what was written")
    return hint


def sealed_hint(body: Mapping[str, Any], digest: str) -> bytes:
    """`_last_checkpoint` as delta-rs wrote it, with the checkpoint's digest and one of its own (`tags` is for that)."""
    sealed = {**body, "tags": {_DIGEST: digest}}
    sealed["tags"][_CHECK] = _hint_check(sealed)
    return orjson.dumps(sealed)


def _hint_check(body: Mapping[str, Any]) -> str:
    plain = {**body, "tags": {name: text for name, text in (body["tags"] or {}).items() if name != _CHECK}}
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()
