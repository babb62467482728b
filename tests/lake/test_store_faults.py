"""A table in a store that fails in every way, at every request: it holds what was committed, once, and says so."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from faults.storeproxy import FAULTS, Request, StoreProxy, store_proxy
from lake.faults import SPEC, bronze_rows, column
from lake.stores import give_up_soon, new_lake, open_store
from penstock.errors import LakeCorrupt, StorageError, TransientError
from penstock.lake.fence import take_over
from penstock.lake.lake import Lake
from penstock.lake.recovery import recover

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.servers import S3Server

    from penstock.lake.fence import Writer
    from penstock.lake.storage import Storage
    from penstock.lake.table import Table


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    give_up_soon(monkeypatch)
    with store_proxy(s3_server.port) as made:
        made.silence_seconds = 1.5
        yield made


@pytest.fixture
def storage(s3_server: S3Server, proxy: StoreProxy, tmp_path: Path) -> Storage:
    return open_store(s3_server, tmp_path, endpoint=proxy.endpoint)


def owned(storage: Storage) -> tuple[Writer, Table]:
    table = Lake(storage).create(SPEC)
    return take_over("p", [table]), table


def commit(table: Table, writer: Writer, batch: int) -> None:
    table.commit(writer, batch=batch, add=table.write(bronze_rows(batch)))


def assert_holds(storage: Storage, batches: int) -> None:
    """As a process that starts now sees it, after it has looked what the last one left."""
    lake = Lake(storage)
    assert recover(lake, "p") == []
    table = lake.table(SPEC.name)
    assert table is not None
    assert column(list(table.read()), "_offset") == list(range(3 * batches))
    assert table.txn("p/batch") == batches


def test_a_commit_asks_for_little(storage: Storage, proxy: StoreProxy) -> None:
    writer, table = owned(storage)
    commit(table, writer, 1)
    before = len(proxy.requests)
    for batch in range(2, 12):
        commit(table, writer, batch)
    asked = Counter((request.method, request.conditional) for request in proxy.requests[before:])
    # The file, the entry, and a look at whether the log was shortened meanwhile.
    assert asked == {("PUT", False): 10, ("PUT", True): 10, ("GET", False): 10}


def test_a_long_log_is_not_listed(storage: Storage, proxy: StoreProxy) -> None:
    writer, table = owned(storage)
    for batch in range(1, 56):
        commit(table, writer, batch)
    before = len(proxy.requests)
    assert_holds(storage, 55)
    listed = [request.path for request in proxy.requests[before:] if "list-type" in request.path]
    whole = [path for path in listed if "bronze%2Fp%2F_delta_log" in path and "start-after" not in path]
    assert whole == []


@pytest.mark.parametrize("request_number", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_request_of_a_commit(storage: Storage, proxy: StoreProxy, fault: str, request_number: int) -> None:
    writer, table = owned(storage)
    commit(table, writer, 1)
    proxy.fail_once(request_number, fault)
    commit(table, writer, 2)
    assert proxy.failed == 1
    commit(table, writer, 3)
    assert table.version == 4, "the entry of a commit is there once"
    assert_holds(storage, 3)


@pytest.mark.integration
@pytest.mark.parametrize("turn", range(2))
def test_a_fault_at_each_request_of_a_tables_life(
    s3_server: S3Server, storage: Storage, proxy: StoreProxy, tmp_path: Path, turn: int
) -> None:
    """Creating, taking over, committing, checkpointing, opening: each request has another fault in each turn. Where that
    is too much for a process, the next one goes on."""
    number = 0

    def choose(request: Request) -> str | None:
        nonlocal number
        number += 1
        fault = FAULTS[(number // 5 + 3 * turn) % len(FAULTS)] if number % 5 == turn else None
        return fault if request.conditional or fault != "409 before" else "503 before"

    def live(here: Storage) -> None:
        recover(Lake(here), "p")
        writer, table = owned(here)
        for batch in range((table.txn("p/batch") or 0) + 1, 5):
            commit(table, writer, batch)
            table.checkpoint()

    proxy.silence_seconds = 1.1
    proxy.choose = choose
    for process in range(20):
        try:
            live(open_store(s3_server, tmp_path, storage.uri(), proxy.endpoint))
            break
        except (StorageError, TransientError) as error:
            print(process, error)
    else:
        pytest.fail("no process came to the end")
    assert proxy.failed > 10
    proxy.well()
    assert_holds(open_store(s3_server, tmp_path, storage.uri()), 4)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_stays_broken_is_an_error_and_no_loss(storage: Storage, proxy: StoreProxy, fault: str) -> None:
    """From one request on every answer is bad. What became of the commit shows when the store is well again."""
    proxy.silence_seconds = 1.1
    writer, table = owned(storage)
    commit(table, writer, 1)
    files = table.write(bronze_rows(2))
    proxy.choose = lambda _: fault
    with pytest.raises((StorageError, TransientError, LakeCorrupt)) as caught:
        table.commit(writer, batch=2, add=files)
    assert not isinstance(caught.value, LakeCorrupt)
    assert "s3://" in str(caught.value)
    assert caught.value.hint
    proxy.well()
    commit(table, writer, 2)  # the same process goes on
    assert_holds(storage, 2)


def test_a_rival_that_was_quicker_is_seen_at_the_put(s3_server: S3Server, storage: Storage, tmp_path: Path) -> None:
    writer, table = owned(storage)
    commit(table, writer, 1)
    rival_writer, rival = owned(open_store(s3_server, tmp_path, storage.uri()))
    commit(rival, rival_writer, 2)
    with pytest.raises(Exception, match="was taken over by writer 2"):
        commit(table, writer, 2)
    assert_holds(storage, 2)


def test_a_store_that_ignores_conditions_is_refused(s3_server: S3Server, storage: Storage, proxy: StoreProxy) -> None:
    proxy.unconditional = s3_server.folder / "data"
    with pytest.raises(StorageError, match="If-None-Match") as caught, storage.lock("p"):
        pass
    assert "conditional puts" in caught.value.hint
    with pytest.raises(StorageError, match="If-None-Match"):
        storage.create("log/1", b"x")
    assert storage.names("log") == []
    proxy.unconditional = None
    assert storage.create("log/1", b"x")
    assert storage.names("_penstock") == []


def test_the_probe_is_made_once(storage: Storage, proxy: StoreProxy) -> None:
    with storage.lock("p"):
        storage.create("log/1", b"x")
    assert [request.method for request in proxy.requests if "probe" in request.path] == ["PUT", "PUT", "DELETE"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("request_number", [0, 1, 2])
def test_a_fault_while_probing_is_not_taken_for_an_answer(
    storage: Storage, proxy: StoreProxy, fault: str, request_number: int
) -> None:
    proxy.fail_once(request_number, fault)
    assert storage.create("log/1", b"x")


def test_a_lake_that_nobody_made_is_seen_empty(s3_server: S3Server, tmp_path: Path) -> None:
    storage = open_store(s3_server, tmp_path, new_lake(s3_server))
    assert Lake(storage).tables() == []
