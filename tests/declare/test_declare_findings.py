"""Every finding about a declaration: its code, at its exact line and column, and no other finding beside it."""

from __future__ import annotations

import pytest

from declare.marked import declaration, expected
from penstock.declare import load_pipeline
from penstock.declare.codes import CODES
from penstock.declare.reading import BRACES_REPAIR

ENVIRONMENT = {"FOLDER": "incoming", "EMPTY": "", "PARTS": "3", "TEXT": "many"}

REFERENCE = "  items: {file: items.csv, key: sku, columns: {weight: float64, since: timestamp}}\n"
CSV = "  files: incoming\n  format: {csv: {columns: [id, at, price, amount]}}\n"
TEXT = "  push: {}\n  format:\n    text: {pattern: '(?P<id>.) (?P<at>.) (?P<price>.) (?P<amount>.)'}\n"
GOLD = "  daily: {window: 1 day, measures: {total: sum(amount)}}\n"


def columns(text: str) -> str:
    return declaration(columns=text)


def source(text: str) -> str:
    return declaration(source=text)


def silver(text: str) -> str:
    return declaration(silver="  table: orders\n" + text)


def gold(text: str) -> str:
    return declaration(gold=text)


FILE_CASES = {
    "tab": "pipeline: shop\n«tab»\tsource: 1\n",
    "syntax": "pipeline: 'shop\n\nsource«yaml-syntax»",
    "colon": "pipeline: a«yaml-syntax»: b\n",
    "bad escape": '«yaml-syntax»pipeline: "\\U99999999"\n',
    "version": "%YAML 1.1\n«yaml-version»---\npipeline: shop\n",
    "two documents": "pipeline: shop\n«several-documents»---\npipeline: shop\n",
    "empty": "«empty-document»",
    "only a comment": "«empty-document»# nothing\n",
    "a list": "«wrong-shape»- a\n",
    "a text": "«wrong-shape»shop\n",
    "control": "pipeline: sh«control-character»\0op\n",
    "surrogate": "pipeline: sh«control-character»\ud800op\n",
    "deep": "pipeline: " + "[" * 63 + "«too-deep»" + "[" * 10,
    "unknown alias": "pipeline: «unknown-alias»*shop\n",
    "recursive alias": "pipeline: &a [«recursive-alias»*a]\n",
    "comma before a closing text": "rules:\n  known: {check: side in ('buy', 'sell'«yaml-syntax»)}\n",
    "open brace": "source:\n  files: {path: incoming\n  format«yaml-syntax»: json\n",
    "variable in braces": "pipeline: {a: $«yaml-syntax»{B}}\n",
    "bomb": (
        "x-0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
        + "".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 5))
        + "x-5: [*a4, *a4, *a4, «too-many-values»*a4, *a4]\n"
    ),
}

