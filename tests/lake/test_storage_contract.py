"""What every storage does, whatever it is kept on: `storage.Storage` says it, both kinds are held to it."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError
from obstore.store import LocalStore, MemoryStore

from lake.stores import environment, new_lake, open_store
from penstock.errors import Fenced, StorageError, UsageError
from penstock.lake.objectstore import ObjectStorage
from penstock.lake.opening import _OTHER_NAMES, open_storage, store_options
from penstock.lake.storage import LocalStorage
from penstock.lake.storeerrors import may_pass, store_error
from penstock.limits import OBJECT_DELETES_MAX, OBJECT_PART_BYTES, OBJECT_TAIL_BYTES
from penstock.scratch import PREFIX
from penstock.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from tools.servers import S3Server

    from penstock.lake.storage import Storage


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return LocalStorage(tmp_path / "lake")
    return open_store(request.getfixturevalue("s3_server"), tmp_path)


def put(storage: Storage, path: str, data: bytes) -> None:
    storage.make_folder(os.path.dirname(path))
    storage.write(path, data)


def test_what_was_written_is_there(storage: Storage) -> None:
    put(storage, "a/b=1/file", b"bytes")
    assert storage.read("a/b=1/file") == b"bytes"
    assert storage.size("a/b=1/file") == 5
    assert storage.holds("a/b=1/file", 5)
    assert not storage.holds("a/b=1/file", 6)
    storage.write("a/b=1/file", b"other")
    assert storage.read("a/b=1/file") == b"other"
    put(storage, "a/empty", b"")
    assert (storage.size("a/empty"), storage.read("a/empty")) == (0, b"")
    with storage.open("a/empty") as file:
        assert (file.size(), file.read()) == (0, b"")


def test_what_is_not_there_is_told(storage: Storage) -> None:
    assert storage.size("a/nothing") is None
    assert not storage.holds("a/nothing", 0)
    assert storage.names("a") == []
    assert list(storage.files("a")) == []
    with pytest.raises(FileNotFoundError):
        storage.read("a/nothing")
    with pytest.raises(FileNotFoundError):
        storage.open("a/nothing")
    storage.delete("a/nothing")
    storage.discard("a/nothing")


def test_files_are_deleted_together_whether_they_are_there_or_not(storage: Storage) -> None:
    paths = [f"a/{number:03}" for number in range(OBJECT_DELETES_MAX + 5)]
    for path in paths[::2]:
        put(storage, path, b"1")
    put(storage, "a/kept", b"1")
    storage.delete(*paths)
    storage.delete()
    assert storage.names("a") == ["kept"]


def test_names_and_files(storage: Storage) -> None:
    for path, data in {"t/x=1/a": b"1", "t/b": b"22", "t/log/01": b"", "t/log/02": b"", "t/log/10": b""}.items():
        put(storage, path, data)
    put(storage, "tail/c", b"a folder whose name begins alike")
    assert storage.names("t") == ["b", "log", "x=1"]
    assert storage.names("t/log", after="01") == ["02", "10"]
    assert storage.names("t/log", after="2") == []
    found = {file.path: file.size for file in storage.files("t")}
    assert found == {"t/x=1/a": 1, "t/b": 2, "t/log/01": 0, "t/log/02": 0, "t/log/10": 0}
    assert all(file.modified > 1_600_000_000_000 for file in storage.files("t"))
    assert "t" in storage.names("")


def test_a_file_is_created_once(storage: Storage) -> None:
    storage.make_folder("log")
    assert storage.create("log/1", b"first")
    assert not storage.create("log/1", b"second")
    assert not storage.create("log/1", b"first")
    assert storage.read("log/1") == b"first"
    storage.delete("log/1")
    assert storage.create("log/1", b"third")
    assert storage.read("log/1") == b"third"


@pytest.mark.parametrize("size", [0, 1000, OBJECT_TAIL_BYTES, 2 * OBJECT_PART_BYTES + 7])
def test_a_draft_gets_the_name_that_its_bytes_give(storage: Storage, size: int) -> None:
    data = os.urandom(size)
    storage.make_folder("t")

    def named(written: pa.NativeFile) -> str:
        written.seek(max(0, size - 4))
        return f"t/part-{written.read(4).hex()}"

    with storage.draft("t/.part", named) as sink:
        sink.write(data[: size // 2])
        sink.write(data[size // 2 :])
    storage.sync_folder("t")
    (name,) = storage.names("t")
    assert name == f"part-{data[-4:].hex()}"
    with storage.open(f"t/{name}") as file:
        assert file.size() == size
        for start in (0, size // 3, max(0, size - 10)):
            file.seek(start)
            assert file.read(size // 2) == data[start : start + size // 2]
        file.seek(0)
        assert file.read() == data


def test_a_draft_that_fails_leaves_nothing(storage: Storage) -> None:
    storage.make_folder("t")
    with pytest.raises(StorageError), storage.draft("t/.part", lambda _: "t/part") as sink:
        sink.seek(1)  # of a file that is being written
    assert storage.names("t") == []


def test_files_get_other_names(storage: Storage) -> None:
    put(storage, "t/a", b"1")
    storage.rename("t/a", "t/b")
    storage.move("t/b", "aside/c")
    assert (storage.names("t"), storage.read("aside/c")) == ([], b"1")


def test_one_process_of_a_machine_at_a_time(storage: Storage) -> None:
    with storage.lock("ticks"):
        with pytest.raises(Fenced, match=f"process {os.getpid()}"), storage.lock("ticks"):
            pass
        with storage.lock("other"):
            pass
    with storage.lock("ticks"):
        pass


def test_log_entries_are_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were put, and those that were read."""
    kept = MemoryStore()
    monkeypatch.setattr("penstock.lake.objectstore._open_store", lambda *_: kept)
    monkeypatch.setattr("penstock.lake.objectstore.OBJECT_ENTRIES_BYTES_MAX", 30)
    storage = ObjectStorage("s3://b/l", {}, tmp_path / "state")
    paths = [f"t/_delta_log/{version:020}.json" for version in range(6)]
    for version, path in enumerate(paths):
        assert storage.create(path, bytes([version]) * 10)
    storage.create("t/other", bytes(10))
    assert storage.read(paths[0]) == bytes(10)
    storage.delete(paths[5])
    kept.delete([*paths, "t/other"])
    assert storage.read(paths[0]) == bytes(10)
    assert storage.read(paths[4]) == bytes([4]) * 10
    for gone in (*paths[1:4], paths[5], "t/other"):
        with pytest.raises(FileNotFoundError):
            storage.read(gone)
    assert storage.create(paths[5], b"1" * 10)
    assert storage.read(paths[4]) == bytes([4]) * 10, "what was deleted counts no more"
    storage.write(paths[4], b"2")
    assert storage.read(paths[4]) == b"2"


