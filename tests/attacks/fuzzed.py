"""Any bytes as records of every format, between records that are right: the strategies and the laws of the fuzzers.

`where` skips what has no note: so whether a record is skipped or rejected says whether it was taken for a record at all,
and the audit, which parses by code of its own, has to agree about each of them.
"""

from __future__ import annotations

import io
import os
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import penstock
from attacks import attacked
from plan import oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FAR = 1_000_000
"""Identities of records that are mutated; neighbours have those of their offsets."""


def declaration(source: str) -> str:
    silver = attacked.PIPELINE.partition("silver:")[2]
    return f"pipeline: p\nsource:\n  {source}\n  where: note <> 'skip'\nsilver:{silver}"


@dataclass(frozen=True)
class Form:
    """A format of records: how it is declared for a push log, and how a record of it is written that is right."""

    name: str
    format: str
    write: Callable[[int], bytes]

    @property
    def declaration(self) -> str:
        return declaration(f"push: {{}}\n  format: {self.format}")


def listed(number: int) -> bytes:
    return b'{"data":[%s]}' % attacked.good(number)


def delimited(number: int) -> bytes:
    return b"%d,%d,%d.25,n%d" % (number, attacked.START + number * 1_000, number, number)


def quoted(number: int) -> bytes:
    return b"'%d';%d;'%d.25';n%d" % (number, attacked.START + number * 1_000, number, number)


def logged(number: int) -> bytes:
    return b"INFO " + attacked.good(number)


FORMS = (
    Form("json", "json", attacked.good),
    Form("records", "json\n  records: data", listed),
    Form("csv", "{csv: {columns: [id, at, price, note], 'null': [NA]}}", delimited),
    Form("csv with other marks", """{csv: {columns: [id, at, price, note], delimiter: ";", quote: "'"}}""", quoted),
    Form("text", "{text: {pattern: '(?P<level>[A-Z]+) (?P<body>.*)', json: body}}", logged),
)

# -- what is drawn ----------------------------------------------------------------------------------------------------

SCRAPS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"{}[]\",:;'|\\ \t\r\n\x00\x1f0-+.eENn/*"),
        *(b"null", b"true", b"NaN", b"-inf", b"Infinity", b"1e999", b"0x1", b"\\u0000", b"\\ud800", b"\xff", b"\xc3"),
        *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xa8", b'""', b"{}", b"[]", b'"note":', b'"id":', b"INFO "),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, write: Callable[[int], bytes]) -> bytes:
    """A record that is right, with a few pieces of it replaced, mostly where one of its parts ends."""
    value = write(FAR + draw(st.integers(0, 50)))
    for _ in range(draw(st.integers(0, 3))):
        edges = [at for at, byte in enumerate(value) if byte in b":,{}[]\";'"]
        edge = draw(st.sampled_from([*edges, len(value)]))
        start = draw(st.one_of(st.just(edge), st.just(edge + 1), st.integers(0, len(value))))
        value = value[:start] + draw(SCRAPS) + value[start + draw(st.integers(0, 4)) :]
    return value


INSTEAD = st.sampled_from(
    b'NaN -Infinity nan 01 1. .5 +1 1e999 0x1 [1,] {"a":1,} [NaN] "\\ud800" null true [] {} "x" 1.0 -0 "" 12345678901234567890 1/**/ "skip"'.split()
)


@st.composite
def exchanged(draw: st.DrawFn, write: Callable[[int], bytes]) -> bytes:
    """A record that is right but for one value, which is another, or none for a strict parser."""
    value = write(FAR + draw(st.integers(0, 50)))
    places = [match.span() for match in re.finditer(rb"(?<=[:,;])[^:,;{}\[\]]+", value)]
    start, end = draw(st.sampled_from(places))
    return value[:start] + draw(INSTEAD) + value[end:]


def records(form: Form) -> st.SearchStrategy[list[bytes]]:
    """Some of each kind in every list: left to itself, a short run would draw little that is nearly right."""
    text = st.text(max_size=20).map(lambda drawn: drawn.encode("utf-8", "surrogatepass"))
    kinds = st.tuples(
        st.lists(st.binary(max_size=40), max_size=8),
        st.lists(text, max_size=8),
        st.lists(st.lists(SCRAPS, max_size=12).map(b"".join), max_size=8),
        st.lists(mutated(form.write), min_size=10, max_size=15),
        st.lists(exchanged(form.write), min_size=20, max_size=25),
    )
    return kinds.map(lambda drawn: [record for kind in drawn for record in kind])


