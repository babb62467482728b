"""What an expression is bound to means in DuckDB what the user's text means there; everything else is a finding."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.limits import EXPRESSION_CHARACTERS_MAX
from penstock.model.finding import Mark
from penstock.model.pipeline import Expression
from penstock.model.types import ColumnType
from penstock.plan import functions
from penstock.plan.expressions import Bound, bind, bind_fields, system_types
from penstock.plan.numerics import DECIMAL, FLOAT, INTEGER, cannot_fail, numeric
from penstock.plan.sqlparser import parse

TYPES = {
    "price": "decimal(18,8)",
    "wide": "decimal(38,10)",
    "quantity": "float64",
    "single": "float32",
    "size": "int64",
    "lot": "int32",
    "tiny": "int8",
    "currency": "string",
    "ok": "boolean",
    "ts": "timestamp",
    "day": "date",
    "payload": "json",
    "body": "binary",
}
COLUMNS = {name: ColumnType.parse(text) for name, text in TYPES.items()} | system_types()
ROWS = """
SELECT 12.5::DECIMAL(18,8) AS price, 3.25::DECIMAL(38,10) AS wide, 2.5::DOUBLE AS quantity, 1.5::FLOAT AS single,
  7::BIGINT AS size, -3::INTEGER AS lot, 2::TINYINT AS tiny, 'EUR' AS currency, TRUE AS ok,
  TIMESTAMPTZ '2024-02-29 13:14:15.123456+00' AS ts, DATE '2024-02-29' AS day, '{"a": {"b": [1, "x"]}, "n": 5}' AS payload,
  '\\xAB\\xCD'::BLOB AS body, ['big_trade', 'odd'] AS _flags, '{}' AS _extra,
  TIMESTAMPTZ '2024-03-01 00:00:00+00' AS _ingested_at, TIMESTAMPTZ '2024-02-29 13:14:16+00' AS _timestamp,
  1::INTEGER AS _source, 0::INTEGER AS _partition, 42::BIGINT AS _offset, 0::INTEGER AS _index
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, [], NULL,
  TIMESTAMPTZ '2024-03-01 00:00:00+00', NULL, 1, 0, 43, 0
UNION ALL
SELECT -0.00000001, 0, 0, -0.5, 0, 0, 0, '', FALSE, TIMESTAMPTZ '1969-12-31 23:59:59.999999+00', DATE '1900-01-01', '[]',
  ''::BLOB, ['odd'], '{"x": 1}', TIMESTAMPTZ '2024-03-01 00:00:00+00', NULL, 1, 0, 44, 1
