"""The refine version: which code made rows of records. It is the same in every engine, and pinned to each batch."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from importlib.resources import files

REFINE_PACKAGES = ("penstock.plan", "penstock.engines", "penstock.engines.embedded", "penstock.model")
"""Packages whose code decides what a record becomes."""


@cache
def refine_version() -> int:
    """A 63-bit digest of the code that refines records and of the version of DuckDB that runs it."""
    digest = hashlib.sha256(importlib.metadata.version("duckdb").encode())
    for package in REFINE_PACKAGES:
        for file in sorted(files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(f"{package}/{file.name}\0".encode())
                digest.update(file.read_bytes())
    return int.from_bytes(digest.digest()[:8], "big") >> 1
