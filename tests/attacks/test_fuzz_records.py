"""Any bytes in any format, between records that are right: one end for each, neighbours untouched, a clean audit.

`ATTACK_EXAMPLES=1000 pytest tests/attacks` runs more of the fixed examples, `ATTACK_SEED=n` repeats a drawn one.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from attacks import attacked, fuzzed
from attacks.fuzzed import FORMS, Form

EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "4"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_any_records(form: Form) -> None:
    @fuzzed.bounded(EXAMPLES)
    @given(fuzzed.records(form))
    def check(bad: list[bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fuzzed.assert_laws(Path(folder), form, bad)

    check()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_any_records_of_a_new_seed(form: Form) -> None:
    for number in fuzzed.seeds(1):
        print(f"ATTACK_SEED={number}")  # shown when it fails

        @seed(number)
        @settings(fuzzed.bounded(2), derandomize=False)
        @given(fuzzed.records(form))
        def check(bad: list[bytes]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                fuzzed.assert_laws(Path(folder), form, bad)

        check()


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "log"])
def test_any_file(suffix: str) -> None:
    """A file of any bytes, plain and compressed, between two that are right: nothing of it gets into them."""
    form = {"ndjson": FORMS[0], "csv": FORMS[2], "log": FORMS[4]}[suffix]
    header = b"id,at,price,note\n" if suffix == "csv" else b""
    kind = "{csv: {'null': [NA]}}" if suffix == "csv" else form.format
    declared = fuzzed.declaration(f"files: {{path: incoming}}\n  format: {kind}\n  on_data_loss: record")

    @fuzzed.bounded(EXAMPLES)
    @given(st.lists(st.tuples(fuzzed.records(form), st.sampled_from([b"\n", b"\r\n", b""])), min_size=1, max_size=4))
    def check(files: list[tuple[list[bytes], bytes]]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = attacked.make(Path(name), declared)
            attacked.put(folder, f"incoming/00.{suffix}", header + attacked.lines([form.write(0)]))
            for number, (bad, end) in enumerate(files, 1):
                content = header + end.join(bad)
                attacked.put(folder, f"incoming/{number:02d}.{suffix}", content)
                attacked.put(folder, f"incoming/{number:02d}_.{suffix}.gz", gzip.compress(content))
            attacked.put(folder, f"incoming/99.{suffix}", header + attacked.lines([form.write(900)]))
            found = attacked.absorb(folder)
            fuzzed.assert_conserved(folder, found)
            assert {0, 900} <= {row["id"] for row in found.accepted.values()}

    check()


def test_any_parquet_rows() -> None:
    declared = fuzzed.declaration("files: {path: incoming}\n  format: parquet")
    good = [json.loads(attacked.good(number)) for number in range(2)]

    @fuzzed.bounded(EXAMPLES)
    @given(st.lists(st.fixed_dictionaries(fuzzed.VALUES), max_size=40))
    def check(bad: list[dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = attacked.make(Path(name), declared)
            attacked.put(folder, "incoming/a.parquet", fuzzed.parquet([good[0], *bad, good[1]]))
            found = attacked.absorb(folder)
            fuzzed.assert_conserved(folder, found)
            for offset, number in ((0, 0), (len(bad) + 1, 1)):
                assert found.accepted[offset, 0]["note"] == f"n{number}"
            assert all(row["failed"] != ["malformed"] for row in found.rejected.values())

    check()