"""


@pytest.fixture(scope="module")
def database():
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute(f"CREATE TABLE rows AS {ROWS}")
    yield connection
    connection.close()


def at_start(sql: str) -> Expression:
    return Expression(sql, Mark("ticks.yaml", 7, 20))


def bound(sql: str, **options) -> Bound:
    found = bind(at_start(sql), COLUMNS, **options)
    assert isinstance(found, Bound), f"{sql}: {[str(each) for each in found]}"
    return found


def values(database, sql: str) -> tuple[str, list]:
    cursor = database.cursor()
    relation = cursor.sql(f"SELECT typeof(v), v FROM (SELECT ({sql}) AS v FROM rows ORDER BY _offset)")
    rows = relation.to_arrow_table().to_pydict()
    kinds, found = rows.values()
    return kinds[0], [repr(value) for value in found]


SAME_MEANING = """
price * quantity
price * size + lot - tiny
-price ; - 2 ^ 2 ; 2 ^ 3 ^ 2 ; -size // 2 ; -7 % 4 ; 7 // 2 * 2 ; 7 % 4 * 2 ; 3 - 2 - 1 ; - - 1 ; +1 ; 2 - -1 ; 2 ** 3
5 / 2 ; 1 / 0 ; size / lot ; price / 3 ; 5.5 // 2 ; 1 | 2 & 3 ; 1 << 2 + 1 ; 1 + 2 << 1 ; 6 & 3 | 8
'a' || 1 + 2 ; 1 + 2 || 'a' ; 1 | 2 || 3 ; 1 || 2 | 4 ; currency || '/' || size
not 1 = 2 ; not ok and ok ; not ok or ok ; ok or ok and not ok ; not not ok ; not size in (7) ; not ok is null
1 = 2 is false ; size = 7 is null ; size > 5 is not true ; ok is true ; ok is unknown ; ok isnull ; ok notnull
1 is distinct from null ; size is not distinct from lot ; 1 = 1 is distinct from true ; true is distinct from 1 = 1
1 is distinct from 2 is true ; size is null = false
size between 1 and 2 + 5 ; size not between 1 and 6 ; 1 between 0 and 2 and ok ; 1 between 0 and 2 = true
size in (1, 7) ; size not in (1, 7) ; 1 + 6 in (7) ; currency in ('EUR', 'USD') or ok ; size in (1) = (lot in (2))
currency like 'E%' ; currency not like 'E%' ; currency ilike 'e_r' ; 'ab' like 'a' || 'b' ; 'a%b' like 'a!%b' escape '!'
true = 'a' like 'a' ; currency || 'x' like '%x'
case when size > 5 then 'big' when size is null then 'none' else 'small' end
case currency when 'EUR' then 1 when 'USD' then 2 end + 1 ; case when null then 1 else 2 end
coalesce(price, 0) ; nullif(currency, '') ; ifnull(size, 1) ; if(ok, 1, 2) ; greatest(size, lot, 3) ; least(price, quantity)
cast(price as double) ; price::decimal(10,2) ; size::string || 'x' ; '5'::integer + 1 ; cast('2024-01-01' as date)
try_cast(currency as bigint) ; price::double::varchar ; -1::bigint ; (-1)::bigint ; '12'::tinyint
length(currency) ; upper(currency) ; lower(currency) ; substring(currency, 1, 2) ; substr(currency, 2) ; left(currency, 2)
position('U' in currency) ; strpos(currency, 'R') ; replace(currency, 'E', 'x') ; trim('  a ') ; lpad(currency, 5, '*')
split_part('a/b/c', '/', 2) ; string_split('a,b', ',') ; concat(currency, size, NULL) ; concat_ws('-', 'a', NULL, 'b')
repeat('ab', 3) ; reverse(currency) ; starts_with(currency, 'E') ; contains(currency, 'U') ; chr(65) ; ascii('A')
format('{} and {:.2f}', currency, quantity) ; printf('%05d', size) ; translate('abc', 'ab', 'xy') ; overlay('abc', 'x', 2)
regexp_matches(currency, '^E') ; regexp_full_match(currency, '[A-Z]{3}') ; regexp_replace('aaa', 'a', 'b', 'g')
regexp_extract('a12b', '([0-9]+)', 1) ; regexp_extract_all('a1b2', '[0-9]') ; regexp_split_to_array('a1b', '[0-9]')
abs(lot) ; sign(price) ; ceil(quantity) ; floor(price) ; round(price, 1) ; round(quantity) ; trunc(-2.7) ; sqrt(16)
pow(2, 10) ; exp(1) ; ln(quantity + 1) ; log10(100) ; log(2, 8) ; mod(size, 4) ; pi() ; gcd(12, 18) ; xor(5, 3)
date_trunc('hour', ts) ; date_trunc('month', day) ; extract(year from ts) ; extract(isodow from ts) ; date_part('epoch', ts)
epoch(ts) ; epoch_ms(ts) ; epoch_us(ts) ; to_timestamp(1.5) ; make_timestamptz(1000000) ; make_date(2024, 2, 29)
time_bucket(interval '15 minutes', ts) ; ts + interval '1 day' ; ts - interval 2 hour ; ts - ts ; day + 1 ; day - date '2024-01-01'
ts > timestamptz '2024-01-01 00:00:00+00' ; ts < '2024-01-01' ; day = date '2024-02-29' ; interval '1 day 2 hours'
strftime(ts, '%Y-%m-%d') ; strptime('2024-01-02', '%Y-%m-%d') ; try_strptime('x', '%Y') ; date_diff('day', day, ts::date)
age(ts, timestamptz '2024-01-01 00:00:00+00') ; ts at time zone 'Europe/Paris' ; extract(hour from ts at time zone 'Asia/Kolkata')
year(ts) ; month(day) ; dayname(day) ; last_day(day) ; hour(ts) ; week(day) ; monthname(ts) ; date_add(day, interval 1 month)
list_contains(_flags, 'odd') ; len(_flags) ; _flags[1] ; _flags[-1] ; _flags[1:1] ; [1, 2, 3][2] ; list_sort(['b', 'a'])
list_transform(_flags, lambda x: upper(x) || '!') ; list_filter([1, 2, 3], lambda x: x > 1) ; array_to_string(_flags, ',')
list_transform([1, 2], lambda x, i: x * i) ; list_transform([[1], [2, 3]], lambda x: list_transform(x, lambda y: y + len(x)))
(payload -> '$.a') ; (payload ->> '$.n') ; json_extract_string(payload, '$.a.b[1]') ; (payload->>'$.n')::int + 1
json_type(payload) ; json_exists(payload, '$.n') ; json_keys(payload) ; (payload->'$.a'->>'$.b[0]') = '1'
md5(currency) ; sha256(currency) ; sha1('a') ; hash(size, currency) ; base64(body) ; hex(body) ; encode('ü') ; octet_length(body)
currency[1:2] ; 'it''s' ; '--' ; '/* x */' ; '\\n' ; "currency" ; CURRENCY ; Price > 1 ; _offset % 2 ; _timestamp
1_000 ; .5 ; 1. ; 1e3 ; 1.5e-3 ; 12345678901234567890 ; 1.10 ; 007 ; true ; NULL ; null is null
isfinite(quantity) ; isnan(quantity / 0) ; to_days(2) ; to_hours(3) + interval '1 minute' ; interval 1 day * 2
try(1 % 0) ; try('x'::int) ; nullif(size, 7) is null and ok ; (size > 1) = ok ; ((price)) ; (1 = 1) = (2 = 2)
unhex('ABCD') ; from_base64('YQ==') ; url_encode('a b') ; strip_accents('é') ; levenshtein('ab', 'ac') ; bit_count(7)
"""


@pytest.mark.parametrize(
    "sql", [one.strip() for line in SAME_MEANING.strip().splitlines() for one in line.split(" ; ")]
)
def test_bound_sql_means_what_the_text_means(database, sql):
    assert values(database, bound(sql).sql) == values(database, sql)


def test_now_is_the_time_of_ingestion(database):
    for sql in ("now()", "current_timestamp", "NOW()", "get_current_timestamp()", "now() - interval '1 hour'"):
        found = bound(sql)
        assert found.columns == ("_ingested_at",)
        assert values(database, found.sql) == values(
            database,
            sql.lower()
            .replace("get_", "")
            .replace("now()", "_ingested_at")
            .replace("current_timestamp()", "_ingested_at")
            .replace("current_timestamp", "_ingested_at"),
        )


def test_our_types_are_ours_in_casts(database):
    for sql, expected in (
        ("size::int8", "TINYINT"),
        ("size::int16", "SMALLINT"),
        ("size::float32", "FLOAT"),
        ("size::string", "VARCHAR"),
        ("size::decimal(10)", "DECIMAL(10,0)"),
        ("size::numeric(12,2)", "DECIMAL(12,2)"),
        ("currency::json", "JSON"),
        ("day::timestamp", "TIMESTAMP WITH TIME ZONE"),
        ("currency::binary", "BLOB"),
        ("size::double precision", "DOUBLE"),
    ):
        assert bound(sql).sql.count("CAST") == 1
        cursor = database.cursor()
        assert cursor.sql(f"SELECT typeof({bound(sql).sql}) FROM rows LIMIT 0").columns
        assert cursor.sql(f"SELECT typeof({bound(sql).sql}) FROM rows WHERE FALSE OR _offset = 43").fetchall() == [
            (expected,)
        ]


def test_columns_and_kinds_are_told():
    found = bound(
        "case when price > 1 then now() else ts end < timestamp '2024-01-01' and list_contains(_flags, currency)"
    )
    assert found.columns == ("price", "_ingested_at", "ts", "_flags", "currency")
    assert found.kind == "boolean"
    assert [bound(sql).kind for sql in ("price * 2", "currency", "ts", "_flags", "payload", "length(currency)")] == [
        "number",
        "text",
        "time",
        "list",
        "any",
        "number",
    ]


FINDINGS = [
    ("", "sql-syntax", 0),
    ("  ", "sql-syntax", 0),
    ("price >", "sql-syntax", 7),
    ("price > > 1", "sql-syntax", 8),
    ("(price", "sql-syntax", 6),
    ("price)", "sql-syntax", 5),
    ("price size", "sql-syntax", 6),
    ("1 < price < 5", "sql-syntax", 10),
    ("price = 1 = 2", "sql-syntax", 10),
    ("'open", "sql-syntax", 0),
    ('"open', "sql-syntax", 0),
    ('""', "sql-syntax", 0),
    ("price > 0x1F", "sql-syntax", 8),
    ("1e999", "sql-syntax", 0),
    ("currency = e'x'", "sql-syntax", 11),
    ("price > 1\u200b", "sql-syntax", 9),
    ("price § 1", "sql-syntax", 6),
    ("payload->>'$.a' = 'x'", "sql-syntax", 7),
    ("ok and payload->>'$.a'", "sql-syntax", 14),
    ("(payload->>currency)", "sql-refused", 11),
    ("price > 1; drop table rows", "sql-refused", 9),
    ("price > 1 -- fine", "sql-refused", 10),
    ("price /* ; */ > 1", "sql-refused", 6),
    ("price > ?", "sql-refused", 8),
    ("price > $1", "sql-refused", 8),
    ("~size", "sql-refused", 0),
    ("*", "sql-refused", 0),
    ("(select 1)", "sql-refused", 1),
    ("size in (select 1)", "sql-refused", 9),
    ("exists (select 1)", "sql-refused", 8),
    ("select price", "sql-refused", 0),
    ("delete from rows", "sql-refused", 0),
    ("{'a': 1}", "sql-refused", 0),
    ("rows.price", "sql-refused", 0),
    ("price as p", "sql-refused", 6),
    ("currency collate nocase = 'x'", "sql-refused", 9),
    ("currency similar to 'x'", "sql-refused", 9),
    ("currency glob 'x'", "sql-refused", 9),
    ("random() > 0.5", "sql-refused", 0),
    ("uuid()", "sql-refused", 0),
    ("day = current_date", "sql-refused", 6),
    ("day = today()", "sql-refused", 6),
    ("getenv('HOME')", "sql-refused", 0),
    ("current_setting('x')", "sql-refused", 0),
    ("read_csv('x.csv')", "unknown-function", 0),
    ("row_number() over ()", "sql-refused", 13),
    ("row_number()", "sql-refused", 0),
    ("sum(price)", "sql-aggregate", 0),
    ("lowr(currency)", "unknown-function", 0),
    ("prise > 1", "unknown-column", 0),
    ('"Price" > 1', "unknown-column", 0),
    ("lower()", "sql-arguments", 0),
    ("lower(currency, 1)", "sql-arguments", 0),
    ("lower(distinct currency)", "sql-arguments", 0),
    ("lower(x := currency)", "sql-refused", 6),
    ("repeat('a', size)", "sql-arguments", 12),
    ("repeat('a', 1000000000)", "sql-arguments", 12),
    ("lpad('a', 99999, 'x')", "sql-arguments", 10),
    ("format('{:99999999}', size)", "sql-arguments", 7),
    ("regexp_matches(currency, '(')", "sql-arguments", 25),
    ("regexp_matches(currency, currency)", "sql-arguments", 25),
    ("regexp_replace(currency, 'a', 'b', 'z')", "sql-arguments", 35),
    ("date_trunc('hours_of', ts)", "sql-arguments", 11),
    ("extract(hors from ts)", "sql-arguments", 8),
    ("ts at time zone 'Europe/Pari'", "sql-arguments", 16),
    ("ts at time zone currency", "sql-arguments", 16),
    ("interval '1 fortnight'", "sql-syntax", 0),
    ("date 'today' = day", "sql-syntax", 0),
    ("list_transform(_flags, upper)", "sql-arguments", 23),
    ("lower(lambda x: x)", "sql-refused", 6),
    ("cast(price as int65)", "unknown-type", 0),
    ("price::hugeint", "unknown-type", 5),
    ("price::decimal(39,2)", "unknown-type", 5),
    ("price::int[]", "unknown-type", 5),
    ("currency > 5", "sql-type", 9),
    ("ts > 5", "sql-type", 3),
    ("ok = 'x' and ok = currency", "sql-type", 16),
    ("currency * 2", "sql-type", 0),
    ("ok and currency", "sql-type", 7),
    ("not ts", "sql-type", 4),
    ("(1, 2) = (1, 2)", "sql-syntax", 2),
    ("case price", "sql-syntax", 10),
    ("case when ok then 1", "sql-syntax", 19),
    ("size in ()", "sql-syntax", 5),
    ("size in 5", "sql-syntax", 8),
    ("range(10)", "sql-refused", 0),
    ("count(*) over (partition by size)", "sql-refused", 9),
    ("generate_series(1, 1000000000)", "sql-refused", 0),
]


@pytest.mark.parametrize(("sql", "code", "offset"), FINDINGS)
def test_findings_name_the_exact_place_and_a_repair(sql, code, offset):
    found = bind(at_start(sql), COLUMNS)
    assert isinstance(found, tuple), sql
    assert [(each.code, each.mark.line, each.mark.column - 20) for each in found] == [(code, 7, offset)], found
    assert found[0].repair
    assert found[0].message


def test_nearest_names_are_offered():
    repairs = {
        "prise > 1": "Did you mean price?",
        "lowr(currency)": "Did you mean lower()?",
        "price::flaot64": "Did you mean float64?",
        "ts at time zone 'Europe/Pari'": "Did you mean 'Europe/Paris'?",
        "day = current_date": "Write now()::date.",
    }
    for sql, repair in repairs.items():
        (found,) = bind(at_start(sql), COLUMNS)
        assert found.repair == repair


def test_all_problems_come_at_once():
    found = bind(at_start("prise > 1 and lowr(curency) = random() and ok"), COLUMNS)
    assert [each.code for each in found] == ["unknown-column", "unknown-function", "sql-refused"]


def test_places_in_several_lines():
    expression = Expression("price > 1\n  and prise < 2", Mark("f", 4, 7), runs=((0, 4, 7), (10, 5, 3)))
    (found,) = bind(expression, COLUMNS)
    assert (found.mark.line, found.mark.column) == (5, 9)


def test_a_condition_is_wanted():
    for sql in ("price", "currency", "ts + interval '1 day' || 'x'", "length(currency)"):
        (found,) = bind(at_start(sql), COLUMNS, condition=True)
        assert found.code == "sql-type"
    for sql in ("ok", "price > 1", "not ok", "coalesce(ok, true)", "json_exists(payload, '$.x')"):
        bound(sql, condition=True)


@pytest.mark.parametrize(
    "sql",
    [
        "(" * 100_000,
        "(" * 4_900 + "1" + ")" * 4_900,
        "not " * 2_000 + "ok",
        "- " * 4_000 + "1",
        "1" + "+1" * 4_000,
        "case " * 1_500,
        "[" * 5_000,
        "lower(" * 1_500,
        "1" + "::int" * 1_500,
        "_flags" + "[1]" * 3_000,
        "a between " * 900,
        "1 is null" + " is null" * 1_000,
        "lambda x: " * 900,
        "interval " * 1_000,
        "x" * EXPRESSION_CHARACTERS_MAX,
        "'" * 9_999,
        "(payload" + "->'a'" * 1_800 + ")",
    ],
)
def test_too_long_and_too_deep_are_findings(sql):
    found = bind(at_start(sql), COLUMNS)
    assert isinstance(found, tuple)
    assert found
    assert isinstance(bind_fields(at_start(sql), lambda path, kind: "NULL"), tuple | Bound)


def test_long_chains_of_conditions_are_fine(database):
    sql = " or ".join(f"size = {number}" for number in range(700))
    assert values(database, bound(sql).sql) == values(database, sql)


# -- raw fields -------------------------------------------------------------------------------------------------------


def fields(sql: str) -> str:
    found = bind_fields(at_start(sql), lambda path, kind: f"<{path}:{kind}>")
    assert isinstance(found, Bound), found
    return found.sql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("type = 'trade'", "(<type:text> = 'trade')"),
        ("^.ts > 5", "(<^.ts:number> > 5)"),
        ("a[0].b = c", "(<a[0].b:text> = <c:text>)"),
        ("active", "(<active:boolean>)"),
        ("not active", "(NOT <active:boolean>)"),
        ("a and b = true", "(<a:boolean> AND (<b:boolean> = TRUE))"),
        ('"odd name" is null', '(<"odd name":text> IS NULL)'),
        ('a."x.y"[12]."" = 1', None),
        ("order.id in (1, 2)", "(<order.id:number> IN (1, 2))"),
        ("kind in ('a', 'b')", "(<kind:text> IN ('a', 'b'))"),
        ("coalesce(a, b) = 3", "(coalesce(<a:number>, <b:number>) = 3)"),
        ("x + 1 > y", "((<x:number> + 1) > <y:number>)"),
        ("x + y > z", "((<x:number> + <y:number>) > <z:number>)"),
        ("length(type) > n", "(length(<type:text>) > <n:number>)"),
        ("abs(x) < 5", "(abs(<x:number>) < 5)"),
        ("x between 1 and y", "(<x:number> BETWEEN 1 AND <y:number>)"),
        ("case type when 'a' then x else 2 end = 1", "((CASE <type:text> WHEN 'a' THEN <x:number> ELSE 2 END) = 1)"),
        ("x::int64 > 3", "(CAST(<x:text> AS BIGINT) > 3)"),
        ("_headers.kind = 'b'", "(<_headers.kind:text> = 'b')"),
        ("a ^ 2 > 1", "((<a:number> ^ 2) > 1)"),
        ("-x < 0", "((- <x:number>) < 0)"),
        ("x is true", "(<x:boolean> IS TRUE)"),
        ("lower(type) like 'a%'", "(lower(<type:text>) LIKE 'a%')"),
        ("ts::timestamp < now()", '(CAST(<ts:text> AS TIMESTAMPTZ) < "_ingested_at")'),
        ("x is distinct from 3", "(<x:number> IS DISTINCT FROM 3)"),
        ("if(ok, x, 1) = 1", "(if(<ok:boolean>, <x:number>, 1) = 1)"),
    ],
)
def test_raw_fields_are_what_their_place_wants(sql, expected):
    if expected is None:
        assert isinstance(bind_fields(at_start(sql), lambda path, kind: ""), tuple)
    else:
        assert fields(sql) == expected


def test_raw_paths_are_told_once_each():
    found = bind_fields(
        at_start("a.b > 1 and a.b < 5 and ^.c[3] = 'x' and now() > t::timestamp"), lambda path, kind: "x"
    )
    assert [str(path) for path in found.paths] == ["a.b", "^.c[3]", "t"]
    assert found.columns == ("_ingested_at",)
    assert found.paths[1].envelope
    assert found.paths[1].steps == ("c", 3)


@pytest.mark.parametrize(
    ("sql", "code", "offset"),
    [
        ("a[x] = 1", "sql-syntax", 2),
        ("a[-1] = 1", "sql-syntax", 2),
        ("a. = 1", "sql-syntax", 3),
        ("^. > 1", "sql-syntax", 3),
        ("count(a) > 1", "sql-aggregate", 0),
        ("current_date = '2020-01-01'", "sql-refused", 0),
        ("5", "sql-type", 0),
    ],
)
def test_findings_over_raw_fields(sql, code, offset):
    found = bind_fields(at_start(sql), lambda path, kind: "NULL")
    assert [(each.code, each.mark.column - 20) for each in found] == [(code, offset)]


# -- the table of functions -------------------------------------------------------------------------------------------

FORMS = {"coalesce", "if", "try", "nullif", "ifnull", "now"}
"""Functions that are part of DuckDB's grammar, macros of it, or rewritten by us."""


