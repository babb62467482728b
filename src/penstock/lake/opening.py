"""Where a lake is, as a text, and how to get at it there: the one place that knows all kinds of storage.

`open_storage` takes plain values only, so that another process can be told how to open the same lake.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import UsageError
from penstock.lake.storage import LocalStorage
from penstock.lake.storeerrors import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.lake.storage import Storage
    from penstock.settings import Settings

_S3_NAMES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_REQUEST_PAYER",
)
_AZURE_NAMES = (
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY AZURE_STORAGE_ACCESS_KEY AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_CLIENT_ID AZURE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID AZURE_STORAGE_AUTHORITY_ID AZURE_TENANT_ID AZURE_AUTHORITY_ID",
    "AZURE_STORAGE_AUTHORITY_HOST AZURE_AUTHORITY_HOST",
    "AZURE_STORAGE_SAS_KEY AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_STORAGE_ENDPOINT AZURE_ENDPOINT",
    "AZURE_MSI_ENDPOINT AZURE_IDENTITY_ENDPOINT",
    "AZURE_MSI_RESOURCE_ID",
    "AZURE_OBJECT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_CREDENTIAL_TYPE",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
    "AZURE_DISABLE_TAGGING",
    "AZURE_USE_FABRIC_ENDPOINT",
    "AZURE_FABRIC_TOKEN_SERVICE_URL",
    "AZURE_FABRIC_WORKLOAD_HOST",
    "AZURE_FABRIC_SESSION_TOKEN",
    "AZURE_FABRIC_CLUSTER_IDENTIFIER",
)
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "gs": (
        "GOOGLE_SERVICE_ACCOUNT GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_BASE_URL",
        "GOOGLE_BEARER_TOKEN",
        "GOOGLE_SKIP_SIGNATURE",
    ),
    "az": _AZURE_NAMES,
    "abfss": _AZURE_NAMES,
}
"""Names that obstore knows; it refuses all others. Those in one text say the same: only one of them may be given."""

_INSTEAD = {"AWS_REGION": "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL": "AWS_ENDPOINT"}
_BEFORE = {"AWS_ENDPOINT_URL": "AWS_ENDPOINT_URL_S3"}
_UNSAFE = ("AWS_S3_ALLOW_UNSAFE_RENAME", "AWS_S3_LOCKING_PROVIDER", "AWS_COPY_IF_NOT_EXISTS", "AWS_CONDITIONAL_PUT")
_SAFE = {"AWS_CONDITIONAL_PUT": "etag", "AWS_S3_ALLOW_UNSAFE_RENAME": "false"}


def is_uri(lake: str) -> bool:
    """Whether the setting `lake` names a place in a store, and not a folder."""
    return "://" in lake


def open_storage(location: str, *, options: Mapping[str, str], state_folder: str | Path) -> Storage:
    """The storage of a lake. Nothing is looked at yet.

    Args:
        location: an absolute path, or a URI (`s3://bucket/prefix`).
        options: for a URI, what `store_options` gives. They hold secrets.
        state_folder: for a URI, a folder on this machine.

    Raises:
        UsageError: the location cannot be one, the package for it is not installed, or a token of the environment would
            go with another key.
    """
    if not is_uri(location):
        return LocalStorage(location)
    scheme, _, place = location.partition("://")
    if scheme not in VARIABLES or not place.strip("/"):
        known = ", ".join(f"{name}://" for name in VARIABLES)
        raise UsageError(
            f"lake: {location} is no place that a lake can be in", hint=f"Write a folder, or a URI: {known}."
        )
    _refuse_foreign_token(options)
    try:
        from penstock.lake.objectstore import ObjectStorage  # noqa: PLC0415 - its libraries are an extra
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the lake {location} needs the package {error.name}, which is not installed",
            hint="Install it: pip install 'penstock[s3]'",
        ) from error
    return ObjectStorage(location, options, Path(state_folder))


def store_options(lake: str, settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """How to reach the store of the URI `lake`: from the settings, else from the environment.

    Raises:
        UsageError: something there would let writers overwrite each other, or send secrets unencrypted unasked.
    """
    scheme = lake.partition("://")[0]
    if scheme != "s3":
        given = [[name for name in names.split() if environment.get(name)] for names in _OTHER_NAMES.get(scheme, ())]
        return {found[0]: environment[found[0]] for found in given if found}
    for name in _UNSAFE:
        value = environment.get(name, "")
        if value and value.lower() != _SAFE.get(name):
            raise UsageError(
                f"{name}={value} would let two writers overwrite each other's commits",
                hint=f"Unset it: Penstock needs conditional puts and nothing else (`unset {name}`).",
            )
    options: dict[str, str] = {}
    for name in _S3_NAMES:
        for known in (_BEFORE.get(name, ""), name, _INSTEAD.get(name, "")):
            if environment.get(known):
                options[name] = environment[known]
                break
    declared = {
        "AWS_ENDPOINT_URL": settings.storage_endpoint,
        "AWS_REGION": settings.storage_region,
        "AWS_ALLOW_HTTP": settings.storage_allow_http,
        "AWS_ACCESS_KEY_ID": settings.storage_access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.storage_secret_access_key,
        "AWS_SESSION_TOKEN": settings.storage_session_token,
    }
    if settings.storage_access_key_id not in ("", options.get("AWS_ACCESS_KEY_ID")):
        options.pop("AWS_SESSION_TOKEN", None)  # it belongs to the environment's key
    options.update((name, value) for name, value in declared.items() if value)
    options["AWS_ALLOW_HTTP"] = "true" if options.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1") else "false"
    endpoint = options.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        options.setdefault("AWS_REGION", "us-east-1")  # else delta-rs asks a service of AWS for it
    if endpoint.startswith("http://") and options["AWS_ALLOW_HTTP"] != "true":
        raise UsageError(
            f"the store's endpoint {endpoint} is not encrypted",
            hint="Use https://, or allow it: `allow_http: true` under `storage` in penstock.yaml, or AWS_ALLOW_HTTP.",
        )
    return options


def _refuse_foreign_token(options: Mapping[str, str]) -> None:
    """obstore and delta-rs look into the environment themselves, and stores refuse an empty token in its stead."""
    if "AWS_ACCESS_KEY_ID" in options and "AWS_SESSION_TOKEN" not in options and os.environ.get("AWS_SESSION_TOKEN"):
        raise UsageError(
            "AWS_SESSION_TOKEN of the environment belongs to another key than the lake's",
            hint="Unset it (`unset AWS_SESSION_TOKEN`), or set the key's own: `session_token` under `storage`.",
        )