VALUE_CASES = {
    "tag": declaration(pipeline="pipeline: «unknown-tag»!shop shop\n"),
    "python tag": declaration(more="x-a: «unknown-tag»!!python/object:os.system {}\n"),
    "duplicate key": declaration(more="«duplicate-key»pipeline: shop\n"),
    "duplicate column": columns("    id: string\n    «duplicate-key»id: string\n"),
    "list as key": declaration(more="? «key-not-text»[a]\n: b\n"),
    "merge": declaration(more="x-a:\n  <<: «merge-not-mapping»text\n"),
    "unknown field": declaration(more="«unknown-field»sliver: {}\n"),
    "unknown column field": columns("    id: {type: string, «unknown-field»require: true}\n"),
    "missing everything": "«missing-field»«missing-field»x-a: 1\npipeline: shop\n",
    "missing type": columns("    «missing-field»id: {required: true}\n    at: timestamp\n"),
    "missing check": declaration(rules="    r: «missing-field»{otherwise: flag}\n"),
    "later serve": declaration(more="«not-in-this-version»serve: {latest: {from: orders}}\n"),
    "rejects without brokers": declaration(more="rejects: {kafka: «missing-field»{topic: x}}\n"),
    "rejects back to the source": source(
        "  kafka: {topic: a, brokers: a}\nrejects: {kafka: {«conflicting-fields»topic: a}}\n"
    ),
    "kept option of rejects": source(
        "  kafka: {topic: a, brokers: a}\nrejects: {kafka: {topic: x, options: {«kept-option»acks: 1}}}\n"
    ),
    "security of rejects": source(
        "  kafka: {topic: a, brokers: a}\nrejects: {kafka: {topic: x, security: {«option-without-use»ca: x.pem}}}\n"
    ),
    "topic's name": source("  kafka: {topic: «bad-name»a/b, brokers: a}\n"),
    "brokers": source("  kafka: «missing-field»{topic: a}\n"),
    "kept option": source("  kafka: {topic: a, brokers: a, options: {«kept-option»group.id: x, client.rack: r}}\n"),
    "password without SASL": source(
        "  kafka: {topic: a, brokers: a, security: {protocol: ssl, «option-without-use»password: x}}\n"
    ),
    "two secrets": source(
        "  kafka: {topic: a, brokers: a, security: {protocol: ssl, key_password: "
        "«conflicting-fields»{value: x, file: y}}}\n"
    ),
    "later avro": source("  push: {}\n  format: «not-in-this-version»avro\n"),
    "later protobuf": source("  push: {}\n  format: {«not-in-this-version»protobuf: {file: a}}\n"),
    "later session": gold("  g: {window: {«not-in-this-version»session: 1 h, size: 1 h}, measures: {n: count()}}\n"),
    "later window": gold("  g: {window: «not-in-this-version»history, measures: {n: count()}}\n"),
    "later current": gold("  g: {«not-in-this-version»current: id, window: 1 h, measures: {n: count()}}\n"),
    "later history": gold("  g: {«not-in-this-version»history: id, window: 1 h, measures: {n: count()}}\n"),
    "later action": declaration(rules="    r: {check: price > 0, otherwise: «not-in-this-version»clamp}\n"),
    "later reference": declaration(
        references="  items: {file: a.csv, key: sku, «not-in-this-version»postgres: {table: a}}\n"
    ),
    "shape of a section": declaration(more="gold: «wrong-shape»[a]\n"),
    "shape of columns": declaration(
        silver="  table: orders\n  key: id\n  event_time: at\n",
        columns="    «wrong-shape»- id\n",
        gold="  g: {window: 1 h, by: sku, measures: {n: count()}}\n",
    ),
    "shape of references": declaration(
        references="  «wrong-shape»- items\n", columns="    w: {lookup: items.weight, on: w2}\n    w2: string\n"
    ),
    "shape of a name": "pipeline: «wrong-shape»{a: b}\n" + declaration(pipeline=""),
    "shape of source": source("  «wrong-shape»- push\n"),
    "shape of format": source("  push: {}\n  format: «wrong-shape»[json]\n"),
    "nothing": source("  «empty-value»files:\n"),
    "nothing in a name": declaration(pipeline="«empty-value»pipeline:\n"),
    "empty expression": declaration(rules='    r: «empty-value»""\n'),
    "no columns": columns("    «empty-list»{}\n"),
    "no measures": gold("  g: {window: 1 h, measures: «empty-list»{}}\n"),
    "no key": silver("  key: «empty-list»[]\n"),
    "comma in decimal": columns("    id: {type: «bad-type»decimal(18,«unquoted-comma»8)}\n"),
    "comma in SQL": columns("    at: {type: timestamp, sql: greatest(a,«unquoted-comma» b)}\n").replace(
        ",«unquoted-comma» b", ", «unquoted-comma»b"
    ),
    "comma before a text": declaration(rules="    r: {check: side in ('buy', «unquoted-comma»'sell'}\n"),
    "comma in measure": gold("  g: {window: 1 h, measures: {n: quantile(price, «unquoted-comma»0.5)}}\n"),
    "no mechanism": source(
        "  kafka: {topic: a, brokers: b, security: «missing-field»{protocol: sasl_ssl, username: u, password: p}}\n"
    ),
    "on_data_loss": source("  push: {}\n  on_data_loss: «unknown-value»ignore\n"),
    "format": source("  push: {}\n  format: «unknown-value»jsn\n"),
    "otherwise": declaration(rules="    r: {check: price > 0, otherwise: «unknown-value»flagg}\n"),
    "partitions": source("  push: {partitions: «not-a-number»two}\n"),
    "partitions in quotes": source("  push: {partitions: «not-a-number»'2'}\n"),
    "partitions as float": source("  push: {partitions: «not-a-number»2.5}\n"),
    "faults": source("  simulate: {world: market, faults: «not-a-number»some}\n"),
    "faults nan": source("  simulate: {world: market, faults: «not-a-number».nan}\n"),
    "too many faults": source("  simulate: {world: market, faults: «out-of-range»1.5}\n"),
    "too many partitions": source("  push: {partitions: «out-of-range»100000}\n"),
    "required": columns("    id: {type: string, required: «not-a-boolean»yes}\n"),
    "long expression": declaration(rules=f"    r: «too-long»{'1 + ' * 3000}1\n"),
    "long description": declaration(more=f"description: «too-long»{'a' * 10_001}\n"),
    "many key columns": silver("  key: «too-many»[" + "id, " * 40 + "]\n"),
    "bad pipeline name": declaration(pipeline="pipeline: «bad-name»Shop-1\n"),
    "bad table name": declaration(silver="  table: «bad-name»Orders\n"),
    "bad column name": columns("    «bad-name»orderId: string\n"),
    "long name": columns("    «bad-name»" + "a" * 64 + ": string\n"),
    "system column": columns("    «reserved-name»_batch: string\n"),
    "window column": columns("    «reserved-name»window_start: timestamp\n"),
    "built-in rule": declaration(rules="    «reserved-name»malformed: price > 0\n"),
    "measure of every table": gold("  g: {window: 1 h, measures: {«reserved-name»window_end: count()}}\n"),
    "reference column": declaration(
        references="  items: {file: a.csv, key: sku, columns: {«reserved-name»_version: int64}}\n"
    ),
    "case": columns("    name: string\n    «duplicate-name»Name: string\n"),
    "repeated key": silver("  key: [id, «repeated-name»id]\n"),
    "repeated by": gold("  g: {window: 1 h, by: [id, «repeated-name»id], measures: {n: count()}}\n"),
    "path": source('  files: {path: «bad-path»"a\\nb"}\n'),
    "delimiter": source("  push: {}\n  format: {csv: {delimiter: «bad-character»';;'}}\n"),
    "delimiter tab": source("  push: {}\n  format: {csv: {delimiter: «bad-character»\\t}}\n"),
    "duration": silver("  late_after: «bad-duration»soon\n"),
    "duration without unit": silver("  late_after: «bad-duration»10\n"),
    "duration with an odd unit": silver("  late_after: «bad-duration»10 secnds\n"),
    "duration of a month": silver("  late_after: «bad-duration»1 month\n"),
    "duration too fine": silver("  late_after: «bad-duration»0.5 us\n"),
    "duration too long": silver("  late_after: «out-of-range»999999 days\n"),
    "unique within nothing": silver("  key: id\n  unique_within: «out-of-range»1 ms\n"),
    "window of nothing": gold("  g: {window: «out-of-range»0 s, measures: {n: count()}}\n"),
    "half a day": gold("  g: {window: «bad-duration»1.5 days, measures: {n: count()}}\n"),
    "type": columns("    id: «bad-type»integer\n"),
    "decimal": columns('    id: «bad-type»"decimal(40,2)"\n'),
    "path with a gap": columns("    id: {type: string, from: a.«bad-field-path».b}\n"),
    "path with an index": columns("    id: {type: string, from: 'a«bad-field-path»[-1]'}\n"),
    "path in quotes": columns("    id: {type: string, from: 'a.«bad-field-path»\"b'}\n"),
    "path to a number": columns("    id: {type: string, from: a.«bad-field-path»0}\n"),
    "path into the key": columns("    id: {type: string, from: _key«bad-field-path».a}\n"),
    "path to all headers": columns("    id: {type: string, from: «bad-field-path»_headers}\n"),
    "path to a system column": columns("    id: {type: string, from: «bad-field-path»_batch}\n"),
    "path to the end": columns("    id: {type: string, from: a.«bad-field-path»}\n").replace(
        "a.«bad-field-path»}", "'a.«bad-field-path»'}"
    ),
    "records path": source("  push: {}\n  records: a[«bad-field-path»x]\n").replace(
        "a[«bad-field-path»x]", "a«bad-field-path»[x]"
    ),
    "pattern": source("  push: {}\n  format: {text: {pattern: «bad-pattern»'(?P<id>'}}\n"),
    "pattern with lookahead": source("  push: {}\n  format: {text: {pattern: '(?P<id>.)«bad-pattern»(?=x)'}}\n"),
    "pattern with a backreference": source("  push: {}\n  format: {text: {pattern: '(?P<id>.)«bad-pattern»\\1'}}\n"),
    "pattern without groups": source("  push: {}\n  format: {text: {pattern: «pattern-groups»'(.*)'}}\n"),
    "pattern with a group twice": source(
        "  push: {}\n  format: {text: {pattern: «pattern-groups»'(?P<a>.)(?P<a>.)'}}\n"
    ),
    "time format": columns("    at: {type: timestamp, format: 'day «bad-time-format»%Q'}\n"),
    "time format without letters": columns("    at: {type: timestamp, format: «bad-time-format»iso}\n"),
    "timezone": columns("    at: {type: timestamp, timezone: «unknown-timezone»Europe/Berln}\n"),
    "variable in SQL": declaration(rules="    r: price > «variable-not-allowed»${LIMIT}\n"),
    "variable in a name": declaration(silver="  table: «variable-not-allowed»${FOLDER}\n"),
    "variable without end": source("  files: a/«variable-malformed»${FOLDER\n"),
    "variable without name": source("  files: a/«variable-malformed»${}\n"),
    "variable missing": source("  files: ${FOLDER}/«variable-missing»${NOWHERE}\n"),
    "variable empty": source("  files: «empty-value»${EMPTY}\n"),
    "variable of another kind": source('  push: {partitions: «not-a-number»"${TEXT}"}\n'),
}

