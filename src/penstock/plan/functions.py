"""The functions an expression may call: deterministic, scalar, free of time zone, clock, files and network.

One row per function with its parameters, result and a sentence; `expressions.py` checks calls against it, the reference
pages are generated from it, and a test compares it with DuckDB's own catalogue. Aggregates are in `measures.py`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from penstock.plan.sqltokens import words

NUMBER, TEXT, BOOLEAN, TIME, LIST, ANY, SAME = "number", "text", "boolean", "time", "list", "any", "same"
"""Kinds of values. `any` says nothing about a value; as a result, `same` is the kind of the arguments."""


@dataclass(frozen=True)
class Function:
    """`parameters` are kinds; a trailing ? makes one optional, a trailing * lets it repeat (the last one only).

    `constants` are the positions of arguments that must be literals, `text_length` the position of one that says how
    long the resulting text is.
    """

    name: str
    group: str
    parameters: tuple[str, ...]
    result: str
    doc: str
    constants: tuple[int, ...] = ()
    text_length: int | None = None

    @property
    def arguments_min(self) -> int:
        return sum(not parameter.endswith("?") for parameter in self.parameters)

    @property
    def arguments_max(self) -> int | None:
        """None where the last parameter repeats."""
        return None if self.parameters and self.parameters[-1].endswith("*") else len(self.parameters)

    def kind(self, position: int) -> str:
        """The kind the argument at `position` should have."""
        if not self.parameters:
            return ANY
        return self.parameters[min(position, len(self.parameters) - 1)].rstrip("?*")

    @property
    def signature(self) -> str:
        """As documentation shows it: `substring(text, number[, number])`."""
        shown = ""
        for parameter in self.parameters:
            separator = ", " if shown else ""
            kind = parameter.rstrip("?*")
            if parameter.endswith("?"):
                shown += f"[{separator}{kind}]"
            else:
                shown += f"{separator}{kind}" + (", ..." if parameter.endswith("*") else "")
        return f"{self.name}({shown})"


def _table(group: str, rows: str, **special: tuple[tuple[int, ...], int | None]) -> list[Function]:
    """Functions of a group from lines `name(parameters) -> result: doc`. `special` gives constants and text_length."""
    found = []
    for line in rows.strip().splitlines():
        head, _, doc = line.strip().partition(": ")
        call, _, result = head.partition(" -> ")
        name, _, inside = call.partition("(")
        parameters = tuple(part.strip() for part in inside.rstrip(")").split(",") if part.strip())
        constants, text_length = special.get(name, ((), None))
        found.append(Function(name, group, parameters, result, doc, constants, text_length))
    return found


_CONDITIONS = _table(
    "conditions",
    """
    coalesce(any*) -> same: The first argument that is not NULL.
    nullif(any, any) -> same: NULL where the two are equal, else the first.
    ifnull(any, any) -> same: The first, or the second where the first is NULL.
    if(boolean, any, any) -> same: The second where the first is TRUE, else the third.
    greatest(any*) -> same: The largest argument, NULLs left out.
    least(any*) -> same: The smallest argument, NULLs left out.
    try(any) -> same: The value, or NULL where computing it fails.
    """,
)
_MATH = _table(
    "math",
    """
    abs(number) -> number: Without its sign.
    sign(number) -> number: -1, 0 or 1.
    ceil(number) -> number: Rounded up.
    ceiling(number) -> number: Rounded up.
    floor(number) -> number: Rounded down.
    round(number, number?) -> number: Rounded half away from zero, to a number of digits.
    round_even(number, number) -> number: Rounded half to even, to a number of digits.
    trunc(number) -> number: Rounded towards zero.
    even(number) -> number: Rounded away from zero to an even number.
    mod(number, number) -> number: The remainder, with the sign of the first.
    fmod(number, number) -> number: The remainder of a floored division.
    gcd(number, number) -> number: The greatest common divisor.
    lcm(number, number) -> number: The least common multiple.
    sqrt(number) -> number: The square root.
    cbrt(number) -> number: The cube root.
    pow(number, number) -> number: The first to the power of the second.
    power(number, number) -> number: The first to the power of the second.
    exp(number) -> number: e to the power of it.
    ln(number) -> number: The natural logarithm.
    log(number, number?) -> number: The logarithm to base 10; of two arguments, of the second to the base of the first.
    log2(number) -> number: The logarithm to base 2.
    log10(number) -> number: The logarithm to base 10.
    pi() -> number: 3.14159...
    degrees(number) -> number: Radians as degrees.
    radians(number) -> number: Degrees as radians.
    sin(number) -> number: The sine of radians.
    cos(number) -> number: The cosine of radians.
    tan(number) -> number: The tangent of radians.
    cot(number) -> number: The cotangent of radians.
    asin(number) -> number: The inverse sine.
    acos(number) -> number: The inverse cosine.
    atan(number) -> number: The inverse tangent.
    atan2(number, number) -> number: The angle of the point (second, first).
    sinh(number) -> number: The hyperbolic sine.
    cosh(number) -> number: The hyperbolic cosine.
    tanh(number) -> number: The hyperbolic tangent.
    isfinite(any) -> boolean: Neither infinite nor not-a-number.
    isinf(any) -> boolean: Infinite.
    isnan(any) -> boolean: Not a number.
    xor(number, number) -> number: Bits that are set in one but not both.
    bit_count(number) -> number: How many bits are set.
    """,
)
_STRINGS = _table(
    "strings",
    """
    length(any) -> number: Characters of a text, or items of a list.
    len(any) -> number: Characters of a text, or items of a list.
    strlen(text) -> number: Bytes of a text in UTF-8.
    octet_length(any) -> number: Bytes of a binary value.
    lower(text) -> text: In small letters.
    upper(text) -> text: In capital letters.
    lcase(text) -> text: In small letters.
    ucase(text) -> text: In capital letters.
    trim(text, text?) -> text: Without spaces, or the second's characters, at both ends.
    ltrim(text, text?) -> text: Without spaces, or the second's characters, at the start.
    rtrim(text, text?) -> text: Without spaces, or the second's characters, at the end.
    concat(any*) -> text: All arguments as one text, NULLs left out.
    concat_ws(text, any*) -> text: The arguments after the first, joined by the first.
    substring(text, number, number?) -> text: From a position (1 is the first) on, so many characters.
    substr(text, number, number?) -> text: From a position (1 is the first) on, so many characters.
    left(text, number) -> text: The first characters.
    right(text, number) -> text: The last characters.
    strpos(text, text) -> number: Where the second begins in the first, or 0.
    instr(text, text) -> number: Where the second begins in the first, or 0.
    contains(any, any) -> boolean: Whether a text or a list holds the second.
    starts_with(text, text) -> boolean: Whether it starts with the second.
    prefix(text, text) -> boolean: Whether it starts with the second.
    ends_with(text, text) -> boolean: Whether it ends with the second.
    suffix(text, text) -> boolean: Whether it ends with the second.
    replace(text, text, text) -> text: The second replaced by the third everywhere.
    translate(text, text, text) -> text: Each character of the second replaced by that of the third.
    reverse(text) -> text: Back to front.
    repeat(text, number) -> text: So many times (a literal number).
    lpad(text, number, text) -> text: Filled up on the left to a length (a literal number).
    rpad(text, number, text) -> text: Filled up on the right to a length (a literal number).
    overlay(text, text, number, number?) -> text: The second put over the first from a position on.
    string_split(text, text) -> list: The parts between a separator.
    split(text, text) -> list: The parts between a separator.
    split_part(text, text, number) -> text: One of the parts between a separator (1 is the first).
    ascii(text) -> number: The code of the first character.
    unicode(text) -> number: The code of the first character.
    ord(text) -> number: The code of the first character.
    chr(number) -> text: The character of a code.
    strip_accents(text) -> text: Without accents.
    nfc_normalize(text) -> text: Composed by Unicode's form NFC.
    format(text, any*) -> text: A template with {} for the values (a literal).
    printf(text, any*) -> text: A template with %d, %s ... for the values (a literal).
    levenshtein(text, text) -> number: Edits from one to the other.
    damerau_levenshtein(text, text) -> number: Edits from one to the other, swaps included.
    hamming(text, text) -> number: Positions at which two texts of one length differ.
    jaccard(text, text) -> number: Share of common characters.
    jaro_similarity(text, text) -> number: Likeness from 0 to 1.
    jaro_winkler_similarity(text, text) -> number: Likeness from 0 to 1, starts count more.
    url_encode(text) -> text: Escaped for URLs.
    url_decode(text) -> text: The reverse of url_encode.
    parse_filename(text) -> text: The last part of a path.
    parse_dirname(text) -> text: The first folder of a path.
    """,
    repeat=((1,), 1),
    lpad=((1,), 1),
    rpad=((1,), 1),
    format=((0,), None),
    printf=((0,), None),
)
_PATTERNS = _table(
    "regular expressions (RE2)",
    """
    regexp_matches(text, text, text?) -> boolean: Whether a pattern is found in the text.
    regexp_full_match(text, text, text?) -> boolean: Whether a pattern matches the whole text.
    regexp_extract(text, text, number?) -> text: What a pattern, or one of its groups, matched.
    regexp_extract_all(text, text, number?) -> list: Everything a pattern, or one of its groups, matched.
    regexp_replace(text, text, text, text?) -> text: The first match replaced; with 'g', every one.
    regexp_split_to_array(text, text) -> list: The parts between matches.
    regexp_escape(text) -> text: As a pattern that matches just this text.
    """,
    regexp_matches=((1, 2), None),
    regexp_full_match=((1, 2), None),
    regexp_extract=((1, 2), None),
    regexp_extract_all=((1, 2), None),
    regexp_replace=((1, 3), None),
    regexp_split_to_array=((1,), None),
)
_TIMES = _table(
    "dates and times (UTC)",
    """
    now() -> time: The event's `_ingested_at`: a batch gives the same answer each time it is derived.
    date_trunc(text, time) -> time: The start of the second, minute, hour, day, week, month, quarter or year.
    date_part(text, time) -> number: A part: year, month, day, hour, minute, second, isodow, doy, epoch, ...
    date_diff(text, time, time) -> number: Boundaries of a unit between two times.
    datediff(text, time, time) -> number: Boundaries of a unit between two times.
    date_sub(text, time, time) -> number: Whole units between two times.
    date_add(time, any) -> time: A time plus an interval.
    time_bucket(any, time, any?) -> time: The start of the bucket of an interval's width.
    age(time, time) -> any: The difference as years, months and days.
    year(time) -> number: The year.
    quarter(time) -> number: The quarter.
    month(time) -> number: The month.
    week(time) -> number: The ISO week.
    day(time) -> number: The day of the month.
    dayofmonth(time) -> number: The day of the month.
    dayofweek(time) -> number: The day of the week, Sunday is 0.
    isodow(time) -> number: The day of the week, Monday is 1.
    dayofyear(time) -> number: The day of the year.
    isoyear(time) -> number: The year of the ISO week.
    yearweek(time) -> number: The ISO year and week as one number.
    hour(time) -> number: The hour.
    minute(time) -> number: The minute.
    second(time) -> number: The second.
    millisecond(time) -> number: Seconds of the minute in milliseconds.
    microsecond(time) -> number: Seconds of the minute in microseconds.
    dayname(time) -> text: Monday, Tuesday, ...
    monthname(time) -> text: January, February, ...
    last_day(time) -> time: The last day of the month.
    epoch(time) -> number: Seconds since 1970.
    epoch_ms(time) -> number: Milliseconds since 1970.
    epoch_us(time) -> number: Microseconds since 1970.
    epoch_ns(time) -> number: Nanoseconds since 1970.
    to_timestamp(number) -> time: A time from seconds since 1970.
    make_timestamptz(number) -> time: A time from microseconds since 1970.
    make_date(number, number, number) -> time: A date from year, month and day.
    strftime(time, text) -> text: Written by a format.
    strptime(text, text) -> time: Read by a format; fails where it does not fit.
    try_strptime(text, text) -> time: Read by a format; NULL where it does not fit.
    timezone(text, time) -> time: The local time in a zone (a literal, such as 'Europe/Paris').
    to_years(number) -> any: An interval.
    to_months(number) -> any: An interval.
    to_weeks(number) -> any: An interval.
    to_days(number) -> any: An interval.
    to_hours(number) -> any: An interval.
    to_minutes(number) -> any: An interval.
    to_seconds(number) -> any: An interval.
    to_milliseconds(number) -> any: An interval.
    to_microseconds(number) -> any: An interval.
    """,
    date_trunc=((0,), None),
    date_part=((0,), None),
    date_diff=((0,), None),
    datediff=((0,), None),
    date_sub=((0,), None),
    strftime=((1,), None),
    strptime=((1,), None),
    try_strptime=((1,), None),
    timezone=((0,), None),
)
_LISTS = _table(
    "lists (such as `_flags`)",
    """
    list_contains(list, any) -> boolean: Whether a list holds a value.
    list_has(list, any) -> boolean: Whether a list holds a value.
    list_has_any(list, list) -> boolean: Whether two lists have a value in common.
    list_has_all(list, list) -> boolean: Whether the first list holds every value of the second.
    list_position(list, any) -> number: Where a value stands (1 is the first).
    list_extract(list, number) -> any: One value (1 is the first, -1 the last).
    list_distinct(list) -> list: Without repetition, in no certain order; sort it.
    list_sort(list) -> list: Sorted.
    list_concat(list, list) -> list: One after the other.
    list_slice(list, number, number) -> list: A part of it.
    list_transform(list, any) -> list: Each value through `lambda x: ...`.
    list_filter(list, any) -> list: The values for which `lambda x: ...` is TRUE.
    list_reverse(list) -> list: Back to front.
    list_min(list) -> any: The smallest value.
    list_max(list) -> any: The largest value.
    list_sum(list) -> number: The sum.
    list_avg(list) -> number: The mean.
    list_count(list) -> number: How many are not NULL.
    array_to_string(list, text) -> text: Joined by a separator.
    """,
)
_JSON = _table(
    "json",
    """
    json_extract(any, text) -> any: The JSON at a path such as '$.a[0]'; also written json -> path.
    json_extract_string(any, text) -> text: The text at a path; also written json ->> path.
    json_value(any, text) -> any: The scalar at a path, as JSON.
    json_exists(any, text) -> boolean: Whether there is something at a path.
    json_type(any, text?) -> text: The type of the JSON: OBJECT, ARRAY, VARCHAR, BIGINT, ...
    json_array_length(any, text?) -> number: The length of an array.
    json_contains(any, any) -> boolean: Whether it contains another JSON.
    json_keys(any, text?) -> list: The names of an object's members.
    json_valid(any) -> boolean: Whether a text is JSON (as DuckDB reads it: more loosely than RFC 8259).
    """,
    json_extract=((1,), None),
    json_extract_string=((1,), None),
    json_value=((1,), None),
    json_exists=((1,), None),
    json_type=((1,), None),
    json_array_length=((1,), None),
    json_keys=((1,), None),
)
_DIGESTS = _table(
    "digests and encodings",
    """
    md5(any) -> text: The MD5 digest in hexadecimal digits.
    sha1(any) -> text: The SHA-1 digest in hexadecimal digits.
    sha256(any) -> text: The SHA-256 digest in hexadecimal digits.
    hash(any*) -> number: A 64-bit number for equal values; another version of DuckDB may give another one.
    hex(any) -> text: In hexadecimal digits.
    unhex(text) -> any: Bytes from hexadecimal digits.
    base64(any) -> text: Bytes in Base64.
    from_base64(text) -> any: Bytes from Base64.
    encode(text) -> any: A text as its bytes in UTF-8.
    decode(any) -> text: A text from its bytes in UTF-8.
    """,
)

FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        *_CONDITIONS,
        *_MATH,
        *_STRINGS,
        *_PATTERNS,
        *_TIMES,
        *_LISTS,
        *_JSON,
        *_DIGESTS,
    )
}
"""Every scalar function by name."""

NOW = frozenset({"now", "current_timestamp", "get_current_timestamp", "transaction_timestamp"})
"""What says now: it becomes `_ingested_at`."""

BARE = frozenset(
    {"current_date", "current_time", "localtime", "localtimestamp", "current_user", "session_user", "current_role"}
)
"""What SQL calls without parentheses, so that it looks like a column."""

_CLOCK = ("a clock: the same batch would give another answer tomorrow", "Write now(), which is `_ingested_at`.")
_TODAY = ("a clock: the same batch would give another answer tomorrow", "Write now()::date.")
_CHANCE = ("chance: the same batch would give another answer next time", "Write hash(column) for a spread of values.")
_FILE = ("a file", "Declare it under `references:` and look it up.")
_SURROUNDINGS = ("the surroundings: another machine would give another answer", "Write the value itself.")
_SEQUENCE = ("a series that may fill the memory", "Write the values as a list: [1, 2, 3].")
REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("current_localtime", "current_localtimestamp", "localtime", "localtimestamp", "current_time", "ago", "clock"),
        _CLOCK,
    ),
    **dict.fromkeys(("get_current_time", "statement_timestamp", "clock_timestamp", "getdate", "sysdate"), _CLOCK),
    **dict.fromkeys(("current_date", "today"), _TODAY),
    **dict.fromkeys(("random", "rand", "setseed", "list_shuffle"), _CHANCE),
    **dict.fromkeys(("uuid", "gen_random_uuid", "uuidv4", "uuidv7"), _CHANCE),
    **dict.fromkeys(("getenv", "current_setting", "getvariable", "version", "pg_sleep", "sleep_ms"), _SURROUNDINGS),
    **dict.fromkeys(("current_user", "user", "session_user", "current_role", "current_catalog"), _SURROUNDINGS),
    **dict.fromkeys(("current_schema", "current_database", "current_query", "txid_current", "nextval"), _SURROUNDINGS),
    **dict.fromkeys(("query", "query_table", "glob", "sniff_csv", "parquet_scan", "write_log"), _FILE),
    **dict.fromkeys(("range", "generate_series", "list_resize", "array_resize"), _SEQUENCE),
    **dict.fromkeys(
        ("row_number", "rank", "dense_rank", "lag", "lead", "ntile", "first_value", "last_value", "nth_value"),
        ("a window function", "Aggregate in `gold:`; it has windows of time."),
    ),
    **dict.fromkeys(
        ("error", "assert_true"), ("an error on purpose", "Write a rule: a row that fails it is kept with its reason.")
    ),
}
"""Functions that exist and are refused: name -> what they depend on, and the repair."""

_READERS = ("read_", "scan_", "pg_", "duckdb_", "postgres_", "sqlite_", "mysql_", "http_", "st_read")
"""Beginnings of names that read files, networks or the catalogue."""


def refusal(name: str) -> tuple[str, str]:
    """Why `name`, which is not in FUNCTIONS, cannot be called, and what to write instead."""
    if name in REFUSED:
        what, repair = REFUSED[name]
        return f"{name}() depends on {what}" if not what.startswith("a window") else f"{name}() is {what}", repair
    if name.startswith(_READERS):
        return f"{name}() reads outside the event", _FILE[1]
    return f"no function {name}()", near(name, FUNCTIONS, "Did you mean {}()?") or "See the reference of functions."


def near(name: str, names: object, sentence: str) -> str:
    """`sentence` with the name nearest to `name` among `names` (an iterable of texts), or "" where none is near."""
    found = difflib.get_close_matches(name.lower()[:63], list(names), n=1, cutoff=0.6)  # type: ignore[call-overload]
    return sentence.format(found[0]) if found else ""


AGGREGATES: dict[str, Function] = {
    function.name: function
    for function in _table(
        "aggregates (in gold's measures only)",
        """
        count(any?) -> number: Rows, or rows where the argument is not NULL.
        count_distinct(any) -> number: Different values.
        sum(number) -> number: The exact sum; of floats to 1e-9 of the sum of absolute values.
        min(any) -> same: The smallest value.
        max(any) -> same: The largest value.
        avg(number) -> number: The mean.
        first(any) -> same: The first value that is not NULL, by event time, silver's `order`, then place.
        last(any) -> same: The last value that is not NULL, by event time, silver's `order`, then place.
        stddev(number) -> number: The standard deviation of a sample (n - 1).
        quantile(number, number) -> number: The value below which a share (a literal from 0 to 1) lies, interpolated.
        """,
        quantile=((1,), None),
    )
}
"""Aggregates by name; what they compute is in `measures.py`."""

TIME_PARTS = words(
    "century day dayofweek dayofyear decade dow doy epoch era hour isodow isoyear julian microseconds "
    "microsecond millennium milliseconds millisecond minute month quarter second week weekday year yearweek"
)
"""What date_part, date_trunc and date_diff take as a part or unit."""