def test_every_function_exists_in_duckdb_and_is_deterministic(database):
    known = dict(
        database.sql(
            "SELECT function_name, bool_or(stability IS NOT NULL AND stability <> 'CONSISTENT') FROM duckdb_functions() "
            "GROUP BY ALL"
        ).fetchall()
    )
    for name, function in functions.FUNCTIONS.items():
        assert name == function.name
        assert function.doc.endswith(".")
        if name not in FORMS:
            assert known[name] is False, name


def test_functions_with_a_group_have_a_signature():
    assert functions.FUNCTIONS["substring"].signature == "substring(text, number[, number])"
    assert functions.FUNCTIONS["coalesce"].signature == "coalesce(any, ...)"
    assert not functions.REFUSED.keys() & functions.FUNCTIONS.keys()


# -- what is known without an engine ----------------------------------------------------------------------------------


def type_of(name) -> ColumnType | None:
    return COLUMNS.get(name.text)


CLASSES = """
price ; wide ; size ; lot ; tiny ; quantity ; single ; price * quantity ; price * size ; price * lot ; price * 2 ; price * 2.5
price + lot ; price + 1 ; price - price ; price * price ; lot * lot ; size + 1 ; single * 2 ; single * price ; single + quantity
lot // 2 ; size % 2 ; -price ; -size ; abs(price) ; abs(lot) ; lot / 2 ; price / 2 ; case when lot > 1 then price else 0 end
coalesce(price, 0) ; greatest(price, lot) ; coalesce(lot, size) ; coalesce(price, quantity) ; price * 1e2 ; round(quantity)
length(currency) ; price::int32 ; tiny * tiny ; price + 0.5 ; size * 2.5 ; lot ^ 2 ; epoch_us(ts) ; epoch(ts) ; wide * 2 ; wide + 1
date_diff('day', ts, ts) ; sqrt(price) ; lot & 1 ; lot << 2 ; sign(price) ; year(ts) ; second(ts) ; nullif(price, 0)
if(lot > 1, price, 0) ; ifnull(price, 0) ; 1.5 ; 12 ; size::decimal(20,3) ; '5'::float64 ; case when ok then 1.25 else 2 end
least(price, 1.123456789) ; price * 0.001 ; try(price * size) ; bit_count(lot) ; list_count(_flags) ; exp(quantity)
"""


