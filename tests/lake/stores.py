"""Lakes in a real object store, for tests: a prefix of their own in the session's server, quick to give up."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from penstock.lake.opening import open_storage, store_options
from penstock.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from tools.servers import S3Server

    from penstock.lake.storage import Storage

QUICK = {
    "OBJECT_TRIES_MAX": 4,
    "OBJECT_RETRY_SECONDS": 0.02,
    "OBJECT_RETRY_SECONDS_MAX": 0.1,
    "OBJECT_REQUEST_SECONDS_MAX": 1,
}


def environment(server: S3Server, endpoint: str | None = None) -> dict[str, str]:
    """What tells Penstock of the server; `endpoint` is a proxy before it."""
    return {
        "AWS_ENDPOINT_URL": endpoint or server.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
    }


def new_lake(server: S3Server) -> str:
    """A URI that nothing is at."""
    return f"s3://{server.bucket}/{uuid.uuid4().hex}"


def open_store(server: S3Server, folder: Path, lake: str | None = None, endpoint: str | None = None) -> Storage:
    """The storage of a lake, a new one where none is named."""
    uri = lake or new_lake(server)
    options = store_options(uri, Settings(), environment(server, endpoint))
    return open_storage(uri, options=options, state_folder=folder / "state")


def give_up_soon(patch: pytest.MonkeyPatch) -> None:
    """Let requests fail after a second, and only a few be made again."""
    for name, value in QUICK.items():
        patch.setattr(f"penstock.lake.objectstore.{name}", value)