def bounded(examples: int) -> settings:
    """Always the same examples: what CI runs. Shrinking would cost a run each, and a failure prints the records."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def seeds(count: int) -> list[int]:
    """Seeds for one run of the tests: ATTACK_SEED repeats one, else new ones are drawn. A failure names its own."""
    told = os.environ.get("ATTACK_SEED")
    return [int(told)] if told else [random.SystemRandom().randrange(1 << 32) for _ in range(count)]


# -- the laws ---------------------------------------------------------------------------------------------------------


def between(form: Form, bad: Sequence[bytes]) -> list[bytes]:
    """Records that are right at the even offsets."""
    found = [form.write(0)]
    for number, record in enumerate(bad):
        found += [record, form.write(2 * number + 2)]
    return found


def assert_laws(folder: Path, form: Form, bad: Sequence[bytes]) -> None:
    """Push the records between others; each ends in exactly one place, and the neighbours do not notice."""
    attacked.make(folder, form.declaration)
    project = penstock.open(folder)
    project.ingest("p", between(form, bad))
    found = attacked.absorb(folder)
    skipped = assert_conserved(folder, found)
    for offset in range(0, 2 * len(bad) + 1, 2):
        row = found.accepted.get((offset, 0))
        assert row is not None, f"{form.name}: record {offset} between {bad[max(0, offset // 2 - 1) : offset // 2 + 1]}"
        assert (row["id"], row["note"]) == (offset, f"n{offset}")
    if form.name == "json":
        for number, value in enumerate(bad):
            assert_judged(value, found, 2 * number + 1, skipped)


def assert_conserved(folder: Path, found: attacked.Ends) -> set[int]:
    """Every event of the ledger's count is accepted, rejected or skipped; the offsets that left no row."""
    project = penstock.open(folder)
    counts = project.sql(
        "select coalesce(sum(records), 0)::bigint as records, coalesce(sum(events), 0)::bigint as events, "
        "coalesce(sum(skipped), 0)::bigint as skipped from ledger.p"
    ).to_pylist()[0]
    in_bronze = {row["_offset"] for row in project.sql("select _offset from bronze.p").to_pylist()}
    assert len(in_bronze) == counts["records"]
    assert len(found.accepted) + len(found.rejected) + counts["skipped"] == counts["events"]
    skipped = in_bronze - {offset for offset, _ in {**found.accepted, **found.rejected}}
    assert len(skipped) <= counts["skipped"]
    return skipped


def assert_judged(value: bytes, found: attacked.Ends, offset: int, skipped: set[int]) -> None:
    """What is JSON by RFC 8259 is told as the oracle tells it, and so is what it holds."""
    try:
        members = oracle.parse(value)
    except oracle.Malformed:
        assert offset not in skipped, value
        assert found.of(offset) == ["malformed"], value
        return
    note = members.get("note")
    is_skipped = note in (None, "skip")
    assert (offset in skipped) == is_skipped, (value, found.rejected.get((offset, 0)))
    if not is_skipped:
        assert found.of(offset) != ["malformed"], (value, found.rejected[offset, 0]["detail"])


# -- Parquet ----------------------------------------------------------------------------------------------------------

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.one_of(st.none(), st.integers(FAR, 2**63 - 1)),
    "at": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2 * attacked.START)),
    "price": st.one_of(st.none(), st.text(max_size=8), st.integers(0, 99).map(str)),
    "note": st.one_of(st.none(), st.text(max_size=8), st.just("skip")),
    "f": st.one_of(st.none(), st.floats()),
    "b": st.one_of(st.none(), st.binary(max_size=8)),
    "l": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.floats()), max_size=3)),
    "s": st.one_of(st.none(), st.fixed_dictionaries({"x": st.one_of(st.none(), st.text(max_size=3))})),
    "d": st.one_of(st.none(), st.decimals("-1e20", "1e20", places=9, allow_nan=False, allow_infinity=False)),
    "t": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
}
KINDS = {
    **dict.fromkeys(("price", "note"), pa.string()),
    **dict.fromkeys(("id", "at"), pa.int64()),
    "f": pa.float64(),
    "b": pa.binary(),
    "l": pa.list_(pa.float32()),
    "s": pa.struct({"x": pa.string()}),
    "d": pa.decimal128(38, 9),
    "t": pa.int64(),
}


def parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    table = pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in KINDS.items()})
    for unit in ("s", "ns"):
        table = table.append_column(f"t_{unit}", table["t"].cast(pa.timestamp(unit)))
    sink = io.BytesIO()
    pq.write_table(table, sink, version="2.6")
    return sink.getvalue()