MEANING_CASES = {
    "two sources": source("  push: {}\n  «conflicting-fields»files: {path: a}\n"),
    "no source": source("  «missing-field»format: json\n"),
    "two origins": columns("    id: {type: string, from: a, «conflicting-fields»sql: b}\n"),
    "unit and format": columns("    at: {type: timestamp, unit: ms, «conflicting-fields»format: '%Y'}\n"),
    "on twice": declaration(
        references=REFERENCE,
        columns="    sku: string\n    x: {lookup: {from: items.weight, on: sku}, «conflicting-fields»on: sku}\n",
    ),
    "unit of a string": columns("    id: {type: string, «option-without-use»unit: ms}\n"),
    "unit of an expression": columns("    at: {type: timestamp, sql: now(), «option-without-use»unit: ms}\n"),
    "fold": columns("    at: {type: timestamp, «option-without-use»fold: later}\n"),
    "on without lookup": columns("    id: {type: string, «option-without-use»on: at}\n    at: timestamp\n"),
    "parquet over push": source("  push: {}\n  «format-source»format: parquet\n"),
    "simulated csv": source("  simulate: market\n  «format-source»format: csv\n"),
    "records in meta": source("  push: {}\n  records: «records-path»_key\n"),
    "records in csv": declaration(source=CSV + "  «records-path»records: a\n"),
    "records in text": declaration(source=TEXT + "  «records-path»records: a\n"),
    "no envelope": columns("    id: {type: string, from: «no-envelope»^.id}\n"),
    "csv without names": source("  push: {}\n  format: {csv: {«csv-columns»header: false}}\n"),
    "csv with both": source("  push: {}\n  format: {csv: {header: true, «csv-columns»columns: [id]}}\n").replace(
        "[id]", "[id, at, price, amount]"
    ),
    "csv quote": source("  push: {}\n  format: {csv: {«csv-quote»delimiter: '\"'}}\n"),
    "path in csv": declaration(source=CSV, columns="    x: {type: string, from: «path-in-csv»id.a}\n"),
    "field of csv": declaration(source=CSV, columns="    «unknown-csv-field»x: {type: string}\n"),
    "path in text": declaration(source=TEXT, columns="    x: {type: string, from: «path-in-text»id.a}\n"),
    "group of text": declaration(source=TEXT, columns="    x: {type: string, from: «unknown-group»y}\n"),
    "json group": source("  push: {}\n  format: {text: {pattern: '(?P<id>.)', json: «unknown-group»di}}\n"),
    "key": silver("  key: [id, «unknown-column»venue]\n"),
    "order": silver("  order: «unknown-column»sequence\n"),
    "event time": silver("  event_time: «unknown-column»time\n"),
    "event time of the system": silver("  event_time: «unknown-column»_batch\n"),
    "by": gold("  g: {window: 1 h, by: [id, «unknown-column»x], measures: {n: count()}}\n"),
    "float key": silver("  key: [id, «float-key»price]\n"),
    "float key of a reference": declaration(
        references="  items: {file: a, key: «float-key»w, columns: {w: float32}}\n"
    ),
    "unique without key": silver("  «unique-without-key»unique_within: 1 day\n"),
    "event time type": silver("  event_time: «event-time-type»id\n"),
    "event time looked up": declaration(
        references=REFERENCE,
        silver="  table: orders\n  event_time: «event-time-type»x\n",
        columns="    sku: string\n    x: {lookup: items.colour}\n",
    ),
    "reference": columns("    x: {lookup: «unknown-reference»items.weight}\n"),
    "lookup": declaration(references=REFERENCE, columns="    x: {lookup: «bad-lookup»items}\n"),
    "lookup path": declaration(references=REFERENCE, columns="    x: {lookup: items.«bad-field-path»}\n").replace(
        "items.«bad-field-path»}", "'items.«bad-field-path»'}"
    ),
    "lookup without its key": declaration(references=REFERENCE, columns="    «lookup-on»x: {lookup: items.weight}\n"),
    "lookup on two": declaration(
        references=REFERENCE, columns="    a: string\n    x: {lookup: items.weight, on: «lookup-on»[a, a]}\n"
    ),
    "lookup on nothing": declaration(
        references=REFERENCE, columns="    x: {lookup: {from: items.weight, on: «unknown-column»b}}\n"
    ),
    "lookup type": declaration(
        references=REFERENCE, columns="    sku: string\n    x: {type: «lookup-type»int64, lookup: items.weight}\n"
    ),
    "cycle": declaration(
        references=REFERENCE,
        columns="    «cycle»a: {lookup: items.x, on: b}\n    «cycle»b: {lookup: items.y, on: a}\n",
    ),
    "measure and by": gold("  g: {window: 1 h, by: id, measures: {«name-clash»id: count()}}\n"),
    "days and hours": gold(
        "  g: {window: {size: 1 day, «window-units»every: 1 h, timezone: Europe/Berlin}, measures: {n: count()}}\n"
    ),
    "no multiple": gold("  g: {window: {size: 5 min, «window-multiple»every: 2 min}, measures: {n: count()}}\n"),
    "longer step": gold("  g: {window: {size: 1 min, «window-multiple»every: 2 min}, measures: {n: count()}}\n"),
    "days and weeks": gold("  g: {window: {size: 10 days, «window-multiple»every: 1 week}, measures: {n: count()}}\n"),
    "many windows": gold("  g: {window: {size: 1 h, «too-many»every: 1 s}, measures: {n: count()}}\n"),
    "zone of hours": gold(
        "  g: {window: {size: 24 h, «window-timezone»timezone: Europe/Berlin}, measures: {n: count()}}\n"
    ),
}

