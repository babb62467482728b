"""Cuts an expression into tokens with their offsets; `sqlparser.py` makes a tree of them.

We cut and parse ourselves, to DuckDB's rules, because every refusal must name the exact character, any text at all must
be answered in bounded time and depth, and what we generate must mean to DuckDB what the user's text means to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class TokenKind(Enum):
    WORD = "word"
    QUOTED = "quoted name"
    STRING = "string"
    NUMBER = "number"
    OPERATOR = "operator"
    END = "end"


@dataclass(frozen=True)
class Token:
    """`text` is the value: of strings and quoted names without quotes, else as written. Offsets are [start, end)."""

    kind: TokenKind
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        return self.kind is TokenKind.WORD and self.text.lower() in words

    def is_operator(self, *operators: str) -> bool:
        return self.kind is TokenKind.OPERATOR and self.text in operators


class SqlProblem(Exception):
    """A text that is no expression of ours: the offset where, what, and the repair."""

    def __init__(self, offset: int, code: str, message: str, repair: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.code = code
        self.message = message
        self.repair = repair


_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+)
    | (?P<comment>--|/\*)
    | (?P<number>(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9]+)?)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<operator>->>|->|::|<=|>=|<>|!=|==|//|\|\||<<|>>|\*\*|=>|:=|[-+*/%^<>=(),.\[\]:~&|;?$@!#{}])
    """,
    re.VERBOSE,
)
_STRANGE = re.compile("[\x00\ud800-\udfff\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Characters that cannot be stored, or that make a text read as something it is not."""


def tokens(sql: str) -> list[Token]:
    """The tokens of `sql`, ended by one END token.

    Raises:
        SqlProblem: a character, a comment or an open quote that no expression may hold.
    """
    strange = _STRANGE.search(sql)
    if strange:
        raise SqlProblem(
            strange.start(), "sql-syntax", f"the invisible character U+{ord(strange[0]):04X}", "Remove it."
        )
    found: list[Token] = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None or match.lastgroup is None:
            raise _unreadable(sql, at)
        if match.lastgroup != "space":
            found.append(_token(match.lastgroup, match[0], at, sql))
        at = match.end()
    found.append(Token(TokenKind.END, "", len(sql), len(sql)))
    return found


def _token(group: str, text: str, start: int, sql: str) -> Token:
    end = start + len(text)
    if group == "comment":
        raise SqlProblem(start, "sql-refused", "a comment inside an expression", "Write it as a YAML comment (#).")
    if group == "string":
        return Token(TokenKind.STRING, text[1:-1].replace("''", "'"), start, end)
    if group == "quoted":
        if len(text) == 2:
            raise SqlProblem(start, "sql-syntax", "an empty quoted name", "Write the name between the quotes.")
        return Token(TokenKind.QUOTED, text[1:-1].replace('""', '"'), start, end)
    if group == "number":
        if re.match(r"[A-Za-z_]", sql[end : end + 1]):
            raise SqlProblem(start, "sql-syntax", f"the number {text} runs into a letter", "Put a space between them.")
        return Token(TokenKind.NUMBER, text.replace("_", ""), start, end)
    if group == "word" and len(text) == 1 and sql[end : end + 1] == "'":
        raise SqlProblem(start, "sql-syntax", f"a string of the kind {text}'...'", "Write a plain string: '...'.")
    return Token(TokenKind(group), text, start, end)


def _unreadable(sql: str, at: int) -> SqlProblem:
    character = sql[at]
    if character == "'":
        return SqlProblem(at, "sql-syntax", "a string that does not end", "Close it with '; write '' for a quote.")
    if character == '"':
        return SqlProblem(at, "sql-syntax", "a quoted name that does not end", 'Close it with ".')
    return SqlProblem(at, "sql-syntax", f"the character {character!r}", "Remove it; texts stand in 'single quotes'.")


class TokenStream:
    """Tokens with a place in them, which parsers move forward."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0

    @property
    def next(self) -> Token:
        """The token that is taken next; END stays for ever."""
        return self._tokens[self._at]

    def peek(self, ahead: int) -> Token:
        """The token so many places after the next one."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        token = self.next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def take_word(self, *words: str) -> bool:
        """Take the next token if it is one of these words."""
        if self.next.is_word(*words):
            self.take()
            return True
        return False

    def take_operator(self, *operators: str) -> bool:
        """Take the next token if it is one of these operators."""
        if self.next.is_operator(*operators):
            self.take()
            return True
        return False

    def expect_operator(self, operator: str, why: str) -> None:
        if not self.take_operator(operator):
            raise self.unexpected(f"{why} wants {operator!r} here", f"Write {operator!r}.")

    def expect_word(self, word: str, why: str) -> None:
        if not self.take_word(word):
            raise self.unexpected(f"{why} wants {word.upper()} here", f"Write {word.upper()}.")

    def unexpected(self, message: str, repair: str = "") -> SqlProblem:
        """The problem that the next token is not what is wanted."""
        token = self.next
        shown = "the end" if token.kind is TokenKind.END else repr(token.text)
        return SqlProblem(token.start, "sql-syntax", f"{message}, not {shown}", repair)


def words(text: str) -> frozenset[str]:
    """A set of words from one text, as tables of grammar are easiest to read."""
    return frozenset(text.split())