def test_a_store_to_which_a_missing_object_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GCS is one; obstore's store in a folder does the same."""
    monkeypatch.setattr("penstock.lake.objectstore._open_store", lambda *_: LocalStore(tmp_path))
    storage = ObjectStorage("gs://b/l", {}, tmp_path / "state")
    paths = [f"a/{number:03}" for number in range(60)]
    for path in paths[::2]:
        storage.write(path, b"1")
    storage.delete(*paths)
    storage.delete(paths[0])
    assert storage.names("a") == []


def test_a_draft_of_a_killed_process_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies where the next process that needs such a folder finds it (`scratch.py`)."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("penstock.lake.objectstore._open_store", lambda *_: MemoryStore())
    storage = ObjectStorage("s3://b/l", {}, tmp_path / "state")
    with storage.draft("t/.part", lambda _: "t/part") as sink:
        sink.write(b"1")
        (folder,) = scratch.iterdir()
        assert folder.name.startswith(PREFIX)
    assert storage.read("t/part") == b"1"
    assert list(scratch.iterdir()) == []


def test_a_slow_line_gets_two_parts_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts under way have to arrive within the time of one request."""
    given: list[Any] = []
    monkeypatch.setattr("penstock.lake.objectstore._open_store", lambda *_: MemoryStore())
    monkeypatch.setattr("obstore.put", lambda *_, **options: given.append(options))
    ObjectStorage("s3://b/l", {}, tmp_path / "state").write("t/a", bytes(OBJECT_PART_BYTES + 1))
    assert [(options["use_multipart"], options["max_concurrency"]) for options in given] == [(True, 2)]


@pytest.mark.parametrize("size", [0, 1000, OBJECT_TAIL_BYTES + 5])
def test_a_store_without_ranges_from_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Azure is one."""
    get = obstore.get

    def refusing(store: Any, path: str, *, options: Any = None) -> Any:
        if options is not None:
            raise NotSupportedError("Azure does not support suffix range requests")
        return get(store, path)

    monkeypatch.setattr("penstock.lake.objectstore._open_store", lambda *_: MemoryStore())
    monkeypatch.setattr("obstore.get", refusing)
    storage = ObjectStorage("az://c/l", {}, tmp_path / "state")
    data = os.urandom(size)
    storage.write("t/a", data)
    with storage.open("t/a") as file:
        assert (file.size(), file.read()) == (size, data)
    assert bytes(storage.ranged("t/a").tail) == data[-OBJECT_TAIL_BYTES:]
    with pytest.raises(FileNotFoundError):
        storage.open("t/nothing")


