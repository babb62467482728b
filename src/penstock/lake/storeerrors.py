"""What the errors of object stores mean: of obstore and of delta-rs, which word them alike, in text only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES: Mapping[str, str] = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfss": "AZURE_"}
"""Kinds of URIs, with the beginning of the environment's names that say how to reach them."""

_STATUS = re.compile(r"status\s+code\W+(\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_OURS = re.compile(r"Generic [\w ]*(S3|GCS|MicrosoftAzure)\b|Error performing [A-Z]+ |HTTP error")
_DENIED = ("401", "403")
_DENIED_CODES = ("ExpiredToken", "InvalidToken")
_TOO_MANY = ("408", "429")
_SLOW_BODY = "RequestTimeout"
_SKEWED = "RequestTimeTooSkewed"
_NOT_IMPLEMENTED = "501"
_KEYS = {"s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"}
_METADATA = re.compile(r"169\.254\.\d+\.\d+|metadata\.google\.internal")
"""Where a machine's role is asked for when nothing else gives credentials."""
_COLOUR = re.compile(r"\x1b\[\d*m|↳")


def is_store_error(error: BaseException) -> bool:
    """Whether the text of an error tells of a request to a store that failed."""
    return _OURS.search(str(error)) is not None


def status(error: BaseException) -> str:
    """The HTTP status in the text of an error; "" where the store did not answer at all."""
    found = _STATUS.search(_COLOUR.sub(" ", str(error)))
    return found[1] if found else ""


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later: no answer, an overloaded store, a conflict, a slow line."""
    return _may_pass(status(error), store_code(error))


def _may_pass(number: str, code: str) -> bool:
    if number == _NOT_IMPLEMENTED:
        return False
    return not number or number.startswith("5") or number in (*_TOO_MANY, "409") or code == _SLOW_BODY


def store_code(error: BaseException) -> str:
    """The store's own name for an error; "" where there is none."""
    found = _CODE.search(_COLOUR.sub(" ", str(error)))
    return found[1] if found else ""


def store_error(error: BaseException, where: str) -> StorageError:
    """What `error` means for the person who keeps a lake in a store; `where` is the URI."""
    text = _COLOUR.sub(" ", str(error))
    code, number, scheme = store_code(error), status(error), where.partition("://")[0]
    if _METADATA.search(text):
        return StorageError(f"{where}: no credentials are set, and this machine's role gives none", hint=_keys(scheme))
    if code:
        reason = f"the store says {code}" + (f" ({number})" if number else "")
    elif number:
        reason = f"the store answers {number}"
    else:
        lines = [" ".join(line.split()) for line in text.partition("Debug source")[0].splitlines()]
        reason = " ".join(line for line in lines if line)[:300] or repr(error)
    return StorageError(f"{where}: {reason}", hint=_hint(code, number, scheme))


def _hint(code: str, number: str, scheme: str) -> str:
    if code == "NoSuchBucket":
        return "Make the bucket first, or correct `lake` in penstock.yaml."
    if code == _SKEWED:
        return "This machine's clock is wrong, or the store's: set it (by NTP), and run again."
    if number in _DENIED or code in _DENIED_CODES:
        return _keys(scheme)
    if number == _NOT_IMPLEMENTED:
        return (
            "The store does not know conditional puts (`If-None-Match`), which keep two writers apart. Use one that "
            "does: docs/howto/s3.md lists some."
        )
    if number.startswith("3") and scheme == "s3":
        return "The bucket is elsewhere: set `region` under `storage` in penstock.yaml, or AWS_REGION."
    if number and not _may_pass(number, code):
        return "Look at `lake` and `storage` in penstock.yaml; docs/howto/s3.md says what a store must be able to do."
    return "The store did not do it, after several attempts: is it up, and is `endpoint` right? Then run again."


def _keys(scheme: str) -> str:
    names = _KEYS.get(scheme, f"the variables {VARIABLES.get(scheme, '')}...")
    return (
        f"Look at the credentials ({names}) and at what they are allowed: to list the bucket; to get, put and delete "
        "objects."
    )