@pytest.mark.parametrize("sql", [one.strip() for line in CLASSES.strip().splitlines() for one in line.split(" ; ")])
def test_classes_of_numbers_are_those_of_duckdb(database, sql):
    found = numeric(parse(sql), type_of)
    assert found is not None
    (kind,) = {row[0] for row in database.cursor().sql(f"SELECT typeof({bound(sql).sql}) FROM rows").fetchall()}
    if kind.startswith("DECIMAL"):
        scale = int(kind.rstrip(")").split(",")[1])
        assert (found.kind, found.scale) == (DECIMAL, scale)
    else:
        assert found.kind == (FLOAT if kind in ("DOUBLE", "FLOAT") else INTEGER)


def test_what_may_fail_is_not_taken_for_safe():
    for sql in (
        "size * size",
        "price * price",
        "currency::int64",
        "size // lot",
        "size % lot",
        "-size",
        "abs(lot)",
        "ts > '2024'",
    ):
        assert not cannot_fail(parse(sql), type_of), sql
    for sql in (
        "price",
        "price * quantity",
        "quantity / 0",
        "price / size",
        "ok and not ok",
        "price > 5",
        "currency = 'x'",
    ):
        assert cannot_fail(parse(sql), type_of), sql


# -- any text ---------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "price",
        "size",
        "lot",
        "quantity",
        "currency",
        "ok",
        "ts",
        "day",
        "payload",
        "_flags",
        "and",
        "or",
        "not",
        "is",
        "null",
        "true",
        "false",
        "in",
        "between",
        "like",
        "ilike",
        "case",
        "when",
        "then",
        "else",
        "end",
        "cast",
        "as",
        "int64",
        "::",
        "(",
        ")",
        "[",
        "]",
        ",",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "^",
        "||",
        "&",
        "|",
        "<<",
        ">>",
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "->",
        "->>",
        "1",
        "2.5",
        "1e3",
        "'a'",
        "'%'",
        "lower",
        "abs",
        "coalesce",
        "date_trunc",
        "'hour'",
        "interval",
        "'1",
        "day'",
        "distinct",
        "from",
        "escape",
        "lambda",
        "x",
        ":",
        "select",
        "filter",
        "(",
        "where",
        "over",
        "order",
        "by",
        ".",
        ";",
        "extract",
        "year",
        "at",
        "time",
        "zone",
        "'Europe/Paris'",
        "try_cast",
        "string",
        "if",
        "list_contains",
        "now",
        "~",
        '"',
        "'",
        '"',
        "--",
        "/*",
        "?",
        "$",
        "{",
        "}",
        "@",
        "!",
        "#",
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=25).map(" ".join)))
@settings(max_examples=1_500, deadline=None)
def test_any_text_is_bound_or_findings(database, text):
    for found in (bind(at_start(text), COLUMNS), bind_fields(at_start(text), lambda path, kind: "NULL")):
        if isinstance(found, tuple):
            assert found
            assert all(each.code and each.message and each.mark.column >= 20 for each in found)
        else:
            assert found.sql.startswith("(")
            assert found.sql.endswith(")")
            assert parses(database, found.sql), (text, found.sql)