def test_a_conflict_that_says_that_the_object_exists_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure answers 409 where S3 answers 412; an S3 store's 409 is a reason to ask again."""
    put = obstore.put
    asked = []

    def conflicting(store: Any, path: str, data: bytes, **options: Any) -> Any:
        asked.append(path)
        try:
            put(store, path, data, **options)
        except AlreadyExistsError:
            raise AlreadyExistsError("status code: 409 Conflict <Code>BlobAlreadyExists</Code>") from None
        if path == "log/lost":
            raise GenericError("Generic MicrosoftAzure error: HTTP error: connection closed")

    monkeypatch.setattr("penstock.lake.objectstore._open_store", lambda *_: MemoryStore())
    monkeypatch.setattr("obstore.put", conflicting)
    storage = ObjectStorage("az://c/l", {}, tmp_path / "state")
    assert storage.create("log/1", b"1")
    assert not storage.create("log/1", b"2")
    assert storage.create("log/lost", b"3")
    assert [path for path in asked if path.startswith("log")] == ["log/1", "log/1", "log/lost", "log/lost"]
    assert len(asked) == 6, "the probe asks twice"


# -- the way to a store -----------------------------------------------------------------------------------------------


def test_another_process_opens_the_same_lake_by_plain_values(s3_server: S3Server, tmp_path: Path) -> None:
    lake = new_lake(s3_server)
    told = {"location": lake, "options": store_options(lake, Settings(), environment(s3_server))}
    told["state_folder"] = str(tmp_path / "other")
    open_store(s3_server, tmp_path, lake).write("a/b", b"1")
    there = open_storage(**pickle.loads(pickle.dumps(told)))
    assert there.read("a/b") == b"1"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_S3_ALLOW_UNSAFE_RENAME", "true"),
        ("AWS_S3_LOCKING_PROVIDER", "dynamodb"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
        ("AWS_COPY_IF_NOT_EXISTS", "multipart"),
    ],
)
def test_settings_that_let_writers_overwrite_each_other_are_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        store_options("s3://b/l", Settings(), {name: value})
    assert store_options("s3://b/l", Settings(), {"AWS_CONDITIONAL_PUT": "etag"})["AWS_ALLOW_HTTP"] == "false"


def test_what_is_declared_goes_before_the_environment() -> None:
    known = {"AWS_ENDPOINT_URL_S3": "https://three", "AWS_ENDPOINT_URL": "https://all", "AWS_DEFAULT_REGION": "r"}
    found = store_options("s3://b/l", Settings(), known)
    assert (found["AWS_ENDPOINT_URL"], found["AWS_REGION"]) == ("https://three", "r")
    found = store_options("s3://b/l", Settings(storage_endpoint="https://mine", storage_region="q"), known)
    assert (found["AWS_ENDPOINT_URL"], found["AWS_REGION"]) == ("https://mine", "q")


def test_a_token_goes_with_no_other_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "of-theirs"}
    assert store_options("s3://b/l", Settings(), known)["AWS_SESSION_TOKEN"] == "of-theirs"
    own = Settings(storage_access_key_id="theirs", storage_secret_access_key="s")
    assert store_options("s3://b/l", own, known)["AWS_SESSION_TOKEN"] == "of-theirs"
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    own = Settings(storage_access_key_id="mine", storage_secret_access_key="m", storage_region="r")
    options = store_options("s3://b/l", own, known)
    assert "AWS_SESSION_TOKEN" not in options
    with pytest.raises(UsageError, match="AWS_SESSION_TOKEN"):
        open_storage("s3://b/l", options=options, state_folder=tmp_path)
    own = Settings(storage_access_key_id="mine", storage_secret_access_key="m", storage_session_token="of-mine")
    options = store_options("s3://b/l", own, known)
    assert options["AWS_SESSION_TOKEN"] == "of-mine"
    open_storage("s3://b/l", options=options, state_folder=tmp_path)


