"""The parts of an expression that hold no other expression: field paths, types, intervals. See `sqlparser.py`."""

from __future__ import annotations

import re

from penstock.model.fields import FieldPath
from penstock.plan import sqltree as tree
from penstock.plan.sqltokens import SqlProblem, TokenKind, TokenStream

_INTERVAL_PART = re.compile(
    r"\s*([+-]?\d{1,18}(?:\.\d{1,6})?)\s*"
    r"(microsecond|us|millisecond|ms|second|sec|s|minute|min|m|hour|h|day|d|week|w|month|mon|quarter|year|y)s?\b",
    re.IGNORECASE | re.ASCII,
)


def field_path(stream: TokenStream) -> tree.Name:
    """A field path: names joined by dots, list indexes in brackets, `^.` for the envelope."""
    start = stream.next.start
    plain = stream.next.kind is TokenKind.WORD
    envelope = stream.take_operator("^")
    if envelope:
        stream.take()
    steps: list[str | int] = [step(stream)]
    while True:
        if stream.next.is_operator("."):
            stream.take()
            steps.append(step(stream))
        elif stream.next.is_operator("["):
            stream.take()
            index = stream.take()
            if index.kind is not TokenKind.NUMBER or not index.text.isdigit() or len(index.text) > 9:
                raise SqlProblem(index.start, "sql-syntax", f"the list index {index.text!r}", "Write a[0].")
            steps.append(int(index.text))
            stream.expect_operator("]", "a list index")
        else:
            break
    path = FieldPath(tuple(steps), envelope)
    return tree.Name(start, str(path), quoted=not plain or len(steps) > 1, path=path)


def step(stream: TokenStream) -> str:
    """A name, quoted or not."""
    if stream.next.kind not in (TokenKind.WORD, TokenKind.QUOTED):
        raise stream.unexpected("a field path wants a name here", 'Write a.b, a[0] or "odd name".')
    return stream.take().text


def interval(stream: TokenStream) -> tree.Interval:
    """INTERVAL '1 day 2 hours', INTERVAL 5 minutes."""
    token = stream.take()
    sign = "-" if stream.take_operator("-") else ""
    amount = stream.take()
    text = sign + amount.text
    if re.fullmatch(r"\s*[+-]?[0-9.]+\s*", text) and stream.next.kind is TokenKind.WORD:
        text += f" {stream.take().text}"
    parts, at = [], 0
    while at < len(text):
        match = _INTERVAL_PART.match(text, at)
        if match is None:
            break
        parts.append(f"{match[1]} {match[2].lower()}")
        at = match.end()
    if not parts or text[at:].strip():
        raise SqlProblem(token.start, "sql-syntax", f"the interval {text!r}", "Write interval '5 minutes'.")
    return tree.Interval(token.start, " ".join(parts))


def type_name(stream: TokenStream) -> str:
    """A type as written: a name, perhaps of two words, perhaps with numbers in parentheses."""
    if stream.next.kind is not TokenKind.WORD:
        raise stream.unexpected("a type is wanted here", "Write one of our types, such as int64.")
    text = stream.take().text.lower()
    if text == "double":
        stream.take_word("precision")
    if stream.take_operator("("):
        numbers = [stream.take().text]
        while stream.take_operator(","):
            numbers.append(stream.take().text)
        stream.expect_operator(")", "a type's numbers")
        text += f"({','.join(numbers)})"
    if stream.take_operator("["):
        text += "[]"
        stream.expect_operator("]", "a list type")
    return text