def parses(database, sql: str) -> bool:
    """Whether DuckDB can read the SQL; that it finds the types wanting is another matter."""
    try:
        database.cursor().sql(f"SELECT {sql} FROM rows")
    except duckdb.ParserException:
        return False
    except duckdb.Error:
        return True
    return True


OPERANDS = st.sampled_from(("size", "lot", "tiny", "1", "2", "7", "- 3", "size"))
NUMERIC_OPERATORS = st.sampled_from(("+", "-", "*", "//", "%", "&", "|", "<<", "^", "/"))
TESTS = st.sampled_from(
    (
        "is null",
        "is not null",
        "= 2",
        "<> lot",
        "in (1, 2, 7)",
        "not in (lot)",
        "between lot and 9",
        "is distinct from 3",
        "> lot",
    )
)
GLUE = st.sampled_from(("and", "or", "and not", "or not"))


@given(
    st.lists(st.tuples(OPERANDS, NUMERIC_OPERATORS), min_size=1, max_size=4),
    TESTS,
    st.lists(st.tuples(GLUE, OPERANDS, NUMERIC_OPERATORS, OPERANDS, TESTS), max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_precedence_is_that_of_duckdb(database, first, test, rest):
    arithmetic = " ".join(f"{operand} {operator}" for operand, operator in first) + " 5"
    sql = f"{arithmetic} {test}"
    for glue, left, operator, right, other in rest:
        sql += f" {glue} {left} {operator} {right} {other}"
    expected = outcome(database, sql)
    found = bind(at_start(sql), COLUMNS)
    if isinstance(found, Bound):
        assert outcome(database, found.sql) == expected, (sql, found.sql)
    else:
        # What we refuse although DuckDB takes it is stated: comparisons that chain.
        assert {each.code for each in found} <= {"sql-syntax", "sql-type"}, (sql, found)


def outcome(database, sql: str):
    """Values, or that it raises: an overflow stays an overflow."""
    try:
        return values(database, sql)
    except duckdb.Error as error:
        return type(error).__name__