@pytest.mark.parametrize(
    ("location", "known", "wanted"),
    [
        (
            "gs://b/l",
            {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_BEARER_TOKEN": "t"},
            {"GOOGLE_BEARER_TOKEN": "t"},
        ),
        (
            "az://c/l",
            {
                "AZURE_CONFIG_DIR": "d",
                "AZURE_STORAGE_ACCOUNT_NAME": "a",
                "AZURE_STORAGE_ACCESS_KEY": "YQ==",
                "AZURE_STORAGE_ACCOUNT_KEY": "YQ==",
            },
            {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "YQ=="},
        ),
    ],
)
def test_other_stores_get_what_they_know_of_the_environment(
    location: str, known: dict[str, str], wanted: dict[str, str], tmp_path: Path
) -> None:
    found = store_options(location, Settings(), known)
    assert found == wanted
    open_storage(location, options=found, state_folder=tmp_path)


_FLAGS = ("SKIP_SIGNATURE", "DISABLE_TAGGING", "USE_EMULATOR", "USE_FABRIC_ENDPOINT", "USE_AZURE_CLI")


def _refusal(location: str, options: dict[str, str], folder: Path) -> str:
    try:
        open_storage(location, options=options, state_folder=folder)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("scheme", ["gs", "az", "abfss"])
def test_every_name_that_is_passed_on_is_known(scheme: str, tmp_path: Path) -> None:
    location = "abfss://c@a.dfs.core.windows.net/l" if scheme == "abfss" else f"{scheme}://c/l"
    for name in [name for names in _OTHER_NAMES[scheme] for name in names.split()]:
        value = "true" if name.endswith(_FLAGS) else "https://a"
        assert "is not valid for store" not in _refusal(location, {name: value}, tmp_path)
    unknown = "GOOGLE_CLOUD_PROJECT" if scheme == "gs" else "AZURE_CONFIG_DIR"
    refusal = _refusal(location, {unknown: "x"}, tmp_path)
    assert "is not valid for store" in refusal
    assert f"{unknown.partition('_')[0]}_..." in refusal


@pytest.mark.parametrize(
    ("uri", "text", "passes", "hint"),
    [
        ("s3://b/l", "status code: 501 Not Implemented <Code>NotImplemented</Code>", False, "conditional puts"),
        ("s3://b/l", "status code: 503 Slow Down", True, "is it up"),
        ("s3://b/l", "status code: 403 Forbidden", False, "AWS_SECRET_ACCESS_KEY"),
        ("s3://b/l", "status code: 400 Bad Request <Code>RequestTimeout</Code>", True, "is it up"),
        ("s3://b/l", "status code: 400 Bad Request <Code>ExpiredToken</Code>", False, "AWS_SESSION_TOKEN"),
        ("s3://b/l", "status code: 400 Bad Request <Code>InvalidToken</Code>", False, "AWS_SESSION_TOKEN"),
        ("s3://b/l", "status code: 400 Bad Request <Code>InvalidRequest</Code>", False, "`storage`"),
        ("s3://b/l", "status code: 403 Forbidden <Code>RequestTimeTooSkewed</Code>", False, "clock"),
        ("s3://b/l", "Error performing PUT http://169.254.169.254/latest/api/token: timed out", True, "AWS_ACCESS_KEY"),
        ("gs://b/l", "status code: 403 Forbidden", False, "GOOGLE_..."),
        ("az://b/l", "status code: 401 Unauthorized", False, "AZURE_..."),
    ],
)
def test_a_store_s_answer_is_told_with_what_to_do(uri: str, text: str, passes: bool, hint: str) -> None:
    error = Exception(f"Generic S3 error: {text}")
    assert may_pass(error) == passes
    assert hint in store_error(error, uri).hint


def test_an_unencrypted_endpoint_is_to_be_allowed() -> None:
    with pytest.raises(UsageError, match="not encrypted"):
        store_options("s3://b/l", Settings(storage_endpoint="http://127.0.0.1:1"), {})
    store_options("s3://b/l", Settings(storage_endpoint="http://127.0.0.1:1", storage_allow_http="true"), {})


@pytest.mark.parametrize("location", ["ftp://b/l", "s3://", "file:///lake"])
def test_what_is_no_place_for_a_lake_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no place"):
        open_storage(location, options={}, state_folder=tmp_path)


@pytest.mark.parametrize("location", ["gs://bucket/lake", "az://container/lake"])
def test_other_stores_open_the_same_way(location: str, tmp_path: Path) -> None:
    options = {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "YQ=="} if location[0] == "a" else {}
    assert open_storage(location, options=options, state_folder=tmp_path).uri("t") == f"{location}/t"


def test_a_wrong_key_and_a_missing_bucket_are_told(s3_server: S3Server, tmp_path: Path) -> None:
    known = environment(s3_server)
    wrong = store_options("s3://lake/x", Settings(), {**known, "AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as caught:
        open_storage("s3://lake/x", options=wrong, state_folder=tmp_path).write("a", b"")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint
    assert "wrong" not in str(caught.value)
    options = store_options("s3://nowhere/x", Settings(), known)
    with pytest.raises(StorageError, match="NoSuchBucket"):
        open_storage("s3://nowhere/x", options=options, state_folder=tmp_path).write("a", b"")