CASES = {**FILE_CASES, **VALUE_CASES, **MEANING_CASES}


@pytest.mark.parametrize("name", CASES)
def test_finding_stands_at_its_place_and_alone(name: str) -> None:
    text, places = expected(CASES[name])
    loaded = load_pipeline(text, "pipelines/shop.yaml", ENVIRONMENT)
    found = [(finding.mark.line, finding.mark.column, finding.code) for finding in loaded.findings]
    assert found == places, "\n".join(str(finding) for finding in loaded.findings)
    assert loaded.pipeline is None
    assert all(finding.mark.file == "pipelines/shop.yaml" and finding.message for finding in loaded.findings)


TESTED_ELSEWHERE = {
    "not-utf8": "test_declare_project",
    "too-large": "test_declare_project",
    "more-findings": "below",
    "no-project": "test_declare_project",
    "unreadable": "test_declare_project",
    "bad-setting": "test_declare_project",
    "secret-in-file": "test_declare_project",
    "duplicate-pipeline": "test_declare_project",
    "duplicate-table": "test_declare_project",
    "reference-differs": "test_declare_project",
    "unknown-pipeline": "test_declare_project",
    "unknown-table": "test_declare_project",
    "bad-time": "test_declare_testfile",
    "not-json": "test_declare_testfile",
}


def test_every_code_is_tested() -> None:
    here = {code for text in CASES.values() for _, _, code in expected(text)[1]}
    changes = {code for code in CODES if code.startswith(("changed-", "dropped-", "moved-"))}
    assert set(CODES) - here - changes == set(TESTED_ELSEWHERE)


def test_sound_parts_have_no_findings() -> None:
    for text in (
        declaration(),
        declaration(source=CSV),
        declaration(source=TEXT),
        declaration(references=REFERENCE),
        declaration(gold=GOLD),
        declaration(source="  files: ${FOLDER}\n"),
        declaration(source='  push: {partitions: "${PARTS}"}\n'),
    ):
        loaded = load_pipeline(text, "shop.yaml", ENVIRONMENT)
        assert loaded.findings == ()
        assert loaded.pipeline is not None


def test_all_findings_come_at_once() -> None:
    marked = declaration(
        pipeline="pipeline: «bad-name»Shop\n",
        source="  push: {partitions: «out-of-range»0}\n",
        silver="  table: orders\n  key: [«unknown-column»sku, «float-key»price]\n  late_after: «bad-duration»later\n",
        rules="    r: {«unknown-field»chek: price > 0, check: price > 1}\n",
        gold="  g: {window: «bad-duration»1 fortnight, by: «unknown-column»idd, measures: {n: count()}}\n",
        more="«not-in-this-version»serve: {}\n",
    )
    text, places = expected(marked)
    found = load_pipeline(text, "shop.yaml", {}).findings
    assert [(finding.mark.line, finding.mark.column, finding.code) for finding in found] == places


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        ("unknown field", "Did you mean `silver`?"),
        ("unknown column field", "Did you mean `required`?"),
        ("type", "Did you mean `int64`?"),
        ("on_data_loss", "Known values: `record`, `stop`."),
        ("otherwise", "Did you mean `flag`?"),
        ("timezone", "Did you mean `Europe/Berlin`?"),
        ("duration with an odd unit", "Did you mean `10 seconds`?"),
        (
            "bad column name",
            "A letter a-z, then letters a-z, digits and `_`, at most 63 in all. For example `order_id`.",
        ),
        ("variable missing", "Set it: `export NOWHERE=...`."),
        ("zone of hours", "Write `1 day` instead of hours."),
        ("comma before a closing text", BRACES_REPAIR.format(2)),
        ("open brace", BRACES_REPAIR.format(2)),
    ],
)
def test_repair_names_what_was_probably_meant(name: str, repair: str) -> None:
    text, _ = expected(CASES[name])
    assert [finding.repair for finding in load_pipeline(text, "shop.yaml", ENVIRONMENT).findings] == [repair]


def test_missing_variable_says_where_it_was_looked_for() -> None:
    text, _ = expected(CASES["variable missing"])
    (finding,) = load_pipeline(text, "shop.yaml", ENVIRONMENT).findings
    assert "NOWHERE" in finding.message
    assert "environment" in finding.message


def test_findings_are_bounded() -> None:
    text = declaration(more="".join(f"field_{number}: 1\n" for number in range(5_000)))
    findings = load_pipeline(text, "shop.yaml", {}).findings
    assert len(findings) == 201
    assert findings[-1].code == "more-findings"
    assert "4800" in findings[-1].message
